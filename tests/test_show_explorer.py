"""The explorer: what the sliders draw is what the library computes."""

import re

import numpy as np
import pytest
import torch

import unasdiff_teach as ut
from unasdiff_teach import show
from unasdiff_teach.show.explorer import CONTROLS, DEFAULTS


def test_curves_are_the_librarys():
    settings = {"T": 300, "beta_min": 2e-4, "beta_max": 3e-2, "sigma_scale": 0.2, "s_floor": 0.005, "sharpness": 400.0}
    curves = show.curves({**settings, "t_star": 9})
    schedule = ut.NoiseSchedule.linear(300, 2e-4, 3e-2)
    expected = {
        "t": torch.arange(1, 301),
        "beta": schedule.beta,
        "alpha_bar": schedule.alpha_bar,
        "log_snr": schedule.log_snr,
        "sigma": schedule.sigma,
        "DPS": ut.DPS().strength(schedule),
        "DSG": ut.DSG(sigma_scale=0.2).strength(schedule),
        "Hybrid": ut.Hybrid(s_floor=0.005, sharpness=400.0, sigma_scale=0.2).strength(schedule),
    }
    assert curves.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(curves[name], values.numpy()), name


OTHER = {
    "T": 400,
    "beta_min": 1e-3,
    "beta_max": 0.05,
    "sigma_scale": 0.5,
    "s_floor": 0.01,
    "sharpness": 100.0,
    "t_star": 50,
}


@pytest.mark.parametrize("name, value", OTHER.items())
def test_each_slider_redraws(name, value):
    explorer = show.gamma_explorer()
    before = explorer.picture.value
    explorer.sliders[name].value = value
    assert explorer.values == {**DEFAULTS, name: value}
    assert explorer.picture.value != before
    explorer.update(**{name: DEFAULTS[name]})
    assert explorer.picture.value == before


def test_values_between_the_sliders_stops_are_kept_exactly():
    explorer = show.gamma_explorer()
    explorer.update(sigma_scale=0.123, s_floor=0.0123)
    assert explorer.values == {**DEFAULTS, "sigma_scale": 0.123, "s_floor": 0.0123}


def test_drawn_curve_is_the_computed_one():
    explorer = show.gamma_explorer()
    explorer.update(s_floor=0.01)
    path = re.findall(r'<path d="M([^"]+)" fill="none" stroke="#009e73" stroke-width="2.5"/>', explorer.picture.value)[
        0
    ]
    y = np.array([float(point.split()[1]) for point in re.findall(r"\S+ \S+", path)])
    gamma = 10 ** (1 - (y - 35) / 230 * 5)  # the panel spans 1e-4 to 10 over 230 pixels from 35
    assert np.allclose(gamma, show.curves(explorer.values)["Hybrid"], rtol=0.003)


def test_sliders_stand_beside_the_picture_and_gamma_comes_first():
    """In a notebook: seven sliders above the picture would push what they move off the screen."""
    explorer = show.gamma_explorer()
    controls, picture = explorer.children
    assert picture is explorer.picture and list(controls.children) == list(explorer.sliders.values())
    titles = re.findall(r'font-weight="bold">(.)', picture.value)
    assert titles == ["γ", "σ", "β", "l", "ᾱ"]


def test_start_step_stays_inside_the_chain():
    explorer = show.gamma_explorer()
    explorer.update(T=100)
    assert explorer.values["t_star"] == 100
    with pytest.raises(ValueError, match="t_star is 150"):
        explorer.update(t_star=150)
    explorer.update(T=500, t_star=400)
    assert explorer.values["t_star"] == 400


def test_extremes_draw_finite_curves():
    for side in (0, 1):
        explorer = show.gamma_explorer()
        ends = {name: control[side] for name, control in CONTROLS.items()}
        explorer.update(**ends)
        assert "nan" not in explorer.picture.value and "inf" not in explorer.picture.value


def test_starts_from_a_given_schedule():
    explorer = show.gamma_explorer(ut.NoiseSchedule.linear(100, 1e-3, 4e-2))
    assert explorer.values["T"] == 100 and explorer.values["t_star"] == 75
    assert explorer.values["beta_max"] == pytest.approx(4e-2)
    with pytest.raises(ValueError, match="not linear"):
        show.gamma_explorer(ut.NoiseSchedule.linear().respace(40))
    with pytest.raises(ValueError, match="beta_max is 0.5"):
        show.gamma_explorer(ut.NoiseSchedule.linear(100, 1e-3, 0.5))


def test_unknown_sliders_and_values_outside_are_named():
    explorer = show.gamma_explorer()
    with pytest.raises(ValueError, match="no slider 'floor'"):
        explorer.update(floor=0.1)
    with pytest.raises(ValueError, match="s_floor is 1;"):
        explorer.update(s_floor=1.0)


def test_without_a_kernel_a_picture_with_a_description_stays():
    html = show.gamma_explorer()._repr_html_()
    assert html == show.gamma_explorer()._repr_html_()
    assert 'role="img"' in html and "steps T 200" in html
    assert "−8.2 dB at T = 200" in html and "at t* = 150" in html
    assert len(html) < 60_000
