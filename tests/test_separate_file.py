"""Separating a recording: every rate, channel count and length, every prior, every accident; and the page to listen
to.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
from reference import reference_weights
from typer.testing import CliRunner

import unasdiff_teach as ut
from unasdiff_teach import _expectation, _forecast, _result, long_audio
from unasdiff_teach import separate_file as room
from unasdiff_teach._console import duration
from unasdiff_teach.cli import app
from unasdiff_teach.data import sound_file
from unasdiff_teach.data.audio import active_span, read, resample
from unasdiff_teach.data.mixing import TASKS
from unasdiff_teach.data.pocket_corpus import CORPORA, manifest_rows
from unasdiff_teach.evaluation.experiments import shipped
from unasdiff_teach.priors import named
from unasdiff_teach.separate_file import NamedPrior, Source, find_sources, load_prior, prepare, read_recording
from unasdiff_teach.show.result_page import TOOLS

ROOT = Path(__file__).resolve().parent.parent
RATE, WINDOW = 8000, 0.25  # of the exact priors: hertz and seconds
N_WINDOW = round(RATE * WINDOW)
BAND = torch.linspace(0, 1, N_WINDOW // 2 + 1)
POWER = {"hum": 0.03 / (1 + (BAND / 0.1) ** 6) + 1e-5, "hiss": 0.01 / (1 + ((BAND - 0.5) / 0.1) ** 6) + 1e-5}


def exact(name: str) -> Source:
    """A source that an exact prior knows, whose windows are 0.25 s long."""
    prior = ut.priors.StationaryGaussian(POWER[name])
    prior.sample_rate = RATE
    return Source(name, NamedPrior(prior, name, "exact"), None)


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [exact("hum"), exact("hiss")]


def sounds(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    """A hum and a hiss, [2, N] at `rate`."""
    N = round(seconds * RATE / 2) * 2 + 2
    generator, band = torch.Generator().manual_seed(seed), torch.linspace(0, 1, N // 2 + 1)
    made = []
    for shape in ((1 + (band / 0.1) ** 6), 3 * (1 + ((band - 0.5) / 0.1) ** 6)):
        made.append(torch.fft.irfft(torch.fft.rfft(torch.randn(N, generator=generator)) * shape.rsqrt(), n=N) * 0.17)
    return resample(torch.stack(made), RATE, rate)[:, : round(seconds * rate)]


def recorded(folder: Path, audio: torch.Tensor, rate: int, name: str = "talk.wav", **options) -> Path:
    soundfile.write(folder / name, audio.T.numpy(), rate, **options)
    return folder / name


def job(path, sources, **options):
    return prepare(path, sources, path.parent / "out", **({"window": WINDOW} | options))


def results(folder: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """What was done, and the sounds [C, N] by title."""
    report = json.loads((folder / "separation.json").read_text(encoding="utf-8"))
    files = {s["source"]: s["file"] for s in report["sources"]} | {"residual": report["residual"]["file"]}
    read = {title: soundfile.read(folder / file, dtype="float32", always_2d=True) for title, file in files.items()}
    assert {rate for _, rate in read.values()} == {report["sample_rate"]}
    return report, {title: torch.from_numpy(samples).T for title, (samples, _) in read.items()}


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------- what it takes


@pytest.mark.parametrize(
    ("rate", "channels", "seconds", "options"),
    [
        (8000, 1, 0.9, {}),
        (44100, 1, 0.25, {"name": "talk.flac"}),
        (48000, 2, 0.5, {"subtype": "PCM_24"}),
        (11025, 1, 0.11, {"subtype": "PCM_U8"}),
        (44101, 1, 0.6, {}),  # a rate that has nothing in common with the priors'
        (16000, 6, 0.4, {"subtype": "FLOAT"}),
        (6000, 1, 0.5, {}),  # less than the priors'
    ],
)
def test_any_rate_channels_and_length(tmp_path, sources, rate, channels, seconds, options):
    made = sounds(
        seconds, 44100 if rate == 44101 else rate
    )  # to resample to such a rate takes minutes: it is the point
    path = recorded(tmp_path, made.sum(0).expand(channels, -1), rate, **options)
    audio, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert job(path, sources, seed=3).run() == tmp_path / "out"
    report, found = results(tmp_path / "out")
    assert list(found) == ["hum", "hiss", "residual"] and {x.shape for x in found.values()} == {(1, len(audio))}
    torch.testing.assert_close(sum(found.values())[0], torch.from_numpy(audio).mean(1), rtol=0, atol=1e-6)
    assert (report["sample_rate"], report["channels"], report["priors_rate"], report["seed"]) == (
        rate,
        channels,
        RATE,
        3,
    )
    assert len(report["sha256"]) == 64 and report["versions"]["torch"] == torch.__version__
    if seconds > 0.2 and rate >= 8000:  # there is something to hear
        scores = ut.si_sdr(torch.cat([found["hum"], found["hiss"]]), made)
        assert (scores > 8).all(), scores


def test_each_channel_is_separated_alike(tmp_path, sources):
    """With the same noise: equal channels stay equal, and a channel comes out as it does alone."""
    made = sounds(0.6, RATE)
    both = torch.stack([made.sum(0), 0.5 * made.sum(0), -made[0]])
    path = recorded(tmp_path, both, RATE, subtype="FLOAT")
    job(path, sources, channels="each").run()
    report, found = results(tmp_path / "out")
    assert report["separated"] == "each" and found["hum"].shape == both.shape
    torch.testing.assert_close(found["hum"][1], 0.5 * found["hum"][0], rtol=0, atol=1e-4)
    torch.testing.assert_close(sum(found.values()), both, rtol=0, atol=1e-6)
    alone = recorded(tmp_path, both[2:], RATE, "alone.wav", subtype="FLOAT")
    prepare(alone, sources, tmp_path / "alone", window=WINDOW).run()
    torch.testing.assert_close(results(tmp_path / "alone")[1]["hum"][0], found["hum"][2], rtol=0, atol=1e-5)


def test_any_number_of_sources_and_two_of_a_kind(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE).sum(0)[None], RATE)
    ready = job(path, [sources[1], sources[0], sources[1]])
    assert ready.titles == ["hiss 1", "hum", "hiss 2"]
    assert ready.config.hypotheses == 1 and any("change places" in text for text in ready.warnings)
    path = recorded(tmp_path, sounds(WINDOW, RATE).sum(0)[None], RATE, "short.wav")
    whole = job(path, [sources[1], sources[1]])  # within one window the runs are put in one order
    assert whole.config == ut.SeparationConfig.recommended(alike=True).replace(normalize="none") and not whole.warnings
    report, found = results(ready.run())
    assert [s["file"] for s in report["sources"]] == ["1-hiss-1.wav", "2-hum.wav", "3-hiss-2.wav"]
    assert not torch.equal(found["hiss 1"], found["hiss 2"])
    assert job(path, sources, overwrite=True).config.hypotheses > 1


@pytest.mark.parametrize("preset", room.PRESETS)
def test_the_level_of_a_recording_does_not_matter(tmp_path, sources, preset):
    """The same sources, 40 dB lower; the presets are those of the library but for their level."""
    made = sounds(0.3, RATE).sum(0)[None]
    found = []
    for name, level in (("loud", 1.0), ("soft", 0.01)):
        path = recorded(tmp_path, level * made, RATE, f"{name}.wav", subtype="FLOAT")
        ready = prepare(path, sources, tmp_path / name, window=WINDOW, preset=preset)
        found.append(results(ready.run())[1]["hum"] / level)
        assert ready.config == getattr(ut.SeparationConfig, preset)().replace(normalize="none")
    # The paper's rule multiplies rounding: what differs in the last bit at the start differs audibly at the end.
    assert float(ut.si_sdr(found[1], found[0])) > (15 if preset == "paper" else 60)


def test_the_command_is_the_library(tmp_path, sources):
    """At the priors' rate, in one window: what `separate` gives for the mixture without its mean."""
    path = recorded(tmp_path, sounds(WINDOW, RATE).sum(0)[None], RATE, subtype="FLOAT")
    _, found = results(job(path, sources, seed=7).run())
    mixture = read_recording(path).audio[0]
    expected = ut.separate(mixture - mixture.mean(), [s.prior.prior for s in sources], [None, None], noise=7).sources
    torch.testing.assert_close(torch.cat([found["hum"], found["hiss"]]), expected, rtol=0, atol=1e-6)


def test_flac_is_clipped_with_a_warning_and_wav_is_not(tmp_path, sources):
    path = recorded(tmp_path, 8 * sounds(0.3, RATE).sum(0)[None], RATE, subtype="FLOAT")
    report, found = results(job(path, sources, format="flac").run())
    assert any("exceed full scale" in text for text in report["warnings"])
    assert report["sources"][0]["file"] == "1-hum.flac" and found["hum"].abs().max() <= 1
    report, found = results(job(path, sources, overwrite=True).run())
    assert report["warnings"] == [] and found["hum"].abs().max() > 1
    assert not list((tmp_path / "out").glob("*.flac")), "the earlier result is replaced as a whole"


# -------------------------------------------------------------------------------------------- levels, and their traps


def scores(folder: Path, made: torch.Tensor, place: slice = slice(None)) -> torch.Tensor:
    found = results(folder)[1]
    return ut.si_sdr(torch.cat([found["hum"], found["hiss"]])[:, place], made[:, place])


def test_what_says_nothing_about_the_level_changes_nothing(tmp_path, sources):
    """An offset, a click, and a passage that is 30 dB louder elsewhere; each cost several dB when one peak decided for
    all.
    """
    made = sounds(1.5, RATE)
    click, loud = torch.zeros(made.shape[1]), torch.ones(made.shape[1])
    click[3000], loud[8000:] = 8.0, 30.0
    before = slice(4000, 7000)
    plain = recorded(tmp_path, made.sum(0)[None], RATE, "plain.wav", subtype="FLOAT")
    prepare(plain, sources, tmp_path / "plain", window=WINDOW).run()
    expected = scores(tmp_path / "plain", made, before)
    for name, audio in {"offset": made.sum(0) + 0.5, "click": made.sum(0) + click, "loud": made.sum(0) * loud}.items():
        path = recorded(tmp_path, audio[None], RATE, f"{name}.wav", subtype="FLOAT")
        prepare(path, sources, tmp_path / name, window=WINDOW).run()
        assert (scores(tmp_path / name, made, before) > expected - 0.7).all(), name
        torch.testing.assert_close(sum(results(tmp_path / name)[1].values())[0], audio, rtol=0, atol=1e-5)


def test_gains_follow_the_windows_and_not_single_samples():
    windows = ut.Windows(1000, 250)
    y = 0.1 * torch.sin(torch.arange(8000) / 3)[None]
    y[:, 4000:] *= 10
    gain = room.working_gain(y, windows)
    assert gain.shape == y.shape and (gain > 0).all()
    assert gain[0, 1000] == pytest.approx(9.5, rel=0.01) and gain[0, 7000] == pytest.approx(0.95, rel=0.01)
    y[0, 1500] = 50.0
    torch.testing.assert_close(room.working_gain(y, windows)[:, [1000, 7000]], gain[:, [1000, 7000]], rtol=0, atol=20)
    assert room.working_gain(y, windows)[0, 1500] > 9.5 / 3.01, (
        "a click counts no more than the crest of ordinary sound"
    )
    silent = torch.zeros(1, 8000)
    silent[0, 4000:] = y[0, 4000:]
    assert room.working_gain(silent, windows).max() <= 0.95 / long_audio.FLOOR / 0.9
    alone = torch.zeros(1, 1000)
    alone[0, 100] = 0.3  # nothing but a click
    assert torch.isfinite(room.working_gain(alone, windows)).all()


def test_ordinary_mixtures_keep_their_peak():
    """What the shipped figures rest on: for the test lists the level is the peak, as `separate` takes it."""
    mixtures = torch.stack(
        [m.mixture for task in ("1 speech + 1 sound", "2 speech", "3 sounds") for m in ut.data.mixtures(task, "test")]
    )
    gain = room.working_gain(mixtures, ut.Windows(mixtures.shape[1], 0))
    torch.testing.assert_close(
        (gain * mixtures).abs().amax(-1), torch.full((len(mixtures),), 0.95).double(), rtol=0, atol=1e-5
    )


def test_a_constant_file_is_not_sound(tmp_path):
    path = recorded(tmp_path, torch.full((1, RATE), 0.3), RATE)
    with pytest.raises(ValueError, match="silent, or constant"):
        read_recording(path)


def test_channels_that_nearly_cancel_each_other(tmp_path):
    one = sounds(0.3, RATE)[0]
    path = recorded(tmp_path, torch.stack([one, -0.95 * one]), RATE, subtype="FLOAT")
    (warning,) = read_recording(path, "mid").warnings
    assert "nearly cancel each other: their mean is 32 dB below" in warning
    assert read_recording(path, "each").warnings == ()


# ------------------------------------------------------------------------------------------------------ accidents


def no_samples(path):
    soundfile.write(path, torch.zeros(0, 1).numpy(), RATE)


def bad_samples(path):
    samples = sounds(0.5, RATE)[0]
    samples[100:103] = torch.nan
    soundfile.write(path, samples.numpy(), RATE, subtype="FLOAT")


def torn(path):
    """A FLAC file without its second half."""
    soundfile.write(path.with_suffix(".flac"), sounds(2, RATE)[0].numpy(), RATE)
    path.write_bytes(path.with_suffix(".flac").read_bytes()[:9000])


ACCIDENTS = {
    "no sound file at": lambda path: None,
    "is a folder": lambda path: path.mkdir(),
    "cannot be read as sound": lambda path: path.write_text("not a sound"),
    "0.000 s of sound": no_samples,
    "0.050 s of sound; at least 0.1 s": lambda path: soundfile.write(path, sounds(0.05, RATE)[0].numpy(), RATE),
    "3 NaN or infinite samples": bad_samples,
    "is silent": lambda path: soundfile.write(path, torch.zeros(RATE).numpy(), RATE),
    "cannot be read as sound:": torn,
}


@pytest.mark.parametrize("message", ACCIDENTS)
def test_a_recording_that_cannot_be_separated_is_named(tmp_path, sources, message):
    path = tmp_path / "talk.wav"
    ACCIDENTS[message](path)
    before = left_in(tmp_path)
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        job(path, sources)
    assert left_in(tmp_path) == before


def test_a_file_that_is_shorter_than_it_says(tmp_path):
    path = recorded(tmp_path, sounds(1, RATE)[:1], RATE, "talk.au")
    path.write_bytes(path.read_bytes()[:10_000])
    recording = read_recording(path)
    assert recording.audio.shape[1] < RATE
    assert len(recording.warnings) == 1 and "promises another length" in recording.warnings[0]


def test_clipping_is_noticed(tmp_path):
    made = sounds(1, RATE).sum(0)[None]
    assert read_recording(recorded(tmp_path, made, RATE, subtype="FLOAT")).warnings == ()
    (warning,) = read_recording(recorded(tmp_path, (6 * made).clamp(-1, 1), RATE, subtype="FLOAT")).warnings
    assert re.match(r"\d+ samples \(0\.\d+ %\) look clipped", warning)


def test_channels_that_cancel_each_other(tmp_path, sources):
    one = sounds(0.3, RATE)[0]
    path = recorded(tmp_path, torch.stack([one, -one]), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="cancel each other"):
        job(path, sources)
    assert job(path, sources, channels="each").recording.audio.shape == (2, len(one))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "preset is 'best'"),
        ({"channels": "left"}, "channels is 'left'"),
        ({"format": "mp3"}, "format is 'mp3'"),
        ({"overlap": 0.2}, "overlap is 0.2 s; accepted is 0 to half the window, 0.125 s"),
        ({"memory": 0.0}, "memory is 0 GB"),
        ({"precision": "half"}, "precision is 'half'; accepted: 'auto', 'float32', 'bfloat16'"),
        ({"window": 0.0}, "window is 0 s"),
        ({"device": "abacus"}, "device is 'abacus'; there is no such device here. Accepted: cpu, and cuda or mps"),
    ],
)
def test_options_that_make_no_sense(tmp_path, sources, options, message):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    with pytest.raises(ValueError, match=message):
        job(path, sources, **options)


def test_priors_of_different_rates(tmp_path, sources):
    other = exact("hiss")
    other.prior.prior.sample_rate = 16000
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    with pytest.raises(ValueError, match="different rates: hum at 8000 Hz, hiss at 16000 Hz"):
        job(path, [sources[0], other])


# ------------------------------------------------------------------------------------------------- what it writes


def test_nothing_is_lost_but_an_earlier_result(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    job(path, sources).run()
    with pytest.raises(ValueError, match="holds an earlier result.*--overwrite"):
        job(path, sources)
    first = (tmp_path / "out" / "separation.json").read_text()
    job(path, sources, overwrite=True, seed=1).run()
    assert (tmp_path / "out" / "separation.json").read_text() != first
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds notes.txt beside an earlier result"):
        job(path, sources, overwrite=True)
    (tmp_path / "out" / "notes.txt").rename(tmp_path / "out" / "_static" / "audio" / "mine.txt")
    with pytest.raises(ValueError, match="holds _static/audio/mine.txt beside an earlier result"):
        job(path, sources, overwrite=True)
    for name, message in (("talk.wav", "is a file"), (".", "holds something else")):
        with pytest.raises(ValueError, match=message):
            prepare(path, sources, tmp_path / name, overwrite=True)
    assert prepare(path, sources, tmp_path / "new" / "deep", window=WINDOW).run() == tmp_path / "new" / "deep"
    assert left_in(tmp_path) == {"talk.wav", "out", "new"}


def test_what_appears_at_the_place_while_a_run_is_at_work_stays(tmp_path, sources):
    """Another folder, another result without and with --overwrite: each is kept, and the new result stands beside
    it.
    """
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    ready = job(path, sources)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert ready.run() == tmp_path / "out-2"
    assert left_in(tmp_path / "out") == {"mine.txt"}
    shutil.rmtree(tmp_path / "out")
    job(path, sources).run()
    first, second = job(path, sources, seed=1, overwrite=True), job(path, sources, seed=2, overwrite=True)
    assert first.run() == tmp_path / "out", "replaces what was there at its start"
    assert second.run() == tmp_path / "out-3", "what the first has written was not there at its start"
    assert [results(tmp_path / name)[0]["seed"] for name in ("out", "out-2", "out-3")] == [1, 0, 2]
    assert left_in(tmp_path) == {"talk.wav", "out", "out-2", "out-3"}


@pytest.mark.parametrize("place", ["notes.txt", "_static/notes.txt"])
def test_a_file_saved_into_the_earlier_result_meanwhile_is_kept(tmp_path, sources, place):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    job(path, sources).run()
    second = job(path, sources, seed=1, overwrite=True)
    (tmp_path / "out" / place).write_text("mine")
    assert second.run() == tmp_path / "out-2"
    assert (tmp_path / "out" / place).read_text() == "mine" and results(tmp_path / "out")[0]["seed"] == 0


def test_the_earlier_result_is_back_where_the_new_one_cannot_be_placed(tmp_path, sources, monkeypatch):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    job(path, sources).run()
    second = job(path, sources, seed=1, overwrite=True)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        second.run()
    assert results(tmp_path / "out")[0]["seed"] == 0
    assert not [name for name in left_in(tmp_path) if "replaced" in name or "writing" in name]


def test_two_recordings_of_one_name_in_parallel(tmp_path, sources, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = []
    for name, rate in (("x/take.wav", RATE), ("y/take.flac", 16000)):
        (tmp_path / name).parent.mkdir()
        jobs.append(prepare(recorded(tmp_path, sounds(0.3, rate)[:1], rate, name), sources, window=WINDOW))
    assert [ready.run().name for ready in jobs] == ["take-separated", "take-separated-2"]
    assert [results(tmp_path / name)[0]["file"] for name in ("take-separated", "take-separated-2")] == [
        "take.wav",
        "take.flac",
    ]


def test_a_damaged_result_is_not_taken_for_one(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    (tmp_path / "out").mkdir()
    for text in ("torn {", "{}", "[]"):
        (tmp_path / "out" / "separation.json").write_text(text)
        with pytest.raises(ValueError, match="separation.json is damaged"):
            job(path, sources, overwrite=True)


def test_names_that_are_too_long(tmp_path, sources, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE, "ä" * 100 + ".wav")
    written = prepare(path, sources, window=WINDOW).run()
    assert written.name.endswith("ä-separated") and len(written.name.encode()) <= _result.NAME_BYTES
    with pytest.raises(ValueError, match="has 240 bytes; at most 200"):
        prepare(path, sources, "x" * 240, window=WINDOW)


def test_large_files_and_many_channels(tmp_path, sources, monkeypatch):
    """Beyond what the header of a WAV file can count, its 64-bit form; more channels than FLAC has are named before
    the work.
    """
    path = recorded(tmp_path, sounds(0.3, RATE).sum(0).expand(10, -1), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="FLAC file holds 8 channels at most.*has 10"):
        job(path, sources, channels="each", format="flac")
    assert job(path, sources, format="flac").recording.audio.shape[0] == 1
    monkeypatch.setattr(sound_file, "WAV_BYTES", 1000)
    room.write_sound(tmp_path / "large.wav", torch.rand(2, 5000), RATE, "wav")
    assert (tmp_path / "large.wav").read_bytes()[:4] == b"RF64" and soundfile.info(
        tmp_path / "large.wav"
    ).frames == 5000


def test_more_memory_than_is_free(tmp_path, sources, monkeypatch):
    monkeypatch.setattr(room._machine, "free_memory", lambda device: 1e3)
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    with pytest.raises(
        MemoryError, match="GB of memory are needed, and .* GB are free: separate the recording in parts"
    ):
        job(path, sources)


def test_recordings_are_read_block_by_block(tmp_path, monkeypatch):
    """The same samples, mean, warnings, however many blocks."""
    from unasdiff_teach.data import sound_file

    made = (6 * sounds(1, RATE)).clamp(-1, 1)
    path = recorded(tmp_path, made, RATE, subtype="FLOAT")
    whole = read_recording(path), read_recording(path, "mid")
    monkeypatch.setattr(sound_file, "BLOCK", 1000)
    parts = read_recording(path), read_recording(path, "mid")
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a.audio, b.audio) and a.channels == b.channels == 2
    torch.testing.assert_close(whole[1].audio[0], made.mean(0))
    assert "look clipped" in parts[0].warnings[0]


def test_headers_and_endings_that_lie(tmp_path):
    path = recorded(tmp_path, sounds(3, RATE)[:1], RATE)
    content = bytearray(path.read_bytes())
    content[40:44] = content[4:8] = bytes(4)  # a WAV whose recorder was switched off
    path.write_bytes(content)
    try:
        assert read_recording(path).audio.shape[1] > 0  # libsndfile may find the samples by itself
    except ValueError as error:
        assert "says that it holds no sound" in str(error)
    ogg = recorded(tmp_path, sounds(20, RATE)[:1], RATE, "talk.ogg")
    assert read_recording(ogg).warnings == ()
    ogg.write_bytes(ogg.read_bytes()[: ogg.stat().st_size * 2 // 3])
    assert any("ends before its last page" in text or "another length" in text for text in read_recording(ogg).warnings)
    movie = tmp_path / "talk.m4a"
    movie.write_bytes(b"no sound that libsndfile knows")
    with pytest.raises(ValueError, match="ffmpeg -i FILE"):
        read_recording(movie)


def test_a_damaged_mp3_is_a_warning_and_not_the_decoders_chatter(tmp_path, capfd):
    path = recorded(tmp_path, sounds(3, RATE)[:1], RATE, "talk.mp3")
    assert read_recording(path).warnings == ()
    content = path.read_bytes()
    path.write_bytes(content[:3000] + bytes(range(1, 200)) * 4 + content[3000:])
    (warning,) = read_recording(path).warnings
    assert "damaged and were left out" in warning
    assert read(path)[0].shape[-1] > 0
    assert capfd.readouterr().err == ""
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_a_full_disk(tmp_path, sources, monkeypatch):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    with monkeypatch.context() as patch:
        patch.setattr(room.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
        with pytest.raises(OSError, match=r"1 MB are to be written .* 0 MB are free"):
            job(path, sources)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    ready = job(path, sources)
    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "write", full)
        with pytest.raises(OSError, match="No space left"):
            ready.run()
    assert left_in(tmp_path) == {"talk.wav"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_shows_before_the_work(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        prepare(path, sources, tmp_path / "locked" / "out", window=WINDOW).run()


class Interrupted:
    """A prior that is interrupted when no calls are `left`; what a forecast takes of them depends on the machine."""

    def __init__(self, prior):
        self.prior, self.left = prior, math.inf
        self.schedule, self.labels, self.unconditional, self.sample_rate = prior.schedule, (), 0, RATE

    def __call__(self, x_t, t, label=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.prior(x_t, t, label)


def test_an_interrupted_separation_leaves_nothing(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    broken = [Interrupted(s.prior.prior) for s in sources]
    ready = job(
        path, [Source(s.name, NamedPrior(prior, s.name), None) for s, prior in zip(sources, broken, strict=True)]
    )
    for prior in broken:
        prior.left = 5
    with pytest.raises(KeyboardInterrupt):
        ready.run()
    assert left_in(tmp_path) == {"talk.wav"}


def test_the_same_sound_is_the_same_file(tmp_path, monkeypatch):
    """libsndfile writes the time into a WAV of floating point."""
    audio = sounds(0.3, RATE)
    room.write_sound(tmp_path / "a.wav", audio, RATE, "wav")
    time.sleep(1.1)
    room.write_sound(tmp_path / "b.wav", audio, RATE, "wav")
    monkeypatch.setattr(sound_file, "WAV_BYTES", 100)
    room.write_sound(tmp_path / "c.wav", audio, RATE, "wav")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    for name in ("a.wav", "c.wav"):
        assert torch.equal(torch.from_numpy(soundfile.read(tmp_path / name, dtype="float32")[0]).T, audio)
    content = (tmp_path / "a.wav").read_bytes()
    assert content[(place := content.index(b"PEAK")) + 12 : place + 16] == bytes(4)
    assert b"PEAK" not in (tmp_path / "c.wav").read_bytes()  # the large form has no such chunk


def test_a_killed_run_leaves_no_folder(tmp_path, sources):
    """No matter how a run ends, during its work nothing but its state stands beside its result."""
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    seen = []

    def looking(source):
        class Looking(Interrupted):
            def __call__(self, *arguments):
                seen.append(left_in(tmp_path))
                return super().__call__(*arguments)

        return Source(source.name, NamedPrior(Looking(source.prior.prior), source.name), None)

    job(path, [looking(source) for source in sources]).run()
    assert seen and all(names == {"talk.wav"} for names in seen)


def test_given_up_states_go_when_a_run_is_finished(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    for name, age in {
        ".out.state-old": 2 * _result.ABANDONED,
        ".out.state-new": 60,
        ".other.state-old": 2 * _result.ABANDONED,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    job(path, sources).run()
    assert left_in(tmp_path) == {"talk.wav", "out", ".out.state-new", ".other.state-old"}


# ----------------------------------------------------------------------------------------------- what to expect


def test_power_above_the_priors_is_told(tmp_path, sources):
    t = torch.arange(2 * 48_000) / 48_000
    low, high = torch.sin(2 * math.pi * 440 * t), torch.sin(2 * math.pi * 9000 * t)
    fraction = functools.partial(_expectation.power_above, rate=48_000, limit=RATE / 2)
    assert fraction(0.3 * low[None] + 0.7) < 1e-3 and fraction(0.3 * high[None] + 0.7) > 0.99
    assert (
        fraction(0.3 * torch.stack([low, high])) == pytest.approx(0.5, abs=0.01) and fraction(torch.zeros(1, 100)) == 0
    )
    both = job(recorded(tmp_path, (0.4 * low + 0.2 * high)[None], 48_000), sources)
    (said,) = [text for text in both.warnings if "power" in text]
    assert said.startswith("20% of the recording's power lies above") and f"warning: {said}" in both.describe()
    assert not job(recorded(tmp_path, 0.4 * low[None], 48_000), sources).warnings


@pytest.mark.parametrize(
    ("family", "experiment", "method"),
    [("pocket", "table-2", "recommended"), ("recorded", "recorded-test", "recorded priors")],
)
def test_what_is_expected_is_what_was_measured(family, experiment, method):
    """The constants are the means of the shipped tables, and they say where the method fails."""
    table = shipped(experiment).query("method == @method and seed == 0")
    for task, kinds in TASKS.items():
        rows, found = table[table["task"] == task], _expectation.MEASURED[family][tuple(sorted(kinds))]
        assert found == pytest.approx(rows.groupby("kind")["si_sdr"].mean().to_dict(), abs=0.051)
        assert _expectation.UNPROCESSED[len(kinds)] == pytest.approx(rows["si_sdr_unprocessed"].mean(), abs=0.1)
        assert ("not separated" in _expectation.measured(list(kinds), family)) == (task == "2 speech")
    assert "no mixtures" in _expectation.measured(["speech"] * 4, family)


def test_expectations_are_for_shipped_priors_of_one_family(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.5, RATE).sum(0)[None], RATE)
    assert not [line for line in job(path, sources).describe() if line.startswith("expect: ")]
    for names, priors, said in (
        (["speech", "Chime"], ["pocket-speech", "pocket-sound"], "8.9 dB for speech and 8.9 dB for sound"),
        (
            ["speech", "Flute"],
            ["recorded-speech", "recorded-sound"],
            "on test mixtures of real recordings of these kinds a mean SI-SDR of 5.4 dB",
        ),
        (["speech", "Chime"], ["recorded-speech", "pocket-sound"], "with priors of both families"),
    ):
        ready = prepare(path, find_sources(names, list(map(load_prior, priors))), tmp_path / "a")
        line, *of_classes = [line for line in ready.describe() if line.startswith("expect: ")]
        assert said in line
        assert [("Flute 8.3 dB" in other) for other in of_classes] == [True] * ("Flute" in names)


def test_more_runs_are_asked_for(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE).sum(0)[None], RATE)
    usual, more = job(path, sources), job(path, sources, runs=6)
    assert (usual.config.hypotheses, more.config) == (4, usual.config.replace(hypotheses=6))
    assert 1.4 < more.cost.calls / usual.cost.calls <= 1.5
    with pytest.raises(ValueError, match="hypotheses is 0"):
        job(path, sources, runs=0)


def test_what_is_expected_of_a_class_is_what_was_measured():
    table = shipped("recorded-test")
    table = table[(table["method"] == "recorded priors") & (table["kind"] == "sound")]
    gains = (table["si_sdr"] - table["si_sdr_unprocessed"]).groupby(table["label"]).mean()
    assert gains.to_dict() == pytest.approx(_expectation.CLASS_GAINS, abs=0.051)
    assert table.groupby("label").size().min() >= 15


def test_a_class_of_few_recordings_is_named():
    (said,) = _expectation.few_recordings(
        [("recorded-sound", "Cello"), ("recorded-sound", "Flute"), ("recorded-speech", None), ("mine", "Cello")]
    )
    rows = [
        row
        for row in manifest_rows(CORPORA["recorded"] / "manifest.csv")
        if row["label"] == "Cello" and row["split"] == "train"
    ]
    assert said.startswith(f"the prior knows Cello from {len(rows)} recordings") and len(rows) < _expectation.FEW
    assert not _expectation.few_recordings([("pocket-sound", "Chime"), ("pocket-sound", "Snare_drum")])


@pytest.mark.parametrize(
    ("gain", "format", "warning"),
    [
        (-70, "PCM_16", r"the peak lies 7\d dB below full scale: what the file has rounded off is raised by 7\d dB"),
        (90, "FLOAT", r"the peak lies 8\d dB above full scale: were integers stored"),
        (-30, "PCM_16", None),
        (30, "FLOAT", None),
    ],
)
def test_a_recording_far_from_full_scale_is_a_warning(tmp_path, sources, gain, format, warning):
    audio = sounds(0.3, RATE).sum(0)[None]
    audio = audio / audio.abs().max() * 0.7 * 10 ** (gain / 20) + 0.3 * (format == "PCM_16")  # and an offset
    said = " ".join(job(recorded(tmp_path, audio, RATE, subtype=format), sources).warnings)
    assert re.search(warning, said) if warning else "full scale" not in said


def test_a_stopped_separation_goes_on_to_the_same_result(tmp_path, sources, monkeypatch):
    """It asks the priors for the missing steps alone; another seed begins anew."""
    monkeypatch.setattr(room, "RunState", functools.partial(ut.RunState, every=0))
    monkeypatch.setattr(_forecast, "ROWS", 100)  # all windows of a step in one call
    path = recorded(tmp_path, sounds(0.6, RATE).sum(0)[None], RATE, subtype="FLOAT")
    job(path, sources).run()
    _, whole = results(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")

    breaking = [Interrupted(s.prior.prior) for s in sources]
    watched = [Source(s.name, NamedPrior(p, s.name, "exact"), None) for s, p in zip(sources, breaking, strict=True)]
    ready = job(path, watched)
    breaking[1].left = 6  # in its seventh step
    with pytest.raises(KeyboardInterrupt):
        ready.run()
    assert ready.state.steps == 6 and left_in(tmp_path) == {"talk.wav", ready.state.path.name}
    assert job(path, sources, seed=1).state.steps == 0 and "goes on" not in " ".join(
        job(path, sources, seed=1).describe()
    )
    breaking[1].left = 10**9
    again = job(path, watched)
    assert f"goes on after step 6 of {ready.config.steps} of an earlier run" in again.describe()
    breaking[1].left = ready.config.steps - 6
    again.run()
    assert breaking[1].left == 0
    _, found = results(tmp_path / "out")
    assert all(torch.equal(found[title], whole[title]) for title in whole)
    assert left_in(tmp_path) == {"talk.wav", "out"}


def test_a_damaged_state_begins_anew(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE).sum(0)[None], RATE)
    ready = job(path, sources)
    ready.state.path.write_bytes(b"torn")
    assert ready.state.steps == 0
    ready.run()
    assert left_in(tmp_path) == {"talk.wav", "out"}


# ----------------------------------------------------------------------------------------------------------- cost


class Counted(Interrupted):
    """A prior that counts the signals it is given, and the most at once."""

    def __init__(self, prior):
        super().__init__(prior)
        self.rows, self.most = 0, 0

    def __call__(self, x_t, t, label=None):
        self.rows, self.most = self.rows + len(x_t), max(self.most, len(x_t))
        return super().__call__(x_t, t, label)


@pytest.mark.parametrize("preset", ["recommended", "short"])
def test_the_cost_is_what_it_takes(tmp_path, sources, preset):
    path = recorded(tmp_path, sounds(2, RATE).sum(0)[None], RATE)
    counted = [Counted(s.prior.prior) for s in sources]
    ready = job(path, [Source(s.name, NamedPrior(c, s.name), None) for s, c in zip(sources, counted)], preset=preset)
    before = sum(c.rows for c in counted)
    ready.run()
    called = sum(c.rows for c in counted) - before
    assert called == pytest.approx(ready.cost.calls, rel=0.1)
    assert ready.cost.seconds > 0 and ready.cost.bytes > 0
    lines = "\n".join(ready.describe())
    assert f"cost: {ready.cost.calls} network calls" in lines and ("gradients" in lines) == (preset == "short")
    assert "denoised together" in lines


@pytest.mark.parametrize("preset", ["recommended", "short"])
def test_the_forecast_measures_what_the_run_does(tmp_path, sources, preset, monkeypatch):
    """Signals of a window's length, with a gradient only where the run takes one; on resuming, what is left."""
    seen = []

    class Watched(Counted):
        def __call__(self, x_t, t, label=None):
            seen.append((x_t.shape[-1], x_t.requires_grad))
            return super().__call__(x_t, t, label)

    path = recorded(tmp_path, sounds(1, RATE).sum(0)[None], RATE)
    ready = job(
        path, [Source(s.name, NamedPrior(Watched(s.prior.prior), s.name), None) for s in sources], preset=preset
    )
    before, seen[:] = set(seen), []
    ready.run()
    assert before == {(N_WINDOW, preset == "short")} and before == set(seen)
    monkeypatch.setattr(room.Job, "_progress", property(lambda self: (3, 4)))
    assert f"cost: {round(ready.cost.calls / 4)} network calls" in "\n".join(ready.describe())


def test_memory_is_counted_while_it_is_held():
    from unasdiff_teach._measure import PeakMemory

    with PeakMemory() as memory:
        a = torch.ones(1000)
        b = a + 1
        del a
        b = (b * 2).view(10, 100)[0]
    assert memory.peak == 2 * 4000, "two tensors at once, and views are none"


def test_little_memory_means_small_chunks_and_the_same_sound(tmp_path, sources):
    path = recorded(tmp_path, sounds(1, RATE).sum(0)[None], RATE)
    found = []
    for memory in (1e5, 1e9):
        counted = [Counted(s.prior.prior) for s in sources]
        renamed = [Source(s.name, NamedPrior(c, s.name), None) for s, c in zip(sources, counted)]
        ready = job(path, renamed, preset="short", memory=memory, overwrite=True)
        found.append(results(ready.run())[1]["hum"])
        assert counted[0].most == ready.cost.chunk
    assert ready.cost.chunk > 3
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 seconds"), (170, "3 minutes"), (9000, "2.5 hours"), (3e5, "3 days")]
)
def test_durations_are_words(seconds, text):
    assert duration(seconds) == text


# --------------------------------------------------------------------------------------------------------- priors


@pytest.fixture(scope="module")
def small_prior(tmp_path_factory) -> Path:
    """A folder as training leaves it: small networks with random weights that know two classes."""
    folder = tmp_path_factory.mktemp("runs")
    network = ut.networks.TriplePathConfig.pocket(classes=2).replace(channels=8, embedding=16)
    config = ut.priors.PriorConfig(RATE, labels=("Whale", "Old_door"), target="preconditioned", network=network)
    for step in (1, 2):
        torch.manual_seed(step)
        path = folder / f"step_{step:06d}.safetensors"
        ut.priors.neural.save(path, config.build().net.state_dict(), config, {"steps": step})
        os.utime(path, (step, step))
    return folder


def test_priors_are_found_by_name_file_and_folder(small_prior):
    speech, folder, file = (
        load_prior("pocket-speech"),
        load_prior(str(small_prior)),
        load_prior(f"beast={small_prior / 'step_000001.safetensors'}"),
    )
    assert (speech.name, folder.name, file.name) == ("speech", "", "beast")
    assert (folder.prior.card["steps"], file.prior.card["steps"]) == (2, 1), "the newest of a folder"
    assert len({speech.sha256, folder.sha256, file.sha256}) == 3
    found = find_sources(["SPEECH", " old-door", "beast", "whale"], [speech, folder, file])
    assert [s.name for s in found] == ["speech", "Old_door", "beast", "Whale"]
    assert [s.label for s in found] == [None, "Old_door", None, "Whale"]
    assert [s.prior.sha256 for s in found] == [p.sha256 for p in (speech, folder, file, folder)]


def test_priors_of_others(tmp_path, monkeypatch):
    torch.save({part: reference_weights("network") for part in ("model", "ema")}, tmp_path / "sounds.pt")
    small = functools.partial(ut.priors.from_authors_checkpoint, heads=2, n_fft=126, hop=63)
    monkeypatch.setitem(named.READERS, ".pt", small)
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in reference_weights("diffwave").items()}},
        tmp_path / "diffwave.ckpt",
    )
    authors, undiff = load_prior(str(tmp_path / "sounds.pt")), load_prior(f"talk={tmp_path / 'diffwave.ckpt'}")
    assert "Shi et al." in authors.prior.card["network"] and "UnDiff" in undiff.prior.card["network"]
    first = find_sources(["talk", authors.prior.labels[0] if authors.prior.labels else authors.name], [undiff, authors])
    path = recorded(tmp_path, sounds(0.1, 16000).sum(0)[None], 16000)
    ready = prepare(path, first, tmp_path / "out", window=0.1, preset="recommended")
    assert ready.rate == 16000 and torch.isfinite(results(ready.run())[1]["talk"]).all()


def test_a_finished_training_gives_its_prior(tmp_path, small_prior):
    for name, step in (("prior", 1), ("step_000002", 2)):
        shutil.copyfile(small_prior / f"step_{step:06d}.safetensors", tmp_path / f"{name}.safetensors")
    assert load_prior(str(tmp_path)).prior.card["steps"] == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pocket-whale", "no prior at 'pocket-whale'; shipped are pocket-diffwave-speech, pocket-joint, pocket-sound"),
        ("a=missing.safetensors", "no prior at 'missing.safetensors'"),
        ("{}/empty", "no .safetensors file in the folder"),
        ("{}/weights.bin", "ends in '.bin'; accepted are .safetensors"),
        ("{}/broken.safetensors", "not a readable safetensors file"),
    ],
)
def test_what_is_no_prior_is_named(tmp_path, spec, message):
    (tmp_path / "empty").mkdir()
    for name in ("weights.bin", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        load_prior(spec.format(tmp_path))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["residual", "mixture"], ["residual 1", "mixture 1"]),
        (["speech", "speech", "speech 1"], ["speech 2", "speech 3", "speech 1"]),
        (["Residual", "residual 1", "a"], ["Residual 2", "residual 1", "a"]),
        (["a", "b", "a"], ["a 1", "b", "a 2"]),
    ],
)
def test_titles_are_all_different_and_none_is_reserved(names, expected):
    assert room.titles(names) == expected


def test_a_source_called_residual_is_not_lost(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, RATE).sum(0)[None], RATE)
    named = [Source(name, s.prior, None) for name, s in zip(("residual", "mixture"), sources, strict=True)]
    report, found = results(job(path, named).run())
    assert [s["file"] for s in report["sources"]] == ["1-residual-1.wav", "2-mixture-1.wav"] and report["residual"][
        "file"
    ] == "3-residual.wav"
    assert len(found) == 3


def test_classes_that_differ_in_signs_alone(sources):
    prior = SimpleNamespace(labels=("a b", "a_b", "C-d"), schedule=None)
    known = [NamedPrior(prior, "", "p"), sources[0].prior]
    assert [s.label for s in find_sources(["a_b", "a b", "c d"], known)] == ["a_b", "a b", "C-d"]
    with pytest.raises(ValueError, match="the source 'A-B' may be 'a b' or 'a_b'; give the exact name"):
        find_sources(["A-B", "hum"], known)
    other = NamedPrior(SimpleNamespace(labels=("a-b",), schedule=None), "", "q")
    with pytest.raises(ValueError, match="the source 'A-B' may be 'a b' or 'a_b'; give the exact name"):
        find_sources(["A-B", "hum"], [*known, other])
    assert [s.name for s in find_sources(["A-B", "a_b"], [other, *known])] == ["a-b", "a_b"], "the first that knows it"


def test_a_prior_whose_training_failed_is_named(tmp_path):
    from unasdiff_teach.priors.neural import PriorConfig, save

    network = ut.networks.TriplePathConfig.pocket().replace(channels=8, embedding=16)
    config = PriorConfig(RATE, target="preconditioned", network=network)
    weights = {name: torch.full_like(w, torch.nan) for name, w in config.build().net.state_dict().items()}
    save(tmp_path / "bad.safetensors", weights, config, {})
    with pytest.raises(ValueError, match="bad.safetensors has NaN or infinite weights"):
        load_prior(str(tmp_path / "bad.safetensors"))


def test_a_prior_that_predicts_nonsense_is_named_before_the_work(tmp_path, sources):
    class Nonsense(Interrupted):
        def __call__(self, x_t, t, label=None):
            return x_t * torch.nan

    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    broken = Source("hum", NamedPrior(Nonsense(sources[0].prior.prior), "hum", "nonsense"), None)
    with pytest.raises(ValueError, match=r"the prior of hum \(nonsense\) does not work: its predictions are NaN"):
        job(path, [broken, sources[1]])


def test_sources_that_no_prior_knows(small_prior, sources):
    priors = [load_prior(str(small_prior)), *(s.prior for s in sources)]
    with pytest.raises(
        ValueError, match=r"knows the source 'whales' \(did you mean 'Whale'\?\); known are Whale, Old_door, hum, hiss"
    ):
        find_sources(["hum", "whales"], priors)
    with pytest.raises(ValueError, match="knows the source 'speech'; known"):
        find_sources(["speech", "hum"], priors)
    with pytest.raises(ValueError, match=r"knows the source 'door' \(did you mean 'Old_door'\?\)"):
        find_sources(["door", "hum"], priors)
    for names in ([], ["hum"]):
        with pytest.raises(ValueError, match="at least two"):
            find_sources(names, priors)


@pytest.mark.parametrize(("name", "meant"), [("violin", "Violin_or_fiddle"), ("piano", "Electric_piano")])
def test_a_part_of_a_class_name_is_a_suggestion(name, meant):
    with pytest.raises(ValueError, match=rf"'{name}' \(did you mean '{meant}'\?\)"):
        find_sources([name, "Flute"], [load_prior("recorded-sound"), load_prior("pocket-sound")])


# ------------------------------------------------------------------------------------------------------- command


def command(*arguments) -> SimpleNamespace:
    return CliRunner().invoke(app, ["separate", *map(str, arguments)])


def test_command_line(tmp_path, small_prior):
    path = recorded(tmp_path, sounds(0.4, 16000).sum(0)[None], 16000)
    options = (path, "--sources", "whale, old_door", "--prior", small_prior, "--out", tmp_path / "out", "--window", 0.3)
    result = command(*options, "--dry-run")
    assert result.exit_code == 0 and "2 windows" in result.stdout and "cost:" in result.stdout
    assert left_in(tmp_path) == {"talk.wav"}
    result = command(*options, "--preset", "recommended", "--seed", 5, "--format", "flac")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"written: {tmp_path / 'out' / 'listen.html'}"
    report, found = results(tmp_path / "out")
    assert list(found) == ["Whale", "Old_door", "residual"] and (report["preset"], report["seed"]) == ("recommended", 5)
    assert report["windows"]["count"] == 2 and report["sources"][0]["file"] == "1-whale.flac"
    assert report["sources"][0]["prior_sha256"] == load_prior(str(small_prior)).sha256
    assert "earlier result" in command(*options).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.wav", "--sources", "speech,Chime"), "no sound file at missing.wav"),
        (("{}", "--sources", "speech,Piano"), "no prior knows the source 'Piano'"),
        (("{}", "--sources", "speech"), "at least two"),
        (("{}", "--sources", "speech,Chime", "--prior", "nowhere"), "no prior at 'nowhere'"),
        (("{}", "--sources", "speech,Chime", "--device", "abacus"), "abacus"),
        (("{}", "--sources", "speech,Chime", "--out", "{}"), "is a file"),
    ],
)
def test_errors_are_one_line_without_a_traceback(tmp_path, arguments, message):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)
    result = command(*(str(a).format(path) for a in arguments))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert left_in(tmp_path) == {"talk.wav"}


def test_control_c_on_the_command_line(tmp_path, small_prior, monkeypatch):
    path = recorded(tmp_path, sounds(0.3, RATE)[:1], RATE)

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "separate_long", stop)
    result = command(path, "--sources", "whale,old_door", "--prior", small_prior, "--out", tmp_path / "out")
    assert result.exit_code == 130 and result.stderr.splitlines()[-1].startswith("stopped; the same command goes on")
    assert left_in(tmp_path) == {"talk.wav"}


def test_a_traceback_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("UNASDIFF_TRACEBACK", "1")
    result = command("missing.wav", "--sources", "speech,Chime")
    assert isinstance(result.exception, FileNotFoundError)


def test_help_has_examples():
    text = command("--help").stdout
    assert "unasdiff-teach separate talk.wav --sources speech,rain" in text


# ----------------------------------------------------------------------------------------------------------- page


def test_the_page_names_files_that_are_there_and_asks_nothing_else(tmp_path, sources):
    path = recorded(tmp_path, sounds(0.3, 44100).sum(0)[None], 44100, "a <talk> & more.wav")
    job(path, sources).run()
    page = (tmp_path / "out" / "listen.html").read_text(encoding="utf-8")
    assert (
        "<h1>a &lt;talk&gt; &amp; more.wav, separated</h1>" in page and "what lies above 4 kHz is in no source" in page
    )
    links = set(re.findall(r'(?:src|href)="([^"]+)"', page)) - {"data:,"}
    assert {"1-hum.wav", "2-hiss.wav", "3-residual.wav", "separation.json"} <= links
    assert all((tmp_path / "out" / link).is_file() for link in links) and "http" not in page
    assert all(path.name in page for path in TOOLS)
    listed = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert listed == links | {"listen.html"}


def test_the_book_has_the_tools_of_the_package():
    book, tools = Path(__file__).resolve().parent.parent / "book" / "_static", set(TOOLS[0].parent.iterdir())
    assert set(TOOLS) < tools and all((book / path.name).read_bytes() == path.read_bytes() for path in tools)


@pytest.mark.browser
def test_the_page_plays_in_a_browser(tmp_path, sources, browser):
    path = recorded(tmp_path, sounds(1, RATE).sum(0)[None], RATE)
    job(path, sources).run()
    context, trouble = browser.new_context(offline=True, viewport={"width": 390, "height": 800}), []
    tab = context.new_page()
    tab.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("requestfailed", lambda request: trouble.append(f"{request.url} {request.failure}"))
    tab.goto((tmp_path / "out" / "listen.html").as_uri())
    tool = tab.locator(".page-tool")
    assert tool.locator(".tool-tracks label").count() == 4  # mixture, hum, hiss, residual
    tool.get_by_role("button", name="Play").click()
    tab.wait_for_function("document.querySelector('.page-tool').deck.time > 0.05")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    # a browser drops what it was loading of a sound when another position is asked for
    assert not [text for text in trouble if not re.search(r"\.flac .*ERR_ABORTED", text)]


# -------------------------------------------------------------------------------------------------- shipped priors


@pytest.mark.slow
def test_a_reader_who_names_no_prior_gets_those_of_real_recordings(tmp_path):
    """An unheard speaker over an unheard saxophone, 4 s in stereo at 44.1 kHz: both come out, better than they went
    in; the page says what to expect.
    """
    rate, N = 44100, 4 * 44100
    clips = [max((c for c in ut.data.pocket(kind, "test",
    corpus="recorded") if kind == "speech" or c.label == "Saxophone"),
                 key=lambda c: len(c.audio)).audio for kind in ("speech", "sound")]  # fmt: skip
    true = torch.stack([resample(clip.repeat(8)[: 4 * 8000], 8000, rate)[:N] for clip in clips])
    true = 0.05 * true / true.square().mean(-1, keepdim=True).sqrt()
    path = recorded(tmp_path, true.sum(0).expand(2, -1), rate, subtype="FLOAT")
    result = command(path, "--sources", "speech,saxophone", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report, found = results(tmp_path / "out")
    assert [s["prior"] for s in report["sources"]] == ["recorded-speech", "recorded-sound"]
    text = (tmp_path / "out" / "listen.html").read_text(encoding="utf-8")
    assert "Expect: on test mixtures of real recordings of these kinds a mean SI-SDR of 5.4 dB for speech" in text
    estimates = torch.stack([found["speech"].mean(0), found["Saxophone"].mean(0)])
    levels = 20 * (estimates.square().mean(-1).sqrt() / 0.05).log10()
    assert levels.abs().max() < 6, "a source is emptied"
    assert (ut.si_sdr(estimates, true) - ut.si_sdr(true.sum(0).expand(2, -1), true)).min() > 2


@pytest.mark.slow
@pytest.mark.real_audio
def test_a_real_recording_with_the_shipped_priors(tmp_path, real_audio):
    """Speech and a glockenspiel, 3.5 s at 44.1 kHz, in two windows: they add up, and are much better than the
    mixture.
    """
    rate, N = 44100, round(3.5 * 44100)
    names = ("vctk/p227_003_mic1.flac", "fsdkaggle2018/Glockenspiel__4e0759b2.flac")
    clips = [ut.data.read(real_audio / name, rate)[0] for name in names]
    clips = [clip[active_span(clip, rate)[0] :][:N] for clip in clips]
    # Equally loud where the priors hear them, below 4 kHz: a small bell has most of its power above.
    true = torch.stack([0.05 * clip / resample(clip, rate, 8000).square().mean().sqrt() for clip in clips])
    path = recorded(tmp_path, true.sum(0)[None], rate, subtype="FLOAT")
    result = command(
        path,
        "--sources",
        "speech,glockenspiel",
        "--prior",
        "pocket-speech",
        "--prior",
        "pocket-sound",
        "--out",
        tmp_path / "out",
    )
    assert result.exit_code == 0, result.output
    report, found = results(tmp_path / "out")
    assert report["windows"]["count"] == 2 and report["priors_rate"] == 8000
    torch.testing.assert_close(sum(found.values())[0], read_recording(path).audio[0], rtol=0, atol=1e-5)
    estimates, reference = (
        resample(x, rate, 8000) for x in (torch.cat([found["speech"], found["Glockenspiel"]]), true)
    )
    before = ut.si_sdr(reference.sum(0).expand(2, -1), reference)
    assert (ut.si_sdr(estimates, reference) - before).mean() > 5
