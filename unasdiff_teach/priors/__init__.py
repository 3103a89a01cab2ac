"""Source models: exact priors in closed form, trained networks, shipped checkpoints and those of others."""

from .exact import Gaussian, GaussianMixture, StationaryGaussian, gaussian_posterior
from .foreign import from_authors_checkpoint, from_undiff_checkpoint
from .neural import NeuralPrior, PriorConfig, read
from .shipped import load

__all__ = [
    "Gaussian", "GaussianMixture", "NeuralPrior", "PriorConfig", "StationaryGaussian", "from_authors_checkpoint",
    "from_undiff_checkpoint", "gaussian_posterior", "load", "read",
]  # fmt: skip
