"""Separate a recording: any file that libsndfile reads, any rate, channels and length, any priors, any number of
sources.

What is decided here, and stated in what is written:

- Several channels: their mean is separated ("mid"), or each channel with the same noise ("each").
- The recording is resampled to the rate of the priors, and the sources back to the recording's. What lies above half
  the priors' rate no source can hold: it is in the residual, which is the recording less the sum of the sources. So is
  a constant offset.
- The priors know one level. Each window is brought to a peak of 0.95, whatever the preset and whatever other windows
  hold, and the sources go back to its level. A peak that stands far above the rest of its window, as a click does,
  does not count, and goes to the residual (`working_gain`).
- Longer than a window: `separate_long`. Shorter: padded with silence, which is cut off again.
- Sources of one kind, which nothing but chance tells apart, are the result of one run, not the mean of several.
- Clipped recordings are separated as they are, with a warning.
- A stop loses half a minute, or the step at which it stopped if that takes longer: the state of the run lies beside
  the folder to write until that is there, and the same call goes on from it.
- When a run is finished, states of others into the same folder that are older than a day are removed.
- The folder appears whole or not at all, and replaces nothing but the result that was there at the start and may be
  replaced.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from . import _expectation, _forecast, _machine, _result
from . import precision as precisions
from ._checks import one_of
from ._console import duration
from ._files import write_json
from ._forecast import Cost
from .data.audio import fitting_rate, resample, resampled_length
from .data.sound_file import FLAC_CHANNELS, FORMATS, Recording, read_recording, write_sound
from .long_audio import Windows, separate_long, working_gain
from .priors import NeuralPrior
from .priors.named import NamedPrior, Source, find_sources, load_prior, titles
from .schedule import NoiseSchedule
from .separation import SeparationConfig
from .task import RunState

__all__ = [
    "Cost", "Job", "NamedPrior", "Source", "find_sources", "load_prior", "prepare", "titles", "working_gain",
    "write_sound",
]  # fmt: skip

PRESETS = ("recommended", "short", "paper", "authors")
BROAD = 0.1  # of a recording's power beyond the priors: worth a warning
LONG = 30.0  # seconds: a run for which it pays to measure which precision is faster
BUSY = 1.5  # times as long by the clock as in processor time: worth a word


@dataclass(frozen=True)
class Job:
    """A separation that is ready to start; `prepare` makes one.

    Attributes:
        path: of the recording.
        recording: what was read; its audio is what is separated, [1, N] or [C, N] at the recording's rate.
        sources: K of them.
        out: folder to write.
        replaces: hash of the report of an earlier result at `out`, which may be replaced; None where there was none.
        config, preset, seed: of `separate`; the preset's name.
        channels: "mid" or "each".
        windows: in samples of `rate`.
        rate: of the priors, Hz.
        schedule: that the priors were trained on.
        device, format: "cpu" and the like; "wav" or "flac".
        precision: of the priors' products, "float32" or "bfloat16".
        cost: measured beforehand, of the whole run.
        notes: how it will be computed, in words.
        warnings: in words.
    """

    path: Path
    recording: Recording
    sources: tuple[Source, ...]
    out: Path
    replaces: str | None
    config: SeparationConfig
    preset: str
    seed: int
    channels: str
    windows: Windows
    rate: int
    schedule: NoiseSchedule
    device: str
    format: str
    precision: str
    cost: Cost
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def titles(self) -> list[str]:
        """A name for each source; see `titles`."""
        return titles([source.name for source in self.sources])

    def describe(self) -> list[str]:
        """What will be done and what it costs, in a few lines."""
        C, N = self.recording.channels, self.recording.audio.shape[-1]
        count, overlap = len(self.windows.starts(self._length)), self.windows.overlap / self.rate
        size = self.windows.size / self.rate
        form = f"{count} windows of {size:g} s that overlap by {overlap:g} s, denoised together"
        gradients = " with gradients" if self.config.guidance.needs_gradient else ""
        mode = "" if C == 1 else ", their mean is separated" if self.channels == "mid" else ", each is separated"
        done, steps = self._progress
        left = 1 - done / steps
        waiting = self.cost.waiting
        busy = f"; the machine is busy, and it may take {waiting:.1f} times as long" if waiting > BUSY else ""
        return [
            (
                f"{self.path.name}: {N / self.recording.rate:.1f} s, {self.recording.rate} Hz, {C}"
                f" channel{'s' * (C > 1)}{mode}"
            ),
            "sources: "
            + ", ".join(f"{title} ({s.prior.where})" for title, s in zip(self.titles, self.sources))
            + f", {self.rate} Hz",
            f"windows: {form if count > 1 else 'one'}",
            *self.notes,
            *_expectation.expected(self.preset, [(s.prior.where, s.label) for s in self.sources]),
            (
                f"cost: {round(left * self.cost.calls)} network calls{gradients}, about"
                f" {duration(left * self.cost.seconds)} on {self.device} and up to {self.cost.bytes / 1e9:.2g} GB of"
                f" memory{busy}"
            ),
            *[f"goes on after step {done} of {steps} of an earlier run"] * bool(done),
            *(f"warning: {text}" for text in self.warnings),
        ]

    @property
    def _length(self) -> int:
        """Samples at the rate of the priors."""
        return resampled_length(self.recording.audio.shape[-1], self.recording.rate, self.rate)

    @property
    def state(self) -> RunState:
        """Where the run keeps its state; another recording, prior, setting or version has another file."""
        from . import __version__

        what = (
            self.recording.sha256, [(s.name, s.label, s.prior.sha256) for s in self.sources], self.config, self.seed,
            self.channels, self.windows, self.rate, self.device, self.precision, __version__, torch.__version__,
        )  # fmt: skip
        mark = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
        return RunState(self.out.with_name(f".{self.out.name}.state-{mark}"))

    @property
    def _progress(self) -> tuple[int, int]:
        """Steps that an earlier run has done, and their number in all."""
        return self.state.steps, self.config.run_length(self.schedule)

    def run(self, progress: bool = False) -> Path:
        """Separate, and write the folder: whole or not at all. After a stop the same job goes on where it was.

        Returns:
            The folder: `out`, or where something else has appeared there meanwhile, one beside it with a number.

        Raises:
            OSError: it cannot be written.
        """
        partial = _result.companion(self.out, "writing")
        partial.mkdir(parents=True)  # now: a folder that cannot be written should show before hours of work
        partial.rmdir()  # but is not left behind by one who is killed in them
        started, begun = datetime.now().astimezone(), time.perf_counter()
        y, estimates = self._separate(progress)
        try:
            partial.mkdir()
            when = {"started": started.isoformat(timespec="seconds"), "seconds": time.perf_counter() - begun}
            self._write(partial, y, estimates, when)
            written = _result.place(partial, self.out, self.replaces)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _result.forget_states(self.out, self.state.path)
        return written

    def _separate(self, progress: bool) -> tuple[Tensor, Tensor]:
        """Mixture [C, n] without its mean and estimates [C, K, n] at the rate of the priors."""
        signal = self.recording.audio - self.recording.audio.mean(-1, keepdim=True)
        y = resample(signal, fitting_rate(self.recording.rate, self.rate), self.rate)
        del signal
        gain = working_gain(y, self.windows)
        for source in self.sources:
            if isinstance(source.prior.prior, NeuralPrior):
                source.prior.prior.for_inference(precisions.PRECISIONS[self.precision])
        with precisions.autocast(self.device, self.precision):
            result = separate_long(
                (gain * y).clamp(-1, 1).float().to(self.device),
                [source.prior.prior for source in self.sources],
                [source.label for source in self.sources],
                self.windows,
                self.config,
                self.cost.chunk,
                schedule=self.schedule,
                noise=[self.seed] * len(y),  # the same noise for all channels, or they would drift apart
                progress=progress,
                state=self.state,
            )
        return y, result.sources.cpu().div_(gain.float()[:, None])

    def _write(self, folder: Path, y: Tensor, estimates: Tensor, when: dict) -> None:
        from .show.players import player
        from .show.result_page import TOOLS, result_page

        def sounds() -> Iterator[tuple[str, Tensor]]:  # one at a time: a long one is large
            residual, N = self.recording.audio.clone(), self.recording.audio.shape[-1]
            for k, title in enumerate(self.titles):
                audio = resample(estimates[:, k], self.rate, fitting_rate(self.recording.rate, self.rate))
                audio = nn.functional.pad(audio, (0, max(0, N - audio.shape[-1])))[..., :N]
                residual -= audio
                yield title, audio
            yield "residual", residual

        written, warnings = _result.write_sounds(folder, sounds(), self.recording.rate, self.format)
        # To compare by ear, all tracks must have the same bandwidth: that of the priors.
        heard = {"mixture": y.mean(0)} | dict(zip(self.titles, estimates.mean(0)))
        heard["residual"] = (y - estimates.sum(1)).mean(0)
        sound = player(heard, self.rate, id=_result.PLAYER, page=folder)
        report = self._report(when, [*self.warnings, *warnings], written)
        for path in TOOLS:
            shutil.copyfile(path, folder / "_static" / path.name)
        (folder / "listen.html").write_text(result_page(report, sound._repr_html_(), _result.REPORT), encoding="utf-8")
        write_json(folder / _result.REPORT, report)

    def _report(self, when: dict, warnings: list[str], written: dict[str, dict]) -> dict:
        """The content of `separation.json`."""
        from . import __version__

        audio, windows = self.recording.audio, self.windows
        sources = [
            {"source": title, **written[title], "label": s.label, "prior": s.prior.where,
             "prior_sha256": s.prior.sha256}
            for title, s in zip(self.titles, self.sources)
        ]  # fmt: skip
        return {
            "file": self.path.name, "sha256": self.recording.sha256,
            "seconds_of_sound": round(audio.shape[-1] / self.recording.rate, 3), "sample_rate": self.recording.rate,
            "channels": self.recording.channels, "separated": self.channels, "sources": sources,
            "residual": written["residual"], "priors_rate": self.rate,
            "windows": {"count": len(windows.starts(self._length)), "seconds": windows.size / self.rate,
                        "overlap_seconds": windows.overlap / self.rate},
            "preset": self.preset, "config": dataclasses.asdict(self.config) | {"guidance": repr(self.config.guidance)},
            "seed": self.seed, "network_calls": self.cost.calls, "windows_at_once": self.cost.chunk,
            "expected": _expectation.expected(self.preset, [(s.prior.where, s.label) for s in self.sources]),
            "power_above_priors": round(_expectation.power_above(audio, self.recording.rate, self.rate / 2), 4),
            "device": self.device, "precision": self.precision, "threads": torch.get_num_threads(),
            "expected_seconds": round(self.cost.seconds, 1), **when,
            "versions": {"unasdiff-teach": __version__, "torch": torch.__version__, "soundfile": version("soundfile"),
                         "python": platform.python_version()},
            "warnings": warnings,
        }  # fmt: skip


def prepare(
    path: str | Path,
    sources: Sequence[Source],
    out: str | Path | None = None,
    preset: str = "recommended",
    seed: int = 0,
    channels: Literal["mid", "each"] = "mid",
    window: float | None = None,
    overlap: float | None = None,
    memory: float | None = None,
    device: str = "cpu",
    format: Literal["wav", "flac"] = "wav",
    overwrite: bool = False,
    precision: str = "float32",
    compile: bool | None = None,
    runs: int | None = None,
) -> Job:
    """Check everything, and time one pass of each prior: a job that can start.

    Args:
        path: of the recording.
        sources: from `find_sources`.
        out: folder to write; by default NAME-separated in the current folder.
        preset: "recommended", "short", "paper" or "authors", of `SeparationConfig`.
        seed: of all noise.
        channels: what to do with more than one.
        window: seconds; by default 2 s for priors of up to 8 kHz, and 4 s above, as in the book and in the paper.
        overlap: seconds that neighbouring windows share; by default a quarter of the window.
        memory: bytes that the priors may take for their gradients; by default 2 GB.
        device: "cpu", "cuda", "mps".
        format: "wav", 32-bit floating point, or "flac", 24 bits.
        overwrite: replace an earlier result.
        precision: of the priors' products: "float32", "bfloat16", or "auto", the faster one for a long run.
        compile: the priors' networks; None compiles them for long runs on a GPU.
        runs: whose mean is the result; None leaves the preset's number. More take longer, and separate a little better.

    Raises:
        FileNotFoundError, ValueError, OSError: what does not fit, in one sentence.
        MemoryError: more is needed than is free.
    """
    path = Path(path)
    one_of("preset", preset, PRESETS)
    one_of("channels", channels, ("mid", "each"))
    one_of("format", format, tuple(FORMATS))
    if memory is not None and memory <= 0:
        raise ValueError(f"memory is {memory / 1e9:g} GB; more than 0 is needed")
    precision = precisions.canonical(precision, auto=True)
    _machine.check_device(device)
    out, replaces = _result.result_folder(out, path, overwrite)
    rates = {s.name: rate for s in sources if (rate := getattr(s.prior.prior, "sample_rate", None))}
    if len(set(rates.values())) > 1:
        raise ValueError(
            "the priors work at different rates: " + ", ".join(f"{name} at {rate} Hz" for name, rate in rates.items())
        )
    recording = read_recording(path, channels)
    signals, N = recording.audio.shape
    if format == "flac" and signals > FLAC_CHANNELS:
        raise ValueError(
            f"a FLAC file holds {FLAC_CHANNELS} channels at most, and {path} has {signals}; use --format wav, or"
            " --channels mid"
        )
    warnings = [*recording.warnings, *_expectation.far_from_full_scale(recording.audio)]
    rate = next(iter(rates.values()), recording.rate)
    if (used := fitting_rate(recording.rate, rate)) != recording.rate:
        warnings.append(f"{recording.rate} Hz is taken for {used} Hz while the sound is resampled to {rate} Hz")
    length = resampled_length(N, recording.rate, rate)
    windows = Windows.of_seconds((2.0 if rate <= 8000 else 4.0) if window is None else window, overlap, rate)
    above = _expectation.power_above(recording.audio, recording.rate, rate / 2)
    if above > BROAD:
        warnings.append(
            f"{above:.0%} of the recording's power lies above {rate / 2:g} Hz, which these priors do not know: it goes"
            " to the residual"
        )
    needed, free = _result.bytes_written(len(sources), recording.audio.numel(), length), _machine.free_disk(out)
    if free < needed:
        raise OSError(f"{needed / 1e6:.0f} MB are to be written to {out}, and {free / 1e6:.0f} MB are free")

    warnings += _expectation.few_recordings([(s.prior.where, s.label) for s in sources])
    kinds = {(id(s.prior.prior), s.label) for s in sources}
    config = getattr(SeparationConfig, preset)()
    if preset == "recommended":
        config = SeparationConfig.recommended(alike=len(kinds) == 1 < len(sources))
    # `working_gain` has brought each window to its level; to do it again for the whole would undo it.
    config = config.replace(normalize="none", hypotheses=config.hypotheses if runs is None else runs)
    if config.hypotheses > 1 and len(kinds) < len(sources) and length > windows.size:
        # Runs are averaged in one order each, and over several windows it may change within a run.
        warnings.append(
            f"sources of one kind may change places: the result is one run, not the mean of {config.hypotheses}"
        )
        config = config.replace(hypotheses=1)
    schedule = sources[0].prior.prior.schedule
    for prior in {id(s.prior.prior): s.prior.prior for s in sources}.values():
        if isinstance(prior, nn.Module):
            prior.to(device)

    def job(precision: str, cost: Cost, *notes: str) -> Job:
        return Job(
            path, recording, tuple(sources), out, replaces, config, preset, seed, channels, windows, rate, schedule,
            device, format, precision, cost, notes, tuple(warnings),
        )  # fmt: skip

    forecast = _forecast.Forecast(tuple(sources), config, schedule, windows, length, signals, device)
    memory = memory or _forecast.MEMORY

    # A run that has begun goes on in the precision in which it began.
    begun = [p for p in precisions.PRECISIONS if job(p, Cost(0, 0, 0, 0)).state.steps]
    notes: list[str] = []
    if precision == precisions.AUTO and begun:
        precision = begun[0]
        notes.append(f"precision: {precision}, as the run began")
    compiled, line = forecast.compile_networks(compile)
    notes += [line] * bool(line)
    found = None
    if precision == precisions.AUTO:
        precision, found = "float32", forecast.cost(memory, "float32")
        if found.seconds > LONG or compiled:
            choice = precisions.choose(precisions.AUTO, device, *forecast.trial())
            precision, found = choice.precision, found if choice.precision == "float32" else None
            notes.append(f"precision: {choice.why}")
    else:
        precisions.check(precision, device)
    found = found or forecast.cost(memory, precision)
    if found.bytes > (free := _machine.free_memory(device)):
        less = ["separate the recording in parts"]
        less += ["or its mean (--channels mid)"] * (signals > 1) + ["or take one run (--runs 1)"] * (
            config.hypotheses > 1
        )
        needed = f"about {found.bytes / 1e9:.2g} GB of memory are needed, and {free / 1e9:.2g} GB are free"
        raise MemoryError(f"{needed}: {', '.join(less)}")
    return job(precision, found, *notes)
