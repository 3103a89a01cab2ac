"""Checkers for chapter 5, separation as an inverse problem."""

from __future__ import annotations

import torch

from ..diffusion import posterior_step
from ..guidance import Hybrid
from ..schedule import NoiseSchedule
from .core import Property, checker, noise


@checker("5.1", "Wiener shares with noise")
def wiener_shares(answer):
    """answer(P [K, F], noise_std) -> share of each source in the mixture [K, F], for white noise of standard deviation
    noise_std in it (Eq. 3)."""
    P = torch.tensor([[0.09, 0.01, 0.04], [0.01, 0.01, 0.05]], dtype=torch.float64)
    three = torch.cat([P, P[:1]])
    power = "the noise is one more source, of power noise_std squared, whose share nobody keeps"
    return [
        Property(
            "without noise each gets its share of power",
            lambda: answer(P, 0.0),
            P / P.sum(0),
            "divide by the sum over the sources",
            1e-6,
        ),
        Property("noise takes its own share", lambda: answer(P, 0.1), P / (P.sum(0) + 0.01), power, 1e-6),
        Property(
            "three sources", lambda: answer(three, 0.05), three / (three.sum(0) + 0.0025), "sum over all sources", 1e-6
        ),
        Property("of mere noise nobody gets anything", lambda: answer(P, 1e6), torch.zeros(2, 3), power, 1e-9),
    ]


@checker("5.2", "exact guidance of Gaussian sources")
def exact_guidance(answer):
    """answer(x_t [K, F], y [F], P [K, F], alpha_bar) -> gradient of log p(y | x_t) by each state [K, F], for sources
    whose value at each frequency is an independent Gaussian number of variance P, and y their sum."""
    s = NoiseSchedule.linear()
    P = torch.tensor([[0.09, 0.02, 0.001], [0.01, 0.02, 0.05]], dtype=torch.float64)
    three = torch.cat([P, 0.5 * P.flip(0)[:1]])
    y = 0.3 * noise(3)

    def exact(x_t, P, alpha_bar):
        variance = alpha_bar * P + 1 - alpha_bar
        J, V = alpha_bar**0.5 * P / variance, (1 - alpha_bar) * P / variance
        return J * (y - (J * x_t).sum(0)) / V.sum(0)

    def at(alpha_bar, P):
        x_t = noise(len(P), 3, seed=1)
        return lambda: answer(x_t, y, P, alpha_bar), exact(x_t, P, alpha_bar)

    def chain():
        """Where the average of 200 exact reverse steps from noise ends."""
        x = torch.zeros_like(P)
        for t in reversed(range(len(s))):
            alpha_bar, beta = float(s.alpha_bar[t]), s.beta[t]
            x0_hat = alpha_bar**0.5 * P / (alpha_bar * P + 1 - alpha_bar) * x
            x = (
                s.posterior_x0[t] * x0_hat
                + s.posterior_xt[t] * x
                + beta / (1 - beta).sqrt() * answer(x, y, P, alpha_bar)
            )
        return x

    equal = 0.7**0.5 / (2 * 0.3) * y  # J / (2 V)
    return [
        Property(
            "from states of zero, two sources of one spectrum",
            lambda: answer(torch.zeros(2, 3).double(), y, torch.full_like(P, 0.02), 0.7),
            equal.expand(2, 3),
            "J r over the sum of all V, and r is y here",
            1e-5,
        ),
        Property(
            "two sources at alpha_bar = 0.5",
            *at(0.5, P),
            "r is y minus the sum of the estimates J x_t, not of the states",
            1e-5,
        ),
        Property("three sources", *at(0.5, three), "both sums run over all sources, the first axis", 1e-5),
        Property("close to the clean end", *at(0.999, P), "use the alpha_bar that is given", 1e-3),
        Property(
            "200 reverse steps with it end at the Wiener filter",
            chain,
            P / P.sum(0) * y,
            "the uncertainty V = (1 - alpha_bar) P / (alpha_bar P + 1 - alpha_bar) shrinks with the noise",
            2e-3,
        ),
    ]


@checker("5.3", "one guided step")
def guided_step(answer):
    """answer(x_t [K, N], x0_hat [K, N], gradient [K, N], strength, t, schedule, noise [K, N]) -> x_{t-1} [K, N], lines
    8 and 15 of Algorithm 1 with gamma = strength sqrt(N) / |gradient|, the norm over each source."""
    s, t = NoiseSchedule.linear(), 100
    x_t, z, x0_hat = noise(2, 50), noise(2, 50, seed=1), 0.1 * noise(2, 50, seed=2)
    gradient = torch.tensor([[1.0], [20.0]]) * noise(2, 50, seed=3)
    strength = float(Hybrid().strength(s)[t])
    nothing = torch.zeros_like(x_t)

    def step(t, strength=0.0):
        moved = strength * 50**0.5 * gradient / gradient.norm(dim=-1, keepdim=True)
        return posterior_step(x_t, x0_hat, t, s, z) - moved

    clean = s.alpha_bar[t].sqrt() * x0_hat, s.alpha_bar[t - 1].sqrt() * x0_hat
    weights = "the weights are schedule.posterior_xt[t] and schedule.posterior_x0[t] (line 8, corrected)"
    return [
        Property(
            "a clean signal stays clean",
            lambda: answer(clean[0], x0_hat, gradient, 0.0, t, s, nothing),
            clean[1],
            weights,
            1e-6,
        ),
        Property(
            "without guidance it is the prior's step",
            lambda: answer(x_t, x0_hat, gradient, 0.0, t, s, z),
            step(t),
            "add schedule.sigma[t] times the noise",
            1e-6,
        ),
        Property(
            "guidance moves each source by strength sqrt(N), against its gradient",
            lambda: answer(x_t, x0_hat, gradient, strength, t, s, z),
            step(t, strength),
            "subtract; and divide by the norm of each source by itself, over its samples",
            1e-6,
        ),
        Property(
            "a longer gradient does not go farther",
            lambda: answer(x_t, x0_hat, 1000 * gradient, strength, t, s, z),
            step(t, strength),
            "divide by the norm of the gradient",
            1e-6,
        ),
        Property(
            "at the last step no noise is added",
            lambda: answer(x_t, x0_hat, gradient, strength, 0, s, z),
            step(0, strength),
            "sigma is 0 at t = 0",
            1e-6,
        ),
        Property(
            "a gradient of zero moves nothing",
            lambda: answer(x_t, x0_hat, nothing, strength, t, s, z),
            step(t),
            "0/0 is NaN: add something tiny to the norm",
            1e-6,
        ),
    ]


@checker("5.4", "projecting on the mixture")
def projected(answer):
    """answer(sources [K, N], mixture [N]) -> the nearest sources [K, N] that add up to the mixture."""
    two, three, y = noise(2, 20), noise(3, 20, seed=1), noise(20, seed=2)
    equal = "the change is the same for all sources: the misfit over their number"
    return [
        Property(
            "two sources share the misfit equally", lambda: answer(two, y), two + (y - two.sum(0)) / 2, equal, 1e-6
        ),
        Property(
            "three sources too", lambda: answer(three, y), three + (y - three.sum(0)) / 3, "divide by K, not by 2", 1e-6
        ),
        Property(
            "sources that add up already stay",
            lambda: answer(two, two.sum(0)),
            two,
            "the misfit is the mixture minus the sum",
            1e-6,
        ),
        Property(
            "silent sources get equal parts of the mixture",
            lambda: answer(torch.zeros(3, 20).double(), y),
            (y / 3).expand(3, 20),
            "add; a factor on the sources cannot fill silence",
            1e-6,
        ),
        Property(
            "doing it twice changes nothing more",
            lambda: answer(answer(two, y), y),
            two + (y - two.sum(0)) / 2,
            equal,
            1e-6,
        ),
    ]
