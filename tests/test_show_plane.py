"""The plane: what is drawn is what the library computes, in a notebook and in a page without a kernel."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

import unasdiff_teach as ut
from unasdiff_teach import show
from unasdiff_teach.show import two_sources
from unasdiff_teach.show.plane import _facts, _paths
from unasdiff_teach.show.two_sources import (
    CONTROLS,
    DEFAULTS,
    DENSITY,
    KNOTS,
    LINE,
    MEANS,
    STD,
    WEIGHTS,
    Drawn,
    N,
    T,
    Y,
    _noise,
)

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
FILES = ("explorer.js", "plane.js", "tools.css")


def test_noise_is_normal_and_of_its_own_in_each_step_and_draw():
    z = torch.cat([_noise(stream, seed) for stream in range(50) for seed in range(3)])
    assert z.mean().abs() < 0.01 and abs(z.std() - 1) < 0.01 and abs(z.pow(4).mean() - 3) < 0.1
    assert torch.corrcoef(z[:20]).fill_diagonal_(0).abs().max() < 0.3
    assert len(z.unique()) == z.numel()


def test_exact_posterior_is_that_of_the_priors_and_the_sum():
    """Given their sum, each pair of hills is a Gaussian of half the variance, weighted by how well it explains the
    sum.
    """
    shares = {}
    for a, m in zip(WEIGHTS[0], MEANS[0]):
        for b, n in zip(WEIGHTS[1], MEANS[1]):
            shares[m + (Y - m - n) / 2] = a * b * np.exp(-((Y - m - n) ** 2) / (4 * STD**2))
    density = sum(w * np.exp(-((LINE - centre) ** 2) / STD**2) for centre, w in shares.items())
    assert np.allclose(DENSITY, density / density.sum() / 0.001, atol=1e-12)


def test_chance_is_the_distance_of_exact_draws():
    draws = np.random.default_rng(0).choice(LINE, (400, N), p=DENSITY / DENSITY.sum())
    distances = np.abs(np.sort(draws) - two_sources.QUANTILES).mean(1)
    assert distances.mean() == pytest.approx(two_sources.CHANCE, rel=0.1)


def test_run_is_algorithm_1():
    """`algorithm_1` draws the same noise and takes the same steps."""
    numbers = show.plane_numbers(start="T", gamma=0.3, seed=2)
    streams = iter([T, *reversed(range(1, T))])

    def draws(*shape, generator):
        z = _noise(next(streams), 2)
        return z[0] if len(shape) == 1 else z

    def prior(k):
        single = ut.priors.GaussianMixture(
            torch.tensor(WEIGHTS[k]), torch.tensor(MEANS[k])[:, None], torch.tensor(np.full(2, STD))
        )
        return lambda x, t, label: single(x.reshape(-1, 1), t.expand(N)).reshape(x.shape)

    rule, loss = ut.Hybrid(0.02, sigma_scale=0.3), ut.ReconstructionLoss(group=0, stft=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", draws)
        y = torch.full((N,), Y).double()
        x = ut.separation.algorithm_1(y, [prior(0), prior(1)], [None, None], ut.NoiseSchedule.linear(), rule, loss)
    assert np.allclose(numbers["on_line"], (x[0] + y - x[1]) / 2, atol=1e-9)


def test_distances_are_what_they_are_called():
    early, late = show.plane_numbers(rule="DPS", gamma=0.5), show.plane_numbers(rule="DPS", gamma=0.5, t_star=60)
    for numbers in (early, late):
        assert numbers["w1"] == pytest.approx(wasserstein_distance(numbers["on_line"], LINE, None, DENSITY), abs=0.003)
        assert numbers["left"] == np.mean(numbers["on_line"] < 0)
        assert numbers["off"] == pytest.approx(np.sqrt(np.mean((numbers["x"].sum(0) - Y) ** 2)))
    assert (
        late["left"] < 0.4 and late["w1"] > 3 * early["w1"]
    )  # too late a start: what the mixture has told is not undone


def test_parts_of_a_step_add_up():
    now, then = (show.plane_numbers(t=t, rule="DSG", gamma=0.7) for t in (80, 79))
    noise = then["x"] - now["x"] - now["g_prior"] - now["g_cond"]
    assert np.allclose(noise, ut.NoiseSchedule.linear().sigma[79] * _noise(79, 0), atol=1e-9)


def test_drawn_rule_is_straight_between_its_knots():
    strength = Drawn((0.01, 0.1, 0.1, 0.001, 1.0)).strength(ut.NoiseSchedule.linear())
    assert np.allclose(strength[[t - 1 for t in KNOTS]], (0.01, 0.1, 0.1, 0.001, 1.0))
    assert strength[124].item() == pytest.approx(0.01)
    numbers = show.plane_numbers(rule="drawn", **{f"at_{t}": 0.05 for t in KNOTS})
    assert np.allclose(numbers["size"], 0.05, rtol=1e-3)


def test_noised_points_forget_their_hills():
    forward = [show.plane_numbers(view="forward", t=t) for t in (0, 60, 120, 200)]
    own, error = [n["own"] for n in forward], [n["error"] for n in forward]
    assert own[0] > 0.98 and own == sorted(own, reverse=True) and own[-1] < 0.5
    assert error[0] == 0 and error == sorted(error)


@pytest.mark.parametrize(
    ("rule", "chaotic"), [(ut.Hybrid(0.05, sigma_scale=0.7), False), (ut.Hybrid(0.02, sigma_scale=1.5), True)]
)
def test_sliders_end_where_runs_turn_chaotic(rule, chaotic):
    """Rounding, of which another machine has its own, must not decide where points land."""
    limits = [max(CONTROLS[name][0]) for name in ("gamma", "floor", "at_1")]
    assert limits == [0.7, 0.05, 0.05]
    exact = two_sources._run.__wrapped__(rule, "noise", T, 0)["x"][-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_sources, "_noise", lambda stream, seed: _noise(stream, seed) + (1e-12 if stream == T else 0))
        change = (two_sources._run.__wrapped__(rule, "noise", T, 0)["x"][-1] - exact).abs().max()
    assert (change > 1e-6) == chaotic


@pytest.mark.slow
def test_each_control_redraws_and_goes_back():
    plane = show.plane_of_sources(*CONTROLS, rule="Hybrid", t=60)
    start, before = plane.values, plane.picture.value
    other = {"t": 20, "rule": "DPS", "gamma": 0.7, "floor": 0.05, "start": "T", "t_star": 100, "seed": 1}
    for name, value in other.items():
        plane.controls[name].value = value
        assert plane.values == start | {name: value}
        assert plane.picture.value != before, name
        plane.controls[name].value = start[name]
        assert plane.picture.value == before
    assert "drawn" not in dict(show.plane_of_sources("rule").controls["rule"].options).values()
    plane = show.plane_of_sources("rule", "drawn", rule="drawn")
    assert "drawn" in dict(plane.controls.pop("rule").options).values()
    for name, control in plane.controls.items():
        before = plane.picture.value
        control.value = 0.05
        assert (plane.picture.value != before) == (name != "at_200"), name  # a run from t* = 150 does not get there


def test_bad_names_and_values_are_named():
    with pytest.raises(ValueError, match="no control 'speed'"):
        show.plane_of_sources("speed")
    with pytest.raises(ValueError, match="no setting 'scale'"):
        show.plane_of_sources(scale=1)
    with pytest.raises(ValueError, match="rule is 'CQT'; accepted are DPS, DSG"):
        show.plane_numbers(rule="CQT")
    with pytest.raises(ValueError, match="view is 'back'; accepted are forward"):
        show.plane_numbers(view="back")


def test_without_a_kernel_a_picture_with_a_description_stays():
    html = show.plane_of_sources("t", rule="DPS", gamma=0.5, t=80)._repr_html_()
    assert html == show.plane_of_sources("t", rule="DPS", gamma=0.5, t=80)._repr_html_()
    label = re.search(r'role="img" aria-label="([^"]+)"', html)[1]
    assert "200 points" in label and "exact: 65.0 %" in label and "Wasserstein-1" in label
    assert len(html) < 45_000 and "nan" not in html


# ---------------------------------------------------------------------------- in a page, with no kernel

VIEWS = ("forward", "tweedie", "reverse", "run")


@pytest.fixture(scope="module")
def tab(browser, tmp_path_factory):
    """One page with the plane in each of its views."""
    folder = tmp_path_factory.mktemp("plane")
    for name in FILES:
        shutil.copy(STATIC / name, folder)
    body = "".join(show.plane_of_sources(*CONTROLS, view=view)._repr_html_() for view in VIEWS)
    scripts = "".join(f'<script defer src="{name}"></script>' for name in FILES[:2])
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Plane</title><link rel="stylesheet"'
        ' href="tools.css">'
    )
    (folder / "page.html").write_text(f"{head}{scripts}<body>{body}</body></html>", encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 1000, "height": 1200})
    tab, trouble = context.new_page(), []
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto((folder / "page.html").as_uri())
    yield tab
    context.close()
    assert not trouble


def put(root, values: dict) -> dict:
    """Move the page's controls as a reader's hand would, and read what it then shows."""
    return root.evaluate(
        """(r, positions) => {
            for (const [name, position] of Object.entries(positions)) {
                const input = r.querySelector(`[name=${name}]`);
                input.value = position;
                input.dispatchEvent(new Event("input", { bubbles: true }));
            }
            const { values, numbers, paths } = r;
            return { values, numbers, paths, told: r.querySelector("[role=status]").textContent };
        }""",
        {
            name: value if isinstance(CONTROLS[name][0], dict) else list(CONTROLS[name][0]).index(value)
            for name, value in values.items()
        },
    )


def settings_to_try(view: str) -> list[dict]:
    if view != "run":
        return [{"t": t, "seed": seed} for t, seed in [(0, 1), (1, 0), (90, 2), (200, 3)]]
    chance = random.Random(0)
    drawn = [{name: chance.choice(list(accepted)) for name, (accepted, _) in CONTROLS.items()} for _ in range(4)]
    runs = [("DPS", 0.1, 0.02), ("DSG", 0.7, 0.02), ("Hybrid", 0.7, 0.05), ("Hybrid", 0.01, 0.05), ("drawn", 0.3, 0.02)]
    return drawn + [
        {"rule": rule, "gamma": gamma, "floor": floor, "start": start, "t": t}
        for (rule, gamma, floor), start, t in zip(
            runs, ["init_step", "noise", "T", "init_step", "noise"], (90, 60, 1, 0, 150)
        )
    ]


@pytest.mark.browser
@pytest.mark.parametrize("view", VIEWS)
def test_numbers_in_the_page_are_the_librarys(tab, view):
    root = tab.locator(".plane-tool").nth(VIEWS.index(view))
    for chosen in settings_to_try(view):
        page = put(root, chosen)
        values = DEFAULTS | {"view": view} | page["values"]
        assert {name: page["values"][name] for name in chosen} == chosen
        expected = show.plane_numbers(**values)
        assert expected.keys() == page["numbers"].keys()
        for name, numbers in expected.items():
            assert np.allclose(page["numbers"][name], numbers, rtol=0, atol=1e-6), (name, values)
        assert page["told"] == _facts(values, expected)
        paths = _paths(values, expected)
        assert paths.keys() == page["paths"].keys()
        for name, d in paths.items():
            in_page, here = (np.array(re.findall(r"-?[\d.]+", path), float) for path in (page["paths"][name], d))
            assert np.allclose(in_page, here, atol=0.11), (name, values)


@pytest.mark.browser
def test_a_run_can_be_watched_and_the_page_goes_back(tab):
    root = tab.locator(".plane-tool").nth(3)
    root.get_by_role("button", name="Back to the start").click()
    start = root.locator("[data-part=dots]").get_attribute("d")
    root.get_by_role("button", name="Run from the start").click()
    assert root.evaluate("r => r.values.t") > 100
    tab.wait_for_function("r => r.values.t === 0", arg=root.element_handle(), timeout=20_000)
    assert root.locator("[data-part=dots]").get_attribute("d") == start
    put(root, {"rule": "DPS"})
    assert root.locator("[data-part=bars]").get_attribute("fill") == show.PALETTE[0]
    root.get_by_role("button", name="Back to the start").click()
    assert root.locator("[name=rule]").input_value() == DEFAULTS["rule"]


@pytest.mark.browser
def test_the_curve_can_be_drawn_with_the_pointer_and_moved_with_keys(tab):
    root = tab.locator(".plane-tool").nth(3)
    put(root, {"rule": "drawn"})
    root.locator("svg").scroll_into_view_if_needed()
    box = root.locator("svg").bounding_box()
    unit = box["width"] / 640
    tab.mouse.move(box["x"] + (462 + 81) * unit, box["y"] + (260 + 75) * unit)  # the middle of t, and of four decades
    tab.mouse.down()
    tab.mouse.up()
    assert root.evaluate("r => r.values.at_100") == 0.01
    root.locator("[name=at_100]").focus()
    tab.keyboard.press("ArrowRight")
    assert root.evaluate("r => r.values.at_100") == 0.015


@pytest.mark.browser
def test_every_control_of_the_plane_has_a_name_and_fits_a_phone(tab):
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.locator(".plane-tool :is(input, select)").evaluate_all(
        "all => all.every((e) => e.labels[0].textContent.trim())"
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
