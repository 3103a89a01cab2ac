"""What one pass of a prior takes: seconds and memory, measured on the very thing that a run repeats."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from . import precision as precisions
from .diffusion import Prior

SECONDS = 0.2  # of all timed passes, nearly, unless one takes longer
REPEATS = 5  # of them, at most; the median counts
AT_ONCE = {"cuda": 32}  # signals in each; a CPU hardly gains from more than one


@dataclass(frozen=True)
class Pass:
    """What a pass takes.

    Attributes:
        forward, backward: seconds for each signal of a prediction and of its gradient (0 without), the median of
            several. On a CPU these are what its threads are given, which a busy machine stretches far less than the
            clock.
        bytes: at most, for each signal that is computed at once.
        waiting: how many times as long it took by the clock.
    """

    forward: float
    backward: float
    bytes: float
    waiting: float


def measure(
    prior: Prior,
    x_t: Tensor,
    t: Tensor,
    label: int | None,
    gradient: bool,
    most: int,
    memory: float,
    precision: str = "float32",
) -> Pass:
    """Measure a prediction of one signal, its memory and whether it is finite, and time a few more.

    Args:
        prior: see `Prior`.
        x_t: a signal [1, N] on the device of the run; t: its step, [1]; label: as the prior takes it.
        gradient: whether the run asks for gradients.
        most, memory: signals that the run computes at once, and bytes that they may take, at most.
        precision: of the run.

    Raises:
        FloatingPointError: the prior's prediction is not finite.
    """

    def run(rows: int) -> tuple[float, float]:
        x = x_t.expand(rows, -1).clone().requires_grad_(gradient)
        labels = None if label is None else torch.full((rows,), label, device=x.device)
        started = _clock(x)
        with torch.set_grad_enabled(gradient), precisions.autocast(x.device, precision):
            eps = prior(x, t.expand(rows), labels)
        middle = _clock(x)
        if gradient:
            torch.autograd.grad(eps.sum(), x)
        if not torch.isfinite(eps).all():
            raise FloatingPointError(
                "its predictions are NaN or infinite: are its weights those of a training that failed?"
            )
        return (middle - started) / rows, (_clock(x) - middle) / rows if gradient else 0.0

    with PeakMemory() as one:
        run(1)  # slower than the others
    rows = max(1, min(most, AT_ONCE.get(x_t.device.type, 1), int(memory / one.peak)))
    started, times = time.perf_counter(), [run(rows)]
    while len(times) < REPEATS and rows * sum(map(sum, times)) < SECONDS:
        times.append(run(rows))
    waited = (time.perf_counter() - started) / (rows * sum(map(sum, times)))
    return Pass(*sorted(times, key=sum)[len(times) // 2], one.peak, max(1.0, waited))


def _clock(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.process_time() / torch.get_num_threads() if x.device.type == "cpu" else time.perf_counter()


class PeakMemory(TorchFunctionMode):
    """The most bytes that tensors made inside of it take at once, on any device: `peak`.

    It follows calls from Python. What kernels take for themselves meanwhile is not seen. (A `TorchDispatchMode` would
    see more, and import the compiler first, which takes a second.)
    """

    def __init__(self):
        super().__init__()
        self.peak = self._now = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_function__(
        self, function: Callable, types: Iterable[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        made = function(*args, **(kwargs or {}))
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                if id(storage) not in given and id(storage) not in self._alive:
                    self._alive[id(storage)] = weakref.ref(storage, self._forget(id(storage), storage.nbytes()))
                    self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        return made

    def _forget(self, key: int, size: int) -> Callable[[weakref.ref], None]:
        def forget(_: weakref.ref) -> None:
            if self._alive.pop(key, None) is not None:
                self._now -= size

        return forget
