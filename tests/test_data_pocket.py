"""The shipped corpus: complete, as the manifest says, and cleanly split."""

import hashlib
import random
import struct
import sys
from collections import Counter

import pytest

from unasdiff_teach import data
from unasdiff_teach.data import _phrases, _sentences, pocket, pocket_hash, render
from unasdiff_teach.data.audio import active_mask, rms_db
from unasdiff_teach.data.pocket_corpus import (
    CORPUS,
    SOUND_CLASSES,
    SPLITS,
    UNHEARD_VOICES,
    VOICES,
    manifest_rows,
)

ROWS = manifest_rows()


def test_counts():
    counts = Counter((row["kind"], row["label"], row["split"]) for row in ROWS)
    for split in SPLITS:
        for voice in VOICES:
            heard = voice not in UNHEARD_VOICES or split == "test"
            assert counts["speech", voice, split] == (render.SPEECH_COUNT[split] if heard else 0)
        for label in SOUND_CLASSES:
            assert counts["sound", label, split] == render.SOUND_COUNT[split]
    assert sum(counts.values()) == len(ROWS) == len(list(CORPUS.rglob("*.flac")))
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 22e6


def test_every_clip_is_what_the_manifest_says():
    sets = [pocket(kind, split) for kind in ("speech", "sound") for split in SPLITS]
    clips = [clip for clips in sets for clip in clips]
    rows = {row["id"]: row for row in ROWS}
    assert len(rows) == len(clips)
    for clip in clips:
        row = rows[clip.id]
        samples = (clip.audio * 32768).round().numpy().astype("<i2").tobytes()
        assert hashlib.sha256(samples).hexdigest() == row["sha256"], clip.id
        assert len(clip.audio) == clip.length == int(row["samples"])
        assert float(clip.audio.abs().max()) == pytest.approx(float(row["peak"]), abs=1e-3)


def test_levels():
    for row in ROWS[::20]:
        x, rate = data.read(CORPUS / row["file"])
        assert rate == data.SAMPLE_RATE
        level = float(rms_db(x[active_mask(x, rate, render.RANGE_DB)]))
        assert level == pytest.approx(float(row["rms_db"]), abs=0.02)
    assert all(-27 < float(row["rms_db"]) < -22.8 and float(row["peak"]) < 0.99 for row in ROWS)
    assert sum(float(row["rms_db"]) > -23.3 for row in ROWS) > 0.97 * len(ROWS)


def test_splits_share_nothing():
    for column in ("sha256", "text", "id", "file"):
        assert len({row[column] for row in ROWS}) == len(ROWS), column
    for row in ROWS:
        assert row["label"] not in UNHEARD_VOICES or row["split"] == "test"


def test_manifest_hash_ignores_line_endings(tmp_path, monkeypatch):
    module = sys.modules["unasdiff_teach.data.pocket_corpus"]
    text = (CORPUS / "manifest.csv").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "manifest.csv").write_bytes(text)
    expected = pocket_hash()
    monkeypatch.setattr(module, "CORPUS", tmp_path)
    assert len(expected) == 64 and module.pocket_hash.__wrapped__() == expected


def test_pocket_set():
    speech, sound = pocket("speech", "test"), pocket("sound")
    assert sound.labels == tuple(sorted(SOUND_CLASSES)) and speech.labels == VOICES
    assert {clip.label for clip in speech if not clip.heard} == set(UNHEARD_VOICES)
    assert all(clip.heard for clip in sound)
    assert speech[0].audio is speech[0].audio
    assert speech[0].sample_rate == data.POCKET_RATE == 8000


@pytest.mark.parametrize(("kind", "split"), [("music", "train"), ("speech", "dev")])
def test_unknown_names(kind, split):
    with pytest.raises(ValueError, match="accepted"):
        pocket(kind, split)


def test_sentences_vary():
    rng = random.Random(0)
    sentences = [_sentences.sentence(rng) for _ in range(200)]
    assert len(set(sentences)) == 200
    assert all(5 <= len(text.split()) <= 16 and text[-1] in ".?" for text in sentences)


def test_midi_file():
    assert tuple(_phrases.INSTRUMENTS) == SOUND_CLASSES and set(render.ENGINES) == set(VOICES)

    def phrases():
        return _phrases.midi_file("Chime", [random.Random(0), random.Random(1)], [2.0, 3.0], 5.0)

    midi = phrases()
    assert midi[:4] == b"MThd" and midi[14:18] == b"MTrk"
    assert struct.unpack(">I", midi[18:22])[0] == len(midi) - 22
    assert midi == phrases()


def test_render_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(render.shutil, "which", lambda name: None if name == "flite" else name)
    monkeypatch.setattr(render, "SOUND_FONT", CORPUS / "no.sf2")
    with pytest.raises(SystemExit, match="flite, fluid-soundfont-gm"):
        render.check_programs()
