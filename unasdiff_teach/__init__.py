"""Teach, run and extend unsupervised single-channel audio separation with diffusion source priors."""

from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:  # what `__getattr__` below imports when it is first used
    from . import check, data, evaluation, networks, priors, separators, show, training
    from .analytical import AnalyticalConfig, separate_analytical
    from .conflict import ConflictRecorder, guidance_bound
    from .diffusion import (
        ancestral_sample,
        denoising_loss,
        forward_noise,
        posterior_mean,
        posterior_step,
        reverse_weights,
        tweedie,
    )
    from .dirac import DiracConfig, separate_dirac
    from .guidance import CQT, DPS, DSG, Estimates, GradientRule, Guidance, Hybrid, Wiener, smooth_max
    from .long_audio import WindowedPrior, Windows, separate_long
    from .metrics import si_sdr
    from .reconstruction import ReconstructionLoss
    from .schedule import NoiseSchedule
    from .separation import Separation, SeparationConfig, StepRecord, algorithm_1, separate
    from .task import RunState

__version__ = "0.1.0"
__all__ = [
    "CQT", "DPS", "DSG", "AnalyticalConfig", "ConflictRecorder", "DiracConfig", "Estimates", "GradientRule", "Guidance",
    "Hybrid", "NoiseSchedule", "ReconstructionLoss", "RunState", "Separation", "SeparationConfig", "StepRecord",
    "Wiener", "WindowedPrior", "Windows", "algorithm_1", "ancestral_sample", "check", "data", "denoising_loss",
    "evaluation", "forward_noise", "guidance_bound", "networks", "posterior_mean", "posterior_step", "priors",
    "reverse_weights", "separate", "separate_analytical", "separate_dirac", "separate_long", "separators", "show",
    "si_sdr", "smooth_max", "training", "tweedie",
]  # fmt: skip

_HOMES = {
    "analytical": "AnalyticalConfig separate_analytical",
    "conflict": "ConflictRecorder guidance_bound",
    "diffusion": "ancestral_sample denoising_loss forward_noise posterior_mean posterior_step reverse_weights tweedie",
    "dirac": "DiracConfig separate_dirac",
    "guidance": "CQT DPS DSG Estimates GradientRule Guidance Hybrid Wiener smooth_max",
    "long_audio": "WindowedPrior Windows separate_long",
    "metrics": "si_sdr",
    "reconstruction": "ReconstructionLoss",
    "schedule": "NoiseSchedule",
    "separation": "Separation SeparationConfig StepRecord algorithm_1 separate",
    "task": "RunState",
}
# The command's help needs no torch, and most programs neither pandas nor matplotlib.
__getattr__, __dir__ = lazy(
    __name__, _HOMES, ["check", "data", "evaluation", "networks", "priors", "separators", "show", "training"]
)
