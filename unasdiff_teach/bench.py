"""How fast, and in how much memory, a network denoises on this machine: `unasdiff-teach bench`.

The forms that are compared compute the same; `_forms` says what each is.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import signal
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass
from functools import cache
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from . import _machine
from ._files import replacing, write_json
from ._forms import FORMS, MODES, STEPS, applies, explicit_attention, plain_separate
from ._forms import prior_of as _prior
from ._forms import work_of as _work
from ._lazy import renamed
from .cost import KINDS, Cost, CostCounter, Roofline, timed
from .networks import TriplePathConfig
from .networks.budget import flops
from .precision import PRECISIONS, autocast
from .priors.neural import NeuralPrior

if TYPE_CHECKING:
    import pandas as pd

NETWORKS = {"paper": (TriplePathConfig.paper, 16_000), "pocket": (TriplePathConfig.pocket, 8000)}
TOP = 10  # kernels of a profile
T = TypeVar("T")
__all__ = [
    "FORMS",
    "MODES",
    "STEPS",
    "BenchConfig",
    "explicit_attention",
    "facts",
    "measure",
    "plain_separate",
    "write",
]


@dataclass(frozen=True)
class BenchConfig:
    """What is measured.

    Attributes:
        scale: network and rate, "paper" or "pocket".
        seconds: length of a signal.
        batches: sources that go through the network at once.
        sources: K of a mixture in guided steps; a batch is so many mixtures (one of a single source for a batch of 1).
        modes: "forward", one prediction; "guided", a step of Algorithm 1 with its backward pass; "training", a step of
            AdamW.
        forms: some of `FORMS`; ratios need "plain".
        precision: "float32", or "bfloat16" for the products.
        repeats: of each measurement; the median counts.
        profile: also list the kernels that take longest.
    """

    scale: str = "paper"
    seconds: float = 4.0
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    sources: int = 2
    modes: tuple[str, ...] = MODES[:2]
    forms: tuple[str, ...] = FORMS[:3]
    precision: str = "float32"
    repeats: int = 3
    profile: bool = False

    def __post_init__(self):
        for name, accepted in (("modes", MODES), ("forms", FORMS)):
            if strange := set(getattr(self, name)) - set(accepted):
                raise ValueError(f"{name} has {', '.join(sorted(strange))}; accepted: {', '.join(accepted)}")
        for name, accepted in (("scale", NETWORKS), ("precision", PRECISIONS)):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} is {getattr(self, name)!r}; accepted: {', '.join(accepted)}")
        for batch in self.batches:
            if batch < 1 or batch > 1 and batch % self.sources and "guided" in self.modes:
                raise ValueError(f"a batch of {batch} is not a number of mixtures of {self.sources} sources")

    @property
    def network(self) -> TriplePathConfig:
        return NETWORKS[self.scale][0]()

    @property
    def samples(self) -> int:
        return round(self.seconds * NETWORKS[self.scale][1])

    def flops(self, mode: str) -> int:
        """FLOP for one source and step."""
        return flops(self.network, self.samples, mode)

    def total_flops(self) -> float:
        """FLOP of everything that is measured, without the calls that compile."""
        work = {mode: self.flops(mode) * (STEPS if mode == "guided" else 1) for mode in self.modes}
        forms = {mode: len([f for f in self.forms if applies(f, mode)]) for mode in self.modes}
        return sum(work[m] * forms[m] for m in self.modes) * sum(self.batches) * (self.repeats + 2 + self.profile)


def measure(config: BenchConfig, device: str = "cpu", report: Callable[[dict], None] | None = None) -> pd.DataFrame:
    """Measure every form, mode and batch size, each form in a process of its own, with the threads of this one.

    The processes take turns, so that what else the machine does falls on all forms alike, while none inherits the
    memory, the caches or the compiler's state of another.

    Args:
        report: called with each finished row.

    Returns:
        One row for each form, mode and batch, with:

        - seconds of a step of the batch (median), cpu_seconds (the same of all threads, which a busy machine hardly
          stretches), source_steps_per_second;
        - gflop of a source and step, and mfu, their fraction of the peak matmul FLOP/s (on a CPU in the time that its
          threads are given);
        - for each of `cost.KINDS`, gflop_, gb_ and operations_ of a step of the batch as it is executed, one operation
          after the other ("compiled" as "fast"); limit_seconds, the least time for them, roofline, its fraction of the
          time taken, and dominant, the kind with the largest part of it;
        - peak_gb, the most that tensors take at once, beyond what is there before the call (NaN on devices that do not
          tell, or where memory did not suffice); speedup and memory, as multiples of the plain form's;
        - kernels, if profiled: the `TOP` that took longest.

        `attrs["facts"]` says on what machine.

    Raises:
        RuntimeError: the process of a form ended.
    """
    import pandas as pd

    place = torch.device(device)
    roofline = Roofline.measure(place, PRECISIONS[config.precision])
    cases = {(m, b): [_Case(config, config.network, f, m, b, device) for f in config.forms if applies(f, m)]
             for m in config.modes for b in config.batches}  # fmt: skip
    rows = []
    with ExitStack() as stack:
        ask = _Processes(config.forms, stack)
        for (mode, batch), group in cases.items():
            weights = {case: ask(_weigh, case) for case in group}
            times = {case: [] for case in group if weights[case][1] is not None}
            for case in list(times) * config.repeats:
                times[case].append(ask(_time, case))
            median = {case: [statistics.median(values) for values in zip(*t, strict=True)] for case, t in times.items()}
            seconds, busy = zip(*(median.get(case, (math.nan, math.nan)) for case in group), strict=True)
            plain = next((i for i, case in enumerate(group) if case.form == "plain"), None)
            for i, case in enumerate(group):
                costs, peak = weights[case]
                given = busy[i] / torch.get_num_threads() if place.type == "cpu" else seconds[i]
                flop = config.flops(mode)
                rows.append({
                    "form": case.form, "mode": mode, "batch": batch, "seconds": seconds[i], "cpu_seconds": busy[i],
                    "source_steps_per_second": batch / seconds[i], "gflop": flop / 1e9,
                    "mfu": flop * batch / given / roofline.flops, **_limits(costs, roofline, given),
                    "peak_gb": math.nan if peak is None else peak / 1e9,
                    "speedup": math.nan if plain is None else seconds[plain] / seconds[i],
                })  # fmt: skip
                if config.profile and case in times:
                    rows[-1]["kernels"] = ask(_kernels, case)
            for row in rows[-len(group) :]:
                memory = math.nan if plain is None else rows[plain - len(group)]["peak_gb"]
                row["memory"] = row["peak_gb"] / (memory or math.nan)
                if report:
                    report(row)
    table = pd.DataFrame(rows)
    machine = {"peak_tflops": roofline.flops / 1e12, "copy_gb_per_second": roofline.bandwidth / 1e9}
    table.attrs["facts"] = asdict(config) | facts(place) | machine
    return table


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table of `measure` with its facts, whole or not at all: .json, or .parquet with the facts as columns."""
    if path.suffix not in (".json", ".parquet"):
        raise ValueError(f"{path} must end in .json or .parquet")
    facts = table.attrs["facts"]
    if path.suffix == ".json":
        write_json(path, {"facts": facts, "rows": json.loads(table.to_json(orient="records"))})
    else:
        plain = {k: v if isinstance(v, str | int | float) else json.dumps(v) for k, v in facts.items()}
        with replacing(path) as partial:
            table.assign(**{k: v for k, v in plain.items() if k not in table}).to_parquet(partial, index=False)


def facts(device: torch.device) -> dict:
    """The machine: CPU or GPU, threads, memory, load, versions."""
    return {
        "device": _machine.name(str(device)) if device.type == "cuda" else device.type,
        "processor": _machine.name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }


__getattr__ = renamed(__name__, {"matrix_rate": "cost.peak_matmul_flops", "usual_share": "cost.usual_mfu"})


@dataclass(frozen=True)
class _Case:
    """What the process of a form is asked to measure. The network travels along, so that it is the caller's."""

    config: BenchConfig
    network: TriplePathConfig
    form: str
    mode: str
    batch: int
    device: str

    @property
    def place(self) -> torch.device:
        return torch.device(self.device)

    @property
    def steps(self) -> int:
        return STEPS if self.mode == "guided" else 1

    def work(self, form: str | None = None) -> Callable[[], Tensor]:
        """The call to measure, in this or another form."""
        prior = _built(self.network, form or self.form, self.device)
        if self.form != "plain":
            prior.for_inference(PRECISIONS[self.config.precision])
        call = _work(prior, self.form, self.mode, self.batch, self.config, self.place)
        return autocast(self.place, self.config.precision)(call)


class _Processes:
    """One for each form; a call waits for the answer, so that only one of them works at a time."""

    def __init__(self, forms: Iterable[str], stack: ExitStack):
        context, threads = get_context("spawn"), (torch.get_num_threads(),)
        self.pools = {form: stack.enter_context(ProcessPoolExecutor(1, context, _enter, threads)) for form in forms}
        for pool in self.pools.values():
            pool.submit(int)  # starts its process, so that all of them import at the same time

    def __call__(self, function: Callable[[_Case], T], case: _Case) -> T:
        try:
            return self.pools[case.form].submit(function, case).result()
        except BrokenProcessPool:
            raise RuntimeError(
                f"the process of the form {case.form!r} ended in mode {case.mode!r} with batch {case.batch}; a system"
                " stops processes when memory runs out: measure shorter signals or smaller batches"
            ) from None


def _enter(threads: int) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports a missing GPU as an error
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback


@cache
def _built(network: TriplePathConfig, form: str, device: str) -> NeuralPrior:
    return _prior(network, form).to(device)


def _weigh(case: _Case) -> tuple[dict[str, Cost], int | float | None]:
    """Operations of a step by kind, and the peak memory in bytes; none and None where memory did not suffice."""
    try:
        work = case.work("fast" if case.form == "compiled" else None)
        with CostCounter() as counter:  # also the first call, which loads what stays loaded
            work()
        if case.form == "compiled":
            case.work()()
        costs = {kind: Cost(*(n / case.steps for n in astuple(cost))) for kind, cost in counter.costs.items()}
        return costs, _peak(case.work(), case.place)
    except torch.cuda.OutOfMemoryError:
        return {}, None
    finally:
        _leave_room(case.place)


def _time(case: _Case) -> tuple[float, float]:
    """Seconds of a step by the clock and of CPU time."""
    clock, busy = timed(case.work(), case.place)
    _leave_room(case.place)
    return clock / case.steps, busy / case.steps


def _kernels(case: _Case) -> list[dict]:
    """The `TOP` kernels of a call (on a CPU, operations without those that they call), and their part of the time."""
    on_gpu = case.place.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu, acc_events=True) as profiler:
        timed(case.work(), case.place)
    _leave_room(case.place)
    kind, field = (DeviceType.CUDA, "self_device_time_total") if on_gpu else (DeviceType.CPU, "self_cpu_time_total")
    found = {e.key: (getattr(e, field) / 1e6, e.count) for e in profiler.key_averages() if e.device_type == kind}
    total = sum(seconds for seconds, _ in found.values())
    top = sorted(found.items(), key=lambda item: -item[1][0])[:TOP]
    return [{"name": k, "calls": count, "seconds": seconds, "fraction": seconds / total} for k, (seconds, count) in top]


def _leave_room(device: torch.device) -> None:
    """What a process keeps of a GPU's memory for later, others cannot have."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _limits(costs: dict[str, Cost], roofline: Roofline, seconds: float) -> dict:
    """The columns of `measure` about operations, for a step that took so long."""
    found = {"limit_seconds": math.nan, "roofline": math.nan, "dominant": None}
    if costs:
        limit = roofline.limit(costs.values())
        dominant = max(costs, key=lambda kind: roofline.limit([costs[kind]]))
        found = {"limit_seconds": limit, "roofline": limit / seconds, "dominant": dominant}
    for kind in KINDS:
        cost = costs.get(kind, Cost(math.nan, math.nan, math.nan))
        found |= {f"gflop_{kind}": cost.flop / 1e9, f"gb_{kind}": cost.bytes / 1e9}
        found[f"operations_{kind}"] = cost.operations
    return found


def _peak(work: Callable[[], object], device: torch.device) -> float:
    """Most bytes of tensors that a call takes beyond what was taken before; NaN on devices that do not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        work()
        return math.nan
    # The account of the allocator: what the system says (the resident set) depends on what was freed before.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    return max(accumulate((e.nbytes() for e in events if e.name() == "[memory]"), initial=0))
