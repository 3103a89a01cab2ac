"""Audio files in and out, and levels. One rule throughout: mono, float32, full scale at 1."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .._checks import one_of
from .._files import replacing

SILENCE_DB = -120.0
_STDERR = threading.Lock()  # the process has one


def rms_db(audio: Tensor) -> Tensor:
    """Root mean square in dB relative to 1.0, [..., N] -> [...]; silence gives -120."""
    power = audio.double().square().mean(-1)
    return (10 * power.clamp_min(10 ** (SILENCE_DB / 10)).log10()).to(audio.dtype)


def gain(db: float) -> float:
    """Amplitude factor of a level in dB."""
    return 10.0 ** (db / 20)


def active_mask(audio: Tensor, sample_rate: int, range_db: float = 40.0) -> Tensor:
    """Samples that belong to a 50 ms window (every 25 ms) at most `range_db` below the loudest.

    The window and hop are the authors'; they compare with a fixed energy (1e-4), which depends on the level of a
    recording, so the threshold here is relative.

    Args:
        audio: [N].

    Returns:
        Boolean [N]; all False for silence.
    """
    size, step = round(0.05 * sample_rate), round(0.025 * sample_rate)
    padded = torch.nn.functional.pad(audio.detach(), (0, max(0, size - len(audio))))
    padded = torch.nn.functional.pad(padded, (0, -(len(padded) - size) % step))
    levels = rms_db(padded.unfold(0, size, step))
    mask = torch.zeros(len(padded), dtype=torch.bool)
    if levels.max() > SILENCE_DB:
        for i in torch.nonzero(levels > levels.max() - range_db).flatten().tolist():
            mask[i * step : i * step + size] = True
    return mask[: len(audio)]


def active_span(audio: Tensor, sample_rate: int, range_db: float = 40.0) -> tuple[int, int]:
    """First and one-past-last active sample of `audio` [N]; (0, 0) for silence."""
    places = torch.nonzero(active_mask(audio, sample_rate, range_db)).flatten()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


@contextmanager
def quiet_decoder(path: str | Path) -> Iterator[list[str]]:
    """Keep what libmpg123 says to itself: it writes to the process's standard error, and knows no other way.

    Yields:
        A list that holds its words when the block has ended; empty for files other than MP3.
    """
    words: list[str] = []
    if Path(path).suffix.lower() != ".mp3":
        yield words
        return
    with _STDERR, tempfile.TemporaryFile() as aside:
        try:
            own = os.dup(2)
        except OSError:  # there is no standard error
            yield words
            return
        os.dup2(aside.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(own, 2)
            os.close(own)
            aside.seek(0)
            words.extend(aside.read().decode(errors="replace").splitlines())


def is_cut_ogg(file: BinaryIO) -> bool:
    """Whether an open file of Ogg pages ends without the page that says it is the last."""
    if file.read(4) != b"OggS":
        return False
    file.seek(max(0, file.seek(0, os.SEEK_END) - 2**17))
    tail = file.read()
    last = tail.rfind(b"OggS")
    return last < 0 or len(tail) < last + 6 or not tail[last + 5] & 4


def resample(audio: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """`audio` [..., N] at another rate in Hz (a band-limited kernel of 64 zero crossings)."""
    if old_rate == new_rate:
        return audio
    import torchaudio.functional

    return torchaudio.functional.resample(audio, old_rate, new_rate, lowpass_filter_width=64)


def fitting_rate(rate: int, target: int) -> int:
    """`rate`, or a multiple of 25 Hz near it where the two have so little in common that their resampling would never
    end.
    """
    return rate if target // math.gcd(rate, target) <= 1000 else 25 * round(rate / 25)


def resampled_length(N: int, rate: int, target: int) -> int:
    """Samples that N samples at `rate` are at `target`."""
    return math.ceil(N * target / fitting_rate(rate, target))


def decode(
    file: BinaryIO | Path, name: str | Path, sample_rate: int | None = None, mono: str = "error"
) -> tuple[Tensor, int]:
    """Read audio from an open file: what `read` does behind a path.

    Args:
        file: open, or its path.
        name: stands in errors.
        sample_rate, mono: see `read`.

    Returns:
        The audio, float32 [N], and its rate in Hz.

    Raises:
        ValueError: see `read`.
    """
    import soundfile

    one_of("mono", mono, ("error", "mean", "first"))
    try:
        with quiet_decoder(name):
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        why = getattr(error, "error_string", error)  # without the name of what was opened, which may be bytes in memory
        raise ValueError(f"{name} cannot be read as audio: {why}") from error
    if samples.shape[0] == 0:
        raise ValueError(f"{name} holds no samples")
    audio = torch.from_numpy(samples).T
    if not torch.isfinite(audio).all():
        raise ValueError(f"{name} holds NaN or infinite samples")
    if audio.shape[0] > 1 and mono == "error":
        raise ValueError(f'{name} has {audio.shape[0]} channels; one is needed (or mono="mean", mono="first")')
    audio = audio.mean(0) if mono == "mean" else audio[0]
    target = sample_rate or rate
    return resample(audio, rate, target).contiguous(), target


def read(path: str | Path, sample_rate: int | None = None, mono: str = "error") -> tuple[Tensor, int]:
    """Read an audio file.

    Args:
        path: anything that libsndfile reads (WAV, FLAC, Ogg, MP3).
        sample_rate: resample to this rate in Hz; None keeps the file's.
        mono: what to do with more than one channel: "error", "mean" or "first".

    Returns:
        The audio, float32 [N], and its rate in Hz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is unreadable or empty, holds NaN or infinite samples, or has several channels and `mono`
            does not say what to do with them.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no audio file at {path}")
    return decode(path, path, sample_rate, mono)


def write(path: str | Path, audio: Tensor, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write mono audio; the format follows the ending of `path` (.wav, .flac, .ogg).

    The file appears whole or not at all: it is written beside its place and then renamed.

    Args:
        audio: floating [N]; samples beyond -1..1 are clipped, with a warning.
        sample_rate: Hz.
        subtype: libsndfile's name of the sample format (ignored for .ogg).

    Raises:
        ValueError: an ending that is not known; or audio that is empty, not mono, not floating, or holds NaN or
            infinite samples.
    """
    import soundfile

    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac", ".ogg"):
        raise ValueError(f"{path.name} ends in {path.suffix!r}; accepted: .wav, .flac, .ogg")
    audio = torch.as_tensor(audio).detach().cpu()
    if audio.ndim != 1 or len(audio) == 0:
        raise ValueError(f"audio has shape {list(audio.shape)}; mono [N] with N > 0 is needed")
    if not audio.is_floating_point():
        raise ValueError(f"audio is {audio.dtype}; floating samples in -1..1 are needed")
    if not torch.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    peak = float(audio.abs().max())
    if peak > 1 and subtype not in ("FLOAT", "DOUBLE"):
        warnings.warn(f"{path.name}: peak {peak:.3f} exceeds 1; the file is clipped", stacklevel=2)
        audio = audio.clamp(-1, 1)
    format = path.suffix[1:].upper()
    smallest = {"compression_level": 1.0} if format == "FLAC" else {}
    with replacing(path, shared=True) as partial:
        soundfile.write(
            partial, audio.numpy(), sample_rate, "VORBIS" if format == "OGG" else subtype, format=format, **smallest
        )
