"""Source models: exact priors in closed form, trained networks, and the shipped checkpoints."""

from .exact import Gaussian, GaussianMixture, StationaryGaussian, gaussian_posterior
from .neural import NeuralPrior, PriorConfig, read
from .shipped import load

__all__ = ["Gaussian", "GaussianMixture", "NeuralPrior", "PriorConfig", "StationaryGaussian", "gaussian_posterior", "load", "read"]
