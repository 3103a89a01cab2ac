"""Figures: labelled, on one scale, drawn from the library's numbers, and no trace left in pyplot."""

import matplotlib
import pandas
import pytest
import torch
from matplotlib import pyplot

import unasdiff_teach as ut
from unasdiff_teach import show

matplotlib.use("Agg")
RATE = 8000
SCHEDULE = ut.NoiseSchedule.linear()


def tones() -> torch.Tensor:
    seconds = torch.arange(RATE) / RATE
    low, high = 0.5 * torch.sin(6.2832 * 500 * seconds), 0.05 * torch.sin(6.2832 * 2000 * seconds)
    return torch.stack([low + high, low, high])


def drawn() -> dict:
    names = ["mixture", "low", "high"]
    table = pandas.DataFrame({"mean": [8.0, -2.0], "low": [7.0, -3.0], "high": [9.0, -1.5]}, index=["hybrid", "DPS"])
    return {
        "waveforms": show.waveforms(tones(), names, RATE),
        "spectrograms": show.spectrograms(list(tones()), names, RATE),
        "schedule": show.schedule_curves(SCHEDULE.respace(40)),
        "guidance": show.guidance_curves([ut.DPS(), ut.DSG(), ut.Hybrid()], SCHEDULE),
        "trajectories": show.trajectories([2, 1, 0], {"SI-SDR / dB": torch.randn(3, 2)}, ["violin", "chime"]),
        "bars": show.bars_with_intervals(table, "SI-SDR / dB", reference=0.0, reference_name="unprocessed"),
    }


@pytest.fixture(scope="module")
def figures():
    return drawn()


def test_every_figure_has_labels_with_units_and_light_paper(figures):
    for name, figure in figures.items():
        across = [axis.get_xlabel() for axis in figure.axes]
        up = [
            figure.get_supylabel(),
            *(axis.get_ylabel() or axis.get_yticklabels()[0].get_text() for axis in figure.axes),
        ]
        assert any(across) and any(up), name
        assert min(figure.get_facecolor()[:3]) > 0.9, name
        assert figure.get_figwidth() == 6.4, name
    assert figures["waveforms"].axes[-1].get_xlabel() == "time / s"
    assert "kHz" in figures["spectrograms"].get_supylabel()
    assert figures["bars"].axes[0].get_xlabel() == "SI-SDR / dB"


def test_pyplot_and_its_settings_stay_as_they_were():
    before = dict(matplotlib.rcParams)
    figure = show.waveforms(tones(), ["a", "b", "c"], RATE)
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    assert repr(figure) == repr(show.waveforms(tones(), ["a", "b", "c"], RATE))


def test_spectrograms_share_one_scale(figures):
    images = [axis.images[0] for axis in figures["spectrograms"].axes[:3]]
    assert {image.get_clim() for image in images} == {(-80.0, 0.0)}
    low, high = (float(levels.max()) for levels in show.log_spectrograms(tones())[1:])
    assert low - high == pytest.approx(20, abs=0.1)  # amplitudes 0.5 and 0.05
    assert (show.log_spectrograms(torch.zeros(2, 512)) == -80).all()


def test_guidance_curves_are_the_rules_strengths(figures):
    for line, rule in zip(figures["guidance"].axes[0].lines, [ut.DPS(), ut.DSG(), ut.Hybrid()]):
        strength = rule.strength(SCHEDULE)
        positive = strength > 0
        assert torch.equal(torch.tensor(line.get_ydata())[positive], strength[positive])
        assert line.get_xdata()[0] == 1 and line.get_xdata()[-1] == 200


def test_trajectories_run_from_noise_to_signal(figures):
    axis = figures["trajectories"].axes[0]
    assert axis.get_xlim()[0] > axis.get_xlim()[1]
    assert list(axis.lines[0].get_xdata()) == [3, 2, 1]


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: show.waveforms(tones(), ["a"], RATE), "one name for each"),
        (lambda: show.spectrograms(torch.full((1, 512), torch.nan), ["a"], RATE), "NaN"),
        (lambda: show.waveforms(torch.zeros(1, 1, 9), ["a"], RATE), "shape"),
        (lambda: show.trajectories([1, 0], {"dB": torch.zeros(3, 2)}, ["a", "b"]), "'dB' has shape"),
    ],
)
def test_unfit_input_is_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
    pyplot.close("all")


def test_a_first_figure_of_this_library_leaves_interactive_mode_on(monkeypatch):
    # as a notebook's backend does: it turns interactive mode on when pyplot makes its first figure
    subplots = pyplot.subplots
    monkeypatch.setattr(
        pyplot, "subplots", lambda *args, **options: (matplotlib.interactive(True), subplots(*args, **options))[1]
    )
    matplotlib.interactive(False)
    try:
        show.guidance_curves([ut.DSG()], SCHEDULE)
        assert matplotlib.is_interactive(), "the cells after it would show no figures"
    finally:
        matplotlib.interactive(False)


def test_a_source_has_one_colour_in_all_its_waveforms():
    names = ["mixture", "speech, separated", "speech, true"]
    figure = show.waveforms(tones(), names, RATE)
    mixture, separated, true = (axis.lines[0].get_color() for axis in figure.axes)
    assert separated == true == show.PALETTE[0] and mixture != true


def test_numbers_of_bars_stand_within_the_frame(figures):
    axis = figures["bars"].axes[0]
    for text in axis.texts:
        assert text.get_window_extent().x1 < axis.get_window_extent().x1
