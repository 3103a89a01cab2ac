"""Training examples: random crops of whole recordings, placed, levelled and flipped, one gather for each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CropConfig:
    """How an example is cut.

    Attributes:
        length: samples N of an example.
        level_db: range of the RMS over the whole example, silence included, in dB re full scale. It must cover the
            levels that separation meets: -25 to -20 dB raw, up to about -11 dB for a mixture normalised to its peak.
        partial: share of examples that hold a shorter piece, of `shortest` N samples or more, at a random place in silence.
        speeds: playback speeds; each changes pitch and duration alike.
    """

    length: int
    level_db: tuple[float, float] = (-25.0, -20.0)
    partial: float = 0.0
    shortest: float = 0.4
    speeds: tuple[float, ...] = (1.0,)


class Crops:
    """draw(batch, generator) -> signals [batch, N], labels [batch]; first a class is drawn, then one of its clips.

    Args:
        waveforms: one [length] tensor for each recording, all at one rate.
        labels: class index of each recording.
        shares: how often each class is drawn, in the order of the indices that occur; by default all equally.
    """

    def __init__(
        self, waveforms: Sequence[Tensor], labels: Sequence[int], config: CropConfig, shares: Sequence[float] | None = None
    ):
        from torchaudio.functional import resample

        if not waveforms or len(waveforms) != len(labels):
            raise ValueError(f"{len(waveforms)} recordings and {len(labels)} labels; need as many, and at least one")
        self.config = config
        pieces = [w if v == 1 else resample(w, round(1000 * v), 1000) for v in config.speeds for w in waveforms]
        self.audio = torch.cat(pieces)
        self.size = torch.tensor([len(p) for p in pieces])
        self.start = self.size.cumsum(0) - self.size
        label = torch.tensor(labels).repeat(len(config.speeds))
        classes = label.unique()
        members = [torch.nonzero(label == c).flatten() for c in classes]
        self.label = label
        self.count = torch.tensor([len(m) for m in members])
        shares = torch.ones(len(classes)) if shares is None else torch.tensor(shares, dtype=torch.float32)
        if shares.shape != classes.shape or (shares <= 0).any():
            raise ValueError(f"shares must be {len(classes)} positive numbers, one for each class that occurs")
        self.reach = (shares / shares.sum()).cumsum(0)
        self.members = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        c = self.config
        uniform = torch.rand(6, batch, generator=generator)
        group = torch.searchsorted(self.reach, uniform[0]).clamp(max=len(self.count) - 1)
        clip = self.members[group, (uniform[1] * self.count[group]).long()]
        # Piece: its length, where it begins in the recording, and where it lies in the example.
        short = torch.rand(batch, generator=generator) < c.partial
        length = torch.where(short, ((c.shortest + (1 - c.shortest) * uniform[2]) * c.length).long(), c.length).minimum(self.size[clip])
        begin = (uniform[3] * (self.size[clip] - length + 1)).long()
        place = (uniform[4] * (c.length - length + 1)).long()
        offset = torch.arange(c.length) - place[:, None]
        inside = (offset >= 0) & (offset < length[:, None])
        at = (self.start[clip] + begin)[:, None] + offset.clamp(min=0).minimum(length[:, None] - 1)
        x0 = self.audio[at] * inside
        rms = x0.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4)
        level = 10 ** ((c.level_db[0] + (c.level_db[1] - c.level_db[0]) * uniform[5]) / 20)
        sign = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
        return x0 * (sign * level)[:, None] / rms, self.label[clip]
