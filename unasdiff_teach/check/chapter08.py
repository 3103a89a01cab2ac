"""Checkers for chapter 8, mixture initialisation."""

from __future__ import annotations

import torch

from ..diffusion import forward_noise
from ..priors import StationaryGaussian
from ..schedule import NoiseSchedule
from .core import Property, checker, noise


@checker("8.1", "the first state")
def first_state(answer):
    """answer(y [N], schedule, t_star, noise [N]) -> the noised mixture of Eq. 12 [N], t_star counted from 1."""
    s = NoiseSchedule.linear()
    steep = NoiseSchedule.linear(50, 1e-3, 0.2)
    y, z = 0.1 * noise(20), noise(20, seed=1)
    nothing = torch.zeros_like(y)
    count = "steps are counted from 1 and tables from 0"
    return [
        Property("the paper's t* = 150", lambda: answer(y, s, 150, z), forward_noise(y, 149, z, s), count, 1e-6),
        Property("the first step", lambda: answer(y, s, 1, z), forward_noise(y, 0, z, s), count, 1e-6),
        Property("the last step", lambda: answer(y, s, 200, z), forward_noise(y, 199, z, s), count, 1e-6),
        Property(
            "without noise the mixture is only quieter",
            lambda: answer(y, s, 125, nothing),
            s.alpha_bar[124].sqrt() * y,
            "the gain is the root of alpha_bar, with the bar",
            1e-6,
        ),
        Property(
            "another schedule",
            lambda: answer(y, steep, 30, z),
            forward_noise(y, 29, z, steep),
            "use the schedule that is given",
            1e-6,
        ),
    ]


@checker("8.2", "what is found")
def found_share(answer):
    """answer(P [2, F], alpha_bar) -> share of the mean difference of two Gaussian sources that exact guidance finds
    from a start of Eq. 12 at the level alpha_bar [F]."""
    P = torch.tensor([[0.01, 0.25, 1.0], [0.01, 0.05, 0.02]], dtype=torch.float64)
    silent = torch.tensor([[0.3, 0.0], [0.0, 2.0]], dtype=torch.float64)

    def share(P, alpha_bar):
        V = 2 * P.prod(0) / P.sum(0)
        return (1 - alpha_bar) / (alpha_bar * V + 1 - alpha_bar)

    given = "the variance of the difference, given the mixture, is twice P_1 P_2 / (P_1 + P_2)"
    return [
        Property("at the level of t* = 150", lambda: answer(P, 0.32), share(P, 0.32), given, 1e-6),
        Property("where one source is silent, everything", lambda: answer(silent, 0.32), torch.ones(2), given, 1e-6),
        Property(
            "from noise alone, everything",
            lambda: answer(P, 0.0),
            torch.ones(3),
            "at alpha_bar = 0 the start says nothing",
            1e-6,
        ),
        Property(
            "without noise, nothing",
            lambda: answer(P, 1.0),
            torch.zeros(3),
            "at alpha_bar = 1 the start is believed entirely",
            1e-6,
        ),
        Property(
            "the order of the sources does not matter", lambda: answer(P.flip(0), 0.6), share(P, 0.6), given, 1e-6
        ),
    ]


@checker("8.3", "the best start")
def best_start(answer):
    """answer(P1, P2, schedule) -> the t*, counted from 1, from which exact guidance of two Gaussian sources has the
    least expected squared error; one initial noise for both."""
    s, steep = NoiseSchedule.linear(), NoiseSchedule.linear(50, 1e-3, 0.2)

    def best(P1, P2, schedule):
        a = schedule.alpha_bar
        V, M = 2 * P1 * P2 / (P1 + P2), (P1 - P2) ** 2 / (2 * (P1 + P2))
        rho = a * V / (a * V + 1 - a)
        return int((rho.square() * M + (1 - rho) * V).argmin()) + 1

    count = "t* is the index of the least error plus one"
    return [
        Property("0.25 and 0.05", lambda: answer(0.25, 0.05, s), best(0.25, 0.05, s), f"rho = V / (2 M); {count}"),
        Property("1 and 0.02", lambda: answer(1.0, 0.02, s), best(1.0, 0.02, s), f"rho = V / (2 M); {count}"),
        Property(
            "beside a nearly silent source: where the noise is as strong as the other one",
            lambda: answer(0.5, 1e-6, s),
            best(0.5, 1e-6, s),
            "solve rho = V / (2 M), or try all: alpha_bar / (1 - alpha_bar) is 1 / (2 M - V)",
        ),
        Property(
            "two equal sources ask for the latest", lambda: answer(0.1, 0.1, s), 1, "M is 0: only the spread counts"
        ),
        Property(
            "another schedule",
            lambda: answer(0.25, 0.05, steep),
            best(0.25, 0.05, steep),
            "use the schedule that is given",
        ),
    ]


@checker("8.4", "inversion of a Gaussian")
def inverted(answer):
    """answer(y [F], P [F], alpha_bar) -> the state [F] at the level alpha_bar to which the deterministic chain of a
    Gaussian prior of power P takes y."""
    s = NoiseSchedule.linear(4000, 5e-6, 1e-3)  # fine steps: the chain is close to its limit
    P, y = torch.tensor([1.0, 0.1, 0.02], dtype=torch.float64), torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
    prior = StationaryGaussian(P, schedule=s)

    def state(P, alpha_bar):
        return y * ((alpha_bar * P + 1 - alpha_bar) / P).sqrt()

    def chain(last):
        """The chain itself, step by step, on the spectrum."""
        x, before = y, 1.0
        for t in range(last + 1):
            a = float(s.alpha_bar[t])
            score = -x / (before * prior.power + 1 - before)
            eps = -((1 - before) ** 0.5) * score
            x0_hat = (x - (1 - before) ** 0.5 * eps) / before**0.5
            x, before = a**0.5 * x0_hat + (1 - a) ** 0.5 * eps, a
        return x

    size = (
        "the chain keeps a value's size relative to the typical one, sqrt(P) before and sqrt(alpha_bar P + 1 -"
        " alpha_bar) after"
    )
    return [
        Property("power 1 stays power 1", lambda: answer(y, torch.ones(3).double(), 0.32), y, size, 1e-6),
        Property("three powers", lambda: answer(y, P, 0.32), state(P, 0.32), size, 1e-6),
        Property("without noise nothing moves", lambda: answer(y, P, 1.0), y, size, 1e-6),
        Property(
            "where 4000 deterministic steps lead",
            lambda: answer(y, P, float(s.alpha_bar[2999])),
            chain(2999),
            size,
            0.05,
        ),
    ]
