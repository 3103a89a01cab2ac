"""What the separation of a recording takes, measured beforehand by one pass of each prior."""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(frozen=True)
class Forecast:
    """What a separation will do: its sources, of which all priors are on `device`, and N samples of each of `signals`
    signals at the priors' rate.
    """

    sources: tuple[Source, ...]
    config: SeparationConfig
    schedule: NoiseSchedule
    windows: Windows
    N: int
    signals: int
    device: str

    def cost(self, memory: float, precision: str) -> Cost:
        """The chunk that fits into `memory`, and what the whole then takes."""
        count = self.config.run_length(self.schedule)
        gradient = self.config.guidance.needs_gradient
        signals = self.signals * self.config.hypotheses
        counts = [len(self.windows.starts(self.N, shift_at(t))) for t in self.schedule.timesteps.tolist()]
        groups: dict[int, list[Source]] = {}
        for source in self.sources:
            groups.setdefault(id(source.prior.prior), []).append(source)
        most = max(counts) * signals * max(map(len, groups.values()))
        if self.device == "cpu" and not gradient:  # with gradients, what is not kept is computed twice
            most = min(most, ROWS)
        share = memory / len(groups)
        timed = [(signals * len(group), self._pass(group[0], most, share, precision)) for group in groups.values()]
        # With gradients the graphs of all priors are there at once, without one pass at a time.
        size = sum(p.bytes for _, p in timed) if gradient else max(p.bytes for _, p in timed)
        chunk = min(max(1, int(memory / size)), most)
        calls, seconds, held = 0.0, 0.0, STATE * self.N * signals * len(self.sources)
        for rows, one in timed:
            again = one.forward if rows * max(counts) > chunk else 0.0  # a chunk that was forgotten is computed again
            passes = rows * count * sum(counts) / len(counts)
            calls += passes
            seconds += passes * (one.forward + (one.backward + again if gradient else 0.0))
        held += chunk * size * (GRAPH if gradient else 1.0)
        return Cost(round(calls), seconds, held, chunk, max(one.waiting for _, one in timed))

    def trial(self) -> tuple[object, Callable[[], object]]:
        """What `precisions.choose` asks for: what the measurement depends on, and the pass to measure."""
        source, gradient = self.sources[0], self.config.guidance.needs_gradient
        net = getattr(source.prior.prior, "net", None)
        kind = "guided" if gradient else "forward"
        key = (getattr(net, "config", type(source.prior.prior).__name__), self.windows.size, kind)
        x_t, t, label = self._example(source)
        labels = None if label is None else torch.tensor([label], device=self.device)

        def work() -> None:
            x = x_t.clone().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                eps = source.prior.prior(x, t, labels)
            if gradient:
                torch.autograd.grad(eps.sum(), x)

        return key, work

    def compile_networks(self, asked: bool | None) -> tuple[bool, str]:
        """Compile the priors' networks where that was asked for, or where it pays. Returns whether, and what there is
        to say of it.
        """
        networks = {
            id(net): net for s in self.sources if hasattr(net := getattr(s.prior.prior, "net", None), "compile_core")
        }.values()
        if not networks:
            return False, ""
        windows = self.N * self.signals / (self.windows.size - self.windows.overlap)
        passes = self.config.calls(self.schedule) * len(self.sources) * windows
        compiled, line = precisions.compiling(asked, self.device, passes >= precisions.COMPILED)
        for net in networks if compiled else ():
            net.compile_core()
        return compiled, line

    def _example(self, source: Source) -> tuple[Tensor, Tensor, int | None]:
        """x_t [1, size], t [1] and the label, as the run gives them to the prior of a source."""
        names = getattr(source.prior.prior, "labels", ())
        x_t = torch.randn(1, self.windows.size, generator=torch.Generator().manual_seed(0)).to(self.device)
        label = names.index(source.label) if source.label is not None else None
        return x_t, self.schedule.timesteps[:1].to(self.device), label

    def _pass(self, source: Source, most: int, memory: float, precision: str) -> Pass:
        gradient = self.config.guidance.needs_gradient
        try:
            return measure(source.prior.prior, *self._example(source), gradient, most, memory, precision)
        except FloatingPointError as error:
            raise ValueError(f"the prior of {source.name} ({source.prior.where}) does not work: {error}") from None
