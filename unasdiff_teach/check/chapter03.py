"""Checkers for chapter 3, the reverse process."""

from __future__ import annotations

import torch

from ..diffusion import forward_noise, posterior_mean, tweedie
from ..priors import Gaussian
from ..schedule import NoiseSchedule
from .core import Property, checker, noise

S = NoiseSchedule.linear()
POWERS = torch.tensor([1e-4, 0.0169, 1.0, 100.0], dtype=torch.float64)


@checker("3.1", "the exact variance of a reverse step")
def reverse_variance(answer):
    """answer(P, t, schedule) -> Var[x_{t-1} | x_t], for x_0 ~ N(0, P); at t = 0, x_{t-1} is x_0 itself. P is a number
    > 0.
    """
    fast = S.respace(20)

    def exact(P, t, s=S):
        alpha_bar, before = s.alpha_bar[t], s.alpha_bar_prev[t]
        here, there = alpha_bar * P + 1 - alpha_bar, before * P + 1 - before
        return there - (1 - s.beta[t]) * there**2 / here  # covariance of the two: sqrt(1 - beta) times `there`

    def chain():
        """Power after 200 steps with the exact variance, from states of the right one, relative to the source's."""
        power = S.alpha_bar[-1] * POWERS + 1 - S.alpha_bar[-1]
        for t in reversed(range(len(S))):
            J = S.alpha_bar[t].sqrt() * POWERS / (S.alpha_bar[t] * POWERS + 1 - S.alpha_bar[t])
            added = torch.tensor([float(answer(float(P), t, S)) for P in POWERS], dtype=torch.float64)
            power = (S.posterior_x0[t] * J + S.posterior_xt[t]) ** 2 * power + added
        return power / POWERS

    both = "two parts: the step's own sigma squared, and the weight of x0_hat squared times Var[x_0 | x_t]"
    return [
        Property(
            "a source of no power: sigma squared", lambda: answer(1e-12, 100, S), S.posterior_variance[100], both, 1e-8
        ),
        Property("a source of power 1: beta", lambda: answer(1.0, 100, S), S.beta[100], both, 1e-7),
        Property("a sound at -18 dB, early in the run", lambda: answer(0.0169, 150, S), exact(0.0169, 150), both, 1e-7),
        Property(
            "the last step still has to choose x_0",
            lambda: answer(0.0169, 0, S),
            exact(0.0169, 0),
            "sigma is 0 at t = 0, but x_0 is not known exactly there",
            1e-7,
        ),
        Property(
            "20 large steps",
            lambda: answer(0.0169, 12, fast),
            exact(0.0169, 12, fast),
            "use the schedule that is given",
            1e-7,
        ),
        Property("200 steps with it give back every power", chain, torch.ones(4), both, 2e-3),
    ]


@checker("3.2", "a start that fits")
def fitting_start(answer):
    """answer(P [F], schedule, noise [N]) -> a state x_T [N] for a stationary Gaussian source with the power spectrum P
    (of orthonormal rFFT bins, F = N / 2 + 1), made of white noise of variance 1."""
    N, fast = 64, S.respace(40, last=149)
    z = noise(N)
    P = torch.zeros(N // 2 + 1, dtype=torch.float64)
    P[[5, 9]] = torch.tensor([60.0, 4.0], dtype=torch.float64)
    ones = torch.ones_like(P)

    def start(P, s):
        alpha_bar = s.alpha_bar[-1]
        return torch.fft.irfft((alpha_bar * P + 1 - alpha_bar).sqrt() * torch.fft.rfft(z), n=N)

    last = (
        "x_T is the source times sqrt(alpha_bar), plus noise: its power is alpha_bar P + 1 - alpha_bar at the last step"
    )
    return [
        Property("a source of power 1 at each frequency: the noise itself", lambda: answer(ones, S, z), z, last, 1e-6),
        Property(
            "silence: the noise, a little quieter",
            lambda: answer(0 * P, S, z),
            (1 - S.alpha_bar[-1]).sqrt() * z,
            last,
            1e-6,
        ),
        Property(
            "two loud lines",
            lambda: answer(P, S, z),
            start(P, S),
            "a power goes into an amplitude as its square root",
            1e-5,
        ),
        Property(
            "a run that starts at step 150",
            lambda: answer(P, fast, z),
            start(P, fast),
            "take schedule.alpha_bar[-1]",
            1e-5,
        ),
    ]


@checker("3.3", "a step without noise")
def deterministic_step(answer):
    """answer(x_t [N], eps [N], t, schedule) -> x_{t-1} [N]: the state one step earlier that has the same x0_hat and
    the same noise in it; x0_hat itself at t = 0."""
    x0, eps, fast = 0.13 * noise(20), noise(20, seed=1), S.respace(20)

    def at(t, s=S):
        return forward_noise(x0, t, eps, s)

    def walk():
        """From the last step to the first, with the exact noise of a Gaussian source of deviation 0.13."""
        prior, x = Gaussian(std=0.13), noise(20, seed=2)
        for t in reversed(range(len(S))):
            x = answer(x, prior(x, t), t, S)
        return x

    expected = noise(20, seed=2)
    for t in reversed(range(len(S))):
        prediction = Gaussian(std=0.13)(expected, t)
        before = S.alpha_bar_prev[t]
        expected = before.sqrt() * tweedie(expected, prediction, t, S) + (1 - before).sqrt() * prediction
    jump = "first x0_hat (Tweedie), then noise it again to alpha_bar of the step before, with the eps that is given"
    mean = posterior_mean(at(100), x0, 100, S)
    return [
        Property(
            "with the true noise it meets the forward chain again",
            lambda: answer(at(100), eps, 100, S),
            at(99),
            jump,
            1e-6,
        ),
        Property(
            "it is not the mean of the posterior",
            lambda: (torch.as_tensor(answer(at(100), eps, 100, S)) - mean).square().mean().sqrt(),
            "a deviation of more than 0.001",
            "the posterior mean has less noise in it than a state at t - 1: something was to be added",
            test=lambda deviation: bool(deviation > 1e-3),
        ),
        Property(
            "at t = 0 it arrives", lambda: answer(at(0), eps, 0, S), x0, "alpha_bar before the first step is 1", 1e-6
        ),
        Property(
            "large steps",
            lambda: answer(at(12, fast), eps, 12, fast),
            at(11, fast),
            "use the schedule that is given",
            1e-6,
        ),
        Property("200 steps of it", walk, expected, jump, 1e-6),
    ]
