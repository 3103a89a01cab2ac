"""Training of priors and of supervised separators."""

from .crops import CropConfig, Crops, ManifestCrops
from .prior import PriorTrainer, TrainConfig, draw_steps, prior_loss
from .separator import Mixer, SeparatorTrainConfig, SeparatorTrainer, separation_loss

__all__ = [
    "CropConfig", "Crops", "ManifestCrops", "Mixer", "PriorTrainer", "SeparatorTrainConfig", "SeparatorTrainer",
    "TrainConfig", "draw_steps", "prior_loss", "separation_loss",
]  # fmt: skip
