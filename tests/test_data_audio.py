"""Audio files: what is refused, and that a failed write leaves the old file alone."""

import math

import numpy as np
import pytest
import soundfile
import torch

from unasdiff_teach.data import audio as audio_io
from unasdiff_teach.data import read, write


def sine(seconds=0.5, rate=8000, frequency=440.0):
    time = torch.arange(round(seconds * rate)) / rate
    return 0.5 * torch.sin(2 * math.pi * frequency * time)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_round_trip(tmp_path, name):
    x = sine()
    write(tmp_path / name, x, 8000)
    y, rate = read(tmp_path / name)
    assert (rate, y.dtype, y.shape) == (8000, torch.float32, x.shape)
    assert float((x - y).abs().max()) < 1 / 32768
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_read_resamples(tmp_path):
    write(tmp_path / "a.wav", sine(rate=16000), 16000)
    y, rate = read(tmp_path / "a.wav", sample_rate=8000)
    assert (rate, len(y)) == (8000, 4000)
    assert float((y - sine(rate=8000))[200:-200].abs().max()) < 1e-3


def test_read_channels(tmp_path):
    left = sine().numpy()
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0 * left], 1), 8000)
    with pytest.raises(ValueError, match="2 channels"):
        read(tmp_path / "a.wav")
    first, _ = read(tmp_path / "a.wav", mono="first")
    mean, _ = read(tmp_path / "a.wav", mono="mean")
    assert torch.allclose(first, 2 * mean, atol=1e-6)
    with pytest.raises(ValueError, match="mono is 'left'"):
        read(tmp_path / "a.wav", mono="left")


def test_read_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.wav"):
        read(tmp_path / "missing.wav")
    (tmp_path / "corrupt.flac").write_bytes(b"fLaC and then nothing of the kind")
    with pytest.raises(ValueError, match="corrupt.flac cannot be read"):
        read(tmp_path / "corrupt.flac")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    with pytest.raises(ValueError, match="no samples"):
        read(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="NaN"):
        read(tmp_path / "nan.wav")


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(2, 100), "shape"),
        (torch.zeros(0), "shape"),
        (torch.zeros(100, dtype=torch.int16), "floating"),
        (torch.tensor([0.0, math.nan]), "NaN"),
        (torch.tensor([0.0, math.inf]), "infinite"),
    ],
)
def test_write_refuses(tmp_path, audio, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.wav", audio, 8000)
    assert not list(tmp_path.iterdir())


def test_write_refuses_other_endings(tmp_path):
    with pytest.raises(ValueError, match="accepted: .wav"):
        write(tmp_path / "a.aiff", sine(), 8000)


def test_write_says_that_it_clips(tmp_path):
    with pytest.warns(UserWarning, match="peak 1.500"):
        write(tmp_path / "a.wav", 3 * sine(), 8000)
    assert float(read(tmp_path / "a.wav")[0].abs().max()) <= 1


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write(path, sine(), 8000)
    before = path.read_bytes()

    def half(file, *args, **kwargs):
        file.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", half)
    with pytest.raises(OSError, match="disk full"):
        write(path, 0.5 * sine(), 8000)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_levels_and_active_part():
    x = torch.cat([torch.zeros(4000), sine(), torch.zeros(4000)])
    start, end = audio_io.active_span(x, 8000)
    assert 3500 <= start <= 4000 and 8000 <= end <= 8500
    expected = 20 * math.log10(0.5 / math.sqrt(2))
    assert float(audio_io.rms_db(sine())) == pytest.approx(expected, abs=0.01)
    assert float(audio_io.rms_db(torch.zeros(10))) == audio_io.SILENCE_DB
    assert audio_io.active_span(torch.zeros(4000), 8000) == (0, 0)
    assert audio_io.active_span(torch.ones(10), 8000) == (0, 10)
