"""How fast, and in how much memory, a network denoises on this machine: `unasdiff-teach bench`.

The forms that are compared compute the same. "plain" is Algorithm 1 as one would first write it, and as the released code
has it: softmax(q k^T) written out, one source at a time, a loop over the segments of the group term, and weights that could
be trained. "fast" is this package: fused attention, all sources of all mixtures in one call, weights that are fixed.
"checkpointed" computes the activations of each block twice instead of keeping them, and "compiled" is "fast" with its core
compiled. A training takes whole batches in each form, so that "plain" is there its attention alone.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .diffusion import denoising_loss, posterior_mean, tweedie
from .evaluation.jobs import PRECISIONS
from .guidance import Hybrid
from .networks import TriplePathConfig
from .networks.budget import flops
from .networks.triple_path import Attention
from .priors.neural import NeuralPrior, PriorConfig
from .reconstruction import ReconstructionLoss
from .schedule import NoiseSchedule
from .separation import SeparationConfig, separate

if TYPE_CHECKING:
    import pandas as pd

NETWORKS = {"paper": (TriplePathConfig.paper, 16_000), "pocket": (TriplePathConfig.pocket, 8000)}
FORMS = ("plain", "fast", "checkpointed", "compiled")
MODES = ("forward", "guided", "training")
STEPS = 2  # of a guided run
# What part of a device's matrix rate the paper's network reaches, for estimates: on a processor, and on the GPU of
# evaluation/results/gpu_bench.parquet.
SHARES = {"cpu": 0.33, "float32": 0.24, "bfloat16": 0.04}
M_MMAP_THRESHOLD = -3  # of the C library's malloc.h
Noise = Callable[[str, int, tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class BenchConfig:
    """What is measured.

    Attributes:
        scale: network and rate, "paper" or "pocket".
        seconds: length of a signal.
        batches: sources that go through the network at once.
        sources: K of a mixture in guided steps; a batch is so many mixtures (one of a single source for a batch of 1).
        modes: "forward", one prediction; "guided", a step of Algorithm 1 with its backward pass; "training", a step of AdamW.
        forms: some of `FORMS`; ratios need "plain".
        precision: "float32", or "bfloat16" for the products.
        repeats: of each measurement; the median counts.
    """

    scale: str = "paper"
    seconds: float = 4.0
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    sources: int = 2
    modes: tuple[str, ...] = MODES[:2]
    forms: tuple[str, ...] = FORMS[:3]
    precision: str = "float32"
    repeats: int = 3

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
        forms = {mode: len([f for f in self.forms if _applies(f, mode)]) for mode in self.modes}
        return sum(work[m] * forms[m] for m in self.modes) * sum(self.batches) * (self.repeats + 1)


def measure(config: BenchConfig, device: str = "cpu", report: Callable[[dict], None] | None = None) -> pd.DataFrame:
    """Measure every form, mode and batch size, in turn within one process with the same threads.

    Args:
        report: called with each finished row.

    Returns:
        One row for each form, mode and batch, with: seconds of a step of the batch (median), processor_seconds (the same of
        all threads, which a busy machine hardly stretches), source_steps_per_second, gflop of a source and step, share of
        the measured matrix rate (on a CPU in the time that its threads are given), peak_gb (more than before the call; NaN
        where the system does not tell, or where memory did not suffice), and speedup and memory as multiples of the plain
        form's. `attrs["facts"]` says on what machine.
    """
    import pandas as pd

    place, dtype = torch.device(device), PRECISIONS[config.precision]
    rate = matrix_rate(place, dtype)
    priors = {form: _prior(config.network, form).to(place) for form in config.forms}
    for form in set(config.forms) - {"compiled"}:  # what is loaded at the first call would count as its memory
        _work(priors[form], form, "guided", 1, replace(config, seconds=0.1), place)()
    rows = []
    for mode in config.modes:
        gflop = config.flops(mode) / 1e9
        for batch in config.batches:
            forms = [form for form in config.forms if _applies(form, mode)]
            works = {form: _work(priors[form], form, mode, batch, config, place) for form in forms}
            with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
                peaks = {form: _peak(work, place) for form, work in works.items()}
                times = {form: [] for form, peak in peaks.items() if peak is not None}
                for _ in range(config.repeats):  # in turn, so that what else the machine does falls on all alike
                    for form, seconds in times.items():
                        seconds.append(_seconds(works[form], place))
            median, busy = ({f: statistics.median(s[i] for s in times[f]) if f in times else math.nan for f in forms} for i in (0, 1))
            for form in forms:
                steps = STEPS if mode == "guided" else 1
                speed, peak = batch * steps / median[form], math.nan if peaks[form] is None else peaks[form] / 1e9
                given = busy[form] / torch.get_num_threads() if place.type == "cpu" else median[form]
                rows.append({
                    "form": form, "mode": mode, "batch": batch, "seconds": median[form] / steps,
                    "processor_seconds": busy[form] / steps, "source_steps_per_second": speed,
                    "gflop": gflop, "share": gflop * 1e9 * batch * steps / given / rate, "peak_gb": peak,
                    "speedup": median.get("plain", math.nan) / median[form], "memory": math.nan,
                })  # fmt: skip
            plain = next((row["peak_gb"] for row in rows[-len(forms) :] if row["form"] == "plain"), math.nan)
            for row in rows[-len(forms) :]:
                row["memory"] = row["peak_gb"] / plain if plain else math.nan
                if report:
                    report(row)
    table = pd.DataFrame(rows)
    table.attrs["facts"] = asdict(config) | facts(place) | {"matrix_tflops": rate / 1e12}
    return table


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table of `measure` with its facts: .json, or .parquet with the facts as columns."""
    facts = table.attrs["facts"]
    if path.suffix == ".json":
        path.write_text(json.dumps({"facts": facts, "rows": json.loads(table.to_json(orient="records"))}, indent=1) + "\n")
    elif path.suffix == ".parquet":
        plain = {k: v if isinstance(v, str | int | float) else json.dumps(v) for k, v in facts.items()}
        table.assign(**{k: v for k, v in plain.items() if k not in table}).to_parquet(path, index=False)
    else:
        raise ValueError(f"{path} must end in .json or .parquet")


def facts(device: torch.device) -> dict:
    """The machine: processor or GPU, threads, memory, load, versions."""
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        processor = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }


def matrix_rate(device: torch.device | str, dtype: torch.dtype = torch.float32, seconds: float = 0.5) -> float:
    """FLOP per second of square matrix products on this device, the best of several: what a program could reach at most.

    On a CPU it is what the threads do in the time that they are given, whatever else the machine does.
    """
    device = torch.device(device)
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end or best == math.inf:
        clock, busy = _seconds(lambda: a @ b, device)
        best = min(best, busy / torch.get_num_threads() if device.type == "cpu" else clock)
    return 2 * n**3 / best


def usual_share(device: torch.device | str, dtype: torch.dtype = torch.float32) -> float:
    """The part of `matrix_rate` that the paper's network reaches, for estimates before a run; small ones reach less of a GPU's."""
    return SHARES["cpu" if torch.device(device).type == "cpu" else str(dtype).removeprefix("torch.")]


def explicit_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, with all its weights in memory."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def plain_separate(mixture: Tensor, prior: NeuralPrior, K: int, schedule: NoiseSchedule, noise: Noise) -> Tensor:
    """Algorithm 1 with the released code's constants, one source at a time: what `separate` gives for `authors()`.

    Args:
        mixture: [N]. noise: as for `separate`.

    Returns:
        K sources without labels, [K, N].
    """
    s, rule, loss, N = schedule, Hybrid.authors(), ReconstructionLoss(), len(mixture)
    length = -(-N // loss.n_groups)
    alpha_bar = s.at(s.alpha_bar, s.position(150), mixture)
    e = noise("init", 0, (N,)).to(mixture)
    sources = [alpha_bar.sqrt() * mixture + (1 - alpha_bar).sqrt() * e for _ in range(K)]
    for i, t in enumerate(reversed(range(len(s)))):
        sources = [x.detach().requires_grad_() for x in sources]
        estimates = []
        for x in sources:
            eps = prior(x[None], s.index[t : t + 1].to(mixture.device))[0]
            estimates.append(tweedie(x, eps, t, s, clamp=1.0))
        total = sum(estimates)
        groups = sum(torch.linalg.vector_norm((mixture - total)[n : n + length]) for n in range(0, N, length))
        value = loss.time * loss.time_term(mixture, total) + loss.group * groups + loss.stft * loss.stft_term(mixture, total)
        gradients = torch.autograd.grad(value, sources)
        with torch.no_grad():
            z = noise("step", i, (K, N)).to(mixture) if t else torch.zeros(K, N).to(mixture)
            for k, (x, x0_hat, gradient) in enumerate(zip(sources, estimates, gradients, strict=True)):
                gamma = rule.gamma(s, t, torch.linalg.vector_norm(gradient), N)
                sources[k] = posterior_mean(x, x0_hat, t, s) + s.at(s.sigma, t, x) * z[k] - gamma * gradient
    return torch.stack(sources)


def _applies(form: str, mode: str) -> bool:
    return mode != "forward" or form != "checkpointed"


def _prior(network: TriplePathConfig, form: str) -> NeuralPrior:
    """The same prior in each form."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = PriorConfig(sample_rate=16_000, network=network.replace(zero_init=False)).build().eval()
    prior.requires_grad_(form == "plain")
    if form == "plain":
        for module in prior.modules():
            if isinstance(module, Attention):
                module.attend = explicit_attention
    elif form == "checkpointed":
        prior.net.checkpoint_activations()
    elif form == "compiled":
        prior.net.compile_core()
    return prior


def _work(
    prior: NeuralPrior, form: str, mode: str, batch: int, config: BenchConfig, device: torch.device
) -> Callable[[], Tensor]:
    """One forward prediction of the batch, `STEPS` guided steps, or one step of training."""
    generator = torch.Generator().manual_seed(0)
    K = 1 if batch == 1 else config.sources
    signals = 0.1 * torch.randn(batch, config.samples, generator=generator).to(device)
    schedule = prior.schedule.respace(STEPS)

    def noise(kind: str, i: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(i))

    @torch.no_grad()
    def forward() -> Tensor:
        t = torch.full((batch,), 100, device=device)
        if form == "plain":
            return torch.cat([prior(signals[i : i + 1], t[:1]) for i in range(batch)])
        return prior(signals, t)

    def guided() -> Tensor:
        mixtures = signals.unflatten(0, (-1, K)).sum(1)
        if form == "plain":
            return torch.stack([plain_separate(mixture, prior, K, schedule, noise) for mixture in mixtures])
        return separate(mixtures, prior, [None] * K, schedule, SeparationConfig.authors(), noise).sources

    def training() -> Tensor:
        t = torch.full((batch,), 100, device=device)
        try:
            prior.requires_grad_()
            optimiser = torch.optim.AdamW(prior.parameters())
            loss = denoising_loss(prior, signals, t, signals, prior.schedule).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
            optimiser.step()
            return loss.detach()
        finally:  # where memory did not suffice, too: what is measured next shares the prior
            prior.zero_grad()
            prior.requires_grad_(form == "plain")

    return {"forward": forward, "guided": guided, "training": training}[mode]


def _seconds(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """By the clock, and of all threads of the processor."""
    started, busy = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, time.process_time() - busy


def _peak(work: Callable[[], object], device: torch.device) -> float | None:
    """Most memory that a call takes beyond what was taken before, in bytes; NaN where unknown, None if there was too little."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            work()
        except torch.cuda.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated(device) - before
    try:
        libc = ctypes.CDLL("libc.so.6")
        # Linux: freed tensors go back to the system at once, and the high-water mark starts from what is left.
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except (OSError, AttributeError):
        work()
        return math.nan
    work()
    libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # as large as the system lets it grow by itself
    return _status("VmHWM") - before


def _status(field: str) -> int:
    """A size in bytes from Linux's account of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])
