"""Teach, run and extend unsupervised single-channel audio separation with diffusion source priors."""

import importlib

from . import networks, priors, separators
from .conflict import ConflictRecorder, guidance_bound
from .diffusion import ancestral_sample, denoising_loss, forward_noise, posterior_mean, posterior_step, reverse_weights, tweedie
from .dirac import DiracConfig, separate_dirac
from .guidance import CQT, DPS, DSG, Estimates, GradientRule, Guidance, Hybrid, Wiener, smooth_max
from .long_audio import WindowedPrior, Windows, separate_long
from .reconstruction import ReconstructionLoss
from .schedule import NoiseSchedule
from .separation import (
    AnalyticalConfig,
    Separation,
    SeparationConfig,
    StepRecord,
    algorithm_1,
    separate,
    separate_analytical,
)
from .task import RunState

__version__ = "0.1.0"
__all__ = [
    "CQT", "DPS", "DSG", "AnalyticalConfig", "ConflictRecorder", "DiracConfig", "Estimates", "GradientRule", "Guidance",
    "Hybrid", "NoiseSchedule", "ReconstructionLoss", "RunState", "Separation", "SeparationConfig", "StepRecord", "Wiener",
    "WindowedPrior", "Windows", "algorithm_1", "ancestral_sample", "check", "data", "denoising_loss", "evaluation", "forward_noise", "guidance_bound", "networks",
    "posterior_mean", "posterior_step", "priors", "reverse_weights", "separate", "separate_analytical", "separate_dirac",
    "separate_long", "separators", "show", "si_sdr", "smooth_max", "training", "tweedie",
]  # fmt: skip

_ROOMS = ("check", "data", "evaluation", "show", "training")


def __getattr__(name: str):
    # Rooms that need pandas, matplotlib or soundfile are imported when first used.
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name == "si_sdr":
        from .evaluation import si_sdr

        return si_sdr
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
