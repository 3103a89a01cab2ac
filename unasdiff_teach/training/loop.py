"""The loop that a training runs: resumable to the bit, with averaged weights, an atomic state and a log."""

from __future__ import annotations

import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a network is trained.

    Attributes:
        steps, batch, learning_rate, weight_decay: AdamW.
        warmup: steps of linear warm-up; the learning rate then stays, or follows a cosine to `final_rate` of its value.
        ema_decay: decay of the averaged weights, which are the ones evaluated; the average starts short and grows,
            min(ema_decay, (1 + step) / (10 + step)).
        clip: largest norm of the gradient.
        log_every, save_every: steps.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 0
    cosine: bool = False
    final_rate: float = 0.01
    ema_decay: float = 0.9999
    clip: float = 1.0
    seed: int = 0
    log_every: int = 50
    save_every: int = 500

    def rate(self, step: int) -> float:
        """Learning rate at a step, as a share of `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if not self.cosine:
            return warm
        return warm * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1))))


class Trainer:
    """Trains one network into a folder; started again on the same folder it goes on where it stopped, to the same weights.

    Files: `state.pt` (model, average, optimiser, step, log; atomic), `log.jsonl` (loss and seconds), `step_*.safetensors`
    (averaged weights, one every `save_every` steps).

    What is trained is up to two methods: `loss(generator)`, the mean loss of a fresh batch, and `export(path)`. All
    randomness of a step comes from (seed, step) through that generator, so that no random state needs storing.

    Args:
        folder: of this training alone.
        net: network with its initial weights, on `device`.
        config, data, device: as the subclass says; `data` describes the data in the card.
    """

    def __init__(self, folder: str | Path, net: nn.Module, config: LoopConfig, data: dict, device: str = "cpu"):
        self.folder, self.net, self.config, self.data, self.device = Path(folder), net, config, data, torch.device(device)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        self.optimiser = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.step, self.seconds, self.log = 0, 0.0, []
        self.running, self.since = torch.zeros((), device=self.device), 0  # sum of the losses not logged yet, and their number
        self._resume()

    def loss(self, generator: torch.Generator) -> Tensor:
        """Mean loss of a batch that the generator draws, a scalar with a gradient."""
        raise NotImplementedError

    def export(self, path: str | Path, weights: Literal["ema", "model"] = "ema", **notes) -> None:
        """Write the averaged weights, or the last ones, as a file to use; `notes` are added to its card."""
        raise NotImplementedError

    def fit(self, progress: bool = True) -> None:
        """Train to `config.steps`.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        from tqdm import tqdm

        c = self.config
        with tqdm(total=c.steps, initial=self.step, disable=not progress, unit="step", mininterval=5) as bar:
            while self.step < c.steps:
                started = time.perf_counter()
                self.running += self._train_step()
                self.step, self.since = self.step + 1, self.since + 1
                self.seconds += time.perf_counter() - started
                bar.update()
                if self.step % c.log_every == 0 or self.step == c.steps:
                    self._log()
                    bar.set_postfix(loss=f"{self.log[-1]['loss']:.4f}")
                if self.step % c.save_every == 0 or self.step == c.steps:
                    self._save()

    def card(self) -> dict:
        """The model card: configuration, data, seed, steps, loss curve, time and machine."""
        return {
            "steps": self.step,
            "train": asdict(self.config),
            "data": self.data,
            "loss": [[line["step"], round(line["loss"], 5)] for line in self.log[:: max(1, len(self.log) // 100)]],
            "seconds": round(self.seconds),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {self.device.type}, torch {torch.__version__}",
        }

    def _weights(self, weights: Literal["ema", "model"]) -> dict[str, Tensor]:
        return self.average if weights == "ema" else self.net.state_dict()

    def _train_step(self) -> Tensor:
        c = self.config
        loss = self.loss(torch.Generator().manual_seed(c.seed * 1_000_003 + self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = c.learning_rate * c.rate(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), c.clip)
        self.optimiser.step()
        decay = min(c.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.net.state_dict().values()), 1 - decay)
        return loss.detach()

    def _log(self) -> None:
        loss = float(self.running) / self.since
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {self.step}; the last good state is in {self.folder}")
        self.log.append({"step": self.step, "loss": loss, "seconds": round(self.seconds, 3)})
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(self.log[-1]) + "\n")
        self.running, self.since = torch.zeros_like(self.running), 0

    def _save(self) -> None:
        state = {
            "model": self.net.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict(), "step": self.step,
            "seconds": self.seconds, "log": self.log, "running": self.running, "since": self.since,
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
        self.net.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("average", "step", "seconds", "log", "running", "since"):
            setattr(self, name, state[name])
        # The steps between the state and the stop are done again, and logged again.
        (self.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.log))
