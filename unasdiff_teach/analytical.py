"""Analytical sampling (Iashchenko et al. 2023): reverse steps without gradients, each followed by a projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ._checks import one_of
from .diffusion import Prior, posterior_mean, tweedie
from .schedule import NoiseSchedule
from .task import Label, NoiseSource, Separation, SeparationTask, checked_config, countdown, normalised


@dataclass(frozen=True)
class AnalyticalConfig:
    """Choices of analytical sampling.

    Attributes:
        coefficient: fraction of the remaining difference that each pass adds to every source; None shifts each by 1 / K
            of the difference, an exact projection onto the mixture for any K (difference 20).
        passes: fixed-point passes in each step, with a coefficient.
        corrector: Langevin step with the same noise prediction where 0 < t < corrector_below.
        corrector_below: index of the training chain.
        corrector_snr: its signal-to-noise ratio; the released 1e-5 makes the corrector a no-op.
        clamp, normalize: as in `SeparationConfig`; the released code normalises by the peak here, and only here.
        layout: the prior is given "rows", one source each, or one "chain" of all sources after one another in time, as
            in UnDiff, so that sources see each other across the seams; this takes one prior and one label.
    """

    coefficient: float | None = 0.5
    passes: int = 2
    corrector: bool = True
    corrector_below: int = 150
    corrector_snr: float = 1e-5
    clamp: float | None = 1.0
    normalize: Literal["none", "peak"] = "peak"
    layout: Literal["rows", "chain"] = "rows"

    @classmethod
    def authors(cls) -> AnalyticalConfig:
        """The released code's constants, tuned for two sources."""
        return cls()

    @classmethod
    def undiff(cls) -> AnalyticalConfig:
        """UnDiff's original: the same constants, no clamp, the mixture as it is, and the sources in one chain."""
        return cls(clamp=None, normalize="none", layout="chain")

    @classmethod
    def recommended(cls) -> AnalyticalConfig:
        """An exact projection for any number of sources, without the corrector."""
        return cls(coefficient=None, corrector=False)

    def replace(self, **changes) -> AnalyticalConfig:
        return replace(self, **changes)

    def calls(self, schedule: NoiseSchedule) -> int:
        """Network calls for each source, as `Separation.calls` will count them."""
        corrected = (schedule.timesteps > 0) & (schedule.timesteps < self.corrector_below)
        return len(schedule) + int(self.corrector * corrected.sum())

    def __post_init__(self):
        one_of("normalize", self.normalize, ("none", "peak"))
        one_of("layout", self.layout, ("rows", "chain"))


def separate_analytical(
    mixture: Tensor,
    prior: Prior | Sequence[Prior],
    labels: Sequence[Label] | Sequence[Sequence[Label]],
    schedule: NoiseSchedule | None = None,
    config: AnalyticalConfig | None = None,
    noise: int | Sequence[int] | NoiseSource = 0,
    sample_rate: int | None = None,
    progress: bool = False,
) -> Separation:
    """Separate by analytical sampling: reverse steps, each followed by a shift of the sources towards the mixture.

    Arguments and errors are those of `separate`; the kinds of noise are "init" ([K, N], independent), "step" and
    "corrector" ([K, N]).

    Raises:
        ValueError: besides, the layout "chain" with two priors or labels.
    """
    config = checked_config(config or AnalyticalConfig.authors(), AnalyticalConfig)
    task = SeparationTask(mixture, prior, labels, schedule, noise, sample_rate, chain=config.layout == "chain")
    y, scale = normalised(task.mixture, config.normalize)
    s = task.schedule
    calls = 0

    with torch.no_grad():
        x = task.noise("init").expand(task.shape)
        for t in countdown(len(s) - 1, progress):
            x0_hat = tweedie(x, task.eps(x, s.timesteps[t]), t, s, config.clamp)
            z = task.noise("step") if t else torch.zeros_like(x)
            sample = posterior_mean(x, x0_hat, t, s) + s.at(s.sigma, t, x) * z
            calls += 1

            if config.coefficient is None:
                x = sample + (y - sample.sum(1))[:, None] / task.K
            else:
                # The first pass compares the old state: exact for K = 2 and 0.5, not a projection for K = 3.
                total = torch.zeros_like(y)
                for _ in range(config.passes):
                    total = total + y - x.sum(1)
                    x = sample + config.coefficient * total[:, None]

            if config.corrector and 0 < s.timesteps[t] < config.corrector_below:
                x = _corrector(x, y, task, t, s, config.corrector_snr)
                calls += 1
    return task.result(x, scale, calls, s)


def _corrector(x: Tensor, y: Tensor, task: SeparationTask, t: int, s: NoiseSchedule, snr: float) -> Tensor:
    """Langevin step of the released code, whose score has the sign of the noise prediction (a true one has minus)."""
    score = task.eps(x, s.timesteps[t]) / (1 - s.at(s.alpha_bar, t, x)).sqrt()
    z = task.noise("corrector")
    size = torch.linalg.vector_norm
    step = 2 * (1 - s.at(s.beta, t, x)) * (snr * size(z, dim=-1, keepdim=True) / size(score, dim=-1, keepdim=True)) ** 2
    return x + step * (score + (y - x.sum(1))[:, None]) + (2 * step).sqrt() * z
