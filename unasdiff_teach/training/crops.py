"""Training examples: random crops of recordings, placed, levelled and flipped; from memory, or from the files of a
manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..data.manifest import Manifest


EQ_BANDS = 6


@dataclass(frozen=True)
class CropConfig:
    """How an example is cut. The last four make microphones, rooms and crowds vary; `Crops` alone knows them.

    Attributes:
        length: samples N of an example.
        level_db: range of the RMS over the whole example, silence included, in dB re full scale. It must cover the
            levels that separation meets: -25 to -20 dB raw, up to about -11 dB for a mixture normalised to its peak.
        partial: fraction of examples that hold a shorter piece, of `shortest` N samples or more, at a random place in
            silence.
        speeds: playback speeds; each changes pitch and duration alike.
        equalise_db: largest gain of a random equaliser, smooth over `EQ_BANDS` octaves below half the rate; 0 is none.
        reverberant: fraction of examples heard in a random small room (`room`).
        layered: fraction of the examples of `layered_labels` that hold two clips of their class at once.
        layered_labels: class indices whose sound is often many at once, as rain.
    """

    length: int
    level_db: tuple[float, float] = (-25.0, -20.0)
    partial: float = 0.0
    shortest: float = 0.4
    speeds: tuple[float, ...] = (1.0,)
    equalise_db: float = 0.0
    reverberant: float = 0.0
    layered: float = 0.0
    layered_labels: tuple[int, ...] = ()


def rows_of(draw: Callable, batch: int, generator: torch.Generator, rows: slice) -> Tensor | tuple[Tensor, ...]:
    """These rows of draw(batch, generator), with the same numbers from the generator; a draw that has `rows` reads no
    others.
    """
    if hasattr(draw, "rows"):
        return draw.rows(batch, generator, rows)
    drawn = draw(batch, generator)
    return drawn[rows] if isinstance(drawn, Tensor) else tuple(a[rows] for a in drawn)


def settings(draw: Callable) -> dict:
    """What else than its recordings changes the examples of a draw, as plain values; nothing of one that cannot say."""
    return draw.settings() if hasattr(draw, "settings") else {}


class Draws:
    """draw(batch, generator) -> signals [batch, N], labels [batch], in two steps: examples are chosen, then made."""

    config: CropConfig

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.rows(batch, generator, slice(None))

    def rows(self, batch: int, generator: torch.Generator, rows: slice) -> tuple[Tensor, Tensor]:
        """These rows of a batch; no other example is made."""
        chosen, label = self.choose(batch, generator)
        return self.signals(chosen[rows]), label[rows]

    def settings(self) -> dict:
        """See `settings`."""
        return asdict(self.config)

    def choose(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What makes each example, [batch, ...], and its label [batch]; all that is random."""
        raise NotImplementedError

    def signals(self, chosen: Tensor) -> Tensor:
        """The examples [B, N] of what was chosen [B, ...]."""
        raise NotImplementedError


class Crops(Draws):
    """draw(batch, generator) -> signals [batch, N], labels [batch]; first a class is drawn, then one of its clips.

    Args:
        waveforms: one [length] tensor for each recording, all at one rate.
        labels: class index of each recording.
        shares: how often each class is drawn, in the order of the indices that occur; by default all equally.
    """

    def __init__(
        self,
        waveforms: Sequence[Tensor],
        labels: Sequence[int],
        config: CropConfig,
        shares: Sequence[float] | None = None,
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
        shares = shares / shares.sum()
        self.shares, self.reach = tuple(shares.tolist()), shares.cumsum(0)
        self.members = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)

    def choose(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        c = self.config
        uniform = torch.rand(6, batch, generator=generator)
        group = torch.searchsorted(self.reach, uniform[0]).clamp(max=len(self.count) - 1)
        x0, label = self._cut(group, uniform[1:5], generator)
        if c.layered:
            other, _ = self._cut(group, torch.rand(4, batch, generator=generator), generator)
            twice = torch.rand(batch, generator=generator) < c.layered
            twice &= torch.isin(label, torch.tensor(c.layered_labels, dtype=label.dtype))
            x0 = x0 + other * twice[:, None] * (_rms(x0) / _rms(other))
        if c.equalise_db or c.reverberant:
            x0 = coloured(x0, c, generator)
        level = 10 ** ((c.level_db[0] + (c.level_db[1] - c.level_db[0]) * uniform[5]) / 20)
        sign = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
        return x0 * (sign * level)[:, None] / _rms(x0), label

    def settings(self) -> dict:
        return super().settings() | {"shares": self.shares}

    def signals(self, chosen: Tensor) -> Tensor:
        return chosen  # from memory they are made at once

    def _cut(self, group: Tensor, uniform: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One example [B, N] and label [B] of each group [B], from uniform numbers [4, B]."""
        c = self.config
        clip = self.members[group, (uniform[0] * self.count[group]).long()]
        # Piece: its length, where it begins in the recording, and where it lies in the example.
        short = torch.rand(len(group), generator=generator) < c.partial
        length = torch.where(short, ((c.shortest + (1 - c.shortest) * uniform[1]) * c.length).long(), c.length).minimum(
            self.size[clip]
        )
        begin = (uniform[2] * (self.size[clip] - length + 1)).long()
        place = (uniform[3] * (c.length - length + 1)).long()
        offset = torch.arange(c.length) - place[:, None]
        inside = (offset >= 0) & (offset < length[:, None])
        at = (self.start[clip] + begin)[:, None] + offset.clamp(min=0).minimum(length[:, None] - 1)
        return self.audio[at] * inside, self.label[clip]


def coloured(x0: Tensor, config: CropConfig, generator: torch.Generator) -> Tensor:
    """Signals [B, N] through a random equaliser, and some of them through a random room; the tail beyond N is cut."""
    size = 2 * x0.shape[-1]  # the room's response must not wrap around
    spectrum = torch.fft.rfft(x0, size)
    # Gains at octaves below half the rate, straight lines in between: smooth, as those of microphones and loudspeakers
    # are.
    knots = config.equalise_db * (2 * torch.rand(len(x0), EQ_BANDS, generator=generator) - 1)
    octave = (EQ_BANDS - 1 + torch.linspace(0, 1, spectrum.shape[-1]).clamp(min=1e-6).log2()).clamp(min=0)
    below = octave.long().clamp(max=EQ_BANDS - 2)
    gain_db = torch.lerp(knots[:, below], knots[:, below + 1], octave - below)
    spectrum = spectrum * 10 ** (gain_db / 20)
    if config.reverberant:
        there = torch.rand(len(x0), generator=generator) < config.reverberant
        spectrum = torch.where(there[:, None], spectrum * torch.fft.rfft(room(x0.shape, generator), size), spectrum)
    return torch.fft.irfft(spectrum, size)[:, : x0.shape[-1]]


def room(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Impulse responses [B, N]: the direct sound, then noise that falls by 60 dB within 0.05 to 0.4 of N, 3 to 15 dB
    weaker.
    """
    B, N = shape
    time = torch.arange(N) / N
    decay, weaker_db = (torch.rand(B, 1, generator=generator) for _ in range(2))
    tail = torch.randn(shape, generator=generator) * 10 ** (-3 * time / (0.05 + 0.35 * decay))
    tail[:, 0] = 0
    tail *= 10 ** (-(3 + 12 * weaker_db) / 20) / tail.square().sum(-1, keepdim=True).sqrt()
    tail[:, 0] = 1
    return tail


def _rms(x0: Tensor) -> Tensor:
    """[B, N] -> [B, 1], at least 1e-4."""
    return x0.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4)


class ManifestCrops(Draws):
    """draw(batch, generator) -> signals [batch, N], labels [batch], read from the files of a manifest, a crop at a
    time.

    First a class is drawn, then one of its clips, both uniformly, then one of its active spans in proportion to its
    length. A span longer than the example gives a random crop of it, a shorter one lies at a random place in silence,
    as the sounds of the paper's mixtures do. A class that is rare in the data set is so drawn as often as the others.

    Nothing is kept between two calls, and calls from several threads do not disturb each other.

    Args:
        manifest: a converted data set.
        split: a subset of `Manifest.clips`: "train", "fit", "validation" or "test".
        seconds: N in seconds; the paper has 4.
        config: level, fraction of shorter pieces, speeds; its length is that of `seconds`.

    Raises:
        ValueError: the split is empty, or none of its clips sounds anywhere.
    """

    def __init__(
        self, manifest: Manifest, split: str = "train", seconds: float = 4.0, config: CropConfig | None = None
    ):
        length = round(seconds * manifest.sample_rate)
        self.manifest, self.config = manifest, replace(config or CropConfig(length), length=length)
        rows = manifest.clips(split)
        rows = rows[[bool(spans) for spans in rows["spans"]]]
        if rows.empty:
            raise ValueError(f"no {split} clip of {manifest.name} sounds anywhere")
        self.paths, self.samples = list(rows["path"]), list(rows["samples"])
        rate = manifest.sample_rate
        self.spans = [torch.tensor([[round(a * rate), round(b * rate)] for a, b in spans]) for spans in rows["spans"]]
        self.label = torch.tensor(manifest.classes(rows))
        self.members = [torch.nonzero(self.label == c).flatten() for c in self.label.unique()]

    def __len__(self) -> int:
        """Clips to draw from."""
        return len(self.paths)

    def choose(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(batch, 10, generator=generator, dtype=torch.float64)
        return uniform, self.label[[self._clip(u_class, u_clip) for u_class, u_clip in uniform[:, :2].tolist()]]

    def signals(self, chosen: Tensor) -> Tensor:
        return torch.stack([self._example(*uniform) for uniform in chosen.tolist()])

    def _clip(self, u_class: float, u_clip: float) -> int:
        members = self.members[int(u_class * len(self.members))]
        return int(members[int(u_clip * len(members))])

    def _example(
        self, u_class: float, u_clip: float, u_span: float, u_speed: float, u_short: float, u_length: float,
        u_begin: float, u_place: float, u_level: float, u_sign: float,
    ) -> Tensor:  # fmt: skip
        """One example [N], from ten uniform numbers in 0..1."""
        c, clip = self.config, self._clip(u_class, u_clip)
        first, last = self._span(clip, u_span)
        speed = c.speeds[int(u_speed * len(c.speeds))]
        length = c.length
        if u_short < c.partial:
            length = int((c.shortest + (1 - c.shortest) * u_length) * length)
        taken = min(last - first, round(length * speed))
        piece = self._read(clip, first + int(u_begin * (last - first - taken + 1)), taken)
        if speed != 1:
            from torchaudio.functional import resample

            piece = resample(piece, round(1000 * speed), 1000)[: c.length]
        x0 = torch.zeros(c.length)
        place = int(u_place * (c.length - len(piece) + 1))
        x0[place : place + len(piece)] = piece
        rms = x0.square().mean().sqrt().clamp(min=1e-4)
        level = 10 ** ((c.level_db[0] + (c.level_db[1] - c.level_db[0]) * u_level) / 20)
        return x0 * ((level if u_sign < 0.5 else -level) / rms)

    def _span(self, clip: int, uniform: float) -> tuple[int, int]:
        """First and one-past-last sample of an active span, drawn in proportion to its length."""
        spans = self.spans[clip]
        reach = (spans[:, 1] - spans[:, 0]).cumsum(0)
        first, last = spans[int((reach <= uniform * int(reach[-1])).sum())].tolist()
        return first, min(last, self.samples[clip])

    def _read(self, clip: int, start: int, frames: int) -> Tensor:
        """A piece of a clip, float32 [frames]."""
        import soundfile

        path = self.manifest.folder / self.paths[clip]
        try:
            samples, rate = soundfile.read(path, frames, start, dtype="float32")
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise ValueError(
                f"{path} cannot be read: {error}; `unasdiff-teach data verify` lists what is damaged"
            ) from error
        if samples.shape != (frames,) or rate != self.manifest.sample_rate:
            raise ValueError(
                f"{path} gave {samples.shape} at {rate} Hz, not {frames} samples at {self.manifest.sample_rate} Hz; "
                "`unasdiff-teach data verify` lists what is damaged"
            )
        return torch.from_numpy(samples)
