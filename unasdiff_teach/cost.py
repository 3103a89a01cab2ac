"""What a computation costs, counted as it runs, and the least time that a device needs for it (its roofline).

A network is limited by its arithmetic in some operations and by memory traffic in others. `CostCounter` counts both for
every operation that PyTorch dispatches, forward and backward; `Roofline` turns the counts into seconds.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from ._machine import timed

aten = torch.ops.aten
# The fraction of a device's peak matmul FLOP/s that the paper's network reaches, for estimates: on a CPU, and on the
# GPU of evaluation/results/gpu_bench.parquet.
USUAL_MFU = {"cpu": 0.33, "float32": 0.24, "bfloat16": 0.04}
KINDS = ("products", "convolution", "attention", "elementwise", "norms", "copies", "fft", "other")
FORMULAS = flop_registry | {  # PyTorch's own, and its fused attention for CPUs, which has none there
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
NAMES = {
    "attention": r"attention",
    "convolution": r"conv",
    "fft": r"_fft_",
    "norms": r"norm(?!al)|softmax|^(sum|mean|var|std|var_mean|amax|amin|max|min|prod|cumsum)$",
    "copies": r"copy|clone|^cat$|^stack$|pad|index|embedding|gather|scatter|repeat|roll|flip|pixel"
    r"|(slice|select|unfold)_backward|zero|ones|full|^fill|arange",
}


@dataclass(frozen=True)
class Cost:
    """FLOP (two for each multiplication and addition), bytes read and written, and the number of operations."""

    flop: int = 0
    bytes: int = 0
    operations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flop + other.flop, self.bytes + other.bytes, self.operations + other.operations)


class CostCounter(TorchDispatchMode):
    """Counts what runs inside `with CostCounter() as counter:`, in this thread and in the backward passes it starts.

    FLOP are those of products, convolutions and attention, by PyTorch's own formulas. Bytes are the inputs and outputs
    of each operation, every tensor once and whole: what memory moves if nothing stays in a cache. Views count nothing.

    Attributes:
        costs: for each of `KINDS`; "norms" are all reductions, softmax among them, and "copies" include casts, padding,
            concatenation, gathering and filling.
    """

    def __init__(self):
        super().__init__()
        self.costs = dict.fromkeys(KINDS, Cost())

    @property
    def total(self) -> Cost:
        return sum(self.costs.values(), Cost())

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Iterable[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        with self:  # in inference mode, composite operations come here before they are taken apart
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        result = func(*args, **kwargs)
        if moved := _bytes(func, args, kwargs, result):
            formula = FORMULAS.get(func._overloadpacket)
            flop = formula(*args, **kwargs, out_val=result) if formula else 0
            self.costs[_kind(func)] += Cost(flop, moved, 1)
        return result


@dataclass(frozen=True)
class Roofline:
    """The most that a device reaches.

    Attributes:
        flops: FLOP/s of matrix products.
        bandwidth: bytes/s read and written by a large copy. What stays in a cache may be faster.
    """

    flops: float
    bandwidth: float

    @classmethod
    def measure(cls, device: torch.device | str, dtype: torch.dtype = torch.float32, seconds: float = 0.5) -> Roofline:
        """Measure a device for about twice `seconds`, with the threads that PyTorch has."""
        return cls(peak_matmul_flops(device, dtype, seconds), copy_bandwidth(device, seconds))

    def alone(self, cost: Cost) -> tuple[float, float]:
        """Seconds that the FLOP alone and the bytes alone would take."""
        return cost.flop / self.flops, cost.bytes / self.bandwidth

    def limit(self, costs: Iterable[Cost]) -> float:
        """Seconds of several kinds one after the other, each bound by whichever takes longer, its FLOP or its bytes."""
        return sum(max(self.alone(cost)) for cost in costs)


def peak_matmul_flops(device: torch.device | str, dtype: torch.dtype = torch.float32, seconds: float = 0.5) -> float:
    """FLOP/s of square matrix products on this device, the best of several: what a program could reach at most.

    On a CPU it is what the threads do in the time that they are given, whatever else the machine does.
    """
    n = 8192 if torch.device(device).type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / _best(lambda: a @ b, torch.device(device), seconds)


def copy_bandwidth(device: torch.device | str, seconds: float = 0.5) -> float:
    """Bytes/s, read and written, of copies too large for a cache (512 MiB on a GPU, 128 MiB elsewhere)."""
    source = torch.ones(2**27 if torch.device(device).type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), torch.device(device), seconds)


def usual_mfu(device: torch.device | str, dtype: torch.dtype = torch.float32) -> float:
    """The fraction of `peak_matmul_flops` that the paper's network reaches, for estimates; small ones less on a GPU."""
    return USUAL_MFU["cpu" if torch.device(device).type == "cpu" else str(dtype).removeprefix("torch.")]


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Least seconds of a call among at least five, on a CPU by the time that its threads are given."""
    work()  # loads what it needs, and touches its memory
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        clock, busy = timed(work, device)
        times.append(busy / torch.get_num_threads() if device.type == "cpu" else clock)
    return min(times)


@cache
def _kind(func: torch._ops.OpOverload) -> str:
    name = func._overloadpacket.__name__
    named = (kind for kind in ("attention", "convolution", "fft") if re.search(NAMES[kind], name))
    if kind := next(named, None):
        return kind
    if func._overloadpacket in FORMULAS:
        return "products"
    if kind := next((kind for kind in ("norms", "copies") if re.search(NAMES[kind], name)), None):
        return kind
    pointwise = torch.Tag.pointwise in func.tags or re.match(r"_foreach|_fused|masked_fill", name)
    return "elementwise" if pointwise else "other"


def _bytes(func: torch._ops.OpOverload, args: tuple, kwargs: dict, result: object) -> int:
    """What an operation reads and writes; 0 for views, for what is only allocated, and where no tensor results."""
    name = func._overloadpacket.__name__
    only_writes = name in ("copy_", "fill_", "zero_") or torch.Tag.nondeterministic_seeded in func.tags
    if func.is_view or torch.Tag.inplace_view in func.tags or "empty" in name or name == "_unsafe_view":
        return 0
    total, written = 0, False
    for i, argument in enumerate(func._schema.arguments):
        size = _size(args[i] if i < len(args) else kwargs.get(argument.name))
        if argument.alias_info is not None and argument.alias_info.is_write:  # it is a result, too
            total, written = total + (size if only_writes or argument.is_out else 2 * size), True
        else:
            total += size
    results = result if isinstance(result, tuple) else (result,)
    made = zip(results, func._schema.returns, strict=False)
    new = sum(_size(value) for value, declared in made if declared.alias_info is None)
    return total + new if written or new else 0


def _size(value: object) -> int:
    """Bytes of all tensors in a value; what is broadcast is read once."""
    return sum(
        t.element_size() * math.prod(n for n, stride in zip(t.shape, t.stride(), strict=True) if stride)
        for t in tree_leaves(value) if isinstance(t, Tensor)
    )  # fmt: skip
