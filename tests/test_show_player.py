"""The listening player: levels kept, text stable, nothing hidden."""

import base64
import io
import re

import pytest
import soundfile
import torch

from unasdiff_teach import show
from unasdiff_teach.data.audio import rms_db

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
