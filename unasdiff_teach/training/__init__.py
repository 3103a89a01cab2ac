"""Training of priors."""

from .crops import CropConfig, Crops
from .prior import PriorTrainer, TrainConfig, draw_steps, prior_loss

__all__ = ["CropConfig", "Crops", "PriorTrainer", "TrainConfig", "draw_steps", "prior_loss"]
