"""Training of one diffusion prior, the same at pocket and at paper scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import _lazy
from .._files import Journal
from ..diffusion import ancestral_sample, denoising_loss
from ..priors.neural import NeuralPrior, PriorConfig, preconditioning
from ..schedule import NoiseSchedule
from .board import Board
from .config import LoopConfig, renamed
from .crops import rows_of
from .loop import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Batches = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""draw(batch, generator) -> signals [batch, N], labels [batch]."""


@renamed
@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """How a prior is trained; see `LoopConfig` for what is not said here. The defaults are the paper's ("Configuration
    and Training") where it states them; the averaged weights are the ones evaluated (difference 16).

    Attributes:
        label_dropout: fraction of examples shown the unconditional class (not stated in the paper).
        log_uniform: fraction of t drawn uniformly in log(noise / signal), from `least_noise` up; the rest is uniform
            in t.
    """

    steps: int = 400_000
    batch: int = 12
    learning_rate: float = 1e-4
    label_dropout: float = 0.1
    log_uniform: float = 0.0
    least_noise: float = 0.0

    @classmethod
    def paper(cls, **changes) -> TrainConfig:
        """The paper's; the state, 0.6 GB, is saved every 1000 steps."""
        return replace(cls(save_every=1000, checkpoint_every=20_000), **changes)

    @classmethod
    def pocket(cls, **changes) -> TrainConfig:
        """Short training on two CPU cores, spent where the prior is made (low noise)."""
        base = cls(
            steps=7000,
            batch=8,
            learning_rate=1e-3,
            warmup=50,
            cosine=True,
            ema_decay=0.998,
            log_uniform=0.85,
            least_noise=0.03,
        )
        return replace(base, **changes)


@dataclass(frozen=True)
class ValidationConfig:
    """What is looked at while a prior is trained. It changes nothing in the weights.

    Attributes:
        every: steps between two validations.
        examples: validation examples, the same each time.
        levels: steps t at which each is denoised; by default eight of a chain of 200 steps, about evenly in log-SNR.
        sample_every: steps between two looks at generated signals, a whole reverse chain each; None is never.
        samples: how many are generated.
    """

    every: int = 2000
    examples: int = 24
    levels: tuple[int, ...] = (0, 2, 5, 14, 32, 68, 129, 199)
    sample_every: int | None = 20_000
    samples: int = 4


__getattr__ = _lazy.renamed(__name__, {"Watch": "ValidationConfig"})


def draw_steps(
    schedule: NoiseSchedule, count: int, log_uniform: float, generator: torch.Generator, least_noise: float = 0.0
) -> Tensor:
    """Steps t [count]: a fraction uniform in log(noise / signal) >= log(least_noise), where a prior is made, the rest
    uniform in t.
    """
    ratio = schedule.noise_to_signal.log()
    least = max(float(ratio[0]), math.log(least_noise)) if least_noise else ratio[0]
    at = least + (ratio[-1] - least) * torch.rand(count, generator=generator, dtype=ratio.dtype)
    even_in_log = torch.searchsorted((ratio[:-1] + ratio[1:]) / 2, at)  # the nearest step
    even_in_t = torch.randint(len(schedule), (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < log_uniform, even_in_log, even_in_t)


def prior_loss(prior: NeuralPrior, x0: Tensor, t: Tensor, noise: Tensor, label: Tensor) -> Tensor:
    """Mean squared error of each signal's network target, [B]: of eps (DDPM), or of the preconditioned unit target."""
    error = denoising_loss(prior, x0, t, noise, prior.schedule, label)
    if prior.target == "eps":
        return error
    scale = preconditioning(prior.schedule, t, x0, prior.sigma_data)
    return error * (scale.noise / scale.signal / scale.c_out).square().squeeze(-1)


@_lazy.renamed_arguments(watch="validation_config")
class PriorTrainer(Trainer):
    """Trains one prior; see `Trainer` for its files, for how it resumes, for several processes, and for the other
    arguments.

    With validation examples, `validation.jsonl` has the loss of the averaged weights at each noise level of
    `validation_config`.

    Args:
        draw: fresh training examples, for instance `Crops`.
        validation: examples that are not trained on; None leaves them out.
        validation_config: what is looked at, and when.
        board: write the losses, validations, and generated audio with its spectrograms for TensorBoard into
            `folder`/board.

    Raises:
        ImportError: a board is wanted, and the package `tensorboard` is missing.
        ValueError: a level of `validation_config` lies beyond the chain, or as for `Trainer`.
    """

    what = "prior"

    def __init__(
        self,
        folder: str | Path,
        prior: PriorConfig,
        config: TrainConfig,
        draw: Batches,
        data: dict,
        device: str = "cpu",
        start: dict[str, Tensor] | None = None,
        fabric: Fabric | None = None,
        validation: Batches | None = None,
        validation_config: ValidationConfig | None = None,
        board: bool = False,
    ):
        self.draw = draw
        self.validation, self.validation_config = validation, validation_config or ValidationConfig()
        levels = self.validation_config.levels
        if self.validation and not 0 <= min(levels) <= max(levels) < prior.T:
            raise ValueError(f"validation_config.levels is {levels}; accepted are steps 0..{prior.T - 1}")
        super().__init__(folder, prior, config, data, device, fabric, start)
        self.prior: NeuralPrior = self.model
        self.board = Board(self.folder / "board") if board and self.fabric.is_global_zero else None
        self._validations = Journal(self.folder / "validation.jsonl")

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of each line of the log."""
        return [(line["step"], line["loss"]) for line in self.log]

    def examples(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        c, rows = self.config, self.rows
        x0, label = rows_of(self.draw, c.batch, generator, rows)
        t = draw_steps(self.prior.schedule, c.batch, c.log_uniform, generator, c.least_noise)[rows]
        dropped = (torch.rand(c.batch, generator=generator) < c.label_dropout)[rows]
        label = torch.where(dropped, self.prior.unconditional, label)
        return x0, t, torch.randn((c.batch, x0.shape[-1]), generator=generator)[rows], label

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        return prior_loss(self.prior, x0, t, noise, label)

    def begin(self) -> None:
        if self.board:
            self.board.open(self.step)
        # those of steps that will be made again go
        if self.fabric.is_global_zero and (lines := self._validations.read()):
            self._validations.rewrite([line for line in lines if line["step"] <= self.step])

    def validate(self) -> None:
        w, last = self.validation_config, self.step == self.config.steps
        if self.board and self.log and (self.step % self.config.log_every == 0 or last):
            self.board.scalars(
                self.step, {"loss/train": self.log[-1]["loss"], "rate": self.optimiser.param_groups[0]["lr"]}
            )
        if self.validation and (self.step % w.every == 0 or last):
            self._validate()
        if self.board and w.sample_every and (self.step % w.sample_every == 0 or last):
            self.board.signals(self.step, self.generate(w.samples), self.prior.sample_rate)

    @torch.no_grad()
    def loss_by_level(self) -> Tensor:
        """Mean loss of the averaged weights on the fixed validation examples at each of `validation_config.levels`,
        [levels].
        """
        w, generator = self.validation_config, torch.Generator().manual_seed(self.config.seed)
        x0, label = rows_of(self.validation, w.examples, generator, self.rows)
        noise = torch.randn((w.examples, x0.shape[-1]), generator=generator)[self.rows]
        own = [a.to(self.device) for a in (x0, noise, label)]
        total = torch.zeros(len(w.levels), device=self.device)
        with self._averaged(), self.autocast():
            for i, t in enumerate(w.levels):
                for signal, eps, c in zip(*(a.split(self.config.batch) for a in own), strict=True):
                    total[i] += prior_loss(self.prior, signal, torch.full_like(c, t), eps, c).sum()
        return self.fabric.all_reduce(total, reduce_op="sum").cpu() / w.examples

    def generate(self, count: int) -> Tensor:
        """Signals [count, N] that the averaged weights make of noise, always the same noise; class after class where
        there are any.
        """
        generator = torch.Generator().manual_seed(self.config.seed)
        length = self.draw(1, generator)[0].shape[-1]
        label = torch.arange(count, device=self.device) % len(self.prior.labels) if self.prior.labels else None
        with self._averaged(), self.autocast():
            return ancestral_sample(
                self.prior, (count, length), self.prior.schedule, label, generator, device=self.device
            ).cpu()

    def _validate(self) -> None:
        loss = self.loss_by_level().tolist()
        if not self.fabric.is_global_zero:
            return
        line = {"step": self.step, "t": self.validation_config.levels, "loss": [round(v, 6) for v in loss]}
        self._validations.append(line)
        if self.board:
            levels = {f"validation/t={t}": v for t, v in zip(self.validation_config.levels, loss, strict=True)}
            self.board.scalars(self.step, levels | {"loss/validation": sum(loss) / len(loss)})

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the network's place."""
        own = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.ema)
        try:
            yield
        finally:
            self.net.load_state_dict(own)
