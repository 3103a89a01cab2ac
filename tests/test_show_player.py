"""The listening player: levels kept, text stable, nothing hidden."""

import base64
import io
import re
import struct
from pathlib import Path

import pytest
import soundfile
import torch
from matplotlib import pyplot

from unasdiff_teach import show
from unasdiff_teach.data.audio import rms_db
from unasdiff_teach.show.sound import file_name, flac

RATE = 8000


def sounds(peak: float = 0.5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    speech = torch.randn(2 * RATE, generator=generator)
    speech *= peak / speech.abs().max()
    return {"mixture": speech, "whisper & <hiss>": 0.02 * speech}


def decoded(html: str) -> list[torch.Tensor]:
    files = [base64.b64decode(text) for text in re.findall(r'src="data:audio/flac;base64,([^"]+)"', html)]
    return [torch.from_numpy(soundfile.read(io.BytesIO(file))[0]) for file in files]


@pytest.mark.parametrize("peak, gain", [(0.5, None), (0.5, 6), (4.0, None)])
def test_common_gain_keeps_levels(peak, gain):
    tracks = sounds(peak)
    player = show.player(tracks, RATE, gain=gain)
    for heard, track in zip(decoded(player._repr_html_()), tracks.values()):
        assert float(rms_db(heard) - rms_db(track)) == pytest.approx(player.gain, abs=0.1)
        assert heard.abs().max() <= 1


def test_gain_is_lowered_only_where_it_must_be_and_says_so():
    assert show.player(sounds(0.5), RATE).gain == 0
    assert show.player(sounds(0.01), RATE).gain == 0
    player = show.player(sounds(4.0), RATE)
    assert (player.gain, player.lowered_for) == (-13, "mixture")
    assert "One gain of −13 dB for all: at 0 dB, “mixture” would clip." in player._repr_html_()
    with pytest.raises(ValueError, match="7 dB clips 'mixture'"):
        show.player(sounds(0.5), RATE, gain=7)


def test_html_is_stable_named_and_free_of_requests():
    html = show.player(sounds(), RATE, note="the <hiss>")._repr_html_()
    assert html == show.player(sounds(), RATE, note="the <hiss>")._repr_html_()
    assert html.count("<audio controls") == html.count("aria-label=") == 2
    assert 'aria-label="Listen to: whisper &amp; &lt;hiss&gt;"' in html
    assert "the &lt;hiss&gt;" in html and "<script" not in html and "http" not in html and " id=" not in html
    assert f"{float(rms_db(sounds()['whisper & <hiss>'])):.0f} dB".replace("-", "−") in html
    player = show.player({"silence": torch.zeros(RATE)}, RATE)
    assert "silent" in player._repr_html_()
    assert repr(player) == "Player(silence; 8000 Hz, gain 0 dB)"
    assert player.nbytes < 2000


@pytest.mark.parametrize(
    "samples, message",
    [
        (torch.full((9,), torch.nan), "'x' holds NaN"),
        (torch.ones(9, dtype=torch.int16), "'x' is torch.int16"),
        (torch.zeros(2, 9), r"'x' has shape \[2, 9\]"),
        (torch.zeros(0), r"'x' has shape \[0\]"),
    ],
)
def test_unfit_tracks_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        show.player({"ok": torch.zeros(9), "x": samples}, RATE)
    with pytest.raises(ValueError, match="tracks is empty"):
        show.player({}, RATE)


def test_sounds_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    player = show.player(sounds(), RATE, note="the hiss", id="05/first")
    html = player._repr_html_()
    assert "base64" not in html and "http" not in html and len(html) < 4000
    assert html == show.player(sounds(), RATE, note="the hiss", id="05/first")._repr_html_()
    names = re.findall(r'src="([^"]+)"', html)
    assert names == [
        f"_static/audio/05/first/{name}"
        for name in ("1-mixture.jpg", "1-mixture.flac", "2-whisper-hiss.jpg", "2-whisper-hiss.flac")
    ]
    for track, samples in zip(player.tracks, sounds().values()):
        heard, rate = soundfile.read(f"{track.file}.flac")
        assert rate == RATE
        assert torch.allclose(torch.from_numpy(heard), samples.double(), atol=2**-15)
    assert player.nbytes == len(html) + sum(path.stat().st_size for path in Path("_static").rglob("*.*"))
    assert all(len(alt) > 40 for alt in re.findall(r'alt="([^"]+)"', html)) and html.count("alt=") == 2


def test_pictures_show_all_sounds_on_one_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    show.player(sounds(), RATE, id="05/first")
    loud, quiet = (
        pyplot.imread(f"_static/audio/05/first/{name}.jpg").mean() for name in ("1-mixture", "2-whisper-hiss")
    )
    assert loud > 1.5 * quiet > 0


def test_files_stay_unless_the_sound_has_changed(tmp_path, monkeypatch):
    """So that a notebook that is run again on another processor changes no file."""
    monkeypatch.chdir(tmp_path)
    tracks = sounds()
    show.player(tracks, RATE, id="05/first")
    folder = Path("_static/audio/05/first")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 4

    def rerun(amount):
        show.player({**tracks, "mixture": tracks["mixture"] * (1 + amount)}, RATE, id="05/first")
        return {path for path in folder.iterdir() if path.read_bytes() != before.get(path)}

    assert not rerun(1e-3)
    assert folder / "1-mixture.flac" in rerun(0.1)
    assert not rerun(0)
    (folder / "2-whisper-hiss.jpg").unlink()
    rerun(0)
    assert (folder / "2-whisper-hiss.jpg").read_bytes() == before[folder / "2-whisper-hiss.jpg"]
    (folder / "1-mixture.flac").write_bytes(b"no sound")
    assert not rerun(0)


def test_tracks_of_several_lengths_share_one_time_axis(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    show.player({"long": torch.rand(2 * RATE), "short": torch.rand(50)}, RATE, id="x/y")
    shapes = {pyplot.imread(path).shape for path in Path("_static/audio/x/y").glob("*.jpg")}
    assert len(shapes) == 1
    show.player({"long": torch.rand(60 * RATE)}, RATE, id="x/z")
    assert pyplot.imread("_static/audio/x/z/1-long.jpg").shape[1] <= 400


@pytest.mark.parametrize("id", ["first", "05/First", "../05", "05/a/b", "05/", "/tmp", "05/a b"])
def test_ids_are_chapter_and_name(id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must be chapter/name"):
        show.player(sounds(), RATE, id=id)
    assert not list(tmp_path.iterdir())


def test_file_names_depend_on_title_and_place_alone():
    assert file_name(3, "Violin (estimate, 7 dB)") == "3-violin-estimate-7-db"
    assert file_name(2, "÷÷") == "2"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
@pytest.mark.parametrize("length", [1, 1152, 1153, 20_000])
def test_seek_table_points_at_every_block_but_the_last(rate, length):
    samples = 0.1 * torch.rand(length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    file = flac(samples, rate)
    heard, heard_rate = soundfile.read(io.BytesIO(file))
    assert heard_rate == rate and torch.allclose(torch.from_numpy(heard), samples, atol=2**-15)
    assert file[42] == 3  # a metadata block of this kind, after the description of the stream
    size = int.from_bytes(file[43:46], "big")
    points = [struct.unpack(">QQH", file[at : at + 18]) for at in range(46, 46 + size, 18)]
    blocks = -(-length // 1152)
    assert [point[0] for point in points] == [1152 * i for i in range(max(1, blocks - 1))]
    start = 42
    while True:
        last, start = file[start] >= 128, start + 4 + int.from_bytes(file[start + 1 : start + 4], "big")
        if last:
            break
    for number, (_, offset, _) in enumerate(points):
        assert file[start + offset : start + offset + 2] == b"\xff\xf8" and file[start + offset + 4] == number


def test_a_stop_while_writing_leaves_whole_files(tmp_path, monkeypatch):
    show.player(sounds(), RATE, id="05/first", page=tmp_path)
    folder = tmp_path / "_static/audio/05/first"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = Path.write_bytes

    def stopped(path, content):
        write(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stopped)
    with pytest.raises(KeyboardInterrupt):
        show.player(sounds(0.1), RATE, id="05/first", page=tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
