"""What the separation of a recording takes, measured beforehand by one pass of each prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import precision as precisions
from ._measure import Pass, measure
from .long_audio import Windows, shift_at
from .priors.named import Source
from .schedule import NoiseSchedule
from .separation import SeparationConfig

MEMORY = 2e9  # bytes for what the priors remember for the gradient
STATE = 150  # bytes for each sample of each source and run: states, noise, estimates
GRAPH = 1.3  # times what the priors' graphs take: the loss has one, too
ROWS = 8  # windows at once on a CPU, which gains nothing from more
COMPILED = 5000  # passes of a network on a GPU, from which compiling it pays


@dataclass(frozen=True)
class Cost:
    """What a separation takes, measured by one pass of each prior.

    Attributes:
        calls: network calls.
        seconds: on a machine that does nothing else.
        bytes: at most.
        chunk: windows at once.
        waiting: how many times as long it takes while the machine is as busy as at the measurement.
    """

    calls: int
    seconds: float
    bytes: float
    chunk: int
    waiting: float = 1.0


def steps(config: SeparationConfig, schedule: NoiseSchedule) -> int:
    return config.steps or (schedule.position(config.init_step) + 1 if config.start == "init_step" else len(schedule))


def cost(
    sources: Sequence[Source], config: SeparationConfig, schedule: NoiseSchedule, windows: Windows, N: int,
    signals: int, memory: float, device: str, precision: str,
) -> Cost:  # fmt: skip
    """The chunk that fits into `memory`, and what the whole then takes."""
    count, gradient = steps(config, schedule), config.guidance.needs_gradient
    signals = signals * config.hypotheses
    counts = [len(windows.starts(N, shift_at(t))) for t in schedule.index.tolist()]
    groups = {id(s.prior.prior): [t for t in sources if t.prior.prior is s.prior.prior] for s in sources}
    most = max(counts) * signals * max(map(len, groups.values()))
    if device == "cpu" and not gradient:  # with gradients, what is not kept is computed twice
        most = min(most, ROWS)
    timed = [
        (
            signals * len(group),
            _pass(group[0], windows.size, schedule, device, gradient, most, memory / len(groups), precision),
        )
        for group in groups.values()
    ]
    # With gradients the graphs of all priors are there at once, without one pass at a time.
    size = sum(p.bytes for _, p in timed) if gradient else max(p.bytes for _, p in timed)
    chunk = min(max(1, int(memory / size)), most)
    calls, seconds, held = 0.0, 0.0, STATE * N * signals * len(sources)
    for rows, one in timed:
        again = one.forward if rows * max(counts) > chunk else 0.0  # a chunk that was forgotten is computed again
        passes = rows * count * sum(counts) / len(counts)
        calls += passes
        seconds += passes * (one.forward + (one.backward + again if gradient else 0.0))
    held += chunk * size * (GRAPH if gradient else 1.0)
    return Cost(round(calls), seconds, held, chunk, max(one.waiting for _, one in timed))


def trial(
    source: Source, size: int, config: SeparationConfig, schedule: NoiseSchedule, device: str
) -> tuple[object, Callable[[], object]]:
    """What `precisions.choose` asks for: what the measurement depends on, and the pass to measure."""
    net = getattr(source.prior.prior, "net", None)
    gradient = config.guidance.needs_gradient
    key = (getattr(net, "config", type(source.prior.prior).__name__), size, "guided" if gradient else "forward")
    x_t, t, label = _example(source, size, schedule, device)
    labels = None if label is None else torch.tensor([label], device=device)

    def work() -> None:
        x = x_t.clone().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            eps = source.prior.prior(x, t, labels)
        if gradient:
            torch.autograd.grad(eps.sum(), x)

    return key, work


def _example(source: Source, size: int, schedule: NoiseSchedule, device: str) -> tuple[Tensor, Tensor, int | None]:
    """x_t [1, size], t [1] and the label, as the run gives them to the prior of a source."""
    names = getattr(source.prior.prior, "labels", ())
    x_t = torch.randn(1, size, generator=torch.Generator().manual_seed(0)).to(device)
    label = names.index(source.label) if source.label is not None else None
    return x_t, schedule.index[:1].to(device), label


def _pass(
    source: Source, size: int, schedule: NoiseSchedule, device: str, gradient: bool, most: int, memory: float,
    precision: str
) -> Pass:  # fmt: skip
    try:
        return measure(source.prior.prior, *_example(source, size, schedule, device), gradient, most, memory, precision)
    except FloatingPointError as error:
        raise ValueError(f"the prior of {source.name} ({source.prior.where}) does not work: {error}") from None


def compile_networks(
    asked: bool | None, sources: Sequence[Source], device: str, config: SeparationConfig, schedule: NoiseSchedule,
    windows: Windows, samples: int, notes: list[str],
) -> bool:  # fmt: skip
    """Compile the priors' networks where that was asked for, or where it pays; says in a note what is done."""
    passes = steps(config, schedule) * config.hypotheses * len(sources) * samples / (windows.size - windows.overlap)
    networks = {
        id(net): net for s in sources if hasattr(net := getattr(s.prior.prior, "net", None), "compile_core")
    }.values()
    compiled, line = precisions.compiling(asked, device, passes > COMPILED) if networks else (False, "")
    for net in networks if compiled else ():
        net.compile_core()
    notes += [line] * bool(line)
    return compiled
