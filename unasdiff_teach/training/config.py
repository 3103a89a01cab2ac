"""How long and how fast a network is trained, whatever it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .._lazy import renamed_arguments
from ..precision import canonical

# What may change between two calls on one folder; everything else belongs to the training.
FREE = ("steps", "log_every", "save_every", "save_minutes", "checkpoint_every", "prefetch", "precision", "reschedule")


renamed = renamed_arguments(
    ahead="prefetch", clip="max_grad_norm", final_rate="min_lr_ratio", milestone_every="checkpoint_every",
    rate="lr_scale",
)  # fmt: skip


@renamed
@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a network is trained.

    Attributes:
        steps, batch, learning_rate, weight_decay: AdamW; `batch` counts the examples of all processes together.
        warmup: steps of linear warm-up; the learning rate then stays, or follows a cosine to `min_lr_ratio` of its
            value.
        ema_decay: decay of the averaged weights, which are the ones evaluated; the average starts short and grows,
            min(ema_decay, (1 + step) / (10 + step)).
        max_grad_norm: largest norm of the gradient.
        log_every, save_every: steps.
        save_minutes: minutes after which the state is saved even if `save_every` steps have not been made.
        checkpoint_every: steps between files of averaged weights; None is each time that the state is saved.
        prefetch: batches that threads draw while the device computes; 0 draws each when it is needed. The batches are
            the same.
        precision: "float32", or "bfloat16": products in it; signals, transforms, norms and all weights in float32.
        reschedule: go on with another number of steps than the state's although a cosine depends on it; the card notes
            it.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 0
    cosine: bool = False
    min_lr_ratio: float = 0.01
    ema_decay: float = 0.9999
    max_grad_norm: float = 1.0
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    save_minutes: float | None = None
    checkpoint_every: int | None = None
    prefetch: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    reschedule: bool = False

    def __post_init__(self):
        object.__setattr__(self, "precision", canonical(self.precision))
        for name in ("steps", "batch", "log_every", "save_every"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; at least 1 is needed")

    def lr_scale(self, step: int) -> float:
        """Learning rate at a step, as a fraction of `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if not self.cosine:
            return warm
        return warm * (
            self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))
        )
