"""A listening player that keeps levels: one gain for all tracks, so that what sounds louder is louder."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import soundfile
import torch
from torch import Tensor

from ..data.audio import SILENCE_DB, rms_db


@dataclass(frozen=True)
class Track:
    """One sound of a player.

    Attributes:
        name: its title.
        flac: 16-bit FLAC file, the player's gain applied.
        level: root mean square before the gain, in dB relative to full scale.
    """

    name: str
    flac: bytes
    level: float

    def _row(self) -> str:
        name = escape(self.name)
        # whole dB: a stored page stays the same where another processor rounds the sound differently
        level = "silent" if self.level <= SILENCE_DB else _decibels(round(self.level))
        source = base64.b64encode(self.flac).decode()
        return (
            f'<tr><th scope="row" style="text-align:left">{name}</th>'
            f'<td style="width:60%"><audio controls preload="metadata" aria-label="Listen to: {name}" '
            f'style="width:100%;min-width:10rem;height:2.4rem;margin:0" src="data:audio/flac;base64,{source}"></audio></td>'
            f'<td style="text-align:right;white-space:nowrap">{level}</td></tr>'
        )


@dataclass(frozen=True)
class Player:
    """What `player` returns; a notebook shows it as a table of audio elements, with no script and no request.

    Attributes:
        gain: dB, the same for all tracks.
        lowered_for: the track that would have clipped at 0 dB, if there was one.
    """

    tracks: tuple[Track, ...]
    sample_rate: int
    gain: int | float
    lowered_for: str | None
    note: str

    @property
    def nbytes(self) -> int:
        """Bytes that the player adds to a page, nearly."""
        return len(self._repr_html_())

    def _gain_text(self) -> str:
        reason = "" if self.lowered_for is None else f": at 0 dB, “{self.lowered_for}” would clip"
        return f"One gain of {_decibels(self.gain)} for all{reason}."

    def _repr_html_(self) -> str:
        note = f"<b>Listen for:</b> {escape(self.note)}<br>" if self.note else ""
        return (
            '<table class="sound-player" style="width:100%;max-width:44rem">'
            f'<caption style="caption-side:bottom;text-align:left">{note}{escape(self._gain_text())}</caption>'
            '<thead><tr><th scope="col" style="text-align:left">sound</th><th scope="col" style="text-align:left">listen</th>'
            '<th scope="col" style="text-align:right">level (RMS)</th></tr></thead>'
            f"<tbody>{''.join(track._row() for track in self.tracks)}</tbody></table>"
        )

    def __repr__(self) -> str:
        return f"Player({', '.join(track.name for track in self.tracks)}; {self.sample_rate} Hz, gain {self.gain:g} dB)"


def player(tracks: Mapping[str, Tensor], sample_rate: int, gain: float | None = None, note: str = "") -> Player:
    """Sounds to compare by ear, all with one gain: nothing is normalised.

    Args:
        tracks: title -> mono floating samples [N], full scale at 1; lengths may differ.
        sample_rate: Hz.
        gain: dB. None takes 0 dB, or as many whole dB less as the loudest track needs in order not to clip, and
            the player says so.
        note: what to listen for.

    Raises:
        ValueError: no tracks; samples that are not finite, floating or mono; or a given gain that clips a track.
    """
    if not tracks:
        raise ValueError("tracks is empty; at least one title -> samples is needed")
    sounds = {name: _checked(name, samples) for name, samples in tracks.items()}
    loudest = max(sounds, key=lambda name: float(sounds[name].abs().max()))
    peak = float(sounds[loudest].abs().max())
    headroom = -20 * math.log10(peak) if peak > 0 else math.inf
    if gain is not None and gain > headroom:
        raise ValueError(f"a gain of {gain:g} dB clips {loudest!r} (peak {peak:.3f}); at most {headroom:.1f} dB fit")
    lowered = gain is None and headroom < 0
    if gain is None:
        gain = math.floor(headroom) if lowered else 0
    return Player(
        tracks=tuple(
            Track(name, _flac(samples * 10 ** (gain / 20), sample_rate), float(rms_db(samples)))
            for name, samples in sounds.items()
        ),
        sample_rate=sample_rate,
        gain=gain,
        lowered_for=loudest if lowered else None,
        note=note,
    )


def _checked(name: str, samples: Tensor) -> Tensor:
    """Samples as float64 [N] on the CPU, or a ValueError that names the track."""
    samples = torch.as_tensor(samples).detach().cpu()
    if not samples.is_floating_point():
        raise ValueError(f"track {name!r} is {samples.dtype}; floating samples are needed")
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"track {name!r} has shape {list(samples.shape)}; mono [N] with N > 0 is needed")
    if not samples.isfinite().all():
        raise ValueError(f"track {name!r} holds NaN or infinite samples")
    return samples.double()


def _flac(samples: Tensor, sample_rate: int) -> bytes:
    """A 16-bit FLAC file: lossless, the same bytes each time, and played by all current browsers."""
    file = io.BytesIO()
    integers = (samples * 32767).round().to(torch.int16).numpy()
    soundfile.write(file, integers, sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return file.getvalue()


def _decibels(value: float) -> str:
    return f"{value:g} dB".replace("-", "\N{MINUS SIGN}")
