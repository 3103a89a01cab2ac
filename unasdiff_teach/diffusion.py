"""Forward noising, Tweedie's estimate, the posterior step, ancestral sampling and the denoising loss (Eq. 1, 2, 5)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .schedule import NoiseSchedule

Prior = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""eps = prior(x_t [M, N], t [M] (what the schedule's `timesteps` say), label [M] or None), eps [M, N]."""


def forward_noise(x0: Tensor, t: int | Tensor, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, the chain of Eq. 1 in one jump.

    Args:
        x0: clean signal, [..., N].
        t: step of the schedule, 0..T-1; an integer, or a tensor [B] for x0 [B, ...].
        noise: standard normal, broadcastable to x0.
    """
    alpha_bar = schedule.at(schedule.alpha_bar, t, x0)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise


def tweedie(x_t: Tensor, eps: Tensor, t: int | Tensor, schedule: NoiseSchedule, clamp: float | None = None) -> Tensor:
    """E[x_0 | x_t] from a noise prediction, Eq. 5 with score = -eps / sqrt(1 - alpha_bar_t).

    Args:
        x_t, eps: [..., N].
        t: as in `forward_noise`.
        clamp: limit to [-clamp, clamp], inside the graph of gradients (the released code uses 1; the text none).
    """
    alpha_bar = schedule.at(schedule.alpha_bar, t, x_t)
    x0_hat = (1 / alpha_bar).sqrt() * x_t - (1 / alpha_bar - 1).sqrt() * eps
    return x0_hat if clamp is None else x0_hat.clamp(-clamp, clamp)


def posterior_mean(x_t: Tensor, x0_hat: Tensor, t: int | Tensor, schedule: NoiseSchedule) -> Tensor:
    """Mean of x_{t-1} given x_t and x_0 = x0_hat (Algorithm 1, line 8 without its noise)."""
    return schedule.at(schedule.posterior_x0, t, x_t) * x0_hat + schedule.at(schedule.posterior_xt, t, x_t) * x_t


def reverse_weights(t: int, schedule: NoiseSchedule, renoise: float | None = None) -> tuple[float, float, float]:
    """What x_{t-1} is made of: weights of x0_hat, of x_t, and of fresh noise.

    Without `renoise` these are the posterior's (`posterior_step`). With it x0_hat is noised again, to the level of
    t - 1, and the fraction `renoise` (0..1) of that noise is fresh, the rest what x_t says that it was (the family of
    DDIM, Song et al. 2021): 0 is deterministic, 1 keeps nothing of x_t.
    """
    if renoise is None:
        return tuple(float(w[t]) for w in (schedule.posterior_x0, schedule.posterior_xt, schedule.sigma))
    alpha_bar, below = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[t - 1]) if t else 1.0
    kept = math.sqrt((1 - below) * (1 - renoise**2) / (1 - alpha_bar))
    return math.sqrt(below) - kept * math.sqrt(alpha_bar), kept, math.sqrt(1 - below) * renoise


def posterior_step(x_t: Tensor, x0_hat: Tensor, t: int | Tensor, schedule: NoiseSchedule, noise: Tensor) -> Tensor:
    """x_{t-1} = posterior mean + sigma_t noise (Algorithm 1, line 8); sigma is 0 at t = 0."""
    return posterior_mean(x_t, x0_hat, t, schedule) + schedule.at(schedule.sigma, t, x_t) * noise


@torch.no_grad()
def ancestral_sample(
    prior: Prior,
    shape: tuple[int, int],
    schedule: NoiseSchedule,
    label: Tensor | None = None,
    generator: torch.Generator | None = None,
    clamp: float | None = None,
    x_T: Tensor | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Run the reverse chain (Eq. 2, discretised) from noise to M signals [M, N].

    Args:
        prior: noise predictor, see `Prior`.
        shape: (M, N).
        label: [M] class indices, or None.
        generator: source of all noise; None takes torch's global one.
        clamp: see `tweedie`.
        x_T: state to start from, [M, N]; by default N(0, I), as the paper's chain assumes although alpha_bar_T is 0.13.
        device: where to sample; the noise is drawn on the CPU, so that a seed gives the same signals everywhere.
    """
    x_t = (torch.randn(shape, generator=generator) if x_T is None else x_T).to(device)
    for t in reversed(range(len(schedule))):
        eps = prior(x_t, schedule.timesteps[t].to(device).expand(shape[0]), label)
        x0_hat = tweedie(x_t, eps, t, schedule, clamp)
        x_t = posterior_step(x_t, x0_hat, t, schedule, torch.randn(shape, generator=generator).to(x_t))
    return x_t


def denoising_loss(
    prior: Prior, x0: Tensor, t: Tensor, noise: Tensor, schedule: NoiseSchedule, label: Tensor | None = None
) -> Tensor:
    """Mean squared error of the predicted noise for each signal, the simple loss of DDPM. x0 [B, N] -> [B]."""
    x_t = forward_noise(x0, t, noise, schedule)
    eps = prior(x_t, schedule.timesteps.to(t.device)[t], label)
    return (eps - noise).square().mean(-1)
