"""Checkers for chapter 9, reconstruction losses."""

from __future__ import annotations

import torch

from ..reconstruction import ReconstructionLoss
from .core import Property, checker, noise


def _group(d, n_groups: int, reduce: str):
    loss = ReconstructionLoss(time=0, group=1, stft=0, n_groups=n_groups, group_reduce=reduce)
    return loss(d[None], torch.zeros_like(d)[None])[0]


@checker("9.1", "the group term")
def group_loss(answer):
    """answer(d [N], n_groups, reduce) -> sum or mean of the norms of contiguous segments of d, each of ceil(N /
    n_groups) samples, the last one perhaps shorter; reduce is "sum" or "mean"."""
    d = noise(64) * torch.linspace(0.1, 2, 64)
    long = noise(1000, seed=1)
    length = (
        "segments have ceil(N / n_groups) samples; there may be fewer than n_groups of them, and the last may be"
        " shorter"
    )
    return [
        Property(
            "four segments of 16 samples, summed",
            lambda: answer(d, 4, "sum"),
            _group(d, 4, "sum"),
            "norms, not squares",
            1e-6,
        ),
        Property("and averaged", lambda: answer(d, 4, "mean"), _group(d, 4, "mean"), "use reduce", 1e-6),
        Property("one segment: the time term", lambda: answer(d, 1, "sum"), d.norm(), "norms, not squares", 1e-6),
        Property(
            "as many segments as samples: the sum of sizes", lambda: answer(d, 64, "sum"), d.abs().sum(), length, 1e-6
        ),
        Property("a last segment that is shorter", lambda: answer(d, 5, "sum"), _group(d, 5, "sum"), length, 1e-6),
        Property(
            "1000 samples give 500 segments, not 512",
            lambda: answer(long, 512, "mean"),
            _group(long, 512, "mean"),
            length,
            1e-6,
        ),
    ]


@checker("9.2", "the gradient of the group term")
def group_gradient(answer):
    """answer(d [N], n_groups) -> gradient [N] of the summed, un-squared group term with respect to the estimate, for a
    misfit d = mixture - estimate; without automatic differentiation."""
    d = noise(60) * torch.linspace(0.1, 2, 60)
    silent = d.clone()
    silent[12:24] = 0

    def gradient(d, n_groups):
        estimate = torch.zeros_like(d, requires_grad=True)
        loss = ReconstructionLoss(time=0, group=1, stft=0, n_groups=n_groups)
        return torch.autograd.grad(loss(d[None], estimate[None]).sum(), estimate)[0]

    unit = "the gradient of a norm is a unit vector, for each segment by itself"
    return [
        Property("one segment: minus the misfit's direction", lambda: answer(d, 1), -d / d.norm(), unit, 1e-6),
        Property("five segments", lambda: answer(d, 5), gradient(d, 5), unit, 1e-6),
        Property("a louder misfit does not pull harder", lambda: answer(100 * d, 5), gradient(d, 5), unit, 1e-6),
        Property(
            "a last segment that is shorter",
            lambda: answer(d, 7),
            gradient(d, 7),
            "ceil(N / n_groups) samples in each",
            1e-6,
        ),
        Property(
            "a segment without misfit gets no pull",
            lambda: answer(silent, 5),
            gradient(silent, 5),
            "0/0 is NaN: leave it at 0",
            1e-6,
        ),
    ]


@checker("9.3", "weights of equal pull")
def equal_pull(answer):
    """answer(gradients [n, N]) -> weights [n], the first one 1, with which all n gradients have the same length."""
    g = torch.tensor([[1.0], [20.0], [0.3]], dtype=torch.float64) * noise(3, 40)
    norms = g.norm(dim=-1)
    ratio = "the weight of a term is the first gradient's length over its own"
    return [
        Property("three terms", lambda: answer(g), norms[0] / norms, ratio, 1e-6),
        Property("the first weight is 1", lambda: answer(5 * g)[0], 1.0, ratio, 1e-6),
        Property("equal gradients get equal weights", lambda: answer(g[:1].expand(3, 40)), torch.ones(3), ratio, 1e-6),
        Property("two terms", lambda: answer(g[1:]), norms[1] / norms[1:], "for any number of terms", 1e-6),
    ]


@checker("9.4", "the direction that Bayes would take")
def bayes_direction(answer):
    """answer(d [N], V [N // 2 + 1]) -> the unit vector [N] along which exact guidance pulls the sum: the misfit d,
    divided at each frequency by the variance V of what the estimates leave open."""
    d, N = noise(64), 64
    V = torch.linspace(0.01, 1, N // 2 + 1, dtype=torch.float64)

    def direction(d, V):
        pull = torch.fft.irfft(torch.fft.rfft(d) / V, n=N)
        return pull / pull.norm()

    divide = "transform, divide each bin by its variance, transform back"
    return [
        Property(
            "one variance for all: the direction of the misfit",
            lambda: answer(d, torch.ones_like(V)),
            d / d.norm(),
            divide,
            1e-6,
        ),
        Property("more certain where the variance is small", lambda: answer(d, V), direction(d, V), divide, 1e-6),
        Property(
            "only the shape of the variances counts",
            lambda: answer(d, 7 * V),
            direction(d, V),
            "return a unit vector",
            1e-6,
        ),
        Property(
            "nor does the size of the misfit",
            lambda: answer(0.001 * d, V.flip(0)),
            direction(d, V.flip(0)),
            divide,
            1e-6,
        ),
    ]
