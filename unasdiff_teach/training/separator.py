"""Supervised training of a separator on mixtures made on the fly: resumable, the same loop at pocket and at paper
scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..metrics import best_permutation
from ..separators import SeparatorConfig
from .config import LoopConfig, renamed
from .crops import Crops, ManifestCrops, rows_of, settings
from .loop import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Draw = Callable[[int, torch.Generator], Tensor]
"""draw(batch, generator) -> sources [batch, K, N], which sum to the mixtures."""


@renamed
@dataclass(frozen=True)
class SeparatorTrainConfig(LoopConfig):
    """How a separator is trained; the attributes are those of `LoopConfig`. The defaults are `paper()`."""

    steps: int = 500_000
    batch: int = 8
    learning_rate: float = 1e-3
    warmup: int = 4000
    cosine: bool = True
    max_grad_norm: float = 5.0

    @classmethod
    def paper(cls, **changes) -> SeparatorTrainConfig:
        """200 epochs, as the paper says, of 20,000 fresh mixtures each: neither that number nor any other is in the
        paper.
        """
        return cls(**changes)

    @classmethod
    def pocket(cls, **changes) -> SeparatorTrainConfig:
        """About a quarter of an hour on one CPU core: many small batches, since a short training gains most from
        steps.
        """
        return replace(
            cls(steps=2400, batch=4, learning_rate=2e-3, warmup=100, ema_decay=0.998, save_every=200), **changes
        )


def separation_loss(estimate: Tensor, sources: Tensor, kinds: Sequence[str]) -> Tensor:
    """Minus the mean SI-SDR of a mixture's sources in dB, [B, K, N], [B, K, N] -> [B].

    Sources of one kind may come out in any order, and the best counts (permutation-invariant training, Yu et al. 2017);
    those of different kinds must be where `kinds` [K] says.
    """
    return -best_permutation(estimate, sources, "kind", kinds)[1].mean(-1)


class Mixer:
    """draw(batch, generator) -> sources [batch, K, N] with the levels, lengths and offsets of their crops.

    Sources of one kind in one mixture differ in label: two voices, two classes of sound.

    Args:
        crops: for each kind, where its sources come from; all of one length. What is a class there differs within a
            mixture.
        kinds: K kinds, in the order of the sources.

    Raises:
        ValueError: a kind has no crops, or fewer labels than sources in a mixture, or the lengths differ.
    """

    def __init__(self, crops: Mapping[str, Crops | ManifestCrops], kinds: Sequence[str]):
        self.crops, self.kinds = dict(crops), tuple(kinds)
        if missing := set(kinds) - set(crops):
            raise ValueError(f"no crops of {', '.join(sorted(missing))}; there are those of {', '.join(crops)}")
        if len(lengths := {crops[kind].config.length for kind in kinds}) > 1:
            raise ValueError(f"the crops are {sorted(lengths)} samples long; one length is needed")
        for kind in set(kinds):
            if len(crops[kind].members) < self.kinds.count(kind):
                raise ValueError(
                    f"{self.kinds.count(kind)} sources of kind {kind!r} need as many labels; there are"
                    f" {len(crops[kind].members)}"
                )

    def __call__(self, batch: int, generator: torch.Generator) -> Tensor:
        return self.rows(batch, generator, slice(None))

    def settings(self) -> dict:
        """What else than the recordings changes the examples, as plain values."""
        return {kind: settings(draw) for kind, draw in self.crops.items()}

    def rows(self, batch: int, generator: torch.Generator, rows: slice) -> Tensor:
        """These rows of a batch; no other example is read."""
        sources, labels = [], []
        for k, kind in enumerate(self.kinds):
            chosen, label = self.crops[kind].choose(batch, generator)
            earlier = [labels[j] for j in range(k) if self.kinds[j] == kind]
            while len(
                again := torch.nonzero(
                    sum((label == other for other in earlier), torch.zeros(batch, dtype=torch.bool))
                ).flatten()
            ):
                chosen[again], label[again] = self.crops[kind].choose(len(again), generator)
            sources.append(self.crops[kind].signals(chosen[rows]))
            labels.append(label)
        return torch.stack(sources, 1)


class SeparatorTrainer(Trainer):
    """Trains one separator; see `Trainer` for its files, for how it resumes, for several processes, and for the other
    arguments.

    Args:
        draw: sources of fresh mixtures, for instance a `Mixer`.
    """

    what = "separator"

    def __init__(
        self,
        folder: str | Path,
        separator: SeparatorConfig,
        config: SeparatorTrainConfig,
        draw: Draw,
        data: dict,
        device: str = "cpu",
        fabric: Fabric | None = None,
    ):
        self.draw = draw
        super().__init__(folder, separator, config, data, device, fabric)

    def examples(self, generator: torch.Generator) -> tuple[Tensor]:
        return (rows_of(self.draw, self.config.batch, generator, self.rows),)

    def loss(self, sources: Tensor) -> Tensor:
        estimate = self.net(sources.sum(1))
        # then no order of the sources is best; a gradient of NaN makes the loop skip the step
        if not estimate.isfinite().all():
            return math.nan * estimate.sum((-2, -1))
        return separation_loss(estimate, sources, self.model_config.kinds)
