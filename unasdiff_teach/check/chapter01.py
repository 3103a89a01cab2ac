"""Checkers for chapter 1, the cocktail party in one channel."""

from __future__ import annotations

import torch

from ..metrics import si_sdr as library_si_sdr
from .core import Property, checker, noise


@checker("1.1", "SI-SDR from a correlation")
def si_sdr(answer):
    """answer(estimate [..., N], reference [..., N]) -> SI-SDR [...], dB, both means removed."""
    t = torch.arange(800, dtype=torch.float64) / 800
    target, rest = torch.sin(10 * torch.pi * t), torch.sin(18 * torch.pi * t)  # orthogonal, of one energy
    estimates = torch.stack([target + 0.1 * rest, target + 0.5 * rest])
    known = torch.tensor([20.0, 6.0206])
    both = target.expand(2, -1)
    silence = torch.zeros_like(target)
    signals = noise(5, 300), noise(5, 300, seed=1) + 0.3
    mixed = signals[0] + torch.logspace(-2, 2, 5).double()[:, None] * signals[1]
    return [
        Property(
            "target plus 0.1 and 0.5 of something orthogonal scores 20 and 6.02 dB",
            lambda: answer(estimates, both),
            known,
            "the energy of the projection on the reference over the energy of the rest; sums run over the last axis"
            " only",
            1e-3,
        ),
        Property(
            "the scale of the estimate does not matter",
            lambda: answer(0.3 * estimates, both),
            known,
            "divide the inner product by both norms",
            1e-3,
        ),
        Property(
            "the scale of the reference does not matter",
            lambda: answer(estimates, 50 * both),
            known,
            "divide the inner product by both norms",
            1e-3,
        ),
        Property("the sign does not matter", lambda: answer(-estimates, both), known, "square the correlation", 1e-3),
        Property(
            "an added constant does not matter",
            lambda: answer(estimates + 2, both - 1),
            known,
            "remove the mean of each signal first",
            1e-3,
        ),
        Property(
            "a silent estimate scores low, and is not NaN",
            lambda: answer(silence, target),
            "a finite number below -60",
            "keep the squared correlation away from 0/0, from 0 and from 1, for example by a clamp",
            test=lambda x: bool(torch.isfinite(x).all() and (x < -60).all()),
        ),
        Property(
            "a perfect estimate scores high, and is not infinite",
            lambda: answer(target, target),
            "a finite number above 60",
            "keep the squared correlation away from 0 and from 1, for example by a clamp",
            test=lambda x: bool(torch.isfinite(x).all() and (x > 60).all()),
        ),
        Property(
            "random signals score what ut.si_sdr gives",
            lambda: answer(mixed, signals[0]),
            library_si_sdr(mixed, signals[0]),
            "compare your steps with section 1.5, one by one",
            1e-2,
        ),
    ]


@checker("1.2", "the best order")
def best_order(answer):
    """answer(scores [K, K]) -> K integers; scores[i, k] is the SI-SDR of estimate i against reference k, and entry k
    of the answer is the estimate that answers to reference k, so that the mean score is highest."""

    def scores(order, K):  # a table in which `order` is the best
        table = torch.full((K, K), -20.0)
        table[torch.tensor(order), torch.arange(K)] = 10.0
        return table

    trap = torch.tensor([[10.0, 9.0], [9.0, -20.0]])
    twice = torch.tensor([[12.0, 11.0, -5.0], [3.0, 1.0, -5.0], [0.0, 1.0, 4.0]])
    lost = torch.tensor([[-7.0, -1.0], [-2.0, -8.0]])
    return [
        Property(
            "two sources in the right order stay",
            lambda: answer(scores([0, 1], 2)),
            [0, 1],
            "return one estimate for each reference",
        ),
        Property("two swapped sources are swapped back", lambda: answer(scores([1, 0], 2)), [1, 0], "try both orders"),
        Property(
            "three sources that moved on by one are found",
            lambda: answer(scores([1, 2, 0], 3)),
            [1, 2, 0],
            "entry k is the estimate for reference k, scores[order[k], k]; the other way round is the inverse order",
        ),
        Property(
            "no estimate is used twice",
            lambda: answer(twice),
            [1, 0, 2],
            "go through permutations, not through references",
        ),
        Property(
            "the highest single score may be given up for the highest mean",
            lambda: answer(trap),
            [1, 0],
            "10 and -20 have the mean -5, and 9 and 9 have 9: compare sums over whole permutations",
        ),
        Property(
            "negative scores are compared as well",
            lambda: answer(lost),
            [1, 0],
            "start from minus infinity, not from 0",
        ),
    ]


@checker("1.3", "mixing at a given ratio")
def mix_at(answer):
    """answer(source [N], other [N], decibels) -> mixture [N], the source as it is plus the other one, scaled."""
    source, other = 0.1 * noise(400), 0.3 * noise(400, seed=1)

    def mixture(decibels):
        gain = (source.square().sum() / other.square().sum() / 10 ** (decibels / 10)).sqrt()
        return source + gain * other

    power = "a power ratio of 10 is 10 dB, an amplitude ratio of 10 is 20 dB: the gain needs a square root"
    return [
        Property(
            "at 0 dB both have the same energy",
            lambda: answer(source, other, 0.0),
            mixture(0.0),
            "the gain on the other one is the ratio of the two norms",
            1e-5,
        ),
        Property(
            "at 20 dB the other one has a hundredth of the energy",
            lambda: answer(source, other, 20.0),
            mixture(20.0),
            power,
            1e-5,
        ),
        Property(
            "at -6 dB the other one is the louder one",
            lambda: answer(source, other, -6.0),
            mixture(-6.0),
            "a higher ratio means a quieter other sound",
            1e-5,
        ),
        Property(
            "the level of the other one beforehand does not matter",
            lambda: answer(source, 100 * other, 20.0),
            mixture(20.0),
            "measure the energy of the other one, and divide it out",
            1e-5,
        ),
    ]


@checker("1.4", "the ratio mask")
def ratio_mask(answer):
    """answer(magnitudes [K, F, frames]) -> masks [K, F, frames], each bin shared in proportion to the magnitudes."""
    magnitudes = noise(3, 5, 4).abs() + 0.1
    share = magnitudes / magnitudes.sum(0)
    lonely = torch.zeros(2, 2, 2, dtype=torch.float64)
    lonely[0] = 0.7
    own = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    silent = magnitudes.clone()
    silent[:, 0] = 0
    shared = share.clone()
    shared[:, 0] = 1 / 3
    return [
        Property(
            "each bin is shared by magnitude",
            lambda: answer(magnitudes),
            share,
            "divide by the sum over the sources, the first axis",
            1e-4,
        ),
        Property(
            "a source that is alone gets everything",
            lambda: answer(lonely),
            own,
            "its share is 1, and that of the others 0",
            1e-4,
        ),
        Property(
            "the level of the whole does not matter",
            lambda: answer(1e-6 * magnitudes),
            share,
            "what you add to avoid 0/0 must be tiny beside any real magnitude",
            1e-3,
        ),
        Property(
            "a bin in which all are silent is shared equally",
            lambda: answer(silent),
            shared,
            "0/0 is NaN: add the same tiny number to every magnitude before you divide",
            1e-3,
        ),
    ]
