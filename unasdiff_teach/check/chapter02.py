"""Checkers for chapter 2, the forward process."""

from __future__ import annotations

import torch

from ..diffusion import forward_noise
from ..schedule import NoiseSchedule
from .core import Property, checker


def _largest_beta(T: int, beta_min: float, left: float) -> float:
    """By bisection: alpha_bar falls as beta_max grows."""
    low, high = beta_min, 0.9
    for _ in range(60):
        middle = (low + high) / 2
        beta = torch.linspace(beta_min, middle, T, dtype=torch.float64)
        low, high = (middle, high) if (1 - beta).prod() > left else (low, middle)
    return high


@checker("2.1", "a chain that ends in noise")
def largest_beta(answer):
    """answer(T, beta_min, left) -> the beta_max of a linear schedule of T steps at whose end alpha_bar is `left`."""
    guess = "ln(1 - beta) = -beta is a good first guess and not exact: search around it, for example by bisection"
    return [
        Property(
            "the paper's own schedule is found from what it leaves",
            lambda: answer(200, 1e-4, 0.13218),
            0.02,
            "alpha_bar at the end is the product of all 1 - beta",
            2e-5,
        ),
        Property(
            "200 steps that leave one ten-thousandth",
            lambda: answer(200, 1e-4, 1e-4),
            _largest_beta(200, 1e-4, 1e-4),
            guess,
            2e-4,
        ),
        Property(
            "1000 steps need smaller ones",
            lambda: answer(1000, 1e-4, 1e-4),
            _largest_beta(1000, 1e-4, 1e-4),
            "use T, not 200",
            2e-5,
        ),
        Property(
            "another smallest beta",
            lambda: answer(200, 1e-2, 1e-4),
            _largest_beta(200, 1e-2, 1e-4),
            "use beta_min",
            2e-4,
        ),
    ]


@checker("2.2", "turning up the volume")
def amplification(answer):
    """answer(schedule, level, count) -> dB by which to amplify a source of RMS `level` dB, so that it is exactly as
    strong as the noise at the last of the first `count` steps."""
    s, steep = NoiseSchedule.linear(), NoiseSchedule.linear(200, 1e-4, 0.09)

    def needed(schedule, level, count):
        return float(20 * schedule.noise_to_signal[count - 1].log10()) - level

    rms = "signal sqrt(alpha_bar) times RMS, noise sqrt(1 - alpha_bar): set them equal, and an amplitude has 20 log10"
    return [
        Property(
            "half of the steps of the paper's schedule, at -18 dB",
            lambda: answer(s, -18.0, 100),
            needed(s, -18, 100),
            rms + "; the 100th step has the index 99",
            1e-3,
        ),
        Property(
            "17 steps need next to nothing at -18 dB", lambda: answer(s, -18.0, 17), needed(s, -18, 17), rms, 1e-3
        ),
        Property(
            "a source that is 7 dB quieter needs 7 dB more",
            lambda: answer(s, -25.0, 100),
            needed(s, -25, 100),
            "subtract the level",
            1e-3,
        ),
        Property(
            "another schedule",
            lambda: answer(steep, -18.0, 100),
            needed(steep, -18, 100),
            "use the schedule that is given",
            1e-3,
        ),
    ]


@checker("2.3", "steps above the noise")
def steps_above_noise(answer):
    """answer(schedule, level) -> at how many steps a source of RMS `level` dB has more power than the noise."""
    s = NoiseSchedule.linear()
    return [
        Property(
            "a source at 0 dB is above the noise at 117 of 200 steps",
            lambda: answer(s, 0.0),
            117,
            "compare alpha_bar with 1 - alpha_bar, and count",
        ),
        Property("at -18 dB at 17", lambda: answer(s, -18.0), 17, "the power of the source is 10 ** (level / 10)"),
        Property(
            "33 steps even in time: 3",
            lambda: answer(s.respace(33, "time"), -18.0),
            3,
            "use the schedule's own alpha_bar",
        ),
        Property(
            "33 steps even in log-SNR: 13",
            lambda: answer(s.respace(33, "log_snr"), -18.0),
            13,
            "use the schedule's own alpha_bar",
        ),
        Property("a source at -60 dB: none", lambda: answer(s, -60.0), 0, "count steps; do not look for the last one"),
    ]


@checker("2.4", "a jump from any step to any later one")
def jump(answer):
    """answer(x_s [N], s, t, noise [N], schedule) -> x_t [N] from the state at index s < t and fresh noise."""
    schedule = NoiseSchedule.linear()
    x_s, noise = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero = torch.zeros_like(x_s)

    def ratio(s, t):
        return schedule.alpha_bar[t] / schedule.alpha_bar[s]

    beta = schedule.beta[100]
    one = (1 - beta).sqrt() * x_s + beta.sqrt() * noise
    clean = (schedule.alpha_bar[150] / schedule.alpha_bar[0]).sqrt() * x_s
    gain = (
        "from s to t the power shrinks by the product of 1 - beta over the steps s + 1 to t, a ratio of two alpha_bar"
    )
    return [
        Property("without noise it only shrinks", lambda: answer(x_s, 0, 150, zero, schedule), clean, gain, 1e-6),
        Property(
            "one step on is the chain's own step",
            lambda: answer(x_s, 99, 100, noise, schedule),
            one,
            "the noise has what the signal lost: variance 1 - alpha_bar_t / alpha_bar_s",
            1e-5,
        ),
        Property(
            "many steps on",
            lambda: answer(x_s, 20, 150, noise, schedule),
            ratio(20, 150).sqrt() * x_s + (1 - ratio(20, 150)).sqrt() * noise,
            "the noise has what the signal lost: variance 1 - alpha_bar_t / alpha_bar_s",
            1e-5,
        ),
        Property(
            "a second jump shrinks the noise of the first one too",
            lambda: answer(answer(zero, 5, 60, noise, schedule), 60, 180, zero, schedule),
            ratio(60, 180).sqrt() * (1 - ratio(5, 60)).sqrt() * noise,
            gain,
            1e-5,
        ),
        Property(
            "a jump that continues a noised sound has the variance of a single one",
            lambda: (
                answer(forward_noise(zero, 30, noise, schedule), 30, 120, zero, schedule).square().sum()
                + answer(zero, 30, 120, noise, schedule).square().sum()
            ),
            (1 - schedule.alpha_bar[120]) * noise.square().sum(),
            gain,
            1e-5,
        ),
    ]
