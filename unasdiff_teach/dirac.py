"""Separation with a Dirac likelihood (Mariani et al. 2024): the last source is the mixture minus the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ._checks import one_of
from .diffusion import Prior
from .schedule import NoiseSchedule
from .task import Label, NoiseSource, Separation, SeparationTask, checked_config, countdown, normalised


@dataclass(frozen=True)
class DiracConfig:
    """The Dirac sampler of multi-source diffusion models, no gradients.

    Attributes:
        constrained: which source is the mixture minus the others; -1 is the last one. The sources do not play equal
            parts.
        langevin: strength of the Langevin noise, with its own pull back, that is added in each step. 0 is the
            deterministic probability flow, 1 the reverse diffusion; much more than that needs more steps to be stable.
            The original adds it by raising the noise level before a step ("churn"), which a chain of discrete steps
            cannot do.
        normalize: as in `SeparationConfig`.
        steps, spacing: respace the schedule to this many steps (`NoiseSchedule.respace`); None keeps all.
    """

    constrained: int = -1
    langevin: float = 0.0
    normalize: Literal["none", "peak"] = "peak"
    steps: int | None = None
    spacing: Literal["log_snr", "time"] = "log_snr"

    def replace(self, **changes) -> DiracConfig:
        return replace(self, **changes)

    def calls(self, schedule: NoiseSchedule) -> int:
        """Network calls for each source, as `Separation.calls` will count them."""
        return self.steps or len(schedule)

    def __post_init__(self):
        one_of("normalize", self.normalize, ("none", "peak"))
        if self.langevin < 0:
            raise ValueError(f"langevin is {self.langevin}; it must be at least 0")


def separate_dirac(
    mixture: Tensor,
    prior: Prior | Sequence[Prior],
    labels: Sequence[Label] | Sequence[Sequence[Label]],
    schedule: NoiseSchedule | None = None,
    config: DiracConfig | None = None,
    noise: int | Sequence[int] | NoiseSource = 0,
    sample_rate: int | None = None,
    progress: bool = False,
) -> Separation:
    """Separate by the Dirac sampler (Mariani et al. 2024), in its form for independent sources: no gradients.

    It moves in the variables of a variance-exploding chain, u = x_t / sqrt(alpha_bar_t) = x_0 + sigma eps with
    sigma = sqrt((1 - alpha_bar_t) / alpha_bar_t). The free sources follow the difference between their own score and
    that of the constrained source, u_K = y - sum of the others; the estimates add up to the mixture by construction.

    Arguments and errors are those of `separate`; the kinds of noise are "init" and "step" ([K, N], the constrained
    source's row unused), the latter with `langevin` only.

    Raises:
        ValueError: besides, a single source, or `constrained` outside the sources.
    """
    config = checked_config(config or DiracConfig(), DiracConfig)
    task = SeparationTask(mixture, prior, labels, schedule, noise, sample_rate)
    if task.K < 2:
        raise ValueError("labels names one source; the Dirac sampler needs at least two")
    if not -task.K <= config.constrained < task.K:
        raise ValueError(
            f"constrained is {config.constrained}; with {task.K} sources, {-task.K}..{task.K - 1} are accepted"
        )
    y, scale = normalised(task.mixture, config.normalize)
    s = task.schedule if config.steps is None else task.schedule.respace(config.steps, config.spacing)
    last = config.constrained % task.K

    def constrain(u: Tensor) -> Tensor:
        u = u.clone()
        u[:, last] = 0
        u[:, last] = y - u.sum(1)
        return u

    with torch.no_grad():
        u = constrain(s.at(s.noise_to_signal, len(s) - 1, y) * task.noise("init"))
        for t in countdown(len(s) - 1, progress):
            sigma = float(s.noise_to_signal[t])
            below = float(s.noise_to_signal[t - 1]) if t else 0.0
            eps = task.eps(s.at(s.alpha_bar, t, u).sqrt() * u, s.timesteps[t])
            # The score of u is -eps / sigma, so that du/dsigma = -sigma (score - score of the constrained source) is:
            slope = eps - eps[:, last : last + 1]
            langevin = config.langevin if t else 0.0  # the last step removes noise, and adds none
            u = u + (1 + langevin) * (below - sigma) * slope
            if langevin:
                u = u + (langevin * (sigma**2 - below**2)) ** 0.5 * task.noise("step")
            u = constrain(u)
    return task.result(u, scale, len(s), s)
