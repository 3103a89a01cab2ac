"""A listening player that keeps levels: one gain for all tracks, so that what sounds louder is louder."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import torch
from torch import Tensor

from ..data.audio import SILENCE_DB, rms_db
from .sound import (
    RANGE_DB,
    TOOLS,
    checked,
    common_gain,
    decibels,
    file_name,
    flac,
    folder_of,
    gain_text,
    jpeg,
    spectrogram_pixels,
    write_beside,
)


@dataclass(frozen=True)
class Track:
    """One sound of a player.

    Attributes:
        name: its title.
        flac: 16-bit FLAC file, the player's gain applied.
        level: root mean square before the gain, in dB relative to full scale.
        file: where it lies beside the page, without its ending; None if it stands in the page.
        text: what its spectrogram shows, for those who do not see it.
    """

    name: str
    flac: bytes
    level: float
    file: Path | None = None
    text: str = ""

    def _row(self) -> str:
        name = escape(self.name)
        # whole dB: a stored page stays the same where another processor rounds the sound differently
        level = "silent" if self.level <= SILENCE_DB else decibels(round(self.level))
        picture, source = "", f"data:audio/flac;base64,{base64.b64encode(self.flac).decode()}"
        if self.file is not None:
            source = f"{self.file.as_posix()}.flac"
            picture = (
                f'<img src="{self.file.as_posix()}.jpg" alt="{escape(self.text)}" onload="{escape(TOOLS)}" '
                'style="display:block;width:100%;height:4rem">'
            )
        return (
            f'<tr><th scope="row" style="text-align:left">{name}</th>'
            f'<td style="width:60%">{picture}<audio controls preload="metadata" aria-label="Listen to: {name}" '
            f'style="width:100%;min-width:10rem;height:2.4rem;margin:0" src="{source}"></audio></td>'
            f'<td style="text-align:right;white-space:nowrap">{level}</td></tr>'
        )


@dataclass(frozen=True)
class Player:
    """What `player` returns; a notebook shows it as a table of audio elements, with no request to anywhere.

    The built pages make of the table a player that switches between the tracks without losing its place, with a cursor
    in their spectrograms, keys, and a blind test (`static/tools.js`).

    Attributes:
        gain: dB, the same for all tracks.
        lowered_for: the track that would have clipped at 0 dB, if there was one.
        picture_bytes: size of the spectrograms beside the page.
    """

    tracks: tuple[Track, ...]
    sample_rate: int
    gain: int | float
    lowered_for: str | None
    note: str
    picture_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the player in the page and beside it, nearly."""
        beside = sum(len(track.flac) for track in self.tracks if track.file is not None)
        return len(self._repr_html_()) + beside + self.picture_bytes

    def _repr_html_(self) -> str:
        note = f"<b>Listen for:</b> {escape(self.note)}<br>" if self.note else ""
        kilohertz = f' data-kilohertz="{self.sample_rate / 2000:g}"' if self.picture_bytes else ""
        return (
            f'<table class="sound-player"{kilohertz} style="width:100%;max-width:44rem">'
            "<caption"
            ' style="caption-side:bottom;text-align:left">'
            f"{note}{escape(gain_text(self.gain, self.lowered_for))}</caption>"
            '<thead><tr><th scope="col" style="text-align:left">sound</th><th scope="col"'
            ' style="text-align:left">listen</th>'
            '<th scope="col" style="text-align:right">level (RMS)</th></tr></thead>'
            f"<tbody>{''.join(track._row() for track in self.tracks)}</tbody></table>"
        )

    def __repr__(self) -> str:
        return f"Player({', '.join(track.name for track in self.tracks)}; {self.sample_rate} Hz, gain {self.gain:g} dB)"


def player(
    tracks: Mapping[str, Tensor],
    sample_rate: int,
    gain: float | None = None,
    note: str = "",
    id: str | None = None,
    page: str | Path = ".",
) -> Player:
    """Sounds to compare by ear, all with one gain: nothing is normalised.

    Args:
        tracks: title -> mono floating samples [N], full scale at 1; lengths may differ.
        sample_rate: Hz.
        gain: dB. None takes 0 dB, or as many whole dB less as the loudest track needs in order not to clip, and
            the player says so.
        note: what to listen for.
        id: chapter/name, such as "05/first-mixture", one for each player. Sounds and spectrograms are then written
            beside the notebook, in `_static/audio/<id>`. None puts the sounds into the page itself, without
            spectrograms.
        page: folder of the page beside which the files are written; a notebook's is the current one.

    Raises:
        ValueError: no tracks; samples that are not finite, floating or mono; a given gain that clips a track; or an
            `id` that is not chapter/name.
    """
    if not tracks:
        raise ValueError("tracks is empty; at least one title -> samples is needed")
    sounds = {name: checked(name, samples) for name, samples in tracks.items()}
    gain, lowered_for = common_gain(sounds, gain)
    built = [Track(name, flac(samples, sample_rate, gain), float(rms_db(samples))) for name, samples in sounds.items()]
    pictures = {}
    if id is not None:
        folder = folder_of(id)
        files = [folder / file_name(i, name) for i, name in enumerate(sounds, 1)]
        longest = max(len(samples) for samples in sounds.values())
        rows = torch.stack(
            [torch.nn.functional.pad(samples, (0, longest - len(samples))) for samples in sounds.values()]
        )
        axes = (
            f"0 to {longest / sample_rate:.3g} s from left to right, 0 to {sample_rate / 2000:g} kHz upwards; "
            f"bright is loud, {RANGE_DB} dB in all, one scale for all sounds"
        )
        built = [
            replace(track, file=file, text=f"Spectrogram of “{track.name}”: {axes}")
            for track, file in zip(built, files)
        ]
        pixels = spectrogram_pixels(rows, sample_rate, widest=400)
        pictures = {f"{file.name}.jpg": jpeg(picture) for file, picture in zip(files, pixels)}
        write_beside(Path(page) / folder, {f"{track.file.name}.flac": track.flac for track in built}, pictures)
    return Player(tuple(built), sample_rate, gain, lowered_for, note, sum(map(len, pictures.values())))
