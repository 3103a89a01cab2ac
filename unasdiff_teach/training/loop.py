"""The loop that a training runs: resumable to the bit, in one process or many, with averaged weights, an atomic state
and a log.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .._files import Journal, locked, replacing
from .._lazy import renamed_arguments
from ..networks.files import write_model
from ..precision import autocast
from .config import FREE, LoopConfig
from .crops import settings
from .state import differences, digest, read_state, signature
from .workers import Prefetch, SharedLoss, processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from ..priors.neural import PriorConfig
    from ..separators import SeparatorConfig

__all__ = ["LoopConfig", "Trainer", "processes"]

RANDOM = "random weights"
MOST_SKIPPED = 10  # steps in a row whose gradient is not finite, until a training stops


@renamed_arguments(average="ema")
class Trainer:
    """Trains one model into a folder; started again on the same folder it goes on where it stopped, to the same
    weights.

    Files: `state.pt` (model, average, optimiser, step, log, and what the training is; atomic), `log.jsonl` (loss,
    seconds, and how many steps were skipped so far), `step_*.safetensors` (averaged weights). They are written by
    `fit` alone, which holds a lock on the folder; making a trainer reads the state, and writes nothing.

    A step whose gradient is not finite changes no weight and is counted as skipped; `MOST_SKIPPED` of them in a row
    stop the training. A state that is not finite is never saved, so that the last good one stays.

    How it is trained is up to two methods: `examples(generator)` draws a batch, and `loss(*examples)` gives the loss
    of each example. All randomness of a step comes from (seed, step) through that generator: the step and the seed in
    the state are the whole state of the sampler and of all random numbers.

    Of several processes each takes its `rows` of every batch, so that how many there are changes rounding alone.
    The first of them writes the files, which all of them must see.

    Attributes:
        what: is trained, as its file calls it.
        model: what is trained, with the network `net`.
        ema: the averaged weights.
        draw: where the examples come from; its `settings()`, if it has them, are part of what the training is.
        start: what it began from, in words: "random weights", or a checksum of those given.

    Args:
        folder: of this training alone.
        model: what is trained.
        config: how.
        data: description of the data for the card, where "sha256" is their fingerprint.
        device: where to train as a single process.
        fabric: launched Fabric of `processes`, instead of `device`.
        start: initial weights of a run that is not resumed, for instance those of a joint training.

    Raises:
        ValueError: the batch cannot be shared evenly by the processes; or the folder holds a damaged state, the state
            of another training, or one that a cosine over another number of steps has led to (see
            `LoopConfig.reschedule`).
    """

    what: str
    draw: Callable

    def __init__(
        self,
        folder: str | Path,
        model: PriorConfig | SeparatorConfig,
        config: LoopConfig,
        data: dict,
        device: str = "cpu",
        fabric: Fabric | None = None,
        start: Mapping[str, Tensor] | None = None,
    ):
        from lightning_fabric import Fabric

        if fabric is None:
            where = torch.device(device)
            only = 1 if where.index is None else [where.index]
            fabric = Fabric(accelerator=where.type, devices=only)
        if config.batch % fabric.world_size:
            raise ValueError(f"batch is {config.batch}; {fabric.world_size} processes cannot share it evenly")
        with torch.random.fork_rng(devices=[]):  # the caller's generators stay as they are
            torch.default_generator.manual_seed(config.seed)
            self.model = model.build()
        self.start = RANDOM
        if start is not None:
            self.model.net.load_state_dict(start)
            self.start = f"weights {digest(self.model.net.state_dict())}"
        self.folder, self.model_config, self.config, self.data = Path(folder), model, config, data
        self.fabric, self.device, self.net = fabric, fabric.device, self.model.net.to(fabric.device)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.step, self.seconds, self.log = 0, 0.0, []
        self.skipped, self.skipped_in_row = 0, 0  # steps whose gradient was not finite: of all, and of the last ones
        self.rescheduled = []  # changes of the number of steps under a cosine, for the card
        self._journal, self._path = Journal(self.folder / "log.jsonl"), self.folder / "state.pt"
        self._saved, self._seen = 0, signature(self._path)  # the step of the state in the folder, and which file it is
        # the sum of the losses that are not logged yet, and their number
        self.running, self.since = torch.zeros((), device=self.device), 0
        self._resume()
        self._shared, self._update = fabric.setup(SharedLoss(self.net, self.loss, self.autocast), self.optimiser)
        self._batches = Prefetch(self._rows, config.prefetch)

    def examples(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """This process's `rows` of a batch of `config.batch` examples, tensors on the CPU, with all randomness of the
        step.
        """
        raise NotImplementedError

    def loss(self, *examples: Tensor) -> Tensor:
        """Loss of each example of (a part of) a batch, [B], with a gradient to the network."""
        raise NotImplementedError

    def export(
        self, path: str | Path, weights: Literal["ema", "model"] = "ema", dtype: torch.dtype = torch.float16, **notes
    ) -> None:
        """Write the averaged weights, or the last ones (difference 16), as a file to use.

        Args:
            dtype: of the parameters in the file, by default float16; what is no parameter stays in float32. The card
                says it.
            notes: added to the card.
        """
        card = self.card() | {"weights": weights, "dtype": str(dtype).removeprefix("torch.")} | notes
        write_model(
            path, self.what, self.ema if weights == "ema" else self.net.state_dict(), self.model_config, card, dtype
        )

    def begin(self) -> None:
        """Called by `fit` before its first step, by all processes: what a subclass opens and puts in order."""

    def validate(self) -> None:
        """Called after each step, before its state is saved, by all processes: what a subclass looks at while it
        trains.
        """

    def autocast(self) -> torch.autocast:
        """A context for `config.precision`. Fabric's own mixed precision would round the signals that come in as
        well.
        """
        return autocast(self.device, self.config.precision)

    def identity(self) -> dict:
        """What must be the same when a training goes on, as plain values."""
        return {
            "train": {name: value for name, value in asdict(self.config).items() if name not in FREE},
            "data": {k: v for k, v in self.data.items() if k == "sha256"},
            "examples": settings(self.draw),
            "start": self.start,
            self.what: asdict(self.model_config),
        }

    def fit(
        self, progress: bool = True, seconds: float | None = None, started: Callable[[], None] | None = None
    ) -> bool:
        """Train to `config.steps`, or for a time. Returns whether all steps are made.

        Args:
            seconds: after so many, the state is saved and the call returns; another call goes on from there. At least
                one step is made.
            started: called once the folder is locked, before the first step: what else belongs into it can be written
                then.

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
        with (
            self._alone(),
            self._batches,
            tqdm(total=c.steps, initial=self.step, disable=hidden, unit="step", mininterval=5) as bar,
        ):
            self.begin()
            if started:
                started()
            while self.step < c.steps:
                step_began = time.perf_counter()
                self._count(self._train_step())
                bar.update()
                if self.step % c.log_every == 0 or self.step == c.steps:
                    self._log()
                    bar.set_postfix(self._shown())
                self.seconds += time.perf_counter() - step_began
                self.validate()
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

    @property
    def rows(self) -> slice:
        """Which examples of a batch are this process's; all, if it is the only one."""
        return slice(self.fabric.global_rank, None, self.fabric.world_size)

    def _rows(self, step: int) -> tuple[Tensor, ...]:
        """This process's examples of the batch of a step."""
        return self.examples(torch.Generator().manual_seed(self.config.seed * 1_000_003 + step))

    def _train_step(self) -> Tensor | None:
        """Change the weights by one batch. Returns its loss, or None where its gradient is not finite, and nothing
        changes.
        """
        c = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = c.learning_rate * c.lr_scale(self.step)
        loss = self._shared(*(a.to(self.device) for a in self._batches(self.step))).mean()
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self._shared, self._update, max_norm=c.max_grad_norm, error_if_nonfinite=False
        )
        if not norm.isfinite():  # in every process, since they share their gradients
            return None
        self._update.step()
        decay = min(c.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.values()), list(self.net.state_dict().values()), 1 - decay)
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
                f"the gradient is not finite in {MOST_SKIPPED} steps in a row, the last of them step {self.step}: look"
                f" for damaged recordings, lower the learning rate, or use the precision float32; {self._kept()}"
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
        if not all(v.isfinite().all() for v in (*self.net.state_dict().values(), *self.ema.values(), *moments)):
            raise FloatingPointError(f"the weights are not finite at step {self.step}; {self._kept()}")
        self.running = self.fabric.all_reduce(self.running, reduce_op="mean")
        if not self.fabric.is_global_zero:
            return
        state = {
            "model": self.net.state_dict(), "average": self.ema, "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds, "log": self.log, "running": self.running, "since": self.since,
            "identity": self.identity(), "skipped": self.skipped, "skipped_in_row": self.skipped_in_row,
            "steps": self.config.steps, "rescheduled": self.rescheduled,
        }  # fmt: skip
        try:
            with replacing(self._path) as partial, open(partial, "wb") as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"cannot write the state of step {self.step} to {self.folder}: {error}; the last one is as it was"
            ) from error
        self._saved, self._seen = self.step, signature(self._path)
        every = self.config.checkpoint_every or self.config.save_every
        if self.step % every == 0 or self.step == self.config.steps:
            self.export(self.folder / f"step_{self.step:06d}.safetensors")

    def _kept(self) -> str:
        """What an error can say for comfort."""
        return (
            f"the last good state, of step {self._saved}, is in {self.folder}"
            if self._saved
            else "no state was saved before"
        )

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
                    if signature(self._path) != self._seen:
                        raise RuntimeError(
                            f"another training has changed {self._path} since it was read; start again from what it"
                            " holds"
                        )
                    # steps between the state and a stop are done again, and logged again
                    self._journal.rewrite(self.log)
                except (OSError, RuntimeError) as error:
                    problem = error
            if problem := self.fabric.broadcast(problem):  # no process may wait for one that gave up
                raise problem
            yield

    def _resume(self) -> None:
        c, path = self.config, self._path
        state = read_state(path, self.device) if path.is_file() else {"step": 0}
        steps = self.fabric.all_gather(torch.tensor(state["step"], device=self.device)).flatten().tolist()
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes find states of steps {steps} in {self.folder}; all must see the same folder"
            )
        if not state["step"]:
            return
        noted = state.get("identity", {})
        if self.start != RANDOM:  # older states do not say what they began from
            noted = {"start": "not noted"} | noted
        if changed := differences(noted, self.identity()):
            raise ValueError(f"{path} is the state of another training: {'; '.join(changed)}. Use another folder")
        try:
            self.net.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is the state of another network: {' '.join(str(error).split())}") from error
        self.ema, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        # before there was a log, a state had losses
        self.log = state["log"] if "log" in state else [{"step": s, "loss": v} for s, v in state["losses"]]
        self.running, self.since = state.get("running", self.running), state.get("since", 0)
        self.skipped, self.skipped_in_row = state.get("skipped", 0), state.get("skipped_in_row", 0)
        self.rescheduled, self._saved = state.get("rescheduled", []), self.step
        before = state.get("steps", c.steps)
        if c.cosine and before != c.steps:
            if not c.reschedule:
                rates = [replace(c, steps=n).lr_scale(self.step) for n in (before, c.steps)]
                raise ValueError(
                    f"steps was {before:,}, is now {c.steps:,}, and the cosine of the learning rate stretches over all"
                    f" steps: at step {self.step:,} the rate would jump from {rates[0]:.3g} to {rates[1]:.3g} of its"
                    " peak. Keep the steps, use another folder, or set reschedule, which the card notes"
                )
            self.rescheduled.append({"step": self.step, "from": before, "to": c.steps})
