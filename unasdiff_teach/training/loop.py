"""The loop that a training runs: resumable to the bit, on one processor or many, with averaged weights, an atomic state and a log."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from .._files import Journal, locked, replacing
from ..precision import autocast, canonical

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# What may change between two calls on one folder; everything else belongs to the training.
FREE = ("steps", "log_every", "save_every", "save_minutes", "milestone_every", "ahead", "precision", "reschedule")
MOST_SKIPPED = 10  # steps in a row whose gradient is not finite, until a training stops


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast a network is trained.

    Attributes:
        steps, batch, learning_rate, weight_decay: AdamW; `batch` counts the examples of all processes together.
        warmup: steps of linear warm-up; the learning rate then stays, or follows a cosine to `final_rate` of its value.
        ema_decay: decay of the averaged weights, which are the ones evaluated; the average starts short and grows,
            min(ema_decay, (1 + step) / (10 + step)).
        clip: largest norm of the gradient.
        log_every, save_every: steps.
        save_minutes: minutes after which the state is saved even if `save_every` steps have not been made.
        milestone_every: steps between files of averaged weights; None is each time that the state is saved.
        ahead: batches that threads draw while the device computes; 0 draws each when it is needed. The batches are the same.
        precision: "float32", or "bfloat16": products in it; signals, transforms, norms and all weights in float32.
        reschedule: go on with another number of steps than the state's although a cosine depends on it; the card notes it.
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
    save_minutes: float | None = None
    milestone_every: int | None = None
    ahead: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    reschedule: bool = False

    def __post_init__(self):
        object.__setattr__(self, "precision", canonical(self.precision))
        for name in ("steps", "batch", "log_every", "save_every"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; at least 1 is needed")

    def rate(self, step: int) -> float:
        """Learning rate at a step, as a share of `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if not self.cosine:
            return warm
        return warm * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1))))


def processes(accelerator: str, devices: int) -> Fabric:
    """A launched Fabric for `devices` processes of one machine, or for those that torchrun has started on one or more.

    Tried with several processes on CPUs, and with one GPU; on several GPUs the same code has not run yet.

    Args:
        accelerator: "cpu" (gloo between the processes), "cuda" (NCCL) or "mps".
        devices: processes on this machine, each with a device of its own; under torchrun what torchrun says counts.
    """
    from lightning_fabric import Fabric

    nodes = 1
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy = "ddp" if devices * nodes > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return fabric


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the processor's global generator, for initial weights; afterwards it is as it was, and those of GPUs always are."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class Trainer:
    """Trains one network into a folder; started again on the same folder it goes on where it stopped, to the same weights.

    Files: `state.pt` (model, average, optimiser, step, log, and what the training is; atomic), `log.jsonl` (loss, seconds,
    and how many steps were skipped so far), `step_*.safetensors` (averaged weights). They are written by `fit` alone, which
    holds a lock on the folder; making a trainer reads the state, and writes nothing.

    A step whose gradient is not finite changes no weight and is counted as skipped; `MOST_SKIPPED` of them in a row stop
    the training. A state that is not finite is never saved, so that the last good one stays.

    What is trained is up to three methods: `examples(generator)` draws a batch, `loss(*examples)` gives the loss of each
    example, and `export(path)` writes a file to use. All randomness of a step comes from (seed, step) through that
    generator: the step and the seed in the state are the whole state of the sampler and of all random numbers.

    Of several processes each takes its share of the examples of every batch, so that how many there are changes rounding
    alone. The first of them writes the files, which all of them must see.

    Args:
        folder: of this training alone.
        net: network with its initial weights.
        config, data: as the subclass says; `data` describes the data in the card, where "sha256" is their fingerprint.
        device: where to train as a single process.
        fabric: launched Fabric of `processes`, instead of `device`.

    Raises:
        ValueError: the batch cannot be shared evenly by the processes; or the folder holds a damaged state, the state of
            another training, or one that a cosine over another number of steps has led to (see `LoopConfig.reschedule`).
    """

    def __init__(
        self,
        folder: str | Path,
        net: nn.Module,
        config: LoopConfig,
        data: dict,
        device: str = "cpu",
        fabric: Fabric | None = None,
    ):
        from lightning_fabric import Fabric

        if fabric is None:
            where = torch.device(device)
            only = 1 if where.index is None else [where.index]
            fabric = Fabric(accelerator=where.type, devices=only)
        if config.batch % fabric.world_size:
            raise ValueError(f"batch is {config.batch}; {fabric.world_size} processes cannot share it evenly")
        self.folder, self.net, self.config, self.data = Path(folder), net.to(fabric.device), config, data
        self.fabric, self.device = fabric, fabric.device
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        self.optimiser = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.step, self.seconds, self.log = 0, 0.0, []
        self.skipped, self.skipped_in_row = 0, 0  # steps whose gradient was not finite: of all, and of the last ones
        self.rescheduled = []  # changes of the number of steps under a cosine, for the card
        self._journal, self._path = Journal(self.folder / "log.jsonl"), self.folder / "state.pt"
        self._saved, self._seen = 0, _signature(self._path)  # the step of the state in the folder, and which file it is
        self.running, self.since = torch.zeros((), device=self.device), 0  # sum of the losses not logged yet, and their number
        self._resume()
        self._shared, self._update = fabric.setup(_Loss(net, self.loss, self.autocast), self.optimiser)
        self._batches = _Ahead(self._rows, config.ahead)

    def examples(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A batch of `config.batch` examples, tensors [batch, ...] on the CPU, with all randomness of the step."""
        raise NotImplementedError

    def loss(self, *examples: Tensor) -> Tensor:
        """Loss of each example of (a part of) a batch, [B], with a gradient to the network."""
        raise NotImplementedError

    def export(
        self, path: str | Path, weights: Literal["ema", "model"] = "ema", dtype: torch.dtype = torch.float16, **notes
    ) -> None:
        """Write the averaged weights, or the last ones, as a file to use.

        Args:
            dtype: of the parameters in the file, by default float16; what is no parameter stays in float32. The card says it.
            notes: added to the card.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Called by `fit` before its first step, by all processes: what a subclass opens and puts in order."""

    def watch(self) -> None:
        """Called after each step, before its state is saved, by all processes: what a subclass looks at while it trains."""

    def autocast(self) -> torch.autocast:
        """A context for `config.precision`. Fabric's own mixed precision would round the signals that come in as well."""
        return autocast(self.device, self.config.precision)

    def identity(self) -> dict:
        """What must be the same when a training goes on, as plain values."""
        settings = {name: value for name, value in asdict(self.config).items() if name not in FREE}
        return {"train": settings, "data": {k: v for k, v in self.data.items() if k == "sha256"}}

    def fit(self, progress: bool = True, seconds: float | None = None, started: Callable[[], None] | None = None) -> bool:
        """Train to `config.steps`, or for a time. Returns whether all steps are made.

        Args:
            seconds: after so many, the state is saved and the call returns; another call goes on from there. At least one
                step is made.
            started: called once the folder is locked, before the first step: what else belongs into it can be written then.

        Raises:
            BlockingIOError: another training is running in the folder.
            FloatingPointError: the gradient of `MOST_SKIPPED` steps in a row, the loss or a weight is not finite.
            OSError: the state cannot be written, for instance for want of space; the last one is left as it is.
            RuntimeError: another training has changed the folder's state since this trainer was made.
        """
        from tqdm import tqdm

        c = self.config
        hidden = not (progress and self.fabric.is_global_zero)
        began = saved = time.monotonic()
        with self._alone(), self._batches, tqdm(total=c.steps, initial=self.step, disable=hidden, unit="step", mininterval=5) as bar:
            self.begin()
            if started:
                started()
            while self.step < c.steps:
                started = time.perf_counter()
                self._count(self._train_step())
                bar.update()
                if self.step % c.log_every == 0 or self.step == c.steps:
                    self._log()
                    bar.set_postfix(self._shown())
                self.seconds += time.perf_counter() - started
                self.watch()
                over = self._passed(began, seconds)
                due = self._passed(saved, c.save_minutes and 60 * c.save_minutes)
                if over or due or self.step % c.save_every == 0 or self.step == c.steps:
                    self._save()
                    saved = time.monotonic()
                if over:
                    break
        return self.step >= c.steps

    def card(self) -> dict:
        """The model card: configuration, data, seed, steps, loss curve, time and machine."""
        count = self.fabric.world_size
        device = f"{count} x {self.device.type}" if count > 1 else self.device.type
        return {
            "steps": self.step,
            "train": asdict(self.config),
            "data": self.data,
            "loss": [[line["step"], round(line["loss"], 5)] for line in self.log[:: max(1, len(self.log) // 100)]],
            "skipped": self.skipped,
            **({"rescheduled": self.rescheduled} if self.rescheduled else {}),
            "seconds": round(self.seconds),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}",
        }

    def _exported(self, weights: Literal["ema", "model"], dtype: torch.dtype) -> dict:
        """The card of a file of weights."""
        return self.card() | {"weights": weights, "dtype": str(dtype).removeprefix("torch.")}

    def _weights(self, weights: Literal["ema", "model"]) -> dict[str, Tensor]:
        return self.average if weights == "ema" else self.net.state_dict()

    def _rows(self, step: int) -> tuple[Tensor, ...]:
        """This process's examples of the batch of a step."""
        batch = self.examples(torch.Generator().manual_seed(self.config.seed * 1_000_003 + step))
        return tuple(a[self.fabric.global_rank :: self.fabric.world_size] for a in batch)

    def _train_step(self) -> Tensor | None:
        """Change the weights by one batch. Returns its loss, or None where its gradient is not finite, and nothing changes."""
        c = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = c.learning_rate * c.rate(self.step)
        loss = self._shared(*(a.to(self.device) for a in self._batches(self.step))).mean()
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(self._shared, self._update, max_norm=c.clip, error_if_nonfinite=False)
        if not norm.isfinite():  # in every process, since they share their gradients
            return None
        self._update.step()
        decay = min(c.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.net.state_dict().values()), 1 - decay)
        return loss.detach()

    def _count(self, loss: Tensor | None) -> None:
        """Count a step, with its loss or as skipped."""
        self.step += 1
        if loss is not None:
            self.running, self.since, self.skipped_in_row = self.running + loss, self.since + 1, 0
            return
        self.skipped, self.skipped_in_row = self.skipped + 1, self.skipped_in_row + 1
        if self.skipped_in_row == MOST_SKIPPED:
            raise FloatingPointError(
                f"the gradient is not finite in {MOST_SKIPPED} steps in a row, the last of them step {self.step}: look for damaged "
                f"recordings, lower the learning rate, or use the precision 32-true; {self._kept()}"
            )

    def _log(self) -> None:
        if not self.since:  # all steps since the last line were skipped; the next line counts them
            return
        self.running = self.fabric.all_reduce(self.running, reduce_op="mean")
        loss = float(self.running) / self.since
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {self.step}; {self._kept()}")
        self.log.append({"step": self.step, "loss": loss, "seconds": round(self.seconds, 3), "skipped": self.skipped})
        if self.fabric.is_global_zero:
            self._journal.append(self.log[-1])
        self.running, self.since = torch.zeros_like(self.running), 0

    def _shown(self) -> dict[str, str | int]:
        """What stands beside the progress bar."""
        loss = {"loss": f"{self.log[-1]['loss']:.4f}"} if self.log else {}
        return loss | ({"skipped": self.skipped} if self.skipped else {})

    def _save(self) -> None:
        moments = (v for entry in self.optimiser.state.values() for v in entry.values())
        if not all(v.isfinite().all() for v in (*self.net.state_dict().values(), *self.average.values(), *moments)):
            raise FloatingPointError(f"the weights are not finite at step {self.step}; {self._kept()}")
        self.running = self.fabric.all_reduce(self.running, reduce_op="mean")
        if not self.fabric.is_global_zero:
            return
        state = {
            "model": self.net.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict(), "step": self.step,
            "seconds": self.seconds, "log": self.log, "running": self.running, "since": self.since, "identity": self.identity(),
            "skipped": self.skipped, "skipped_in_row": self.skipped_in_row, "steps": self.config.steps, "rescheduled": self.rescheduled,
        }  # fmt: skip
        try:
            with replacing(self._path) as partial, open(partial, "wb") as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:
            raise OSError(f"cannot write the state of step {self.step} to {self.folder}: {error}; the last one is as it was") from error
        self._saved, self._seen = self.step, _signature(self._path)
        every = self.config.milestone_every or self.config.save_every
        if self.step % every == 0 or self.step == self.config.steps:
            self.export(self.folder / f"step_{self.step:06d}.safetensors")

    def _kept(self) -> str:
        """What an error can say for comfort."""
        return f"the last good state, of step {self._saved}, is in {self.folder}" if self._saved else "no state was saved before"

    def _passed(self, since: float, limit: float | None) -> bool:
        """Whether so many seconds have passed, by the clock of the first process, which counts for all."""
        return limit is not None and self.fabric.broadcast(time.monotonic() - since >= limit)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The folder, locked by the first process, with the state that was read and a log that ends there."""
        with ExitStack() as stack:
            problem = None
            if self.fabric.is_global_zero:
                try:
                    stack.enter_context(locked(self.folder, "training"))
                    if _signature(self._path) != self._seen:
                        raise RuntimeError(f"another training has changed {self._path} since it was read; start again from what it holds")
                    self._journal.rewrite(self.log)  # steps between the state and a stop are done again, and logged again
                except (OSError, RuntimeError) as error:
                    problem = error
            if problem := self.fabric.broadcast(problem):  # no process may wait for one that gave up
                raise problem
            yield

    def _resume(self) -> None:
        c, path = self.config, self._path
        state = _read(path, self.device) if path.is_file() else {"step": 0}
        steps = self.fabric.all_gather(torch.tensor(state["step"], device=self.device)).flatten().tolist()
        if len(set(steps)) > 1:
            raise ValueError(f"the processes find states of steps {steps} in {self.folder}; all must see the same folder")
        if not state["step"]:
            return
        if changed := _differences(state.get("identity", {}), self.identity()):
            raise ValueError(f"{path} is the state of another training: {'; '.join(changed)}. Use another folder")
        try:
            self.net.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is the state of another network: {' '.join(str(error).split())}") from error
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        self.log = state["log"] if "log" in state else [{"step": s, "loss": v} for s, v in state["losses"]]  # before there was a log
        self.running, self.since = state.get("running", self.running), state.get("since", 0)
        self.skipped, self.skipped_in_row = state.get("skipped", 0), state.get("skipped_in_row", 0)
        self.rescheduled, self._saved = state.get("rescheduled", []), self.step
        before = state.get("steps", c.steps)
        if c.cosine and before != c.steps:
            if not c.reschedule:
                rates = [replace(c, steps=n).rate(self.step) for n in (before, c.steps)]
                raise ValueError(
                    f"steps was {before:,}, is now {c.steps:,}, and the cosine of the learning rate stretches over all steps: at step "
                    f"{self.step:,} the rate would jump from {rates[0]:.3g} to {rates[1]:.3g} of its peak. Keep the steps, use "
                    "another folder, or set reschedule, which the card notes"
                )
            self.rescheduled.append({"step": self.step, "from": before, "to": c.steps})


class _Loss(nn.Module):
    """A network and the loss that is computed with it: the call of this module is what processes share."""

    def __init__(self, net: nn.Module, loss: Callable[..., Tensor], autocast: Callable[[], torch.autocast]):
        super().__init__()
        self.net, self._loss, self._autocast = net, loss, autocast

    def forward(self, *examples: Tensor) -> Tensor:
        with self._autocast():
            return self._loss(*examples)


class _Ahead:
    """rows(step) for one step after the other, those of the next `count` steps computed meanwhile by threads."""

    def __init__(self, rows: Callable[[int], tuple[Tensor, ...]], count: int):
        self.rows, self.count, self.pool, self.waiting = rows, count, None, {}

    def __enter__(self) -> _Ahead:
        self.pool = ThreadPoolExecutor(self.count) if self.count else None
        return self

    def __exit__(self, *_) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.waiting = None, {}

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        if not self.pool:
            return self.rows(step)
        for later in range(step, step + 1 + self.count):
            if later not in self.waiting:
                self.waiting[later] = self.pool.submit(self.rows, later)
        return self.waiting.pop(step).result()


def _signature(path: Path) -> tuple[int, ...] | None:
    """What differs when a file has been replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path, device: torch.device) -> dict:
    """A state, checked for being one."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever a damaged file makes of the reader
        what = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged, or no state of a training: {what}") from error
    needed = {"model", "average", "optimiser", "step", "seconds"}
    if not isinstance(state, dict) or not needed <= state.keys():
        raise ValueError(f"{path} is no state of a training of this package")
    return state


def _differences(before: dict, now: dict, prefix: str = "") -> list[str]:
    """Where two nested settings differ, among the keys that both have."""
    found = []
    for key in before.keys() & now.keys():
        a, b = before[key], now[key]
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a!r}, is now {b!r}")
    return sorted(found)
