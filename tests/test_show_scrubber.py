"""The scrubber: the kept steps, their files, and its numbers are those of the run."""

import html
import json
import re
from pathlib import Path

import pytest
import soundfile
import torch
from matplotlib import pyplot

import unasdiff_teach as ut
from unasdiff_teach import show

RATE, N = 8000, 16_000
NAMES = ["violin", "chime & <bell>"]


def run(steps: int = 40, **shape) -> list[ut.separation.StepRecord]:
    """Records of a run whose estimates come out of the noise."""
    generator = torch.Generator().manual_seed(0)
    noise = (
        torch.randn(2, N + 3, generator=generator).unfold(1, 4, 1).mean(2)
    )  # less at high frequencies, as sounds have
    empty = torch.zeros(0)
    return [
        ut.separation.StepRecord(i, t, empty, 0.1 * sources() + 0.1 * t / steps * noise, *[empty] * 5)
        for i, t in enumerate(reversed(range(steps)))
    ]


def sources() -> torch.Tensor:
    time = torch.arange(N) / RATE
    return torch.stack([torch.sin(6.2832 * 440 * time), torch.sin(6.2832 * 1760 * time)])


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "_static" / "audio" / "06" / "run"


def test_keeps_steps_spread_over_the_run(here):
    kept = show.scrubber(run(), NAMES, RATE, "06/run")
    assert kept.t == (40, 36, 33, 29, 26, 22, 19, 15, 12, 8, 5, 1)
    assert show.scrubber(run(5), NAMES, RATE, "06/run").t == (5, 4, 3, 2, 1)
    assert show.scrubber(run(5), NAMES, RATE, "06/run", steps=2).t == (5, 1)
    assert kept.si_sdr is None and "data-si-sdr" not in kept._repr_html_()


def test_files_are_the_estimates_at_one_gain(here):
    records = run()
    kept = show.scrubber(records, NAMES, RATE, "06/run", gain=-3)
    by_t = {record.t + 1: record for record in records}
    files = sorted(here.glob("*.flac"))
    assert len(files) == 24
    for i, file in enumerate(files):
        k, step = divmod(i, 12)
        heard, rate = soundfile.read(file)
        expected = by_t[kept.t[step]].x0_hat[k].double() * 10 ** (-3 / 20)
        assert rate == RATE and torch.allclose(torch.from_numpy(heard), expected, atol=2**-15), file.name
    sheet = pyplot.imread(here / "sheet.jpg")
    assert sheet.shape[0] == 2 * 129 and sheet.shape[1] % 12 == 0
    cells = sheet.reshape(2, 129, 12, -1, 3).mean((1, 3, 4))
    assert (cells[:, 0] > cells[:, -1]).all()  # noise fills the picture, a tone does not


def test_scores_are_those_of_the_kept_estimates(here):
    records = run()
    kept = show.scrubber(records, NAMES, RATE, "06/run", references=sources())
    expected = torch.stack([ut.si_sdr(r.x0_hat, sources()) for r in records if r.t + 1 in kept.t])
    assert torch.equal(kept.si_sdr, expected)
    stored = json.loads(re.search(r'data-si-sdr="([^"]+)"', kept._repr_html_())[1])
    assert torch.allclose(torch.tensor(stored), expected, atol=0.051)


def test_html_is_stable_named_and_free_of_requests(here):
    make = lambda: show.scrubber(run(), NAMES, RATE, "06/run", references=sources(), note="the <bow>")  # noqa: E731
    text = make()._repr_html_()
    assert text == make()._repr_html_()
    assert (
        "http" not in text
        and "base64" not in text
        and "the &lt;bow&gt;" in text
        and "One gain of 0 dB for all." in text
    )
    assert text.count("<audio controls") == 2 and "Listen to: chime &amp; &lt;bell&gt;, last step" in text
    assert json.loads(html.unescape(re.search(r'data-run="([^"]+)"', text)[1])) == {
        "names": NAMES, "t": list(make().t), "seconds": 2.0, "kilohertz": 4.0,
    }  # fmt: skip
    for name in re.findall(r'src="([^"]+)"', text):
        assert Path(name).is_file()


def test_fits_the_page(here):
    """12 steps of two sources of 2 s, all of them noise in part, which is what compresses least."""
    noisy = show.scrubber(run(), NAMES, RATE, "06/run")
    assert noisy.nbytes == len(noisy._repr_html_()) + sum(path.stat().st_size for path in here.iterdir())
    assert noisy.nbytes <= 700_000 and len(noisy._repr_html_()) < 4000


def test_gain_is_lowered_where_an_estimate_would_clip_and_a_given_one_is_refused(here):
    records = [ut.separation.StepRecord(r.step, r.t, r.x_t, 20 * r.x0_hat, *[r.x_t] * 5) for r in run()]
    kept = show.scrubber(records, NAMES, RATE, "06/run")
    peak = max(float(r.x0_hat.abs().max()) for r in records if r.t + 1 in kept.t)
    assert -20 * torch.tensor(peak).log10() - 1 < kept.gain <= -20 * torch.tensor(peak).log10()
    assert kept.lowered_for.endswith("at t = 40") and "would clip" in kept._repr_html_()
    with pytest.raises(ValueError, match="a gain of 0 dB clips"):
        show.scrubber(records, NAMES, RATE, "06/run", gain=0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"records": run()[:1]}, "1 records and steps = 12"),
        ({"steps": 1}, "40 records and steps = 1"),
        ({"names": ["violin"]}, "1 names"),
        ({"references": torch.zeros(3, N)}, r"references have shape \(3, 16000\)"),
        ({"id": "run"}, "must be chapter/name"),
        ({"records": [ut.separation.StepRecord(i, i, *[torch.zeros(3, 2, 9)] * 7) for i in (1, 0)]}, "of one mixture"),
        ({"records": [ut.separation.StepRecord(i, i, *[torch.full((2, 9), torch.nan)] * 7) for i in (1, 0)]}, "NaN"),
    ],
)
def test_unfit_input_is_named(here, change, message):
    arguments = {"records": run(), "names": NAMES, "sample_rate": RATE, "id": "06/run"}
    with pytest.raises(ValueError, match=message):
        show.scrubber(**{**arguments, **change})
    assert not here.exists()


def test_records_of_a_real_separation(here):
    """What `separate` hands to `on_step` is what the scrubber takes."""
    schedule = ut.NoiseSchedule.linear()
    priors = [ut.priors.StationaryGaussian(power * torch.ones(513), schedule=schedule) for power in (0.01, 0.02)]
    mixture = 0.1 * torch.randn(1024, generator=torch.Generator().manual_seed(0))
    records = []
    config = ut.SeparationConfig.short(ut.Hybrid()).replace(steps=6)
    ut.separate(mixture, priors, labels=[None, None], schedule=schedule, config=config, on_step=records.append)
    kept = show.scrubber(records, ["quiet", "loud"], RATE, "06/run")
    assert kept.t == tuple(record.t + 1 for record in records) and kept.t[-1] == 1
    assert len(list(here.glob("*.flac"))) == 2 * len(records)
