"""Recordings of any kind, read and written block by block: no more memory than what is kept, and everything odd about
them noticed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .._files import file_hash
from .audio import is_cut_ogg, quiet_decoder

if TYPE_CHECKING:
    import soundfile

SHORTEST = 0.1  # seconds: less holds nothing that a prior could know
SILENT_DB = -90.0
OPPOSED_DB = -20.0  # the mean of channels that are so far below them has lost most of what they hold
BLOCK = 2**18  # samples of each channel
MOST = 2**33  # samples that a header may promise and be believed
FORMATS = {"wav": "FLOAT", "flac": "PCM_24"}
FLAC_CHANNELS = 8
WAV_BYTES = 2**32 - 2**20  # what the header of a WAV file can count, less the header


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        audio: float32, full scale at 1: [C, N], or the mean of the channels [1, N].
        rate: Hz.
        channels: C of the file.
        sha256: of the file.
        warnings: what is odd about it, in words.
    """

    audio: Tensor
    rate: int
    channels: int
    sha256: str
    warnings: tuple[str, ...] = ()


def read_recording(path: str | Path, channels: Literal["mid", "each"] = "each") -> Recording:
    """Read and examine a recording.

    Args:
        path: of anything that libsndfile reads.
        channels: keep "each", or their mean, "mid".

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, is empty, too short, silent or constant, or holds NaN or infinite samples; or its
            channels cancel each other in their mean.
    """
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a sound file is needed")
    if not path.is_file():
        raise FileNotFoundError(f"no sound file at {path}")
    try:
        with quiet_decoder(path) as words:
            extra = soundfile.info(path, verbose=True).extra_info
            with soundfile.SoundFile(path) as file:
                audio, seen = _read(file, channels)
                rate, promised = file.samplerate, file.frames
        sha256 = file_hash(path)
        with open(path, "rb") as file:
            cut = is_cut_ogg(file)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as sound: {error}{_advice(path)}") from error
    N = audio.shape[-1]
    if not N and path.stat().st_size > 10_000:
        raise ValueError(
            f"{path} says that it holds no sound, though it has {path.stat().st_size / 1000:.0f} kB: its header is"
            " damaged, as of a recording that was cut off; ffmpeg -i FILE NEW.wav may repair it"
        )
    if N < SHORTEST * rate:
        raise ValueError(f"{path} holds {N / rate:.3f} s of sound; at least {SHORTEST} s are needed")
    if seen.bad:
        raise ValueError(f"{path} holds {seen.bad} NaN or infinite samples")
    level, mid = (
        seen.level(seen.squares.mean(), seen.sums.square().mean()),
        seen.level(seen.mid_squares, seen.sums.mean().square()),
    )
    if level < SILENT_DB:
        raise ValueError(f"{path} is silent, or constant: without its mean its level is below {SILENT_DB:g} dB")
    warnings = []
    if channels == "mid" and mid < max(SILENT_DB, level - 60):
        raise ValueError(f"the channels of {path} cancel each other; separate each (--channels each)")
    if channels == "mid" and mid < level + OPPOSED_DB:
        warnings.append(
            f"the channels nearly cancel each other: their mean is {level - mid:.0f} dB below them; --channels each"
            " separates each"
        )
    # libsndfile's words
    if promised < MOST and N < promised - SHORTEST * rate or "should be" in extra:
        warnings.append(f"the file's header promises another length; the {N / rate:.2f} s that are there are separated")
    elif cut:
        warnings.append(
            f"the file ends before its last page, as if it had been cut; the {N / rate:.2f} s that are there are"
            " separated"
        )
    if any("Illegal Audio-MPEG-Header" in word for word in words):
        warnings.append("parts of the file are damaged and were left out, so that what follows comes earlier")
    if seen.clipped:
        percent = 100 * seen.clipped / (N * seen.channels)
        words = f"{percent:.2f}" if percent < 10 else f"{percent:.0f}"
        warnings.append(f"{seen.clipped} samples ({words} %) look clipped; they are separated as they are")
    return Recording(audio, rate, seen.channels, sha256, tuple(warnings))


class _Seen:
    """What is noticed in passing: levels, samples that are no numbers, samples that look clipped."""

    def __init__(self, channels: int):
        self.channels, self.samples, self.bad, self.clipped = channels, 0, 0, 0
        self.sums, self.squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
        self.mid_squares = torch.zeros((), dtype=torch.float64)
        self._peak, self._runs = torch.zeros(channels), torch.zeros(channels, dtype=torch.int64)

    def add(self, block: Tensor) -> None:
        """A block [C, n] that follows those before."""
        self.samples += block.shape[-1]
        finite = torch.isfinite(block)
        self.bad += int((~finite).sum())
        block = block.where(finite, 0)
        self.sums += block.sum(-1, dtype=torch.float64)
        self.squares += block.square().sum(-1, dtype=torch.float64)
        self.mid_squares += block.mean(0).square().sum(dtype=torch.float64)
        self._clip(block)

    def _clip(self, block: Tensor) -> None:
        """Count samples in runs of three and more at the highest peak so far of their channel."""
        peak = torch.maximum(self._peak, block.abs().amax(-1))
        self._runs[peak > 1.0001 * self._peak] = 0
        self._peak = peak
        at_peak = (block.abs() >= 0.9999 * peak[:, None]) & (block != 0)
        if block.shape[-1] >= 3 and bool(at_peak.any()):
            runs = at_peak[:, :-2] & at_peak[:, 1:-1] & at_peak[:, 2:]
            inside = torch.zeros_like(at_peak)
            for shift in range(3):
                inside[:, shift : shift + runs.shape[-1]] |= runs
            self._runs += inside.sum(-1)
        self.clipped = int(self._runs.sum())

    def level(self, squares: Tensor, square_of_sum: Tensor) -> float:
        """dB of the power without the mean, from the sum of squares and the square of the sum."""
        power = float(squares) / self.samples - float(square_of_sum) / self.samples**2
        return 10 * math.log10(max(power, 1e-20))


def _read(file: soundfile.SoundFile, channels: str) -> tuple[Tensor, _Seen]:
    """All samples, and what was seen on the way."""
    C = 1 if channels == "mid" else file.channels
    seen, place = _Seen(file.channels), 0
    audio = torch.empty(C, file.frames if 0 <= file.frames < MOST else 0)
    while len(samples := file.read(BLOCK, dtype="float32", always_2d=True)):
        block = torch.from_numpy(samples).T
        seen.add(block)
        end = place + block.shape[-1]
        if end > audio.shape[-1]:  # the header promised less, or nothing
            audio = torch.cat([audio[:, :place], torch.empty(C, max(end, 2 * place) - place)], 1)
        audio[:, place:end] = block.mean(0, keepdim=True) if channels == "mid" else block
        place = end
    return audio[:, :place], seen


def _advice(path: Path) -> str:
    """What to do about a kind of file that libsndfile does not know."""
    from .folder import UNREADABLE

    return "; convert it: ffmpeg -i FILE NEW.wav" if path.suffix.lower() in UNREADABLE else ""


def write_sound(path: Path, audio: Tensor, rate: int, format: str) -> None:
    """Write [C, N] as WAV in floating point, in its 64-bit form where the file exceeds 4 GiB, or as FLAC of 24 bits."""
    import soundfile

    large = format == "wav" and audio.numel() * 4 > WAV_BYTES
    with soundfile.SoundFile(
        path, "w", rate, len(audio), FORMATS[format], format="RF64" if large else format.upper()
    ) as file:
        for block in audio.split(2**20, -1):
            file.write(block.clamp(-1, 1).T.numpy() if format == "flac" else block.T.numpy())
    _forget_time(path)


def _forget_time(path: Path) -> None:
    """Zero the time that libsndfile writes into the PEAK chunk of a float WAV, so that the same sound is the same
    file.
    """
    with open(path, "r+b") as file:
        head = file.read(4096)
        place = head.find(b"PEAK", 0, head.find(b"data"))
        if head[:4] == b"RIFF" and place >= 0:
            file.seek(place + 12)  # after its name, size and version
            file.write(bytes(4))
