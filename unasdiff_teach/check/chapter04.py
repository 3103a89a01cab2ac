"""Checkers for chapter 4, Tweedie's formula."""

from __future__ import annotations

import math

import torch

from ..priors import Gaussian, GaussianMixture
from ..priors.neural import preconditioning
from ..schedule import NoiseSchedule
from .core import Property, checker

S = NoiseSchedule.linear()


def _gaussian_variance(t: int, std: float) -> float:
    a = float(S.alpha_bar[t])
    return std**2 * (1 - a) / (a * std**2 + 1 - a)


def _two_hills_variance(x: torch.Tensor, t: int) -> torch.Tensor:
    """Var[x_0 | x_t] of two hills at -1 and 1, of spread 0.2, by the law of total variance. [M]."""
    a = float(S.alpha_bar[t])
    total = a * 0.04 + 1 - a
    w = a * 0.04 / total
    hills = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    guess = hills + w * (x[:, None] / math.sqrt(a) - hills)
    share = (-0.5 * (x[:, None] - math.sqrt(a) * hills) ** 2 / total).softmax(-1)
    mean = (share * guess).sum(-1)
    return 0.04 * (1 - w) + (share * guess**2).sum(-1) - mean**2


@checker("4.1", "how sure is the guess?")
def posterior_variance(answer):
    """answer(denoise, x_t [M], alpha_bar) -> Var[x_0 | x_t] [M], where denoise(x_t [M]) -> E[x_0 | x_t] [M] acts on
    each number by itself and is differentiable; alpha_bar is a number."""
    white = Gaussian(std=0.3)
    hills = GaussianMixture(torch.ones(2), torch.tensor([[-1.0], [1.0]]), torch.tensor([0.2, 0.2]))
    x = torch.tensor([-2.0, -0.5, 0.0, 1.0], dtype=torch.float64)

    def of(prior, t):
        return lambda: answer(lambda x_t: prior.tweedie_mean(x_t[:, None], t)[:, 0], x, float(S.alpha_bar[t]))

    slope = (
        "differentiate the guess by x_t with torch.autograd.grad; each guess depends on its own x_t only, so their sum"
        " will do"
    )
    return [
        Property(
            "one Gaussian: the same everywhere",
            of(white, 60),
            torch.full((4,), _gaussian_variance(60, 0.3)),
            slope,
            1e-5,
        ),
        Property(
            "one Gaussian at the last step: nearly the prior's variance",
            of(white, 199),
            torch.full((4,), _gaussian_variance(199, 0.3)),
            "the factor is (1 - alpha_bar) / sqrt(alpha_bar)",
            1e-5,
        ),
        Property(
            "two hills: least sure between them",
            of(hills, 120),
            _two_hills_variance(x, 120),
            "the variance depends on x_t: return one value for each",
            1e-4,
        ),
        Property(
            "two hills, little noise", of(hills, 5), _two_hills_variance(x, 5), "use the alpha_bar that is given", 1e-4
        ),
    ]


@checker("4.2", "what an untrained prior knows")
def skip_weight(answer):
    """answer(alpha_bar, sigma_data) -> c, such that c x_t is the exact posterior mean of white Gaussian noise of
    standard deviation sigma_data."""
    sure = "signal power over signal power plus noise power, and x_t must be divided by sqrt(alpha_bar)"

    def skip(t, sigma):
        return float(preconditioning(S, torch.tensor([t]), torch.zeros(1, 1, dtype=torch.float64), sigma).c_skip)

    return [
        Property("hardly any noise and a loud source: x_t as it is", lambda: answer(1 - 1e-6, 1.0), 1.0, sure, 1e-3),
        Property("hardly any signal: silence", lambda: answer(0.5, 1e-6), 0.0, sure, 1e-6),
        Property("unit variance: the square root of alpha_bar", lambda: answer(0.64, 1.0), 0.8, sure, 1e-6),
        Property(
            "the pocket priors' own factor at t = 20",
            lambda: answer(float(S.alpha_bar[20]), 0.13),
            skip(20, 0.13),
            sure,
            1e-6,
        ),
        Property("and at the last step", lambda: answer(float(S.alpha_bar[199]), 0.13), skip(199, 0.13), sure, 1e-7),
    ]


@checker("4.3", "a draw from the posterior")
def posterior_draw(answer):
    """answer(x_t [M], alpha_bar, std, generator) -> x_0 [M], a draw from p(x_0 | x_t) for x_0 ~ N(0, std^2)."""
    t, std, M = 20, 10 ** (-18 / 20), 100_000
    a = float(S.alpha_bar[t])
    x0, noise = torch.randn(2, M, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x0 = std * x0
    x_t = math.sqrt(a) * x0 + math.sqrt(1 - a) * noise
    w = a * std**2 / (a * std**2 + 1 - a)
    fixed = torch.full((M,), 0.2, dtype=torch.float64)
    sampling = 5 / math.sqrt(M)  # five standard errors of a mean of M values

    def draw(x, seed=1):
        return answer(x, a, std, torch.Generator().manual_seed(seed))

    spread = std * math.sqrt(1 - w)
    return [
        Property(
            "one draw for each state",
            lambda: draw(fixed),
            "100000 values for 100000 states",
            "add one normal number to each posterior mean",
            test=lambda x: x.shape == fixed.shape,
        ),
        Property(
            "many draws for one state have the posterior mean",
            lambda: draw(fixed).mean(),
            w * 0.2 / math.sqrt(a),
            "the mean is w x_t / sqrt(alpha_bar), section 4.3",
            sampling * spread,
        ),
        Property(
            "and the posterior's spread",
            lambda: draw(fixed).std(),
            spread,
            "the variance that is left is std^2 (1 - w)",
            sampling * spread,
        ),
        Property(
            "the generator decides the draw",
            lambda: draw(fixed[:5], 3) - draw(fixed[:5], 3),
            torch.zeros(5),
            "take all random numbers from the generator",
            1e-9,
        ),
        Property(
            "draws for noised sounds are distributed like the sounds",
            lambda: draw(x_t).std(),
            std,
            "the spread of the mean and that of the draw add up to the prior's",
            2 * sampling * std,
        ),
        Property(
            "their squared error is twice that of the mean",
            lambda: (draw(x_t) - x0).square().mean() / spread**2,
            2.0,
            "truth and draw are two independent draws from one posterior",
            0.05,
        ),
    ]
