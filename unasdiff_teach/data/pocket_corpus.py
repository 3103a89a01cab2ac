"""The two corpora that are shipped with the package, at 8 kHz: "rendered", synthetic voices and sounds of a sound
font, and "recorded", real speakers and real sounds under free licences.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from .._checks import one_of
from .._files import replacing
from .audio import read

SAMPLE_RATE = 8000
CORPUS, RECORDED = (Path(__file__).parent / name for name in ("corpus", "recorded"))
CORPORA = {"rendered": CORPUS, "recorded": RECORDED}
SPLITS = ("train", "validation", "test")
VOICES = (
    "flite_rms", "flite_slt", "flite_kal16", "espeak_us_m3", "espeak_gb_f3", "espeak_us_m7", "flite_awb",
    "espeak_scotland_f5",
)  # fmt: skip
UNHEARD_VOICES = ("flite_awb", "espeak_scotland_f5")  # in the test split only
SOUND_CLASSES = (
    "Violin_or_fiddle", "Chime", "Flute", "Trumpet", "Glockenspiel", "Electric_piano", "Double_bass", "Snare_drum",
    "Hi-hat", "Cowbell", "Telephone", "Applause",
)  # fmt: skip
LABELS = {"speech": VOICES, "sound": tuple(sorted(SOUND_CLASSES))}  # the place of a name is its class index


@dataclass(frozen=True)
class Clip:
    """One clip of the corpus.

    Attributes:
        id: of the clip.
        kind: "speech" or "sound".
        label: voice or speaker, or name of the sound class.
        split: "train", "validation" or "test".
        heard: whether a prior may have been trained on this voice (always True for sounds: their classes are all
            heard, their test clips are not).
        text: the sentence, or the seed of the phrase; empty for a recording.
        length: samples.
        path: of its file.
        sample_rate: Hz.
    """

    id: str
    kind: str
    label: str
    split: str
    heard: bool
    text: str
    length: int
    path: Path
    sample_rate: int = SAMPLE_RATE

    @cached_property
    @torch.inference_mode(False)  # a later use may want gradients
    def audio(self) -> Tensor:
        """float32 [N] at `sample_rate`, read on first use.

        Raises:
            FileNotFoundError: the file is not there.
        """
        return read(self.path, self.sample_rate)[0]


class PocketSet(Sequence):
    """The clips of one kind and split, in the manifest's order.

    Args:
        kind: "speech" or "sound".
        split: "train", "validation" or "test".
        clips: of both.
        labels: names in a fixed order; a name's place is its class index (sounds: alphabetical). For speech they are
            voices or speakers.
    """

    def __init__(self, kind: str, split: str, clips: Iterable[Clip], labels: Iterable[str]):
        self.kind, self.split, self.clips = kind, split, tuple(clips)
        self.labels, self.sample_rate = tuple(labels), SAMPLE_RATE

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int | slice) -> Clip | tuple[Clip, ...]:
        return self.clips[index]

    def __repr__(self) -> str:
        return f"PocketSet({self.kind!r}, {self.split!r}, {len(self)} clips)"


def manifest_rows(path: str | Path = CORPUS / "manifest.csv") -> list[dict[str, str]]:
    """The manifest as a list of dictionaries of strings, one for each clip."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_manifest(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """Write a manifest, with the same bytes on every system, whole or not at all."""
    with replacing(path) as partial, open(partial, "w", newline="\n", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


@cache
def pocket_hash(corpus: str = "rendered") -> str:
    """SHA-256 of a corpus's manifest (hexadecimal), which holds a hash of every clip.

    Model cards quote it as the data that a prior was trained on. Line endings do not change it.
    """
    text = (_folder(corpus) / "manifest.csv").read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha256(text).hexdigest()


@cache
def pocket(kind: str, split: str = "train", corpus: str = "rendered") -> PocketSet:
    """The clips of one kind and split of a shipped corpus.

    Args:
        kind: "speech" or "sound".
        split: "train", "validation" or "test".
        corpus: "rendered" or "recorded".

    Raises:
        ValueError: another kind, split or corpus.
    """
    one_of("kind", kind, LABELS)
    one_of("split", split, SPLITS)
    folder = _folder(corpus)
    rows = [row for row in manifest_rows(folder / "manifest.csv") if row["kind"] == kind]
    rendered = corpus == "rendered"
    clips = [
        Clip(
            id=row["id"], kind=kind, label=row["label"], split=split,
            heard=row["label"] not in UNHEARD_VOICES if rendered else kind == "sound" or split == "train",
            text=row.get("text", ""), length=int(row["samples"]), path=folder / row["file"],
        )
        for row in rows
        if row["split"] == split
    ]  # fmt: skip
    return PocketSet(kind, split, clips, LABELS[kind] if rendered else sorted({row["label"] for row in rows}))


@cache
def clip_by_id(split: str, corpus: str = "rendered") -> dict[str, Clip]:
    """{id: Clip} of both kinds in one split."""
    return {clip.id: clip for kind in LABELS for clip in pocket(kind, split, corpus)}


def _folder(corpus: str) -> Path:
    one_of("corpus", corpus, CORPORA)
    return CORPORA[corpus]
