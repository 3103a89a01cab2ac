"""What the listening player and the scrubber share: one gain, compressed sounds, spectrograms, files beside the
page.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy
import soundfile
import torch
from matplotlib import colormaps, image
from torch import Tensor

from .._files import replacing

FOLDER = Path("_static", "audio")
"""Where a page's sounds lie, seen from its notebook, which is where a notebook runs."""
RANGE_DB = 80
"""Between the brightest and the darkest colour of a spectrogram."""
SAME_DB = -40
"""A sound on the disk is kept where the new one differs from it by no more than this, relative to its level."""

# In JupyterLab, a picture that has arrived loads the script that the built pages load by themselves.
TOOLS = (
    "window.pageTools?pageTools.upgrade():document.head.append(Object.assign(document.createElement('script'),"
    "{src:this.src.replace(/_static\\/.*/,'_static/tools.js')}))"
)


def checked(name: str, samples: Tensor) -> Tensor:
    """Samples as float64 [N] on the CPU, or a ValueError that names the track."""
    samples = torch.as_tensor(samples).detach().cpu()
    if not samples.is_floating_point():
        raise ValueError(f"track {name!r} is {samples.dtype}; floating samples are needed")
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"track {name!r} has shape {list(samples.shape)}; mono [N] with N > 0 is needed")
    if not samples.isfinite().all():
        raise ValueError(f"track {name!r} holds NaN or infinite samples")
    return samples.double()


def common_gain(sounds: Mapping[str, Tensor], gain: float | None) -> tuple[int | float, str | None]:
    """The gain in dB for all sounds, and the sound for which it was lowered below 0 dB, if it was.

    Raises:
        ValueError: the given gain clips a sound.
    """
    loudest = max(sounds, key=lambda name: float(sounds[name].abs().max()))
    peak = float(sounds[loudest].abs().max())
    headroom = -20 * math.log10(peak) if peak > 0 else math.inf
    if gain is not None and gain > headroom:
        raise ValueError(f"a gain of {gain:g} dB clips {loudest!r} (peak {peak:.3f}); at most {headroom:.1f} dB fit")
    if gain is None and headroom < 0:
        return math.floor(headroom), loudest
    return (0 if gain is None else gain), None


def gain_text(gain: float, lowered_for: str | None) -> str:
    reason = "" if lowered_for is None else f": at 0 dB, “{lowered_for}” would clip"
    return f"One gain of {decibels(gain)} for all{reason}."


def flac(samples: Tensor, sample_rate: int, gain: float = 0.0) -> bytes:
    """A 16-bit FLAC file: lossless, the same bytes each time, and played by all current browsers."""
    file = io.BytesIO()
    integers = (samples * 10 ** (gain / 20) * 32767).round().to(torch.int16).numpy()
    # Level 0 has blocks of 1152 samples, which browsers can seek in; the others save 2 % with blocks of 4096.
    soundfile.write(file, integers, sample_rate, format="FLAC", subtype="PCM_16", compression_level=0.0)
    return _with_seek_table(file.getvalue())


def _with_seek_table(flac: bytes) -> bytes:
    """The file with a list of where its blocks begin, which libsndfile leaves out.

    Chromium looks for the place by halving the file, and in files as short as these it fails for one position in three.
    It also fails in the last block if that is listed; static/tools.js keeps out of it.
    """
    (block,) = struct.unpack(">H", flac[8:10])  # of the first metadata block, which describes the stream
    samples = int.from_bytes(flac[18:26], "big") % 2**36
    start, last = 4, False
    while not last:
        last, size = flac[start] >= 128, int.from_bytes(flac[start + 1 : start + 4], "big")
        start += 4 + size
    place, points = start, []
    for number in range(math.ceil(samples / block)):
        while not _begins_block(flac, place, number):
            place = flac.index(b"\xff\xf8", place + 1)
        points.append(struct.pack(">QQH", number * block, place - start, min(block, samples - number * block)))
    table = b"".join(points[:-1] or points)
    return flac[:42] + b"\x03" + len(table).to_bytes(3, "big") + table + flac[42:]


def _begins_block(flac: bytes, place: int, number: int) -> bool:
    """Whether block `number` begins at `place`: its sync code, its number, and the checksum of its header."""
    coded, sizes = chr(number).encode(errors="surrogatepass"), flac[place + 2]
    end = place + 4 + len(coded) + {6: 1, 7: 2}.get(sizes >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(sizes % 16, 0)
    checksum = 0
    for byte in flac[place:end]:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x07 if checksum & 128 else 0)) & 255
    return flac.startswith(b"\xff\xf8", place) and flac.startswith(coded, place + 4) and flac[end] == checksum


def log_spectrograms(signals: Tensor, n_fft: int = 256, hop: int = 64, floor_db: float = -80.0) -> Tensor:
    """Power spectrograms in dB relative to the loudest bin of all signals, nothing below `floor_db`.

    Args:
        signals: [S, N], with N > n_fft / 2.
        n_fft, hop: Hann window and its step in samples.
        floor_db: negative.

    Returns:
        [S, n_fft / 2 + 1, N // hop + 1].
    """
    spectra = torch.stft(signals, n_fft, hop, window=torch.hann_window(n_fft).to(signals), return_complex=True)
    power = spectra.abs().square()
    loudest = power.max()
    if loudest == 0:
        return torch.full_like(power, floor_db)
    return (10 * (power / loudest).log10()).clamp_min(floor_db)


def spectrogram_pixels(sounds: Tensor, sample_rate: int, widest: int) -> numpy.ndarray:
    """Spectrograms of sounds [S, N] on one scale, as colours [S, frequency downwards, time, 3], `widest` columns at
    most.
    """
    n_fft = 2 ** round(math.log2(0.032 * sample_rate))
    hop = max(n_fft // 4, math.ceil(sounds.shape[1] / (widest - 1)))
    padded = torch.nn.functional.pad(sounds, (0, max(0, n_fft - sounds.shape[1])))
    levels = 1 + log_spectrograms(padded, n_fft, hop, -RANGE_DB).flip(1) / RANGE_DB
    return colormaps["magma"](levels.numpy(), bytes=True)[..., :3]


def jpeg(pixels: numpy.ndarray) -> bytes:
    """A JPEG file of pixels [height, width, 3]."""
    file = io.BytesIO()
    image.imsave(file, numpy.ascontiguousarray(pixels), format="jpeg", pil_kwargs={"quality": 65})
    return file.getvalue()


def folder_of(id: str) -> Path:
    """The folder of a player or scrubber, seen from the notebook.

    Raises:
        ValueError: an `id` that is not chapter/name.
    """
    if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", id):
        raise ValueError(
            f"id is {id!r}; it must be chapter/name in small letters, digits and hyphens, such as '05/first-mixture'"
        )
    return FOLDER / id


def file_name(number: int, title: str) -> str:
    """A name without ending that depends on nothing but the title and its place, counted from 1."""
    return f"{number}-{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}".rstrip("-")


def write_beside(folder: Path, sounds: Mapping[str, bytes], pictures: Mapping[str, bytes]) -> None:
    """Write a page's files, unless the same sounds lie there already.

    Sampled sounds differ in their last bits between processors. A notebook that is run again leaves the files as they
    are where nobody could hear or see a difference; delete the folder to have them written in any case. Each file
    appears whole or not at all.
    """
    present = all((folder / name).is_file() for name in pictures)
    if present and all(_is_same(folder / name, sound) for name, sound in sounds.items()):
        return
    for name, content in {**sounds, **pictures}.items():
        with replacing(folder / name, shared=True) as partial:
            partial.write_bytes(content)


def _is_same(path: Path, sound: bytes) -> bool:
    """Whether `path` holds this sound, within `SAME_DB` of its power or what rounding to 16 bits does."""
    if not path.is_file():
        return False
    try:
        old, old_rate = soundfile.read(path)
    except soundfile.LibsndfileError:
        return False
    new, new_rate = soundfile.read(io.BytesIO(sound))
    if old_rate != new_rate or old.shape != new.shape:
        return False
    tolerance = max(10 ** (SAME_DB / 10) * numpy.mean(new**2), 2.0**-30)
    return bool(numpy.mean((old - new) ** 2) <= tolerance)


def decibels(value: float) -> str:
    return f"{value:g} dB".replace("-", "\N{MINUS SIGN}")
