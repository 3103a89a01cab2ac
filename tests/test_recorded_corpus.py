"""The shipped recordings: complete, credited, as the manifest says, cleanly split, and mixed as the lists say."""

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import soundfile
import torch

from unasdiff_teach.data import mixtures, pocket, pocket_hash
from unasdiff_teach.data.mixing import LIST_SPLITS, TASKS
from unasdiff_teach.data.pocket_corpus import RECORDED, SAMPLE_RATE, SPLITS, manifest_rows
from unasdiff_teach.data.recordings import SOUND_CLASSES, TEST_SOURCES

ROWS = manifest_rows(RECORDED / "manifest.csv")
MIXTURES = {"validation": 24, "test": 40}


def test_every_file_is_what_the_manifest_says():
    files = {path.relative_to(RECORDED).as_posix() for path in RECORDED.rglob("*") if path.suffix in (".ogg", ".flac")}
    assert files == {row["file"] for row in ROWS} and len(files) == len(ROWS)
    for row in ROWS:
        path = RECORDED / row["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"], row["id"]
        header = soundfile.info(path)
        assert (header.frames, header.samplerate, header.channels) == (int(row["samples"]), SAMPLE_RATE, 1)
        assert path.suffix == (".ogg" if row["split"] == "train" else ".flac")
    assert sum(path.stat().st_size for path in RECORDED.rglob("*")) < 35e6


def test_all_may_be_shipped_and_are_credited():
    assert {row["licence"] for row in ROWS} == {"CC0", "CC BY 3.0", "CC BY 4.0", "MIT"}
    assert all(row["credit"] and row["source"] for row in ROWS)
    with open(RECORDED / "speakers.csv", newline="", encoding="utf-8") as file:
        readers = {row["speaker"]: row["librivox_reader"] for row in csv.DictReader(file)}
    assert {row["label"] for row in ROWS if row["kind"] == "speech"} <= readers.keys()


def test_speakers_and_classes():
    speakers = {split: {clip.label for clip in pocket("speech", split, "recorded")} for split in SPLITS}
    assert len(speakers["train"]) == 251 and sum(map(len, speakers.values())) == len(set.union(*speakers.values()))
    for split in SPLITS:
        sounds = pocket("sound", split, "recorded")
        assert sounds.labels == SOUND_CLASSES and {clip.label for clip in sounds} == set(SOUND_CLASSES)
    assert not any(clip.heard for clip in pocket("speech", "test", "recorded"))


def test_splits_of_sounds_share_no_recording():
    seen = defaultdict(set)
    for row in ROWS:
        repository = row["source"].partition("@")[0].rpartition("/")[2]
        name = Path(row["source"].rpartition(":")[2]).stem
        if repository == "ESC-10":
            seen["freesound", name.split("-")[1]].add(row["split"])
        if row["label"] in TEST_SOURCES:
            seen[row["label"], repository].add(row["split"] == "test")
    assert len(seen) > 150 and all(len(splits) == 1 for splits in seen.values())
    assert len({row["sha256"] for row in ROWS}) == len({row["id"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("split", LIST_SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_lists(task, split):
    items = mixtures(task, split, corpus="recorded")
    known = {clip.id for kind in ("speech", "sound") for clip in pocket(kind, split, "recorded")}
    assert len(items) == MIXTURES[split] == len({item.id for item in items})
    for item in items:
        assert item.kinds == TASKS[task] and set(item.clip_ids) <= known
        torch.testing.assert_close(item.sources.sum(0), item.mixture)
        assert item.mixture.shape == (2 * SAMPLE_RATE,) and float(item.mixture.abs().max()) < 1
        assert all(-25 <= level <= -20 for level in item.levels_db)
        names = [label or voice for label, voice in zip(item.labels, item.voices, strict=True)]
        assert len(set(names)) == len(names)
    classes = Counter(label for item in items for label in item.labels if label)
    rarest, most = (min(classes.values()), max(classes.values())) if classes else (0, 0)
    assert most - rarest <= 2 and (not classes or len(classes) >= 19)


def test_another_corpus_is_refused():
    for call in (
        lambda: pocket("speech", corpus="studio"),
        lambda: mixtures(corpus="studio"),
        lambda: pocket_hash("studio"),
    ):
        with pytest.raises(ValueError, match="corpus is 'studio'; accepted: 'rendered', 'recorded'"):
            call()
