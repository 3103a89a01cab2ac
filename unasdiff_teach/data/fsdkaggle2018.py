"""FSDKaggle2018: sound events of 41 classes from Freesound (the paper's section on data sets).

Fonseca et al. 2018, doi:10.5281/zenodo.2552860, Creative Commons licences by clip. Labels, flags and licences are
those of the release after the competition. Its training list has 9,473 clips; the paper counts 9,470.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ._classes import FSDKAGGLE2018
from .archives import Archive, Member, members
from .convert import Item, Listing, Result, convert

NAME = "fsdkaggle2018"
_ZENODO = "https://zenodo.org/records/2552860/files"
ARCHIVES = tuple(
    Archive(
        f"FSDKaggle2018.{part}.zip", f"{_ZENODO}/FSDKaggle2018.{part}.zip", f"md5:{digest}", f"FSDKaggle2018.{part}"
    )
    for part, digest in (
        ("meta", "f16828ac8be0e5285b9175a12f90d784"),
        ("audio_test", "f85c8665c3fc39311ea1b748e194a81d"),
        ("audio_train", "a8b47ff4b52022c178f88fa5c6f080d0"),
    )
)
LISTS = {"train": "train_post_competition.csv", "test": "test_post_competition_scoring_clips.csv"}
CLIPS = {"train": 9_473, "test": 1_600}  # in the published lists
HOURS = 20  # about
LABELS = FSDKAGGLE2018
LICENCES = {
    "Creative Commons 0": "CC0",
    "Attribution": "CC BY",
    "Attribution Noncommercial": "CC BY-NC",
}


def listing(root: str | Path) -> Listing:
    """The clips of the training and the test list whose recordings are in `root`, archived or unpacked.

    Left out, and named: clips of a list without a recording, and clips whose label is not one of the 41.

    Raises:
        FileNotFoundError: the lists are not there.
        ValueError: a list is damaged: without its columns, or with a clip twice.
    """
    root = Path(root)
    meta, *audio = ARCHIVES
    lists = {PurePosixPath(member.name).name: member for member in members(root, meta)}
    items, left_out = [], []
    for split, archive in zip(("test", "train"), audio, strict=True):
        if LISTS[split] not in lists:
            raise FileNotFoundError(f"{meta.name} in {root} has no {LISTS[split]}")
        rows = _read_list(lists[LISTS[split]], ("fname", "label", "license"))
        lists[LISTS[split]].close()
        try:
            recordings = {PurePosixPath(member.name).name: member for member in members(root, archive)}
        except FileNotFoundError as error:
            left_out.append((archive.name, f"{error}; the {split} clips are missing"))
            continue
        for row in rows:
            name = row["fname"]
            if name not in recordings:
                left_out.append((f"{archive.unpacked}/{name}", "listed, but not there"))
            elif row["label"] not in LABELS:
                left_out.append((recordings[name].name, f"its label {row['label']!r} is not one of the 41"))
            else:
                items.append(_item(row, recordings[name], split))
    return Listing(tuple(items), tuple(left_out))


def _item(row: Mapping[str, str], recording: Member, split: str) -> Item:
    """`manually_verified` is a column of the training list; the test clips have all been checked."""
    identifier, label = PurePosixPath(row["fname"]).stem, row["label"]
    verified = True if split == "test" else row.get("manually_verified") == "1"
    licence = LICENCES.get(row["license"], row["license"])
    return Item(identifier, recording, f"clips/{label}/{identifier}.flac", split, label, None, verified, licence)


def _read_list(member: Member, columns: tuple[str, ...]) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(member.read().decode("utf-8"))))
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        raise ValueError(f"{member.name} is damaged: it has no column {', '.join(missing)}")
    names = [row["fname"] for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"{member.name} is damaged: it lists a clip twice")
    return rows


def prepare(root: str | Path, sample_rate: int = 16_000, workers: int | None = None, progress: bool = False) -> Result:
    """Convert what is in `root` into `ROOT/fsdkaggle2018-16k`; see `convert.convert` for how, and `listing` for what.

    The archives must be there and checked (`archives.fetch`, `archives.check`), or unpacked.
    """
    folder = Path(root) / f"{NAME}-{sample_rate // 1000}k"
    about = {"record": "zenodo.2552860", "licence": "Creative Commons, by clip"}
    return convert(listing(root), folder, NAME, "sound", LABELS, about, sample_rate, workers=workers, progress=progress)
