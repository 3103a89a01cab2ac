"""Separate a recording: any file that libsndfile reads, any rate, channels and length, any priors, any number of sources.

What is decided here, and stated in what is written:

- Several channels: their mean is separated ("mid"), or each channel with the same noise ("each").
- The recording is resampled to the rate of the priors, and the sources back to the recording's. What lies above half the priors'
  rate no source can hold: it is in the residual, which is the recording less the sum of the sources.
- Its level says nothing, so it is brought to a peak of 0.95 whatever the preset, and the sources go back to its level.
- Longer than a window: `separate_long`. Shorter: padded with silence, which is cut off again.
- Sources of one kind, which nothing but chance tells apart, are the result of one run, not the mean of several.
- Clipped recordings are separated as they are, with a warning.
- A stop loses half a minute: the state of the run lies beside the folder to write until that is there, and the same call goes on from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import platform
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ._console import duration
from .data.audio import SILENCE_DB, resample, rms_db
from .diffusion import Prior
from .long_audio import Windows, separate_long, shift_at
from .priors import from_authors_checkpoint, from_undiff_checkpoint, read
from .priors.shipped import WEIGHTS, available
from .schedule import NoiseSchedule
from .separation import Label, SeparationConfig
from .task import RunState

SHIPPED = ("pocket-speech", "pocket-sound")
PRESETS = ("recommended", "short", "paper", "authors")
FORMATS = {"wav": "FLOAT", "flac": "PCM_24"}
RESULT = "separation.json"
SHORTEST = 0.1  # seconds: less holds nothing that a prior could know
SILENT_DB = -90.0
MEMORY = 2e9  # bytes for what the priors remember for the gradient
STATE = 200  # bytes for each sample of each source and run: states, noise, spectra
READERS = {".safetensors": read, ".pt": from_authors_checkpoint, ".pth": from_authors_checkpoint, ".ckpt": from_undiff_checkpoint}
# Of a checkout; without them the page is a table of sounds that play.
TOOLS = [Path(__file__).resolve().parent.parent / "book" / "_static" / name for name in ("tools.css", "tools.js")]


# ----------------------------------------------------------------------------------------------- priors, sources


@dataclass(frozen=True)
class NamedPrior:
    """A prior and what a source is called that it models as a whole.

    Attributes:
        prior: see `Prior`.
        name: of its unconditional class; "" if only its labels can be asked for.
        where: it came from.
        sha256: of its file.
    """

    prior: Prior
    name: str
    where: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Source:
    """One source of a separation: its name, its prior, and the label that the prior is told."""

    name: str
    prior: NamedPrior
    label: Label


def load_prior(spec: str) -> NamedPrior:
    """The prior that [NAME=]WHERE means.

    WHERE is the name of a shipped prior; a .safetensors file, or a folder of a training, from which prior.safetensors is
    taken, or the newest milestone of one that goes on; a checkpoint of the paper's authors (.pt, .pth) or of UnDiff (.ckpt). NAME is what its unconditional
    class is called; a prior without classes is called "speech" otherwise.

    Raises:
        FileNotFoundError: there is nothing at WHERE.
        ValueError: what is there is no prior.
    """
    name, equals, where = spec.partition("=")
    if not equals:
        name, where = "", spec
    path = WEIGHTS / f"{where}.safetensors" if where in available() else Path(where).expanduser()
    if path.is_dir():
        done = path / "prior.safetensors"
        files = [done] if done.is_file() else sorted(path.glob("*.safetensors"), key=lambda file: (file.stat().st_mtime, file.name))
        if not files:
            raise FileNotFoundError(f"no .safetensors file in the folder {path}")
        path = files[-1]
    if not path.is_file():
        raise FileNotFoundError(f"no prior at {where!r}; shipped are {', '.join(available())}")
    if path.suffix not in READERS:
        raise ValueError(f"prior {path} ends in {path.suffix!r}; accepted are {', '.join(READERS)}")
    prior = READERS[path.suffix](path)
    return NamedPrior(prior, name or ("" if prior.labels else "speech"), where, _sha256(path))


def find_sources(names: Sequence[str], priors: Sequence[NamedPrior]) -> list[Source]:
    """The prior and the label of each name; the first prior that knows it. Case and the signs - and _ do not matter.

    Raises:
        ValueError: fewer than two names, or one that no prior knows.
    """
    known: dict[str, Source] = {}
    for prior in priors:
        labels: dict[str, Label] = {prior.name: None} if prior.name else {}
        for name, label in (labels | {label: label for label in prior.prior.labels}).items():
            known.setdefault(_plain(name), Source(name, prior, label))
    for name in names:
        if _plain(name) not in known:
            close = difflib.get_close_matches(_plain(name), known, 1)
            hint = f" (did you mean {known[close[0]].name!r}?)" if close else ""
            raise ValueError(f"no prior knows the source {name!r}{hint}; known are {', '.join(s.name for s in known.values())}")
    if len(names) < 2:
        raise ValueError(f"{len(names)} source{'s' * (len(names) != 1)}; a separation needs at least two")
    return [known[_plain(name)] for name in names]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip()).casefold()


# ----------------------------------------------------------------------------------------------------- recording


@dataclass(frozen=True)
class Recording:
    """What a file holds: float32 [C, N], full scale at 1; its rate in Hz; the file's hash; what is odd about it, in words."""

    audio: Tensor
    rate: int
    sha256: str
    warnings: tuple[str, ...] = ()


def read_recording(path: str | Path) -> Recording:
    """Read and examine a recording.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, is empty, too short or silent, or holds NaN or infinite samples.
    """
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a sound file is needed")
    if not path.is_file():
        raise FileNotFoundError(f"no sound file at {path}")
    try:
        header = soundfile.info(path, verbose=True)
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sha256 = _sha256(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as sound: {error}") from error
    audio, warnings = torch.from_numpy(samples).T.contiguous(), []
    C, N = audio.shape
    if N < SHORTEST * rate:
        raise ValueError(f"{path} holds {N / rate:.3f} s of sound; at least {SHORTEST} s are needed")
    if bad := int((~torch.isfinite(audio)).sum()):
        raise ValueError(f"{path} holds {bad} NaN or infinite samples")
    if float(rms_db(audio.flatten())) < SILENT_DB:
        raise ValueError(f"{path} is silent: its level is below {SILENT_DB:g} dB")
    if N < header.frames - SHORTEST * rate or "should be" in header.extra_info:  # libsndfile's words
        warnings.append(f"the file's header promises another length; the {N / rate:.2f} s that are there are separated")
    if clipped := _clipped(audio):
        warnings.append(f"{clipped} samples ({100 * clipped / audio.numel():.2g} %) look clipped; they are separated as they are")
    return Recording(audio, rate, sha256, tuple(warnings))


def _clipped(audio: Tensor) -> int:
    """Samples in runs of three and more that stand at the peak of their channel."""
    at_peak = audio.abs() >= 0.9999 * audio.abs().amax(-1, keepdim=True)
    runs = at_peak.unfold(-1, 3, 1).all(-1)
    inside = torch.zeros_like(at_peak)
    for shift in range(3):
        inside[:, shift : shift + runs.shape[-1]] |= runs
    return int((inside & (audio != 0)).sum())


def _fitting_rate(rate: int, target: int) -> int:
    """`rate`, or a multiple of 25 Hz near it where the two have so little in common that their resampling would never end."""
    return rate if target // math.gcd(rate, target) <= 1000 else 25 * round(rate / 25)


# ------------------------------------------------------------------------------------------------------ job, cost


@dataclass(frozen=True)
class Cost:
    """What a separation takes, measured by one window: network calls and seconds, nearly; bytes at most; `chunk` windows at once."""

    calls: int
    seconds: float
    bytes: float
    chunk: int


@dataclass(frozen=True)
class Job:
    """A separation that is ready to start; `prepare` makes one.

    Attributes:
        path: of the recording.
        recording: what was read.
        sources: K of them.
        out: folder to write.
        config, preset, seed: of `separate`; the preset's name.
        channels: "mid" or "each".
        windows: in samples of `rate`.
        rate: of the priors, Hz.
        schedule: that the priors were trained on.
        device, format: "cpu" and the like; "wav" or "flac".
        cost: measured beforehand.
        warnings: in words.
    """

    path: Path
    recording: Recording
    sources: tuple[Source, ...]
    out: Path
    config: SeparationConfig
    preset: str
    seed: int
    channels: str
    windows: Windows
    rate: int
    schedule: NoiseSchedule
    device: str
    format: str
    cost: Cost
    warnings: tuple[str, ...]

    @property
    def signal(self) -> Tensor:
        """What is separated, at the recording's rate: [1, N] or [C, N]."""
        audio = self.recording.audio
        return audio.mean(0, keepdim=True) if self.channels == "mid" else audio

    @property
    def titles(self) -> list[str]:
        """A name for each source, numbered where two are of one kind."""
        names = [source.name for source in self.sources]
        return [f"{name} {names[: k + 1].count(name)}" if names.count(name) > 1 else name for k, name in enumerate(names)]

    def describe(self) -> list[str]:
        """What will be done and what it costs, in a few lines."""
        C, N = self.recording.audio.shape
        count, overlap = len(self.windows.starts(self._length)), self.windows.overlap / self.rate
        form = f"{count} windows of {self.windows.size / self.rate:g} s that overlap by {overlap:g} s, denoised together"
        gradients = " with gradients" if _by_gradient(self.config) else ""
        mode = "" if C == 1 else ", their mean is separated" if self.channels == "mid" else ", each is separated"
        return [
            f"{self.path.name}: {N / self.recording.rate:.1f} s, {self.recording.rate} Hz, {C} channel{'s' * (C > 1)}{mode}",
            "sources: " + ", ".join(f"{title} ({s.prior.where})" for title, s in zip(self.titles, self.sources)) + f", {self.rate} Hz",
            f"windows: {form if count > 1 else 'one'}",
            f"cost: {self.cost.calls} network calls{gradients}, about {duration(self.cost.seconds)} on {self.device} and "
            f"up to {self.cost.bytes / 1e9:.1f} GB of memory",
            *[f"goes on after step {self.state.steps} of an earlier run"] * bool(self.state.steps),
            *(f"warning: {text}" for text in self.warnings),
        ]

    @property
    def _length(self) -> int:
        """Samples at the rate of the priors."""
        return _length(self.recording.audio.shape[-1], self.recording.rate, self.rate)

    @property
    def state(self) -> RunState:
        """Where the run keeps its state; another recording, prior, setting or version has another file."""
        from . import __version__

        what = (
            self.recording.sha256, [(s.name, s.label, s.prior.sha256) for s in self.sources], self.config, self.seed, self.channels,
            self.windows, self.rate, self.device, __version__, torch.__version__,
        )  # fmt: skip
        mark = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
        return RunState(self.out.with_name(f".{self.out.name}.state-{mark}"))

    def run(self, progress: bool = False) -> Path:
        """Separate, and write the folder `out`: whole or not at all. After a stop the same job goes on where it was.

        Raises:
            OSError: it cannot be written.
        """
        partial = self.out.with_name(f".{self.out.name}.writing-{uuid.uuid4().hex}")
        try:
            partial.mkdir(parents=True)  # now: a folder that cannot be written should show before hours of work
            started, begun = datetime.now().astimezone(), time.perf_counter()
            y, estimates = self._separate(progress)
            self._write(partial, y, estimates, {"started": started.isoformat(timespec="seconds"), "seconds": time.perf_counter() - begun})
            if self.out.is_dir():
                shutil.rmtree(self.out)  # empty, or an earlier result: see `_check_out`
            partial.replace(self.out)
            self.state.path.unlink(missing_ok=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return self.out

    def _separate(self, progress: bool) -> tuple[Tensor, Tensor]:
        """Mixture [C, n] and estimates [C, K, n] at the rate of the priors."""
        y = resample(self.signal, _fitting_rate(self.recording.rate, self.rate), self.rate)
        result = separate_long(
            y.to(self.device),
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
        return y, result.sources.cpu()

    def _write(self, folder: Path, y: Tensor, estimates: Tensor, when: dict) -> None:
        import soundfile

        from .show import player
        from .show.sound import file_name

        N, titles = self.signal.shape[-1], self.titles
        sources = resample(estimates, self.rate, _fitting_rate(self.recording.rate, self.rate))
        sources = nn.functional.pad(sources, (0, max(0, N - sources.shape[-1])))[..., :N].transpose(0, 1)  # [K, C, N]
        tracks = dict(zip(titles, sources)) | {"residual": self.signal - sources.sum(0)}
        files = {title: f"{file_name(i, title)}.{self.format}" for i, title in enumerate(tracks, 1)}
        warnings = list(self.warnings)
        for title, audio in tracks.items():
            if self.format == "flac" and (over := int((audio.abs() > 1).sum())):
                warnings.append(f"{over} samples of {title} exceed full scale and are clipped in the FLAC file; WAV holds them")
                audio = audio.clamp(-1, 1)
            soundfile.write(folder / files[title], audio.T.numpy(), self.recording.rate, subtype=FORMATS[self.format])

        # To compare by ear, all tracks must have the same bandwidth: that of the priors.
        heard = {"mixture": y.mean(0)} | dict(zip(titles, estimates.mean(0))) | {"residual": (y - estimates.sum(1)).mean(0)}
        sound = player(heard, self.rate, id="separation/tracks", page=folder)
        report = self._report(when, warnings, files, {title: float(rms_db(audio.flatten())) for title, audio in tracks.items()})
        tools = [path for path in TOOLS if path.is_file()]
        for path in tools:
            shutil.copyfile(path, folder / "_static" / path.name)
        (folder / "listen.html").write_text(_page(report, sound._repr_html_(), tools), encoding="utf-8")
        (folder / RESULT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def _report(self, when: dict, warnings: list[str], files: dict[str, str], levels: dict[str, float]) -> dict:
        """The content of `separation.json`."""
        from . import __version__

        C, N = self.recording.audio.shape
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
            "channels": C,
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
            "device": self.device,
            "expected_seconds": round(self.cost.seconds, 1),
            **when,
            "versions": {
                "unasdiff-teach": __version__, "torch": torch.__version__, "soundfile": version("soundfile"),
                "python": platform.python_version(),
            },
            "warnings": warnings,
        }


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
) -> Job:
    """Check everything, and time one window: a job that can start.

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

    Raises:
        FileNotFoundError, ValueError, OSError: what does not fit, in one sentence.
    """
    path = Path(path)
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; accepted are {', '.join(PRESETS)}")
    if channels not in ("mid", "each"):
        raise ValueError(f"channels is {channels!r}; accepted are 'mid' and 'each'")
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; accepted are {', '.join(FORMATS)}")
    out = Path(out or f"{path.stem}-separated").resolve()
    _check_out(out, overwrite)
    recording = read_recording(path)
    C, N = recording.audio.shape
    warnings = list(recording.warnings)
    if channels == "mid" and float(rms_db(recording.audio.mean(0))) < SILENT_DB:
        raise ValueError(f"the channels of {path} cancel each other; separate each (--channels each)")

    rates = {s.name: rate for s in sources if (rate := getattr(s.prior.prior, "sample_rate", None))}
    if len(set(rates.values())) > 1:
        raise ValueError("the priors work at different rates: " + ", ".join(f"{name} at {rate} Hz" for name, rate in rates.items()))
    rate = next(iter(rates.values()), recording.rate)
    if (used := _fitting_rate(recording.rate, rate)) != recording.rate:
        warnings.append(f"{recording.rate} Hz is taken for {used} Hz while the sound is resampled to {rate} Hz")
    window = (2.0 if rate <= 8000 else 4.0) if window is None else window
    windows = Windows(round(window * rate), round((window / 4 if overlap is None else overlap) * rate))
    if (free := shutil.disk_usage(_existing(out)).free) < (needed := _bytes_written(recording.audio, channels, len(sources), rate, recording.rate)):
        raise OSError(f"{needed / 1e6:.0f} MB are to be written to {out}, and {free / 1e6:.0f} MB are free")

    # A recording's level is arbitrary, and the priors know one.
    config = getattr(SeparationConfig, preset)().replace(normalize="peak")
    if config.hypotheses > 1 and len({(id(s.prior.prior), s.label) for s in sources}) < len(sources):
        # Each run may return them in another order, and a mean over orders is no source.
        warnings.append(f"sources of one kind may change places: the result is one run, not the mean of {config.hypotheses}")
        config = config.replace(hypotheses=1)
    schedule = sources[0].prior.prior.schedule
    for prior in {id(s.prior.prior): s.prior.prior for s in sources}.values():
        if isinstance(prior, nn.Module):
            prior.to(device)
    signals = C if channels == "each" else 1
    cost = _cost(sources, config, schedule, windows, _length(N, recording.rate, rate), signals, memory or MEMORY, device)
    return Job(
        path, recording, tuple(sources), out, config, preset, seed, channels, windows, rate, schedule, device, format, cost, tuple(warnings)
    )  # fmt: skip


def _length(N: int, rate: int, target: int) -> int:
    return math.ceil(N * target / _fitting_rate(rate, target))


def _bytes_written(audio: Tensor, channels: str, K: int, rate: int, file_rate: int) -> int:
    """Sources and residual, and 16-bit sounds of the page, at most."""
    C, N = audio.shape
    return (K + 1) * 4 * N * (C if channels == "each" else 1) + (K + 2) * 2 * round(N * rate / file_rate) + 1_000_000


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
    report = json.loads((out / RESULT).read_text(encoding="utf-8"))
    own = {RESULT, "listen.html", "_static", report["residual"]["file"], *(source["file"] for source in report["sources"])}
    if strangers := sorted(entry.name for entry in out.iterdir() if entry.name not in own):
        raise ValueError(f"{out} holds {', '.join(strangers)} beside an earlier result; move it, or name another folder with --out")


def _cost(
    sources: Sequence[Source], config: SeparationConfig, schedule: NoiseSchedule, windows: Windows, N: int, signals: int, memory: float,
    device: str,
) -> Cost:  # fmt: skip
    """The chunk that fits into `memory`, and what the whole then takes."""
    steps = config.steps or (schedule.position(config.init_step) + 1 if config.start == "init_step" else len(schedule))
    signals = signals * config.hypotheses
    counts = [len(windows.starts(N, shift_at(t))) for t in schedule.index.tolist()]
    groups = {id(s.prior.prior): [t for t in sources if t.prior.prior is s.prior.prior] for s in sources}
    timed = [(signals * len(group), *_time(group[0], windows.size, schedule, device)) for group in groups.values()]
    most = max(counts) * max(signals for signals, *_ in timed)
    chunk = min(max(1, int(memory / sum(size for *_, size in timed))), most)
    calls, seconds, held = 0.0, 0.0, STATE * N * signals * len(sources)
    for rows, forward, backward, size in timed:
        again = forward if rows * max(counts) > chunk else 0.0  # a chunk that was forgotten is computed again
        calls += rows * steps * sum(counts) / len(counts)
        seconds += rows * steps * sum(counts) / len(counts) * (forward + (backward + again if _by_gradient(config) else 0.0))
        held += min(rows * max(counts), chunk) * size
    return Cost(round(calls), seconds, held, chunk)


def _by_gradient(config: SeparationConfig) -> bool:
    return config.guidance.needs_gradient


def _time(source: Source, size: int, schedule: NoiseSchedule, device: str) -> tuple[float, float, float]:
    """Seconds of one window's forward and backward pass, and the bytes that it remembers in between."""
    prior, names = source.prior.prior, getattr(source.prior.prior, "labels", ())
    x_t = torch.randn(1, size, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    t = schedule.index[:1].to(device)
    label = torch.tensor([names.index(source.label)], device=device) if source.label is not None else None
    fixed = {p.untyped_storage().data_ptr() for p in prior.parameters()} if isinstance(prior, nn.Module) else set()
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    def clock() -> float:
        if x_t.is_cuda:
            torch.cuda.synchronize(x_t.device)
        return time.perf_counter()

    with torch.no_grad():
        prior(x_t, t, label)  # the first call is slower than the others
    start = clock()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        eps = prior(x_t, t, label)
    middle = clock()
    torch.autograd.grad(eps.sum(), x_t)
    return middle - start, clock() - middle, max(sum(held.values()), 4 * size)


# ----------------------------------------------------------------------------------------------------------- page


def _page(report: dict, player: str, tools: Sequence[Path]) -> str:
    """A page to listen to, which asks nothing from the network; `player` is HTML, `tools` what makes it handy."""
    kinds = {".css": '<link rel="stylesheet" href="_static/{}">', ".js": '<script src="_static/{}" defer></script>'}
    head = "\n".join(kinds[path.suffix].format(path.name) for path in tools)
    name, half = escape(report["file"]), report["priors_rate"] / 2000

    def row(title: str, track: dict) -> str:
        level = "silent" if track["level_db"] <= SILENCE_DB else f"{track['level_db']:.1f} dB".replace("-", "\N{MINUS SIGN}")
        file = escape(track["file"])
        return f'<tr><th scope="row">{escape(title)}</th><td><a href="{file}">{file}</a></td><td>{level}</td></tr>'

    rows = "".join(row(s["source"], s) for s in report["sources"]) + row("residual", report["residual"])
    warnings = "".join(f'<p class="warning">Warning: {escape(text)}.</p>' for text in report["warnings"])
    above = ""
    if report["sample_rate"] > report["priors_rate"]:
        above = (
            f" The recording has {report['sample_rate'] / 1000:g} kHz and the priors {report['priors_rate'] / 1000:g} kHz: what lies above "
            f"{half:g} kHz is in no source, but in the residual's file. What plays here is cut at {half:g} kHz."
        )
    what = {"mid": "the mean of its channels", "each": "each of its channels (the mean of the results plays here)"}[report["separated"]]
    separated = f" Separated was {what}." if report["channels"] > 1 else ""
    facts = {
        "preset": report["preset"], "seed": report["seed"], "windows": f"{report['windows']['count']} of {report['windows']['seconds']:g} s",
        "network calls": report["network_calls"], "time": duration(report["seconds"]), "device": report["device"],
        "priors": ", ".join(f"{s['prior']} {s['prior_sha256'][:8]}".strip() for s in report["sources"]),
        "versions": ", ".join(f"{package} {number}" for package, number in report["versions"].items()),
    }  # fmt: skip
    details = "".join(f'<tr><th scope="row">{escape(key)}</th><td>{escape(str(value))}</td></tr>' for key, value in facts.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}, separated</title>
<link rel="icon" href="data:,">
{head}
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }}
table.facts {{ border-collapse: collapse; width: 100%; }}
table.facts :is(th, td) {{ padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top; }}
table.facts td {{ overflow-wrap: anywhere; }}
.warning {{ border-left: 0.25rem solid #d55e00; padding-left: 0.7rem; }}
</style>
</head>
<body>
<h1>{name}, separated</h1>
<p>{report["seconds_of_sound"]:.1f} s.{separated} The residual is the recording less the sum of the sources.{above}</p>
{warnings}
{player}
<h2>Files</h2>
<table class="facts"><thead><tr><th scope="col">source</th><th scope="col">file</th><th scope="col">level (RMS)</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>How it was made</h2>
<table class="facts"><tbody>{details}</tbody></table>
<p>All of it is in <a href="{RESULT}">{RESULT}</a>.</p>
</body>
</html>
"""
