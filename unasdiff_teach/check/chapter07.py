"""Checkers for chapter 7, guidance schedules."""

from __future__ import annotations

import math

import torch

from ..guidance import Hybrid
from ..schedule import NoiseSchedule
from .core import Property, checker


@checker("7.1", "SmoothMax of any number of values")
def smooth_max(answer):
    """answer(values [n, ...], c) -> log(sum over the first axis of exp(c values)) / c [...], without overflow."""
    values = 0.01 * torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    known = torch.logsumexp(1000 * values, 0) / 1000
    equal = torch.full((3, 4), 0.002, dtype=torch.float64)
    tops = torch.tensor([5.0, -1.0], dtype=torch.float64)
    return [
        Property(
            "three equal values: log(3) / c above them",
            lambda: answer(equal, 1000.0),
            equal[0] + math.log(3) / 1000,
            "sum over the first axis, then the logarithm, then divide by c",
            1e-8,
        ),
        Property(
            "two values are the library's",
            lambda: answer(values[:2], 1000.0),
            torch.logaddexp(1000 * values[0], 1000 * values[1]) / 1000,
            "multiply by c before the exponential, divide after the logarithm",
            1e-8,
        ),
        Property(
            "three values lie between the maximum and log(3) / c above it",
            lambda: answer(values, 1000.0),
            known,
            "all values belong into the sum",
            1e-8,
        ),
        Property(
            "large values do not overflow",
            lambda: answer(torch.stack([tops, tops - 4]), 1000.0),
            tops,
            "exp(5000) is infinite: take the maximum out of the sum first, or use torch.logsumexp",
            1e-8,
        ),
        Property(
            "very negative values do not vanish",
            lambda: answer(torch.stack([-9.0 - tops, -5.0 - tops]), 1000.0),
            -5.0 - tops,
            "exp(-9000) is 0, and its logarithm infinite: take the maximum out first",
            1e-8,
        ),
    ]


@checker("7.2", "the strength of the hybrid rule")
def hybrid_strength(answer):
    """answer(sigma [T], s_floor, sharpness, sigma_scale) -> SmoothMax(sigma_scale sigma, s_floor) [T], Eq. 11."""
    sigma = NoiseSchedule.linear().sigma

    def strength(*fields):
        return Hybrid(*fields).strength(NoiseSchedule.linear())

    return [
        Property(
            "the released code's constants",
            lambda: answer(sigma, 0.002, 1000.0, 0.09),
            strength(0.002, 1000.0, 0.09),
            "scale sigma first, then SmoothMax with the floor",
            1e-8,
        ),
        Property(
            "the text's: sigma as it is",
            lambda: answer(sigma, 0.002, 1000.0, 1.0),
            strength(0.002, 1000.0, 1.0),
            "use sigma_scale",
            1e-8,
        ),
        Property(
            "another floor",
            lambda: answer(sigma, 0.005, 1000.0, 0.09),
            strength(0.005, 1000.0, 0.09),
            "use s_floor",
            1e-8,
        ),
        Property(
            "a soft corner lifts the whole curve",
            lambda: answer(sigma, 0.002, 100.0, 0.09),
            strength(0.002, 100.0, 0.09),
            "use the sharpness, and not the plain maximum",
            1e-8,
        ),
        Property(
            "a sharp corner does not overflow",
            lambda: answer(sigma, 0.002, 1e6, 0.09),
            strength(0.002, 1e6, 0.09),
            "exp(12700) is infinite: use torch.logaddexp",
            1e-8,
        ),
    ]


@checker("7.3", "where the floor takes over")
def floor_wins(answer):
    """answer(schedule, s_floor, sigma_scale) -> at how many steps s_floor is above sigma_scale sigma(t)."""
    s = NoiseSchedule.linear()
    few = s.respace(33, last=s.index_of(150))

    def count(schedule, floor, scale):
        return int((scale * schedule.sigma < floor).sum())

    return [
        Property(
            "with the released code's constants at 6 of 200",
            lambda: answer(s, 0.002, 0.09),
            6,
            "compare 0.09 sigma with the floor, and count",
        ),
        Property(
            "as the text has it at 1",
            lambda: answer(s, 0.002, 1.0),
            1,
            "sigma is 0 at the last step of a run, t = 0: count that one as well",
        ),
        Property("a floor above all is felt at all steps", lambda: answer(s, 0.02, 0.09), 200, "use s_floor"),
        Property(
            "33 steps instead of 200",
            lambda: answer(few, 0.004, 0.2),
            count(few, 0.004, 0.2),
            "use the sigma of the schedule that is given",
        ),
    ]


@checker("7.4", "how sharp is sharp enough?")
def sharp_enough(answer):
    """answer(s_floor) -> a sharpness at which the hybrid strength at t = 1 is above s_floor by at most 1 %, and no
    more than half as sharp again as needed."""
    lowest = 3.3726  # c s_floor at which log(1 + exp(-u)) / u is 0.01

    def enough(floor):
        accepted = f"a number from {math.ceil(lowest / floor)} to {math.floor(1.5 * lowest / floor)}"
        return accepted, lambda c: not c.ndim and lowest / floor <= float(c) <= 1.5 * lowest / floor

    law = "at sigma = 0 the excess over the floor is log(1 + exp(-c s)) / (c s) of it: a function of c s alone"
    cases = {floor: enough(floor) for floor in (0.002, 0.005, 0.0005)}
    return [
        Property(f"a floor of {floor:g}", lambda floor=floor: answer(floor), accepted, law, test=test)
        for floor, (accepted, test) in cases.items()
    ]


@checker("7.5", "a rule that moves by a fixed size")
def fixed_size(answer):
    """answer(size, norm [...], N) -> gamma [...], such that gamma times a gradient of L2 norm `norm` over N samples
    moves every sample by `size`, in the RMS."""
    norm = torch.tensor([[1.0, 4.0], [0.5, 10.0]])
    rms = "a vector of N samples of RMS a has the L2 norm a sqrt(N)"
    return [
        Property(
            "16000 samples, gradients of four lengths",
            lambda: answer(0.002, norm, 16000),
            0.002 * 16000**0.5 / norm,
            rms,
            1e-6,
        ),
        Property(
            "twice the size, twice gamma",
            lambda: answer(0.004, norm, 16000),
            0.004 * 16000**0.5 / norm,
            "use the size",
            1e-6,
        ),
        Property("the paper's 64000 samples", lambda: answer(0.002, norm, 64000), 0.002 * 64000**0.5 / norm, rms, 1e-6),
    ]
