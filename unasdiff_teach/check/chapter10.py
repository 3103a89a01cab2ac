"""Checkers for chapter 10, the triple-path U-Net."""

from __future__ import annotations

import torch

from ..networks.triple_path import AxialPath, rotate
from .core import Property, checker, noise


@checker("10.1", "rotary positions")
def rotary(answer):
    """answer(q [L, d]) -> q with each pair (2 i, 2 i + 1) of row p turned by the angle p 10000^(-2 i / d), [L, d]; d
    is even.
    """
    L, d = 12, 8
    q, k = noise(1, d).expand(L, d), noise(1, d, seed=1).expand(L, d)
    first, second = (torch.eye(d, dtype=torch.float64)[i].expand(L, d) for i in (0, 2))
    position = torch.arange(L, dtype=torch.float64)
    pairs = "the pairs are neighbours, (0, 1), (2, 3) and so on: new pair = (x cos - y sin, x sin + y cos)"

    def products():
        """q at each position times k at each position; how much they vary at one distance."""
        table = torch.as_tensor(answer(q)) @ torch.as_tensor(answer(k)).mT
        return torch.stack([table.diagonal(i).max() - table.diagonal(i).min() for i in range(1 - L, L)])

    return [
        Property("the first row stays", lambda: torch.as_tensor(answer(q))[0], q[0], "positions count from 0", 1e-6),
        Property(
            "lengths stay",
            lambda: torch.as_tensor(answer(q)).square().sum(-1),
            q.square().sum(-1),
            "turn, do not scale: cosine and sine of one angle",
            1e-5,
        ),
        Property(
            "the first pair turns by one radian from row to row",
            lambda: torch.as_tensor(answer(first))[:, :2],
            torch.stack([position.cos(), position.sin()], 1),
            pairs,
            1e-5,
        ),
        Property(
            "the second pair turns more slowly",
            lambda: torch.as_tensor(answer(second))[:, 2:4],
            torch.stack([(position * 10000 ** (-2 / d)).cos(), (position * 10000 ** (-2 / d)).sin()], 1),
            "pair i has the rate 10000^(-2 i / d), with i = 0, 1, 2 ...",
            1e-5,
        ),
        Property(
            "products of rows depend on their distance alone",
            products,
            "a spread of less than 0.0001 at each distance",
            "the angle is proportional to the position",
            test=lambda spread: bool(spread.max() < 1e-4),
        ),
        Property("all pairs", lambda: answer(noise(L, d, seed=2)), rotate(noise(1, L, d, seed=2))[0], pairs, 1e-5),
    ]


@checker("10.2", "interleaved sub-bands")
def fold_bands(answer):
    """answer(h [F, C], S) -> [F / S, C S]: row f goes to row f // S, and its channel c to channel c S + (f mod S)."""
    one, two = torch.arange(8.0)[:, None], noise(12, 2)
    rows = "row g of the result holds the neighbours S g to S g + S - 1, not bins that lie F / S apart"
    return [
        Property("one band changes nothing", lambda: answer(two, 1), two, "F / 1 rows of C channels", 1e-6),
        Property("four bands of eight frequencies", lambda: answer(one, 4), one.reshape(2, 4), rows, 1e-6),
        Property(
            "two channels, three bands",
            lambda: answer(two, 3),
            two.reshape(4, 3, 2).mT.reshape(4, 6),
            "the bands of one channel stand side by side: channel c S + (f mod S)",
            1e-6,
        ),
        Property(
            "another size",
            lambda: answer(noise(64, 5), 4),
            noise(64, 5).reshape(16, 4, 5).mT.reshape(16, 20),
            "use F, C and S of what is given",
            1e-6,
        ),
    ]


@checker("10.3", "the size of a path")
def path_parameters(answer):
    """answer(C, E) -> number of trainable parameters of one intra-frame path of width C, its modulation from an
    embedding of width E included."""

    def count(C, E):
        with torch.device("meta"):
            path = AxialPath(C, 4, "frequency")
        return sum(p.numel() for p in path.parameters()) + 6 * C * (E + 1)

    parts = "C -> 2C, C -> 3C, C -> C, C -> 4C, 2C -> C and E -> 6C, each with a bias for each of its outputs"
    return [
        Property("the latent level of the paper", lambda: answer(288, 128), count(288, 128), parts, 0.5),
        Property("its first level", lambda: answer(72, 128), count(72, 128), "use C", 0.5),
        Property(
            "another embedding",
            lambda: answer(72, 64),
            count(72, 64),
            "use E: the modulation has six outputs for each channel",
            0.5,
        ),
        Property("the number of heads does not matter", lambda: answer(32, 64), count(32, 64), parts, 0.5),
    ]
