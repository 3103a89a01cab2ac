"""Real recordings in a folder: splits that do not leak, mixtures, training on them, and the search for a
configuration.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch

from unasdiff_teach.data import pack
from unasdiff_teach.data.mixing import REAL_AUDIO, TASKS
from unasdiff_teach.data.recordings import (
    LABELS,
    SOUND_CLASSES,
    SPEAKERS,
    TEST_SOURCES,
    draw_entries,
    recorded_mixtures,
    recordings,
    recordings_hash,
)  # fmt: skip
from unasdiff_teach.data.render import RMS_DB
from unasdiff_teach.evaluation import augmentation, codec, search
from unasdiff_teach.networks import TriplePathConfig
from unasdiff_teach.priors.neural import PriorConfig, read
from unasdiff_teach.schedule import NoiseSchedule
from unasdiff_teach.training.pocket import Corpus
from unasdiff_teach.training.recipes import SPEECH, crop

SPLITS = ("train", "validation", "test")
TINY = TriplePathConfig.pocket(22).replace(
    channels=8, embedding=16, heads=2, depths=(1, 1, 1, 1, 1), patch=(8, 4), squeezed=4
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Short noises at 16 kHz, named and credited as the real ones are."""
    root = tmp_path_factory.mktemp("recordings")
    rows = []
    for speakers, utterances in ((["19", "26", "40"], 1), (sum(SPEAKERS.values(), ()), 3)):
        rows += [
            (f"speech/{s}-{i}.flac", f"github:a/speech@1:{s}-{i}.flac", f"speaker:{s}", "CC BY 4.0")
            for s in speakers
            for i in range(utterances)
        ]
    for label in ("Rain", "Rooster", "Bark"):
        name = label if label == "Bark" else f"ESC10_{label}"
        rows += [
            (f"sounds/{name}/{i}-{take}.flac", f"github:k/ESC-10@1:x/1-{100 + i}-{take}.ogg", name, "CC0")
            for i in range(10) for take in "AB"
        ]  # fmt: skip
    rows += [
        (f"sounds/Saxophone/{source}{note}{mic}.flac", f"github:s/{source}@1:x/{note}_f_rr1_{mic}.wav", "Saxophone",
        "CC0") for source in ("weresax", "samples-alex-bainter") for note in ("a2", "a3", "b2", "c3", "d3",
        "e3") for mic in ("cnd", "dnm")
    ]  # fmt: skip
    rows += [("sounds/Hi-hat/1.flac", "github:o/sampled@1:x/1.wav", "Hi-hat", "CC BY-SA 3.0")]
    rows += [("sounds/Knock/1.flac", "github:o/knocks@1:x/1.wav", "Knock", "CC0")]
    generator = torch.Generator().manual_seed(0)
    with open(root / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "source", "label", "license", "attribution", "seconds"])
        for name, source, label, licence in rows:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / name, 0.05 * torch.randn(40_000, generator=generator).numpy(), 16_000)
            writer.writerow([name, source, label, licence, "somebody", "2.50"])
    return root


def every(folder: Path, kind: str) -> dict[str, tuple]:
    return {split: recordings(folder, kind, split) for split in SPLITS}


def apart(groups: dict[str, set[str]]) -> bool:
    """Whether no group has clips in two splits."""
    return all(len(splits) == 1 for splits in groups.values())


def test_speech_is_split_by_speaker(folder):
    found = every(folder, "speech")
    for split, speakers in SPEAKERS.items():
        assert {clip.label for clip in found[split]} == set(speakers)
    assert {clip.label for clip in found["train"]} == {"19", "26", "40"}
    assert not any(clip.heard for clip in found["test"])


def test_takes_of_one_freesound_identifier_stay_together(folder):
    groups = defaultdict(set)
    for split, clips in every(folder, "sound").items():
        for clip in clips:
            if clip.label in ("Rain", "Rooster", "Bark"):
                groups[clip.label, Path(clip.id).stem.split("-")[0]].add(split)
    assert len(groups) == 30 and apart(groups)
    counts = Counter(next(iter(splits)) for splits in groups.values())
    assert counts == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }  # of each class 2 of 10 for testing (20 %), 2 for validation


def test_a_source_set_aside_is_heard_in_no_training(folder):
    sax = {split: [c.id for c in clips if c.label == "Saxophone"] for split, clips in every(folder, "sound").items()}
    assert len(sax["test"]) == 12 and all("samples-alex-bainter" in name for name in sax["test"])
    assert not any("samples-alex-bainter" in name for split in ("train", "validation") for name in sax[split])
    groups = defaultdict(set)
    for split in ("train", "validation"):
        for name in sax[split]:
            groups[Path(name).stem[:-3]].add(split)
    assert len(groups) == 6 and apart(groups), "two microphones of one note are in two splits"


def test_share_alike_and_rare_classes_are_left_out(folder):
    names = {clip.label for clips in every(folder, "sound").values() for clip in clips}
    assert names == {"Rain", "Rooster", "Bark", "Saxophone"}


def test_audio_is_at_8_khz(folder):
    clip = recordings(folder, "sound", "train")[0]
    assert clip.sample_rate == 8000 and len(clip.audio) == clip.length == 20_000


@pytest.mark.parametrize("task", TASKS)
def test_mixtures(folder, task):
    found = recorded_mixtures(folder, task, "validation", 6)
    known = {clip.id for kind in LABELS for clip in recordings(folder, kind, "validation")}
    for mixture in found:
        torch.testing.assert_close(mixture.sources.sum(0), mixture.mixture)
        assert mixture.kinds == TASKS[task] and set(mixture.clip_ids) <= known
        sounding = [label or voice for label, voice in zip(mixture.labels, mixture.voices, strict=True)]
        assert len(set(sounding)) == len(sounding)
    recorded_mixtures.cache_clear()
    for a, b in zip(found, recorded_mixtures(folder, task, "validation", 6), strict=True):
        assert a.clip_ids == b.clip_ids and torch.equal(a.mixture, b.mixture)


def test_packing_keeps_splits_and_credits(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "COUNT", {"validation": 2, "test": 2})
    root = tmp_path / "recorded"
    for _ in range(2):  # the second time in place of the first, which a stop has left under its other name
        if root.exists():
            (root / "README.md").write_text("by hand")
            root.rename(tmp_path / ".recorded-old")
        pack.pack(folder, root)
        with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        lists = json.loads((root / "mixtures.json").read_text(encoding="utf-8"))["lists"]
        assert [path.name for path in tmp_path.iterdir()] == ["recorded"]
    assert (root / "README.md").read_text() == "by hand"
    given = {
        clip.id.rpartition(".")[0]: clip for kind in LABELS for clips in every(folder, kind).values() for clip in clips
    }
    assert {row["id"]: row["split"] for row in rows} == {name: clip.split for name, clip in given.items()}
    for row in rows:
        assert row["credit"] == "somebody" and row["source"].startswith("github:")
        stored, rate = soundfile.read(root / row["file"], dtype="float32")
        level = 10 * torch.log10(torch.from_numpy(stored).square().mean())
        assert (rate, len(stored)) == (8000, int(row["samples"])) and level == pytest.approx(RMS_DB, abs=0.3)
    split = {row["id"]: row["split"] for row in rows}
    for task, by_split in lists.items():
        for name, entries in by_split.items():
            assert len(entries) == 2 and all(len(entry["sources"]) == len(TASKS[task]) for entry in entries)
            assert {split[part["clip"]] for entry in entries for part in entry["sources"]} == {name}


def test_classes_that_are_too_loud_at_every_draw_do_not_stop_a_list(folder):
    """A single click of a class has a peak of 1 and more at the level that a source has over two seconds."""
    clicks = [
        replace(clip, id=f"click{i}", label="Click") for i, clip in enumerate(recordings(folder, "sound", "test")[:3])
    ]
    for clip in clicks:
        clip.__dict__["audio"] = torch.zeros(400).index_fill(0, torch.tensor([200]), 1.0)
    clips = {"speech": recordings(folder, "speech", "test"), "sound": (*recordings(folder, "sound", "test"), *clicks)}
    found = draw_entries(clips, "1 speech + 1 sound", "test", 8)
    assert len(found) == 8 and not any(clip.label == "Click" for chosen, _ in found for clip in chosen)


def test_errors(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="manifest.csv"):
        recordings(tmp_path, "speech", "train")
    with pytest.raises(ValueError, match="kind is 'music'"):
        recordings(folder, "music", "train")
    with pytest.raises(ValueError, match="split is 'dev'"):
        recordings(folder, "speech", "dev")
    with pytest.raises(ValueError, match="task is 'karaoke'"):
        recorded_mixtures(folder, "karaoke", "test", 1)


@pytest.mark.real_audio
def test_the_real_folder():
    root = os.environ.get(REAL_AUDIO)
    if not root or not (Path(root) / "recordings" / "manifest.csv").is_file():
        pytest.skip(f"{REAL_AUDIO} names no folder with recordings/manifest.csv")
    real = Path(root) / "recordings"
    speech, sound = every(real, "speech"), every(real, "sound")
    assert len({clip.label for clip in speech["train"]}) >= 250
    assert not {c.label for c in speech["train"]} & {c.label for s in ("validation", "test") for c in speech[s]}
    for split in SPLITS:
        assert {clip.label for clip in sound[split]} == set(SOUND_CLASSES)
    assert set(TEST_SOURCES) <= set(SOUND_CLASSES)
    assert len({c.id for clips in sound.values() for c in clips}) == sum(map(len, sound.values()))


# -------------------------------------------------------------------------------------------------------------- search


def test_denoising_of_a_prior_that_predicts_no_noise(folder):
    """Then x0_hat = x_t / sqrt(alpha_bar), whose error is the noise: its ratio to the signal is known."""

    def silent(x_t, t, label):
        return torch.zeros_like(x_t)

    silent.schedule, silent.labels = NoiseSchedule.linear(), (SPEECH, *SOUND_CLASSES)
    corpus = Corpus.recorded(folder)
    found = search.denoising_db(silent, corpus)
    ratio = [float(silent.schedule.noise_to_signal[t]) for t in search.LEVELS]
    for kind, value in found.items():
        x0, _ = corpus.crops((kind,), "validation", silent.labels, crop(1.0, (1.0,)))(
            search.EXAMPLES, torch.Generator().manual_seed(0)
        )
        power = 10 * x0.square().mean(-1).log10().mean()
        expected = sum(float(power) - 20 * torch.tensor(r).log10().item() for r in ratio) / len(ratio)
        assert value == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
def test_a_candidate_is_trained_by_the_clock_and_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "candidates", lambda classes: {"tiny": search.Candidate(TINY, batch=2, seconds=0.5)})
    monkeypatch.setattr(search, "EXAMPLES", 2)
    for minutes in (0.02, 0.04):
        search.work("tiny", minutes, folder, tmp_path, mixtures=1)
    first, second = search.results(tmp_path)
    assert 1.2 <= first["seconds"] < 2.4 <= second["seconds"] < 4 and first["steps"] < second["steps"]
    assert len(first["si_sdr"]) == 1 and first["gflops_per_second"] > 0
    assert json.loads((tmp_path / "tiny" / "clock.json").read_text())["step"] == second["steps"]


def test_the_best_go_on_and_today_with_them():
    scored = [
        {"name": name, "minutes": 5.0, "denoising_speech_db": a, "denoising_sound_db": b}
        for name, a, b in ((search.TODAY, 1.0, 1.0), ("wide", 3.0, 3.0), ("tall", 9.0, -5.0), ("flat", 2.0, 3.0))
    ]
    assert search.best(scored, 5.0, 2) == [search.TODAY, "wide", "flat"]
    assert search.best(scored, 15.0, 2) == [search.TODAY]


def test_results_are_collected_on_common_mixtures(tmp_path):
    lines = [
        {"name": name, "minutes": 5.0, "si_sdr": scores} for name, scores in (("a", [1.0, 2.0, 3.0]), ("b", [4.0, 5.0]))
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    search.collect(tmp_path, tmp_path / "table.parquet")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert [list(scores) for scores in table["si_sdr"]] == [[1.0, 2.0], [4.0, 5.0]] and "1 thread" in table["machine"][
        0
    ]


def test_the_shipped_search_compares_ten_configurations_on_an_equal_clock():
    table = pd.read_parquet(search.TABLE)
    for minutes, round_ in table.groupby("minutes"):
        assert search.TODAY in set(round_["name"]) and round_["name"].is_unique
        assert (round_["seconds"].between(60 * minutes, 60 * minutes + 3)).all()
        assert round_["si_sdr"].str.len().nunique() == 1
    assert len(table[table["minutes"] == 5]) == 10
    names = search.candidates(22)
    for row in table.itertuples():
        network = names[row.name].network
        assert (row.channels, row.heads, row.n_fft, row.parameters) == (
            network.channels, network.heads, network.n_fft, search.budget.parameters(network),
        )  # fmt: skip


def test_candidates_differ_and_fit_in_12_megabytes():
    found = search.candidates(22)
    assert len(found) >= 10 and len(set(found.values())) == len(found)
    assert found[search.TODAY] == search.Candidate(TriplePathConfig.pocket(22))
    assert all(2 * search.budget.parameters(c.network) <= 12e6 for c in found.values())


def test_the_fingerprint_is_that_of_the_manifest(folder, tmp_path):
    (tmp_path / "manifest.csv").write_bytes((folder / "manifest.csv").read_bytes() + b"\n")
    assert recordings_hash(folder) != recordings_hash(tmp_path) and Corpus.recorded(folder).sha256 == recordings_hash(
        folder
    )


# --------------------------------------------------------------------------------------------------------------- codec


def test_only_training_clips_are_compressed_and_a_little_is_lost(folder):
    raw = Corpus.recorded(folder)
    coded = codec.compressed(raw)
    for split, lossy in (("train", True), ("validation", False)):
        for before, after in zip(raw.clips("speech", split), coded.clips("speech", split), strict=True):
            assert (before.id, len(before.audio)) == (after.id, len(after.audio))
            error = (after.audio - before.audio).square().mean() / before.audio.square().mean()
            assert (error > 0) == lossy and error < 0.1


def test_both_codecs_are_trained_alike_and_done_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(codec.TriplePathConfig, "pocket", lambda classes: TINY)
    monkeypatch.setattr(search, "EXAMPLES", 2)
    command = ["codec", "--recordings", str(folder), "--out", str(tmp_path), "--seeds", "3", "--steps", "2"]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", command)
        codec.main()
    other = shutil.copytree(folder, tmp_path / "other")
    with open(other / "manifest.csv", "a") as file:
        file.write("\n")
    for module in (codec, search):
        monkeypatch.setattr("sys.argv", [module.__name__, "--recordings", str(other), "--out", str(tmp_path)])
        with pytest.raises(ValueError, match=r"was made with about\.recordings = '\w{64}', now '\w{64}'"):
            module.main()
    codec.collect(tmp_path, tmp_path / "table.parquet")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert table["codec"].tolist() == list(codec.CODECS) and table["seed"].tolist() == [3, 3]
    assert table["denoising_speech_db"].nunique() == 2  # another sound of the same clips
    assert read(tmp_path / "vorbis-3-2" / "last.safetensors").card["data"]["sha256"] == recordings_hash(folder)


# -------------------------------------------------------------------------------------------------------- augmentation


def test_each_change_of_the_examples_is_one_change():
    labels = LABELS["sound"]
    usual = augmentation.examples(augmentation.SAME, "sound", labels)
    for change, fields in augmentation.CHANGES.items():
        cut = augmentation.examples(change, "sound", labels)
        differ = {name for name in vars(cut) if getattr(cut, name) != getattr(usual, name)}
        assert differ - {"layered_labels"} == set(fields)
    assert augmentation.examples("two of a class", "speech", ()) is None
    runs = augmentation.planned([0, 1], 300)
    assert len(set(runs)) == len(runs) == 2 + 2 * (5 + 4)


@pytest.mark.slow
def test_every_change_is_trained_alike_and_done_once(folder, tmp_path, monkeypatch):
    def config(stage, sounds=SOUND_CLASSES):
        labels = tuple(sounds) if stage == "sound" else ()
        return PriorConfig(8000, labels, "preconditioned", 0.13, network=TINY.replace(classes=len(labels)))

    def load(name):
        torch.manual_seed(0)
        return config(name.removeprefix("recorded-")).build()

    monkeypatch.setattr(augmentation, "prior_config", config)
    monkeypatch.setattr(augmentation, "load", load)
    monkeypatch.setattr(augmentation.Corpus, "shipped", lambda name: Corpus.recorded(folder))
    monkeypatch.setattr(augmentation, "EXAMPLES", 2)
    changes = {change: augmentation.CHANGES[change] for change in (augmentation.SAME, "rooms")}
    monkeypatch.setattr(augmentation, "CHANGES", changes)
    for _ in range(2):
        monkeypatch.setattr("sys.argv", ["augmentation", "--out", str(tmp_path), "--seeds", "0", "--steps", "2"])
        augmentation.main()
    monkeypatch.setattr(augmentation, "load", lambda name: config(name.removeprefix("recorded-")).build())
    with pytest.raises(ValueError, match=r"made with about\.priors\.recorded-sound = "):
        augmentation.main()
    augmentation.collect(tmp_path, tmp_path / "table.parquet")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert sorted(table["change"]) == sorted(2 * [augmentation.BEFORE, *changes])
    assert (table.groupby("kind")["denoising_db"].nunique() == 3).all()
