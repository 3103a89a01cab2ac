"""Separate a recording: any file that libsndfile reads, any rate, channels and length, any priors, any number of sources.

What is decided here, and stated in what is written:

- Several channels: their mean is separated ("mid"), or each channel with the same noise ("each").
- The recording is resampled to the rate of the priors, and the sources back to the recording's. What lies above half the priors'
  rate no source can hold: it is in the residual, which is the recording less the sum of the sources. So is a constant offset.
- The priors know one level. Each window is brought to a peak of 0.95, whatever the preset and whatever other windows hold, and the
  sources go back to its level. A peak that stands far above the rest of its window, as a click does, does not count, and
  goes to the residual (`working_gain`).
- Longer than a window: `separate_long`. Shorter: padded with silence, which is cut off again.
- Sources of one kind, which nothing but chance tells apart, are the result of one run, not the mean of several.
- Clipped recordings are separated as they are, with a warning.
- A stop loses half a minute, or the step at which it stopped if that takes longer: the state of the run lies beside the folder to write until
  that is there, and the same call goes on from it.
- When a run is finished, states of others into the same folder that are older than a day are removed.
- The folder appears whole or not at all, and replaces nothing but the result that was there at the start and may be replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import platform
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from . import _expectation, _forecast, _machine
from . import precision as precisions
from ._console import duration
from ._forecast import Cost
from .data.audio import resample, rms_db
from .data.sound_file import Recording, file_hash, read_recording
from .long_audio import Windows, separate_long
from .priors import NeuralPrior
from .priors.named import NamedPrior, Source, find_sources, load_prior, titles
from .schedule import NoiseSchedule
from .separation import SeparationConfig
from .task import PEAK, RunState

__all__ = [
    "Cost", "Job", "NamedPrior", "Source", "find_sources", "load_prior", "prepare", "titles", "working_gain", "write_sound",
]  # fmt: skip

SHIPPED = ("pocket-speech", "pocket-sound")
PRESETS = ("recommended", "short", "paper", "authors")
FORMATS = {"wav": "FLOAT", "flac": "PCM_24"}
FLAC_CHANNELS = 8
WAV_BYTES = 2**32 - 2**20  # what the header of a WAV file can count, less the header
RESULT = "separation.json"
NAME_BYTES = 200  # of a folder's name, with which the names of its hidden companions stay below the 255 that file systems allow
CREST = 3.0  # peak over what 99 % of samples stay below: of the shipped test mixtures, 1.4 to 2.9
FLOOR = 0.01  # of the loudest window: softer ones are not brought to full level
ABANDONED = 86_400.0  # seconds since a state was written, after which its run is taken to be given up
BROAD = 0.1  # of a recording's power beyond the priors: worth a warning
BUSY = 1.5  # times as long by the clock as in processor time: worth a word
LONG = 30.0  # seconds: a run for which it pays to measure which precision is faster
# Of a checkout; without them the page is a table of sounds that play.
TOOLS = [Path(__file__).resolve().parent.parent / "book" / "_static" / name for name in ("tools.css", "tools.js")]


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
    def signal(self) -> Tensor:
        """What is separated, at the recording's rate: [1, N] or [C, N]."""
        return self.recording.audio

    @property
    def titles(self) -> list[str]:
        """A name for each source; see `titles`."""
        return titles([source.name for source in self.sources])

    def describe(self) -> list[str]:
        """What will be done and what it costs, in a few lines."""
        C, N = self.recording.channels, self.signal.shape[-1]
        count, overlap = len(self.windows.starts(self._length)), self.windows.overlap / self.rate
        form = f"{count} windows of {self.windows.size / self.rate:g} s that overlap by {overlap:g} s, denoised together"
        gradients = " with gradients" if self.config.guidance.needs_gradient else ""
        mode = "" if C == 1 else ", their mean is separated" if self.channels == "mid" else ", each is separated"
        done, steps = self._progress
        left = 1 - done / steps
        busy = f"; the machine is busy, and it may take {self.cost.waiting:.1f} times as long" if self.cost.waiting > BUSY else ""
        return [
            f"{self.path.name}: {N / self.recording.rate:.1f} s, {self.recording.rate} Hz, {C} channel{'s' * (C > 1)}{mode}",
            "sources: " + ", ".join(f"{title} ({s.prior.where})" for title, s in zip(self.titles, self.sources)) + f", {self.rate} Hz",
            f"windows: {form if count > 1 else 'one'}",
            *self.notes,
            *self._expected,
            f"cost: {round(left * self.cost.calls)} network calls{gradients}, about {duration(left * self.cost.seconds)} on {self.device} and "
            f"up to {self.cost.bytes / 1e9:.2g} GB of memory{busy}",
            *[f"goes on after step {done} of {steps} of an earlier run"] * bool(done),
            *(f"warning: {text}" for text in self.warnings),
        ]

    @property
    def _expected(self) -> list[str]:
        """What has been measured for mixtures of these kinds, where the priors are the shipped ones."""
        if self.preset != "recommended" or {s.prior.where for s in self.sources} - set(SHIPPED):
            return []
        return [_expectation.measured([s.prior.where.removeprefix("pocket-") for s in self.sources])]

    @property
    def _length(self) -> int:
        """Samples at the rate of the priors."""
        return _length(self.signal.shape[-1], self.recording.rate, self.rate)

    @property
    def state(self) -> RunState:
        """Where the run keeps its state; another recording, prior, setting or version has another file."""
        from . import __version__

        what = (
            self.recording.sha256, [(s.name, s.label, s.prior.sha256) for s in self.sources], self.config, self.seed, self.channels,
            self.windows, self.rate, self.device, self.precision, __version__, torch.__version__,
        )  # fmt: skip
        mark = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
        return RunState(self.out.with_name(f".{self.out.name}.state-{mark}"))

    @property
    def _progress(self) -> tuple[int, int]:
        """Steps that an earlier run has done, and their number in all."""
        return self.state.steps, _forecast.steps(self.config, self.schedule)

    def run(self, progress: bool = False) -> Path:
        """Separate, and write the folder: whole or not at all. After a stop the same job goes on where it was.

        Returns:
            The folder: `out`, or where something else has appeared there meanwhile, one beside it with a number.

        Raises:
            OSError: it cannot be written.
        """
        partial = self.out.with_name(f".{self.out.name}.writing-{uuid.uuid4().hex[:8]}")
        partial.mkdir(parents=True)  # now: a folder that cannot be written should show before hours of work
        partial.rmdir()  # but is not left behind by one who is killed in them
        started, begun = datetime.now().astimezone(), time.perf_counter()
        y, estimates = self._separate(progress)
        try:
            partial.mkdir()
            self._write(partial, y, estimates, {"started": started.isoformat(timespec="seconds"), "seconds": time.perf_counter() - begun})
            written = self._place(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._forget()
        return written

    def _forget(self) -> None:
        """Remove the state of this run, and those of runs into the same folder with other settings that nobody goes on with."""
        self.state.path.unlink(missing_ok=True)
        beginning = f".{self.out.name}.state-"  # no pattern: names may hold brackets
        for path in self.out.parent.iterdir():
            with contextlib.suppress(OSError):
                if path.name.startswith(beginning) and time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()

    def _place(self, partial: Path) -> Path:
        """Give the finished folder its name. What has appeared there since the start is not ours, and stays."""
        aside = self.out.with_name(f".{self.out.name}.replaced-{uuid.uuid4().hex[:8]}")
        if self.replaces is not None and _report_hash(self.out) == self.replaces:
            self.out.rename(aside)
        for number in range(1, 1000):
            place = self.out if number == 1 else self.out.with_name(f"{self.out.name}-{number}")
            if place.is_file() or place.is_dir() and any(place.iterdir()):
                continue
            try:
                partial.replace(place)  # fails where something has appeared this very moment
            except OSError:
                if not place.exists():
                    raise
                continue
            shutil.rmtree(aside, ignore_errors=True)
            return place
        raise OSError(f"{self.out} and 999 numbered names beside it are taken")

    def _separate(self, progress: bool) -> tuple[Tensor, Tensor]:
        """Mixture [C, n] without its mean and estimates [C, K, n] at the rate of the priors."""
        signal = self.signal - self.signal.mean(-1, keepdim=True)
        y = resample(signal, _fitting_rate(self.recording.rate, self.rate), self.rate)
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
        from .show.result_page import result_page
        from .show.sound import file_name

        names = [*self.titles, "residual"]
        files = {title: f"{file_name(i, title)}.{self.format}" for i, title in enumerate(names, 1)}
        warnings, levels = list(self.warnings), {}

        def write(title: str, audio: Tensor) -> None:
            if self.format == "flac" and (over := int((audio.abs() > 1).sum())):
                warnings.append(f"{over} samples of {title} exceed full scale and are clipped in the FLAC file; WAV holds them")
            levels[title] = float(rms_db(audio.flatten()))
            write_sound(folder / files[title], audio, self.recording.rate, self.format)

        residual, N = self.signal.clone(), self.signal.shape[-1]
        for k, title in enumerate(self.titles):  # one at a time: a long one is large
            audio = resample(estimates[:, k], self.rate, _fitting_rate(self.recording.rate, self.rate))
            audio = nn.functional.pad(audio, (0, max(0, N - audio.shape[-1])))[..., :N]
            residual -= audio
            write(title, audio)
        write("residual", residual)

        # To compare by ear, all tracks must have the same bandwidth: that of the priors.
        heard = {"mixture": y.mean(0)} | dict(zip(self.titles, estimates.mean(0))) | {"residual": (y - estimates.sum(1)).mean(0)}
        sound = player(heard, self.rate, id="separation/tracks", page=folder)
        report = self._report(when, warnings, files, levels)
        tools = [path for path in TOOLS if path.is_file()]
        for path in tools:
            shutil.copyfile(path, folder / "_static" / path.name)
        (folder / "listen.html").write_text(result_page(report, sound._repr_html_(), tools, RESULT), encoding="utf-8")
        (folder / RESULT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def _report(self, when: dict, warnings: list[str], files: dict[str, str], levels: dict[str, float]) -> dict:
        """The content of `separation.json`."""
        from . import __version__

        N = self.signal.shape[-1]
        count = len(self.windows.starts(self._length))
        described = [
            {"source": title, "file": files[title], "level_db": round(levels[title], 1), "label": s.label, "prior": s.prior.where,
             "prior_sha256": s.prior.sha256}
            for title, s in zip(self.titles, self.sources)
        ]  # fmt: skip
        return {
            "file": self.path.name,
            "sha256": self.recording.sha256,
            "seconds_of_sound": round(N / self.recording.rate, 3),
            "sample_rate": self.recording.rate,
            "channels": self.recording.channels,
            "separated": self.channels,
            "sources": described,
            "residual": {"file": files["residual"], "level_db": round(levels["residual"], 1)},
            "priors_rate": self.rate,
            "windows": {"count": count, "seconds": self.windows.size / self.rate, "overlap_seconds": self.windows.overlap / self.rate},
            "preset": self.preset,
            "config": dataclasses.asdict(self.config) | {"guidance": repr(self.config.guidance)},
            "seed": self.seed,
            "network_calls": self.cost.calls,
            "windows_at_once": self.cost.chunk,
            "expected": self._expected,
            "power_above_priors": round(_expectation.power_above(self.signal, self.recording.rate, self.rate / 2), 4),
            "device": self.device,
            "precision": self.precision,
            "threads": torch.get_num_threads(),
            "expected_seconds": round(self.cost.seconds, 1),
            **when,
            "versions": {
                "unasdiff-teach": __version__, "torch": torch.__version__, "soundfile": version("soundfile"),
                "python": platform.python_version(),
            },
            "warnings": warnings,
        }


def working_gain(y: Tensor, windows: Windows) -> Tensor:
    """The gain that brings each window of a signal to the level that the priors know, a peak of 0.95.

    The level of a window is its peak, but at most `CREST` times what 99 % of its samples stay below: a click says nothing
    about the rest. Windows below `FLOOR` of the loudest are raised with it, and no further. From window to window the gain
    in dB fades as the windows do.

    Args:
        y: [C, N].

    Returns:
        [C, N], positive, float64: some samplers are chaotic, and a recording should not sound different at another level.
    """
    N = y.shape[-1]
    levels = []
    for span in windows.spans(N):
        size = y[:, span].abs()
        levels.append(torch.minimum(size.amax(-1), CREST * size.quantile(0.99, -1)))
    level = torch.stack(levels, -1).double()  # [C, W]
    loudest = level.amax(-1, keepdim=True)
    loudest = torch.where(loudest > 0, loudest, y.abs().amax(-1, keepdim=True).double())  # nothing but a click
    logarithm = torch.zeros_like(y, dtype=torch.float64)
    for w, (span, weight) in enumerate(zip(windows.spans(N), windows.fades(N), strict=True)):
        logarithm[:, span] += weight * (level[:, w : w + 1] / loudest).clamp_min(FLOOR).log()
    return PEAK / loudest * torch.exp(-logarithm)


def write_sound(path: Path, audio: Tensor, rate: int, format: str) -> None:
    """Write [C, N] as WAV in floating point, in its 64-bit form where the file exceeds 4 GiB, or as FLAC of 24 bits."""
    import soundfile

    large = format == "wav" and audio.numel() * 4 > WAV_BYTES
    with soundfile.SoundFile(path, "w", rate, len(audio), FORMATS[format], format="RF64" if large else format.upper()) as file:
        for block in audio.split(2**20, -1):
            file.write(block.clamp(-1, 1).T.numpy() if format == "flac" else block.T.numpy())
    _forget_time(path)


def _forget_time(path: Path) -> None:
    """Zero the time that libsndfile writes into the PEAK chunk of a float WAV, so that the same sound is the same file."""
    with open(path, "r+b") as file:
        head = file.read(4096)
        place = head.find(b"PEAK", 0, head.find(b"data"))
        if head[:4] == b"RIFF" and place >= 0:
            file.seek(place + 12)  # after its name, size and version
            file.write(bytes(4))


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

    Raises:
        FileNotFoundError, ValueError, OSError: what does not fit, in one sentence.
        MemoryError: more is needed than is free.
    """
    path = Path(path)
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; accepted are {', '.join(PRESETS)}")
    if channels not in ("mid", "each"):
        raise ValueError(f"channels is {channels!r}; accepted are 'mid' and 'each'")
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; accepted are {', '.join(FORMATS)}")
    if memory is not None and memory <= 0:
        raise ValueError(f"memory is {memory / 1e9:g} GB; more than 0 is needed")
    precision = precisions.canonical(precision, auto=True)
    device = _checked_device(device)
    out = Path(out or f"{_short(path.stem)}-separated").resolve()
    if len(out.name.encode()) > NAME_BYTES:
        raise ValueError(f"the name of the folder {out.name[:40]}... has {len(out.name.encode())} bytes; at most {NAME_BYTES} are possible: shorten --out")
    _check_out(out, overwrite)
    replaces = _report_hash(out)
    rates = {s.name: rate for s in sources if (rate := getattr(s.prior.prior, "sample_rate", None))}
    if len(set(rates.values())) > 1:
        raise ValueError("the priors work at different rates: " + ", ".join(f"{name} at {rate} Hz" for name, rate in rates.items()))
    recording = read_recording(path, channels)
    signals, N = recording.audio.shape
    if format == "flac" and signals > FLAC_CHANNELS:
        raise ValueError(f"a FLAC file holds {FLAC_CHANNELS} channels at most, and {path} has {signals}; use --format wav, or --channels mid")
    warnings = list(recording.warnings)
    rate = next(iter(rates.values()), recording.rate)
    if (used := _fitting_rate(recording.rate, rate)) != recording.rate:
        warnings.append(f"{recording.rate} Hz is taken for {used} Hz while the sound is resampled to {rate} Hz")
    windows = _windows(window, overlap, rate)
    above = _expectation.power_above(recording.audio, recording.rate, rate / 2)
    if above > BROAD:
        warnings.append(f"{above:.0%} of the recording's power lies above {rate / 2:g} Hz, which these priors do not know: it goes to the residual")
    if (free := shutil.disk_usage(_existing(out)).free) < (needed := _bytes_written(recording.audio, len(sources), rate, recording.rate)):
        raise OSError(f"{needed / 1e6:.0f} MB are to be written to {out}, and {free / 1e6:.0f} MB are free")

    # `working_gain` has brought each window to its level; to do it again for the whole would undo it.
    config = getattr(SeparationConfig, preset)().replace(normalize="none")
    if config.hypotheses > 1 and len({(id(s.prior.prior), s.label) for s in sources}) < len(sources):
        # Each run may return them in another order, and a mean over orders is no source.
        warnings.append(f"sources of one kind may change places: the result is one run, not the mean of {config.hypotheses}")
        config = config.replace(hypotheses=1)
    schedule = sources[0].prior.prior.schedule
    for prior in {id(s.prior.prior): s.prior.prior for s in sources}.values():
        if isinstance(prior, nn.Module):
            prior.to(device)

    def job(precision: str, cost: Cost, *notes: str) -> Job:
        return Job(
            path, recording, tuple(sources), out, replaces, config, preset, seed, channels, windows, rate, schedule, device, format, precision,
            cost, notes, tuple(warnings),
        )  # fmt: skip

    def cost(precision: str) -> Cost:
        return _forecast.cost(sources, config, schedule, windows, _length(N, recording.rate, rate), signals, memory or _forecast.MEMORY, device, precision)

    # A run that has begun goes on in the precision in which it began.
    begun = [p for p in precisions.PRECISIONS if job(p, Cost(0, 0, 0, 0)).state.steps]
    notes: list[str] = []
    if precision == precisions.AUTO and begun:
        precision = begun[0]
        notes.append(f"precision: {precision}, as the run began")
    compiled = _forecast.compile_networks(compile, sources, device, config, schedule, windows, _length(N, recording.rate, rate) * signals, notes)
    if precision == precisions.AUTO:
        found = cost("float32")
        if found.seconds > LONG or compiled:
            choice = precisions.choose(precision, device, *_forecast.trial(sources[0], windows.size, config, schedule, device))
            precision = choice.precision
            notes.append(f"precision: {choice.why}")
        else:
            precision = "float32"
    else:
        precisions.check(precision, device)
        found = None
    if found is None or precision != "float32":
        found = cost(precision)
    if found.bytes > (free := _machine.free_memory(device)):
        raise MemoryError(
            f"about {found.bytes / 1e9:.2g} GB of memory are needed, and {free / 1e9:.2g} GB are free: separate the recording in parts, "
            "or its mean (--channels mid)"
        )
    return job(precision, found, *notes)


def _short(stem: str) -> str:
    """A file's name without its ending, cut to what a folder's name can hold."""
    return stem.encode()[: NAME_BYTES - len("-separated")].decode(errors="ignore")


def _checked_device(device: str) -> str:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device is {device!r}; there is no such device here. Accepted: cpu, and cuda or mps where there is one") from None
    return device


def _windows(window: float | None, overlap: float | None, rate: int) -> Windows:
    """Windows in samples, of lengths in seconds."""
    window = (2.0 if rate <= 8000 else 4.0) if window is None else window
    overlap = window / 4 if overlap is None else overlap
    if round(window * rate) < 1:
        raise ValueError(f"window is {window:g} s; more than 0 is needed")
    if not 0 <= round(overlap * rate) <= round(window * rate) // 2:
        raise ValueError(f"overlap is {overlap:g} s; accepted is 0 to half the window, {window / 2:g} s")
    return Windows(round(window * rate), round(overlap * rate))


def _fitting_rate(rate: int, target: int) -> int:
    """`rate`, or a multiple of 25 Hz near it where the two have so little in common that their resampling would never end."""
    return rate if target // math.gcd(rate, target) <= 1000 else 25 * round(rate / 25)


def _length(N: int, rate: int, target: int) -> int:
    return math.ceil(N * target / _fitting_rate(rate, target))


def _bytes_written(audio: Tensor, K: int, rate: int, file_rate: int) -> int:
    """Sources and residual, and 16-bit sounds of the page, at most."""
    C, N = audio.shape
    return (K + 1) * 4 * N * C + (K + 2) * 2 * round(N * rate / file_rate) + 1_000_000


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse to lose anything but an earlier result that may be replaced."""
    if out.is_file():
        raise ValueError(f"{out} is a file; --out names a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / RESULT).is_file():
        raise ValueError(f"the folder {out} holds something else; name another with --out")
    if not overwrite:
        raise ValueError(f"{out} holds an earlier result; name another folder with --out, or add --overwrite")
    try:
        report = json.loads((out / RESULT).read_text(encoding="utf-8"))
        own = {RESULT, "listen.html", "_static", report["residual"]["file"], *(source["file"] for source in report["sources"])}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{out / RESULT} is damaged, so that nothing says what belongs to the result; move the folder, or name another with --out") from None
    if strangers := sorted(entry.name for entry in out.iterdir() if entry.name not in own):
        raise ValueError(f"{out} holds {', '.join(strangers)} beside an earlier result; move it, or name another folder with --out")


def _report_hash(out: Path) -> str | None:
    """What tells one earlier result from another."""
    return file_hash(out / RESULT) if (out / RESULT).is_file() else None
