"""Mixture rules, the fixed lists, and the mixtures of real recordings."""

import random
import subprocess
import sys
from collections import Counter

import pytest
import torch

from unasdiff_teach.data import MixtureRules, mixture_lists, mixtures, pocket, real_mixtures, synthesise
from unasdiff_teach.data.audio import rms_db
from unasdiff_teach.data.mixing import SPEECH_SOUND, TASKS, Part, build
from unasdiff_teach.data.mixture_lists import Deck, draw_list
from unasdiff_teach.data.pocket_corpus import SOUND_CLASSES, UNHEARD_VOICES

RULES = MixtureRules(length=4000, sample_rate=8000)


def noise(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def check_list(items, task, split):
    for item in items:
        assert item.kinds == TASKS[task] and item.split == split and item.sample_rate == 8000
        assert item.mixture.shape == (16000,) and item.sources.shape == (len(item.kinds), 16000)
        assert torch.equal(item.mixture, item.sources.sum(0))
        assert float(item.mixture.abs().max()) < 1
        for source, level, offset, part in zip(item.sources, item.levels_db, item.offsets, item.parts, strict=True):
            assert -25 <= level <= -20
            assert float(rms_db(source)) == pytest.approx(level, abs=1e-3)
            assert not source[:offset].any() and not source[offset + part.length :].any()
            assert 0 <= offset <= 16000 - part.length


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_lists(task, split):
    items = mixtures(task, split)
    assert len(items) == (40 if split == "test" else 24 if task == SPEECH_SOUND else 12)
    check_list(items, task, split)
    known = {clip.id for kind in ("speech", "sound") for clip in pocket(kind, split)}
    classes, used = Counter(), Counter()
    for item in items:
        assert set(item.clip_ids) <= known
        for names in (item.labels, item.voices):
            names = [name for name in names if name is not None]
            assert len(set(names)) == len(names)
        for kind, label, voice, heard in zip(item.kinds, item.labels, item.voices, item.heard):
            assert (label is None) == (kind == "speech") and (voice is None) == (kind == "sound")
            assert heard == (voice not in UNHEARD_VOICES) and (heard or split == "test")
        classes.update(label for label in item.labels if label)
        used.update(item.clip_ids)
    # The two unheard voices have 20 clips, and half of 80 voices are unheard.
    assert max(used.values()) == (2 if (task, split) == ("2 speech", "test") else 1)
    assert len({frozenset(item.clip_ids) for item in items}) == len(items)
    if classes:
        assert set(classes) == set(SOUND_CLASSES)
        assert max(classes.values()) - min(classes.values()) <= 2
    assert len({item.id for item in items}) == len(items)


def test_main_list_balances_voices_and_classes():
    items = mixtures()
    assert Counter(item.heard[0] for item in items) == {True: 20, False: 20}
    assert len({(item.labels[1], item.heard[0]) for item in items}) == 24
    voices = Counter(item.voices[0] for item in items)
    assert len(voices) == 8 and min(voices.values()) >= 3


@pytest.mark.parametrize(("task", "split"), [("2 speech", "validation"), ("2 sounds", "test")])
def test_lists_come_from_their_seed(task, split):
    # What is committed is what the script draws.
    for entry, item in zip(draw_list(task, split), mixtures(task, split), strict=True):
        assert entry["id"] == item.id
        assert tuple(source["clip"] for source in entry["sources"]) == item.clip_ids
        assert tuple(source["level_db"] for source in entry["sources"]) == item.levels_db


def test_a_list_grows_by_a_block_and_keeps_what_it_has(monkeypatch):
    monkeypatch.setitem(mixture_lists.BLOCKS, "test", (20,))
    first = draw_list("2 sounds", "test")
    assert len(first) == 20
    monkeypatch.setitem(mixture_lists.BLOCKS, "test", (20, 3))
    more = draw_list("2 sounds", "test")
    assert len(more) == 23 and more[:20] == first


def test_list_arguments():
    assert [item.id for item in mixtures(count=3)] == [item.id for item in mixtures()][:3]
    for arguments in ({"task": "4 sounds"}, {"split": "train"}, {"count": 41}, {"count": 0}):
        with pytest.raises(ValueError, match="accepted"):
            mixtures(**arguments)


def test_presets():
    paper, authors = MixtureRules.paper(), MixtureRules.authors()
    assert (paper.length, paper.sample_rate, paper.level_db) == (64000, 16000, (-25, -20))
    assert (paper.placement, paper.rms_over, paper.peak) == ("paper", "active", None)
    assert (authors.placement, authors.rms_over, authors.peak) == ("authors", "canvas", 0.95)
    assert MixtureRules.pocket().replace(peak=0.9).peak == 0.9
    for wrong in ({"placement": "left"}, {"rms_over": "all"}, {"length": 0}, {"level_db": (0, -1)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RULES.replace(**wrong)


def test_synthesise_is_deterministic():
    clips = noise(3000, 9000)
    a, b, c = (synthesise(clips, RULES, seed) for seed in (1, 1, 2))
    assert torch.equal(a.sources, b.sources) and a.parts == b.parts and a.parts != c.parts
    assert torch.equal(a.sources, build(clips, a.parts, RULES).sources)
    generator = torch.Generator().manual_seed(1)
    assert synthesise(clips, RULES, generator).parts == a.parts
    assert synthesise(clips, RULES, generator).parts != a.parts


def test_placement_of_the_paper():
    offsets = torch.tensor([synthesise(noise(1000, 1000), RULES, s).offsets for s in range(300)])
    assert int(offsets.min()) >= 0 and int(offsets.max()) <= 3000
    assert abs(float(offsets.float().mean()) - 1500) < 100
    assert abs(float(torch.corrcoef(offsets.T.float())[0, 1])) < 0.2  # independent


def test_placement_of_the_authors():
    rules = RULES.replace(placement="authors")
    for seed in range(200):
        first, second, third = synthesise(noise(500, 2000, 3500), rules, seed).offsets
        assert 0 <= first <= 3500
        assert min(first, 2000) <= second <= min(first + 500, 2000)
        assert min(second, 500) <= third <= min(second + 2000, 500)


@pytest.mark.parametrize("rms_over", ["canvas", "active"])
def test_levels(rms_over):
    rules = RULES.replace(rms_over=rms_over)
    for seed in range(20):
        item = synthesise(noise(500, 6000), rules, seed)
        for source, part in zip(item.sources, item.parts):
            piece = source[part.offset : part.offset + part.length]
            level = rms_db(piece if rms_over == "active" else source)
            assert -25 <= part.level_db <= -20
            assert float(level) == pytest.approx(part.level_db, abs=1e-3)


def test_noise_and_peak():
    item = synthesise(noise(2000, 2000), RULES.replace(mixture_noise=0.01, peak=0.95), 0)
    assert float(item.mixture.abs().max()) == pytest.approx(0.95, abs=1e-6)
    plain = synthesise(noise(2000, 2000), RULES, 0)
    factor = float(item.sources.norm() / plain.sources.norm())
    rest = (item.mixture - item.sources.sum(0)) / factor
    assert float(rest.std()) == pytest.approx(0.01, rel=0.05)


def test_crops_avoid_silence():
    clip = torch.zeros(40000)
    clip[20000:20100] = 0.5
    for seed in range(20):
        assert synthesise([clip], RULES, seed).sources.any()


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "empty"),
        ([torch.zeros(100)], "clip 0 is silent"),
        ([torch.ones(100), torch.zeros(0)], "clip 1 has shape"),
        ([torch.ones(2, 100)], "clip 0 has shape"),
        ([torch.tensor([1.0, float("nan")])], "NaN"),
    ],
)
def test_synthesise_refuses(clips, message):
    with pytest.raises(ValueError, match=message):
        synthesise(clips, RULES)


def test_build_refuses():
    clip = torch.cat([torch.zeros(100), torch.ones(100)])
    with pytest.raises(ValueError, match="silent"):
        build([clip], [Part(0, 100, 0, -20.0)], RULES)
    for part in (Part(150, 100, 0, -20.0), Part(0, 200, 3900, -20.0)):
        with pytest.raises(ValueError, match="does not fit"):
            build([clip], [part], RULES)


def test_deck_deals_evenly():
    deck = Deck("abc", random.Random(0))
    assert all(sorted(deck.deal() for _ in range(3)) == list("abc") for _ in range(5))
    assert all(deck.deal(barred="a") != "a" for _ in range(10))


@pytest.mark.real_audio
def test_real_mixtures():
    try:
        items = real_mixtures()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(items) == 10
    check_list(items, "1 speech + 1 sound", "real")
    assert all(item.labels[0] is None and item.labels[1] in SOUND_CLASSES for item in items)
    assert len({item.labels[1] for item in items}) == 10


def test_real_mixtures_without_recordings(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="UNASDIFF_REAL_AUDIO"):
        real_mixtures(tmp_path / "nothing")
    monkeypatch.setenv("UNASDIFF_REAL_AUDIO", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no audio file"):
        real_mixtures()


def test_import_is_cheap():
    code = (
        "import sys, unasdiff_teach.data;"
        "print([m for m in ('torchaudio', 'soundfile', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
