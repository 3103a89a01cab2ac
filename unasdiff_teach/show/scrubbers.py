"""A separation to drag through: each source's estimate at each kept step, to see and to hear."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy
import torch
from torch import Tensor

from ..metrics import si_sdr
from ..separation import StepRecord
from .sound import (
    RANGE_DB,
    TOOLS,
    checked,
    common_gain,
    flac,
    folder_of,
    gain_text,
    jpeg,
    spectrogram_pixels,
    write_beside,
)


@dataclass(frozen=True)
class Scrubber:
    """What `scrubber` returns.

    The built pages make of it a slider through the run (`static/tools.js`). Without a script it is a sheet of all
    spectrograms, a row for each source and a column for each step, and a player for the last estimates.

    Attributes:
        names: of the K sources.
        t: diffusion step of each kept estimate, counted from 1, as the paper does; [S].
        si_sdr: of each estimate in dB, [S, K]; None without references.
        gain: dB, the same for all sources and steps.
        folder: of its files, seen from the notebook.
        file_bytes: size of the files.
    """

    names: tuple[str, ...]
    t: tuple[int, ...]
    si_sdr: Tensor | None
    sample_rate: int
    seconds: float
    gain: int | float
    lowered_for: str | None
    note: str
    folder: Path
    file_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the scrubber in the page and beside it, nearly."""
        return len(self._repr_html_()) + self.file_bytes

    def _repr_html_(self) -> str:
        names, steps = ", ".join(self.names), len(self.t)
        run = {
            "names": self.names,
            "t": self.t,
            "seconds": round(self.seconds, 3),
            "kilohertz": self.sample_rate / 2000,
        }
        # an attribute of its own: the last digits of sampled results differ between processors
        # (tests/nbval_sanitize.cfg)
        scores = (
            ""
            if self.si_sdr is None
            else f' data-si-sdr="{json.dumps(self.si_sdr.double().round(decimals=1).tolist())}"'
        )
        text = (
            f"Spectrograms of the estimates of {names}, a row for each, at {steps} steps from t = {self.t[0]} on the"
            f" left to t = {self.t[-1]} on the right; bright is loud, {RANGE_DB} dB in all, one scale for all"
        )
        note = f"<b>Listen for:</b> {escape(self.note)}<br>" if self.note else ""
        sounds = "".join(
            f'<p style="margin:0.3rem 0">{escape(name)}, last step: <audio controls preload="none"'
            f' style="vertical-align:middle" aria-label="Listen to: {escape(name)}, last step"'
            f' src="{(self.folder / _file(k, steps - 1)).as_posix()}"></audio></p>'
            for k, name in enumerate(self.names)
        )
        return (
            f'<div class="sound-scrubber" data-run="{escape(json.dumps(run))}"{scores} style="max-width:44rem">'
            f'<img src="{(self.folder / SHEET).as_posix()}" alt="{escape(text)}" onload="{escape(TOOLS)}" '
            f'style="display:block;width:100%;height:{6 * len(self.names)}rem">{sounds}'
            f"<p>{note}{escape(gain_text(self.gain, self.lowered_for))}</p></div>"
        )

    def __repr__(self) -> str:
        return f"Scrubber({', '.join(self.names)}; {len(self.t)} steps, t = {self.t[0]} to {self.t[-1]})"


SHEET = "sheet.jpg"


def _file(k: int, step: int) -> str:
    return f"{k + 1}-{step + 1:02d}.flac"


def scrubber(
    records: Sequence[StepRecord],
    names: Sequence[str],
    sample_rate: int,
    id: str,
    references: Tensor | None = None,
    steps: int = 12,
    gain: float | None = None,
    note: str = "",
) -> Scrubber:
    """A recorded separation to drag through: the estimates x0_hat of all sources (Algorithm 1, line 6) at `steps`
    steps.

    Sounds and one sheet of spectrograms are written beside the notebook, in `_static/audio/<id>`: about 22 kB for 2 s
    at 8 kHz and each source and step. All have one gain.

    Args:
        records: what `separate(..., on_step=records.append)` collects for one mixture, K sources of N samples.
        names: K titles.
        sample_rate: Hz.
        id: chapter/name, such as "06/violin-and-chime", one for each player and scrubber.
        references: [K, N]; with them SI-SDR is shown at each step.
        steps: 2 or more, spread evenly over the run, its first and last step among them; a shorter run is kept whole.
        gain: dB; None as in `player`.
        note: what to listen for.

    Raises:
        ValueError: fewer than two records or steps; records of a batch; names or references that do not fit them;
            estimates that are not finite; a given gain that clips; or an `id` that is not chapter/name.
    """
    if len(records) < 2 or steps < 2:
        raise ValueError(f"{len(records)} records and steps = {steps}; at least 2 of each are needed")
    shape = tuple(records[0].x0_hat.shape)
    if len(shape) != 2:
        raise ValueError(f"records hold estimates of shape {shape}; those of one mixture, [K, N], are needed")
    if len(names) != shape[0]:
        raise ValueError(f"{len(names)} names {list(names)} for {shape[0]} sources; one name for each is needed")
    if references is not None and tuple(references.shape) != shape:
        raise ValueError(f"references have shape {tuple(references.shape)}, the estimates {shape}")
    folder = folder_of(id)
    places = numpy.linspace(0, len(records) - 1, min(steps, len(records))).round().astype(int)
    kept = [records[place] for place in places]
    sounds = {
        (k, step): checked(f"{name} at step {record.step}", record.x0_hat[k])
        for step, record in enumerate(kept)
        for k, name in enumerate(names)
    }
    titles = {f"{names[k]} at t = {kept[step].t + 1}": samples for (k, step), samples in sounds.items()}
    gain, lowered_for = common_gain(titles, gain)
    files = {_file(k, step): flac(samples, sample_rate, gain) for (k, step), samples in sounds.items()}

    order = [sounds[k, step] for k in range(shape[0]) for step in range(len(kept))]
    pixels = spectrogram_pixels(torch.stack(order), sample_rate, widest=110)
    rows = pixels.reshape(shape[0], len(kept), *pixels.shape[1:])
    sheet = {SHEET: jpeg(numpy.concatenate([numpy.concatenate(list(row), 1) for row in rows], 0))}
    write_beside(folder, files, sheet)
    return Scrubber(
        names=tuple(names),
        t=tuple(record.t + 1 for record in kept),
        si_sdr=(
            None if references is None else torch.stack([si_sdr(record.x0_hat, references) for record in kept]).cpu()
        ),
        sample_rate=sample_rate,
        seconds=shape[1] / sample_rate,
        gain=gain,
        lowered_for=lowered_for,
        note=note,
        folder=folder,
        file_bytes=sum(map(len, files.values())) + len(sheet[SHEET]),
    )
