"""Checkers for chapter 6, gradient conflict."""

from __future__ import annotations

import torch

from .. import conflict
from ..schedule import NoiseSchedule
from .core import Property, checker, noise


@checker("6.1", "the guidance bound")
def guidance_bound(answer):
    """answer(g_prior [K, N], g_cond [K, N]) -> g_bound [K] of each source, Eq. 9; 0 where g_cond is 0."""
    g_prior, g_cond = noise(3, 40), torch.tensor([[1.0], [0.1], [5.0]]) * noise(3, 40, seed=1)
    silent = torch.cat([g_cond[:2], torch.zeros(1, 40).double()])
    definition = "minus the inner product, over the squared norm of g_cond, each over the samples of one source"
    return [
        Property(
            "against each other: as much strength as the prior takes",
            lambda: answer(-2 * g_cond, g_cond),
            [2.0] * 3,
            definition,
        ),
        Property(
            "side by side: negative, no strength is needed", lambda: answer(3 * g_cond, g_cond), [-3.0] * 3, definition
        ),
        Property(
            "gradients in general",
            lambda: answer(g_prior, g_cond),
            conflict.guidance_bound(g_prior, g_cond),
            definition,
            1e-6,
        ),
        Property(
            "a gradient of zero asks for nothing",
            lambda: answer(g_prior, silent),
            conflict.guidance_bound(g_prior, silent),
            "0/0 is NaN: divide by 1 where the norm is 0",
            1e-6,
        ),
    ]


@checker("6.2", "the step that a source needs")
def needed_step(answer):
    """answer(g_prior [K, N], g_cond [K, N]) -> the RMS [K] of the shortest guidance step, gamma g_cond, that makes up
    for the prior: g_bound times the RMS of g_cond. Negative where the prior helps."""
    g_prior, g_cond = noise(2, 50), torch.tensor([[1.0], [0.1]]) * noise(2, 50, seed=1)
    needed = conflict.guidance_bound(g_prior, g_cond) * g_cond.square().mean(-1).sqrt()
    rms = "the RMS of N samples is their L2 norm over sqrt(N)"
    return [
        Property(
            "a prior that moves each sample by 0.01, straight against the mixture",
            lambda: answer(-0.01 * g_cond.sign(), g_cond.sign()),
            [0.01, 0.01],
            rms,
            1e-6,
        ),
        Property("gradients in general", lambda: answer(g_prior, g_cond), needed, rms, 1e-6),
        Property(
            "a loss in other units changes nothing",
            lambda: answer(g_prior, 100 * g_cond),
            needed,
            "multiply g_bound by g_cond's RMS",
            1e-6,
        ),
        Property(
            "neither does a signal twice as long",
            lambda: answer(g_prior.repeat(1, 2), g_cond.repeat(1, 2)),
            needed,
            "a mean over the samples, and not a sum",
            1e-6,
        ),
    ]


@checker("6.3", "gradient surgery")
def surgery(answer):
    """answer(g_prior [K, N], g_cond [K, N]) -> g_prior [K, N] without its component along g_cond where that is a
    conflict (Yu et al. 2020), for each source by itself."""
    g_cond, across = noise(2, 30), noise(2, 30, seed=1)
    across = across - (across * g_cond).sum(-1, keepdim=True) / g_cond.square().sum(-1, keepdim=True) * g_cond
    against, along = across - 0.7 * g_cond, across + 0.7 * g_cond
    mixed = torch.stack([against[0], along[1]])
    return [
        Property(
            "of a conflict the part across is left",
            lambda: answer(against, g_cond),
            across,
            "subtract the projection on g_cond: <g_prior, g_cond> / |g_cond|^2 times g_cond",
            1e-6,
        ),
        Property(
            "a prior that helps stays as it is",
            lambda: answer(along, g_cond),
            along,
            "only where the inner product is negative",
            1e-6,
        ),
        Property(
            "each source by itself",
            lambda: answer(mixed, g_cond),
            torch.stack([across[0], along[1]]),
            "inner products over the samples of a source, the last axis",
            1e-6,
        ),
        Property(
            "nothing is done twice",
            lambda: answer(answer(against, g_cond), g_cond),
            across,
            "what is left is orthogonal to g_cond",
            1e-6,
        ),
    ]


@checker("6.4", "states that ignore the mixture")
def deaf_states(answer):
    """answer(P [K, F], alpha_bar, weight_x0, weight_xt) -> expected <g_prior, g_cond> [K], summed over frequency, for
    Gaussian sources of spectra P whose states know nothing of the mixture; the loss is half the squared error."""
    s = NoiseSchedule.linear()
    P = torch.tensor([[0.09, 0.02, 0.001], [0.01, 0.02, 0.05]], dtype=torch.float64)

    def at(t, P):
        alpha_bar, weights = float(s.alpha_bar[t]), (float(s.posterior_x0[t]), float(s.posterior_xt[t]))
        variance = alpha_bar * P + 1 - alpha_bar
        J = alpha_bar**0.5 * P / variance
        return lambda: answer(P, alpha_bar, *weights), ((1 - weights[0] * J - weights[1]) * J**2 * variance).sum(-1)

    return [
        Property(
            "two sources half-way",
            *at(100, P),
            "E[x_t r] is -J times the power of the state, alpha_bar P + 1 - alpha_bar; g_prior and g_cond are multiples"
            " of x_t and r",
            1e-9,
        ),
        Property("close to the clean end", *at(3, P), "use the alpha_bar and the weights that are given", 1e-9),
        Property(
            "a third source changes nothing for the others",
            *at(100, torch.cat([P, P[:1]])),
            "the states are independent",
            1e-9,
        ),
        Property(
            "the prior helps",
            lambda: answer(P, float(s.alpha_bar[60]), float(s.posterior_x0[60]), float(s.posterior_xt[60])),
            "positive numbers",
            "the prior shrinks the states, and with them what they wrongly add to the estimate",
            test=lambda inner: bool((inner > 0).all()),
        ),
    ]
