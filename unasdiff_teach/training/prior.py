"""Training of one diffusion prior: resumable, the same loop at pocket and at paper scale."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..diffusion import denoising_loss
from ..priors.neural import NeuralPrior, PriorConfig, preconditioning, save
from ..schedule import NoiseSchedule

Batches = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""draw(batch, generator) -> signals [batch, N], labels [batch]."""


@dataclass(frozen=True)
class TrainConfig:
    """How a prior is trained. The defaults are the paper's ("Configuration and Training") where it states them.

    Attributes:
        steps, batch, learning_rate, weight_decay: AdamW.
        warmup: steps of linear warm-up; the learning rate then stays, or follows a cosine to `final_rate` of its value.
        ema_decay: decay of the averaged weights, which are the ones evaluated (difference 16); the average starts short
            and grows, min(ema_decay, (1 + step) / (10 + step)).
        label_dropout: share of examples shown the unconditional class (not stated in the paper).
        log_uniform: share of t drawn uniformly in log(noise / signal), from `least_noise` up; the rest is uniform in t.
        clip: largest norm of the gradient.
    """

    steps: int = 400_000
    batch: int = 12
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: int = 0
    cosine: bool = False
    final_rate: float = 0.01
    ema_decay: float = 0.9999
    label_dropout: float = 0.1
    log_uniform: float = 0.0
    least_noise: float = 0.0
    clip: float = 1.0
    seed: int = 0
    log_every: int = 50
    save_every: int = 500

    @classmethod
    def paper(cls, **changes) -> TrainConfig:
        return cls(**changes)

    @classmethod
    def pocket(cls, **changes) -> TrainConfig:
        """Short training on two CPU cores, spent where the prior is made (low noise)."""
        base = cls(
            steps=7000, batch=8, learning_rate=1e-3, warmup=50, cosine=True, ema_decay=0.998, log_uniform=0.85, least_noise=0.03
        )
        return replace(base, **changes)

    def rate(self, step: int) -> float:
        """Learning rate at a step, as a share of `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if not self.cosine:
            return warm
        return warm * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1))))


def draw_steps(
    schedule: NoiseSchedule, count: int, log_uniform: float, generator: torch.Generator, least_noise: float = 0.0
) -> Tensor:
    """Steps t [count]: a share uniform in log(noise / signal) >= log(least_noise), where a prior is made, the rest uniform in t."""
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
    return error * (scale.noise / scale.signal / scale.out).square().squeeze(-1)


class PriorTrainer:
    """Trains one prior into a folder; started again on the same folder it goes on where it stopped, to the same weights.

    Files: `state.pt` (model, average, optimiser, step; atomic), `log.jsonl` (loss and rate), `step_*.safetensors`
    (averaged weights, one every `save_every` steps).

    `start` gives the initial weights of a run that is not resumed, for instance those of a joint training.

    All randomness of a step comes from (seed, step), so that no random state needs storing.
    """

    def __init__(
        self,
        folder: str | Path,
        prior: PriorConfig,
        config: TrainConfig,
        draw: Batches,
        data: dict,
        device: str = "cpu",
        start: dict[str, Tensor] | None = None,
    ):
        self.folder, self.prior_config, self.config, self.draw, self.data = Path(folder), prior, config, draw, data
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        self.prior = prior.build().to(self.device)
        if start is not None:
            self.prior.net.load_state_dict(start)
        self.average = {k: v.detach().clone() for k, v in self.prior.net.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.prior.net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.step, self.seconds, self.losses = 0, 0.0, []
        self._resume()

    def fit(self, progress: bool = True) -> None:
        """Train to `config.steps`."""
        from tqdm import tqdm

        bar = tqdm(total=self.config.steps, initial=self.step, disable=not progress, unit="step", mininterval=5)
        running, since = torch.zeros((), device=self.device), 0
        while self.step < self.config.steps:
            started = time.perf_counter()
            running += self._train_step()
            since += 1
            self.step += 1
            self.seconds += time.perf_counter() - started
            bar.update()
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                self._log(float(running) / since)
                bar.set_postfix(loss=f"{self.losses[-1][1]:.4f}")
                running, since = torch.zeros_like(running), 0
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self._save()

    def _train_step(self) -> Tensor:
        c = self.config
        generator = torch.Generator().manual_seed(c.seed * 1_000_003 + self.step)
        x0, label = self.draw(c.batch, generator)
        t = draw_steps(self.prior.schedule, c.batch, c.log_uniform, generator, c.least_noise)
        dropped = torch.rand(c.batch, generator=generator) < c.label_dropout
        label = torch.where(dropped, self.prior.unconditional, label)
        noise = torch.randn(x0.shape, generator=generator)
        for group in self.optimiser.param_groups:
            group["lr"] = c.learning_rate * c.rate(self.step)
        loss = prior_loss(self.prior, *(a.to(self.device) for a in (x0, t, noise, label))).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.prior.net.parameters(), c.clip)
        self.optimiser.step()
        decay = min(c.ema_decay, (1 + self.step) / (10 + self.step))
        state = self.prior.net.state_dict()
        torch._foreach_lerp_(list(self.average.values()), list(state.values()), 1 - decay)
        return loss.detach()

    def card(self) -> dict:
        """The model card: configuration, data, seed, steps, loss curve, time and machine."""
        return {
            "steps": self.step,
            "train": asdict(self.config),
            "data": self.data,
            "loss": [[s, round(v, 5)] for s, v in self.losses[:: max(1, len(self.losses) // 100)]],
            "seconds": round(self.seconds),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {self.device.type}, torch {torch.__version__}",
        }

    def export(self, path: str | Path, weights: Literal["ema", "model"] = "ema") -> None:
        """Write the averaged weights, or the last ones, as a prior file (difference 16)."""
        state = self.average if weights == "ema" else self.prior.net.state_dict()
        save(path, state, self.prior_config, self.card() | {"weights": weights})

    def _log(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {self.step}; the last good state is in {self.folder}")
        self.losses.append((self.step, loss))
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps({"step": self.step, "loss": loss, "seconds": self.seconds}) + "\n")

    def _save(self) -> None:
        state = {
            "model": self.prior.net.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds, "losses": self.losses,
        }  # fmt: skip
        partial = self.folder / "state.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")
        self.export(self.folder / f"step_{self.step:06d}.safetensors")

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.prior.net.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
