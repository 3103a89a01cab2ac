"""Mixture synthesis by the paper's rules and by its code's, and fixed lists of mixtures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .._checks import one_of
from .._files import read_json
from .audio import SILENCE_DB, active_span, gain, read, rms_db
from .pocket_corpus import CORPORA, CORPUS, SAMPLE_RATE, Clip, clip_by_id, pocket_hash

SPEECH_SOUND = "1 speech + 1 sound"
TASKS = {
    SPEECH_SOUND: ("speech", "sound"),
    "1 speech + 2 sounds": ("speech", "sound", "sound"),
    "2 sounds": ("sound", "sound"),
    "3 sounds": ("sound", "sound", "sound"),
    "2 speech": ("speech", "speech"),
}
LIST_SPLITS = ("validation", "test")
REAL_AUDIO = "UNASDIFF_REAL_AUDIO"
SILENT_BELOW_DB = -60.0  # a crop this quiet holds nothing that could be scaled to a level


def slug(task: str) -> str:
    """A task as part of a file name: "1 speech + 1 sound" is 1speech_1sound."""
    return task.replace(" + ", "_").replace(" ", "")


@dataclass(frozen=True)
class MixtureRules:
    """How single sources become a mixture (the paper's section on mixture generation).

    Attributes:
        length: samples of the canvas.
        sample_rate: Hz.
        level_db: each source's RMS is drawn uniformly between these, in dB.
        rms_over: "canvas", silence included (the code), or "active", the samples that the source occupies
            (difference 23 between paper and code).
        placement: "paper", every source at an independent uniform offset, or "authors", each source starts while its
            predecessor sounds (difference 22).
        mixture_noise: standard deviation of the white noise n of Eq. 3 (difference 19: the code has none).
        peak: scale mixture and sources together so that the mixture peaks here; None leaves them.
    """

    length: int
    sample_rate: int
    level_db: tuple[float, float] = (-25.0, -20.0)
    rms_over: str = "canvas"
    placement: str = "paper"
    mixture_noise: float = 0.0
    peak: float | None = None

    def __post_init__(self):
        one_of("rms_over", self.rms_over, ("canvas", "active"))
        one_of("placement", self.placement, ("paper", "authors"))
        if self.length < 1:
            raise ValueError(f"length is {self.length}; at least one sample is needed")
        if self.level_db[0] > self.level_db[1]:
            raise ValueError(f"level_db is {self.level_db}; (lowest, highest) is needed")

    @classmethod
    def paper(cls) -> MixtureRules:
        """The text: 4 s at 16 kHz, a source's level over the source, independent offsets."""
        return cls(length=64000, sample_rate=16000, rms_over="active")

    @classmethod
    def authors(cls) -> MixtureRules:
        """The released code: level over the canvas, overlapping offsets, mixture peak 0.95."""
        return cls(length=64000, sample_rate=16000, placement="authors", peak=0.95)

    @classmethod
    def pocket(cls) -> MixtureRules:
        """The paper's placement and the code's levels on 2 s at 8 kHz: the shipped lists."""
        return cls(length=16000, sample_rate=SAMPLE_RATE)

    def replace(self, **changes) -> MixtureRules:
        return replace(self, **changes)


@dataclass(frozen=True)
class Part:
    """What one source gives: clip[start : start + length] at `offset` in the canvas, at `level_db`.

    All but the level are in samples.
    """

    start: int
    length: int
    offset: int
    level_db: float


@dataclass(frozen=True)
class Mixture:
    """A mixture and what it is made of, K sources on a canvas of N samples.

    Attributes:
        mixture: float32 [N].
        sources: float32 [K, N]; they sum to the mixture (but for noise, if the rules add any).
        parts: how each source was cut, placed and scaled.
        sample_rate: Hz.
        id, task, split: these and all that follow are of a fixed list alone.
        clip_ids: [K].
        kinds: [K], "speech" or "sound".
        labels: [K], None for speech, the class for a sound.
        voices: [K], None for a sound, and for a speaker without a name.
        heard: [K], whether a pocket prior was trained on this voice or class.
    """

    mixture: Tensor
    sources: Tensor
    parts: tuple[Part, ...]
    sample_rate: int
    id: str = ""
    task: str = ""
    split: str = ""
    clip_ids: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    labels: tuple[str | None, ...] = ()
    voices: tuple[str | None, ...] = ()
    heard: tuple[bool, ...] = ()

    @property
    def levels_db(self) -> tuple[float, ...]:
        """RMS of each source in dB, over what the rules say."""
        return tuple(part.level_db for part in self.parts)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First sample of each source in the canvas."""
        return tuple(part.offset for part in self.parts)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform over low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _crop(clip: Tensor, length: int, generator: torch.Generator) -> tuple[int, int]:
    """(start, length) of a random crop of at most `length` samples that is not silent."""
    length = min(length, len(clip))
    for _ in range(100):
        start = _integer(0, len(clip) - length, generator)
        if rms_db(clip[start : start + length]) > SILENT_BELOW_DB:
            return start, length
    # Mostly silence: the crop that holds the loudest sample is the only safe one.
    loudest = int(clip.abs().argmax())
    return min(max(0, loudest - length // 2), len(clip) - length), length


def _place(lengths: Sequence[int], rules: MixtureRules, generator: torch.Generator) -> list[int]:
    """Offset of each source, by `rules.placement`."""
    offsets = []
    for k, length in enumerate(lengths):
        begin, end = 0, rules.length - length
        if rules.placement == "authors" and k > 0:
            begin = min(offsets[-1], end)
            end = min(offsets[-1] + lengths[k - 1], end)
        offsets.append(_integer(begin, end, generator))
    return offsets


def build(clips: Sequence[Tensor], parts: Sequence[Part], rules: MixtureRules, noise: Tensor | None = None) -> Mixture:
    """Cut, place, scale and add clips. Nothing is random here but `noise`.

    Args:
        clips: K tensors [N_k].
        parts: K of `Part`.
        noise: None or [N], added to the mixture.

    Raises:
        ValueError: a part of a clip is silent or does not fit.
    """
    sources = torch.zeros(len(clips), rules.length)
    for k, (clip, part) in enumerate(zip(clips, parts, strict=True)):
        piece = clip[part.start : part.start + part.length]
        if len(piece) != part.length or not 0 <= part.offset <= rules.length - part.length:
            raise ValueError(
                f"source {k}: {part} does not fit {len(clip)} samples of clip on a canvas of {rules.length}"
            )
        sources[k, part.offset : part.offset + part.length] = piece
        level = float(rms_db((sources[k] if rules.rms_over == "canvas" else piece).double()))
        if level <= SILENCE_DB:
            raise ValueError(f"source {k} is silent there: it cannot be scaled to a level")
        sources[k] *= gain(part.level_db - level)
    mixture = sources.sum(0) if noise is None else sources.sum(0) + noise
    if rules.peak is not None:
        factor = rules.peak / float(mixture.abs().max())
        mixture, sources = mixture * factor, sources * factor
    return Mixture(mixture, sources, tuple(parts), rules.sample_rate)


def synthesise(clips: Sequence[Tensor], rules: MixtureRules, seed: int | torch.Generator = 0) -> Mixture:
    """Make one random mixture by `rules`.

    A clip longer than the canvas is cropped at random, a shorter one is placed; then each source is scaled to a level
    drawn from `rules.level_db` (rounded to 0.001 dB, as the code does).

    Args:
        clips: K floating tensors [N_k] at `rules.sample_rate`.
        seed: an integer or a torch.Generator.

    Returns:
        A `Mixture`; its `parts` and `build` make it again.

    Raises:
        ValueError: no clips, or a clip that is empty, silent, not mono or not finite.
    """
    if len(clips) == 0:
        raise ValueError("clips is empty; at least one source is needed")
    for k, clip in enumerate(clips):
        if clip.ndim != 1 or len(clip) == 0:
            raise ValueError(f"clip {k} has shape {list(clip.shape)}; mono [N], N > 0 is needed")
        if not torch.isfinite(clip).all():
            raise ValueError(f"clip {k} holds NaN or infinite samples")
        if rms_db(clip) <= SILENCE_DB:
            raise ValueError(f"clip {k} is silent: it cannot be scaled to a level")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    crops = [_crop(clip, rules.length, generator) for clip in clips]
    offsets = _place([length for _, length in crops], rules, generator)
    parts = [
        Part(start, length, offset, round(_uniform(*rules.level_db, generator), 3))
        for (start, length), offset in zip(crops, offsets)
    ]
    noise = rules.mixture_noise * torch.randn(rules.length, generator=generator) if rules.mixture_noise > 0 else None
    return build(clips, parts, rules, noise)


def _parts(entry: Mapping) -> list[Part]:
    return [Part(s["start"], s["length"], s["offset"], s["level_db"]) for s in entry["sources"]]


def mixtures(
    task: str = SPEECH_SOUND, split: str = "test", count: int | None = None, corpus: str = "rendered"
) -> list[Mixture]:
    """The fixed list of pocket mixtures of one task: 2 s at 8 kHz, `MixtureRules.pocket()`.

    Only clips of the same split are in it: no prior has met the test clips, and half of the rendered test voices, and
    all real ones, neither. Sounds in one mixture differ in class, speakers in voice.

    Args:
        task: "1 speech + 1 sound", "1 speech + 2 sounds", "2 sounds", "3 sounds" or "2 speech". There are 40 test
            mixtures of each; for validation 24 of recordings, and 24 rendered ones of the first task, 12 of the others.
        split: "validation" or "test".
        count: only the first `count`; None gives all.
        corpus: "rendered" or "recorded".

    Returns:
        A list of `Mixture`, speech first in each.

    Raises:
        ValueError: an unknown task, split or corpus; more mixtures than there are; or the list was made for another
            corpus.
    """
    one_of("task", task, TASKS)
    one_of("split", split, LIST_SPLITS)
    clips = clip_by_id(split, corpus)
    stored = read_json(CORPORA[corpus] / "mixtures.json")
    if stored["corpus"] != pocket_hash(corpus):
        made_by = {"rendered": "mixture_lists", "recorded": "pack"}[corpus]
        raise ValueError(f"mixtures.json was made for another corpus; run `python -m unasdiff_teach.data.{made_by}`")
    entries = stored["lists"][task][split]
    if count is not None and not 1 <= count <= len(entries):
        raise ValueError(f"count is {count}; accepted: 1 to {len(entries)}, or None")
    return [
        of_clips([clips[source["clip"]] for source in entry["sources"]], entry, task, split)
        for entry in entries[:count]
    ]


def of_clips(clips: Sequence[Clip], entry: Mapping, task: str, split: str) -> Mixture:
    """The mixture of a list's entry (its id, and how each source is cut and placed) by `MixtureRules.pocket()`.

    Args:
        clips: K of `Clip`, in the order of the entry's sources.
    """
    return replace(
        build([clip.audio for clip in clips], _parts(entry), MixtureRules.pocket()),
        id=entry["id"],
        task=task,
        split=split,
        clip_ids=tuple(clip.id for clip in clips),
        kinds=tuple(clip.kind for clip in clips),
        labels=tuple(clip.label if clip.kind == "sound" else None for clip in clips),
        voices=tuple(clip.label if clip.kind == "speech" else None for clip in clips),
        heard=tuple(clip.heard for clip in clips),
    )


def real_audio_folder(root: str | Path | None = None) -> Path:
    """The folder of real recordings: `root`, or $UNASDIFF_REAL_AUDIO.

    Raises:
        FileNotFoundError: it is not there, or neither is given.
    """
    folder = root or os.environ.get(REAL_AUDIO)
    if not folder or not Path(folder).is_dir():
        where = f"at {folder}" if folder else "given"
        raise FileNotFoundError(
            f"no real recordings {where}: name their folder in the environment variable {REAL_AUDIO}"
        )
    return Path(folder)


def read_real(folder: Path, name: str) -> Tensor:
    """One real recording at 8 kHz, cut to its active span, float32 [N]."""
    audio, _ = read(folder / name, SAMPLE_RATE, mono="mean")
    start, end = active_span(audio, SAMPLE_RATE)
    return audio[start:end]


def real_mixtures(root: str | Path | None = None) -> list[Mixture]:
    """Ten fixed mixtures of real recordings: a person speaks, and one sound of the pocket classes.

    The rules are those of `mixtures`. The recordings (VCTK, FSDKaggle2018 and a speech benchmark) are not part of the
    package.

    Args:
        root: folder that holds them; by default $UNASDIFF_REAL_AUDIO.

    Raises:
        FileNotFoundError: the folder or a file is not there.
    """
    folder = real_audio_folder(root)
    stored = read_json(CORPUS / "real_mixtures.json")
    result = []
    for entry in stored["mixtures"]:
        names = [source["file"] for source in entry["sources"]]
        clips = [read_real(folder, name) for name in names]
        sound = Path(names[1]).name.split("__")[0]
        result.append(replace(
            build(clips, _parts(entry), MixtureRules.pocket()), id=entry["id"], task=SPEECH_SOUND, split="real",
            clip_ids=tuple(names), kinds=("speech", "sound"), labels=(None, sound), voices=(None, None), heard=(False,
            True),
        ))  # fmt: skip
    return result
