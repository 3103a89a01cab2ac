"""Real recordings in a folder with a manifest: speech by many speakers, sounds of many classes, split so that nothing
leaks.

The folder holds `manifest.csv` with the columns file, source, label ("speaker:ID", or a class of sound), license,
attribution and seconds, and the files that it names.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from .._checks import one_of
from .._files import file_hash
from .mixing import TASKS, Mixture, of_clips, slug
from .mixture_lists import SEED, SOUND_SECONDS, Deck, draw
from .pocket_corpus import SAMPLE_RATE, SPLITS, Clip
from .pocket_corpus import manifest_rows as rows_of_csv

# Classes with enough recordings to train on; "ESC10_" of the folder's names is left out.
SOUND_CLASSES = (
    "Acoustic_guitar", "Baby_cry", "Bark", "Bass_drum", "Cello", "Chainsaw", "Clock_tick", "Double_bass",
    "Electric_piano", "Fire_crackling", "Flute", "Helicopter", "Hi-hat", "Person_sneeze", "Rain", "Rooster",
    "Saxophone", "Sea_waves", "Snare_drum", "Trumpet", "Violin_or_fiddle",
)  # fmt: skip
LABELS = {"speech": (), "sound": SOUND_CLASSES}
# one utterance each of the others is trained on
SPEAKERS = {"validation": ("2609", "3080"), "test": ("1998", "2414", "3005", "3331")}
# Sources (repositories) of which every clip of the class is a test clip: players or instruments that no prior has
# heard.
TEST_SOURCES = {
    "Acoustic_guitar": ("Discord-SFZ-GM-Bank",),
    "Bass_drum": ("sampled", "samples-alex-bainter"),
    "Double_bass": ("samples-alex-bainter",),
    "Electric_piano": ("Discord-SFZ-GM-Bank",),
    "Flute": ("samples-alex-bainter",),
    "Hi-hat": ("sampled",),
    "Saxophone": ("samples-alex-bainter",),
    "Snare_drum": ("sampled",),
}
TEST_FRACTION, VALIDATION_FRACTION = 0.2, 0.12  # of a class's clips; the first where no source is set aside
TRIES = 8  # clips of the classes of a mixture; single hits are too loud at its levels, and other classes are dealt then
SHARE_ALIKE = "CC BY-SA"  # such clips are left out: what is made of them would have to be shared alike


@cache
def recordings(folder: Path, kind: str, split: str) -> tuple[Clip, ...]:
    """The clips of one kind and split, at 8 kHz.

    Speech is split by speaker. A sound's test clips come from sources of their own where its class has several
    (`TEST_SOURCES`); else, and for validation, clips that belong together stay together: one Freesound identifier, or
    one note or hit with its microphones and repetitions.

    Args:
        folder: with `manifest.csv`. kind: "speech" or "sound". split: "train", "validation" or "test".

    Raises:
        FileNotFoundError: the folder has no manifest.
        ValueError: another kind or split.
    """
    one_of("kind", kind, LABELS)
    one_of("split", split, SPLITS)
    rows = [row for row in manifest_rows(folder) if row["kind"] == kind]
    splits = _speech_splits(rows) if kind == "speech" else _sound_splits(rows)
    return tuple(
        Clip(row["file"], kind, row["label"], split, split == "train" or kind == "sound", "",
             round(float(row["seconds"]) * SAMPLE_RATE), folder / row["file"])
        for row in rows if splits[row["file"]] == split
    )  # fmt: skip


@cache
def recorded_mixtures(folder: Path, task: str, split: str, count: int) -> tuple[Mixture, ...]:
    """Mixtures of real recordings by the rules of the pocket lists, 2 s at 8 kHz, the same each time; classes come
    equally often.

    Raises:
        FileNotFoundError, ValueError: as `recordings`; or another task.
    """
    one_of("task", task, TASKS)
    clips = {kind: recordings(folder, kind, split) for kind in LABELS}
    return tuple(of_clips(chosen, entry, task, split) for chosen, entry in draw_entries(clips, task, split, count))


def draw_entries(
    clips: Mapping[str, Sequence[Clip]], task: str, split: str, count: int
) -> list[tuple[list[Clip], dict]]:
    """The clips of `count` mixtures of one task and how each is cut and placed, the same each time; classes come
    equally often.

    Args:
        clips: those of each kind in this split.
    """
    rng = random.Random(f"{SEED} recordings {task} {split}")
    decks = {(kind, label): Deck([c for c in some if c.label == label], rng)
             for kind, some in clips.items() for label in sorted({c.label for c in some})}  # fmt: skip
    choose = {kind: Deck([label for k, label in decks if k == kind], rng) for kind in clips}
    found = []
    while len(found) < count:
        labels = []
        for kind in TASKS[task]:
            labels.append((kind, choose[kind].deal(barred=[label for k, label in labels if k == kind])))
        for _ in range(TRIES):
            chosen = [decks[label].deal() for label in labels]
            seconds = [(lambda: 2.0) if c.kind == "speech" else (lambda: rng.uniform(*SOUND_SECONDS)) for c in chosen]
            if parts := draw(list(zip((c.audio for c in chosen), seconds, strict=True)), rng):
                name = f"recorded_{slug(task)}_{split}_{len(found):02d}"
                found.append((chosen, {"id": name, "sources": parts}))
                break
    return found


def recordings_hash(folder: Path) -> str:
    """SHA-256 of the manifest (hexadecimal), for model cards."""
    return file_hash(Path(folder) / "manifest.csv")


def manifest_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the manifest that are used, with their kind and a label of this module."""
    path = Path(folder) / "manifest.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; a folder of recordings holds manifest.csv and the files that it names"
        )
    found = []
    for row in rows_of_csv(path):
        kind, _, speaker = row["label"].partition(":")
        if kind == "speaker":
            found.append(row | {"kind": "speech", "label": speaker})
        elif (label := row["label"].removeprefix("ESC10_")) in SOUND_CLASSES and SHARE_ALIKE not in row["license"]:
            found.append(row | {"kind": "sound", "label": label})
    return found


def _speech_splits(rows: list[dict[str, str]]) -> dict[str, str]:
    """File -> split, by speaker."""
    splits = {speaker: split for split, speakers in SPEAKERS.items() for speaker in speakers}
    return {row["file"]: splits.get(row["label"], "train") for row in rows}


def _sound_splits(rows: list[dict[str, str]]) -> dict[str, str]:
    """File -> split. Groups of a class go to test and validation in an order that their names alone fix."""
    splits = {}
    for label in sorted({row["label"] for row in rows}):
        groups = defaultdict(list)
        for row in rows:
            if row["label"] != label:
                continue
            if _source(row) in TEST_SOURCES.get(label, ()):
                splits[row["file"]] = "test"
            else:
                groups[_group(row)].append(row["file"])
        clips = sum(map(len, groups.values()))
        wanted = {
            "test": 0 if label in TEST_SOURCES else TEST_FRACTION * clips,
            "validation": VALIDATION_FRACTION * clips,
        }
        for group in sorted(groups, key=lambda name: hashlib.sha256(f"{label} {name}".encode()).digest()):
            split = next((name for name, count in wanted.items() if count > 0), "train")
            splits |= dict.fromkeys(groups[group], split)
            if split != "train":
                wanted[split] -= len(groups[group])
    return splits


def _source(row: dict[str, str]) -> str:
    """Repository that a clip comes from: "github:OWNER/NAME@COMMIT:PATH" -> NAME."""
    return row["source"].partition("@")[0].rpartition("/")[2]


def _group(row: dict[str, str]) -> str:
    """What a clip shares with its siblings: the Freesound identifier of ESC-10's FOLD-ID-TAKE, or the first two words
    of a sample's name, which tell the note or the hit; dynamics, repetitions and microphones follow."""
    stem = Path(row["source"].rpartition(":")[2]).stem
    words = stem.replace("-", "_").split("_")
    if _source(row) == "ESC-10":
        return words[1]
    return " ".join(words[:2])
