"""The tools in the pages, driven in a real browser: from file://, with the network off and no kernel."""

from __future__ import annotations

import math
import random
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unasdiff_teach import show
from unasdiff_teach.evaluation import si_sdr
from unasdiff_teach.show.explorer import CONTROLS, DEFAULTS, _facts

STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
FILES = ("tools.js", "explorer.js", "tools.css")
RATE = 8000
SECONDS = 2.0
T = (150, 60, 20, 1)
TITLES = ["mixture", "low <reference>", "high"]

pytestmark = pytest.mark.browser


def tones() -> dict[str, torch.Tensor]:
    time = torch.arange(int(SECONDS * RATE)) / RATE
    low, high = 0.3 * torch.sin(6.2832 * 440 * time), 0.1 * torch.sin(6.2832 * 1760 * time)
    return dict(zip(TITLES, [low + high, low, high]))


def records() -> list[SimpleNamespace]:
    """A separation that comes out of the noise: what the scrubber reads of a StepRecord."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.stack(list(tones().values())[1:])
    noise = torch.randn(sources.shape, generator=generator)
    return [SimpleNamespace(step=i, t=t - 1, x0_hat=sources + 0.001 * t * noise) for i, t in enumerate(T)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A page with every tool, and what lies beside it."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "_static").mkdir()
    for name in FILES:
        shutil.copy(STATIC / name, folder / "_static")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tools = [
            show.player(tones(), RATE, note="the <hiss>", id="00/beside"),
            show.player(tones(), RATE),
            show.scrubber(
                records(), ["low", "high"], RATE, "00/run", references=torch.stack(list(tones().values())[1:])
            ),
            show.gamma_explorer(),
        ]
    scripts = "".join(f'<script defer src="_static/{name}"></script>' for name in FILES if name.endswith("js"))
    style = '<link rel="stylesheet" href="_static/tools.css">'
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon"'
        f' href="data:,"><title>Tools</title>{style}'
    )
    body = "".join(f"<div>{tool._repr_html_()}</div>" for tool in tools)
    (folder / "page.html").write_text(f"{head}{scripts}<body>{body}</body></html>", encoding="utf-8")
    (folder / "plain.html").write_text(f"{head}<body>{body}</body></html>", encoding="utf-8")
    (folder / "bare.html").write_text(f"{head}<body></body></html>", encoding="utf-8")
    (folder / "empty.html").write_text(f"{head}{scripts}<body><p>No tools.</p></body></html>", encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser, folder):
    """Opens a page of the folder; afterwards nothing may have failed or been asked from elsewhere."""
    contexts, trouble = [], []

    def open_page(name: str = "page.html", width: int = 1000, **options):
        context = browser.new_context(offline=True, viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("requestfailed", lambda request: trouble.append(f"not loaded: {request.url[:99]} {request.failure}"))
        inside = (folder.as_uri() + "/", "data:")
        tab.on("request", lambda request: None if request.url.startswith(inside) else trouble.append(request.url))
        tab.goto((folder / name).as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    # a browser drops what it was loading of a sound when another position is asked for
    assert not [text for text in trouble if not re.search(r"\.flac .*ERR_ABORTED", text)]


def tool(tab, number: int):
    return tab.locator(".page-tool").nth(number)


PLAYER, INLINE, SCRUBBER, EXPLORER = range(4)


def heard(root) -> list[str]:
    """Names of the files that sound, if the tool plays: its running elements that are not muted."""
    return root.evaluate("r => r.deck.group.filter((a) => !a.muted).map((a) => a.src.split('/').pop())")


def wait_for_time(tab, root, time: float) -> None:
    tab.wait_for_function("([r, t]) => r.deck.time > t", arg=[root.element_handle(), time], timeout=20_000)


# ---------------------------------------------------------------------------------------- all tools


def test_page_without_tools_is_left_alone(opened):
    tab = opened("empty.html")
    assert tab.locator("body").inner_text() == "No tools."


def test_without_a_script_everything_can_be_heard_and_seen(opened):
    tab = opened(java_script_enabled=False)
    assert tab.locator("audio[controls]:visible").count() == 3 + 3 + 2
    assert tab.locator("img:visible").count() == 3 + 1
    assert all(len(picture.get_attribute("alt")) > 40 for picture in tab.locator("img").all())
    assert tab.locator("svg[role=img]:visible").count() == 1


def test_pictures_bring_the_tools_where_the_page_does_not(opened):
    """JupyterLab's case: outputs alone, no script of the page."""
    tab = opened("plain.html")
    tab.wait_for_selector(".page-tool >> nth=2")
    assert tab.locator(".page-tool").count() == 3  # the explorer has its live twin there
    root = tool(tab, PLAYER)
    root.get_by_role("radio").nth(2).check()
    assert heard(root) == ["3-high.flac"]


def test_tools_come_to_an_output_that_is_attached_after_its_pictures_arrived(opened, folder):
    """JupyterLab's case on a busy machine."""
    body = (folder / "plain.html").read_text(encoding="utf-8").split("<body>")[1].split("</body>")[0]
    tab = opened("bare.html")
    tab.evaluate("html => { window.output = document.createElement('div'); output.innerHTML = html; }", body)
    tab.wait_for_function("window.pageTools && [...output.querySelectorAll('img')].every((image) => image.complete)")
    assert tab.locator(".page-tool").count() == 0
    tab.evaluate("document.body.append(output)")
    tab.wait_for_selector(".page-tool >> nth=2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_narrow_screen(opened, scheme):
    tab = opened(width=390, color_scheme=scheme)
    assert tab.locator(".page-tool").count() == 4
    tab.locator("summary").first.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_controls_are_large_enough_for_a_finger(opened):
    tab = opened(width=390, has_touch=True)
    tab.locator("summary").first.click()
    small = """all => all.map((e) => [e.closest("label") || e, e]).filter(([box, e]) => e.getClientRects().length)
        .filter(([box]) => box.getBoundingClientRect().height < 44).map(([, e]) => e.outerHTML)"""
    assert tab.locator(".page-tool :is(button, input, select, summary)").evaluate_all(small) == []
    assert tab.locator(".page-tool input[type=range]").evaluate_all(
        "all => all.every((e) => e.getBoundingClientRect().height >= 44)"
    )


def test_a_gain_of_nothing_is_said_in_words(opened):
    tab = opened()
    for number in (PLAYER, INLINE):
        text = tool(tab, number).locator(".tool-note").inner_text()
        assert "0 dB" not in text and text.endswith("All at their own level: nothing was made louder or softer.")


def test_every_control_has_a_name(opened):
    tab = opened()
    tab.locator("summary").first.click()
    nameless = """all => all.filter((e) => !(e.getAttribute("aria-label")
        || (e.labels && e.labels[0] && e.labels[0].textContent.trim())
        || (e.tagName === "BUTTON" && e.textContent.trim()))).map((e) => e.outerHTML)"""
    controls = tab.locator(".page-tool :is(button, input, select)")
    assert controls.count() > 30
    assert controls.evaluate_all(nameless) == []
    assert tab.locator(".page-tool").evaluate_all("all => all.every((e) => e.role === 'group' && e.ariaLabel)")
    for number, name in [
        (PLAYER, "Listening player: mixture, low <reference>, high"),
        (SCRUBBER, "Scrubber through a separation: low, high"),
    ]:
        assert tool(tab, number).get_attribute("aria-label") == name


# ------------------------------------------------------------------------------------------- player


@pytest.mark.parametrize("number", [PLAYER, INLINE])
def test_switching_keeps_the_position(opened, number):
    tab = opened()
    root = tool(tab, number)
    root.get_by_role("button", name="Play").click()
    wait_for_time(tab, root, 0.4)
    before, after = root.evaluate(
        """r => {
            const before = r.deck.time;
            r.querySelectorAll("input[type=radio]")[2].click();
            return [before, r.deck.time];
        }"""
    )
    assert after == pytest.approx(before, abs=0.1)
    assert root.evaluate("r => r.deck.group.map((a) => [a.muted, a.paused, a.volume])") == [
        [True, False, 1], [True, False, 1], [False, False, 1],
    ]  # fmt: skip
    time = root.evaluate("r => r.deck.time")
    wait_for_time(tab, root, time + 0.2)  # it goes on from there
    spread = root.evaluate(
        "r => { const times = r.deck.group.map((a) => a.currentTime); return Math.max(...times) - Math.min(...times); }"
    )
    assert spread < 0.12


def test_player_by_keyboard_alone(opened):
    tab = opened()
    root = tool(tab, PLAYER)
    tab.keyboard.press("Tab")  # the first control of the page is the player's choice of sounds
    assert tab.evaluate("document.activeElement.type") == "radio"
    assert heard(root) and not root.evaluate("r => r.deck.playing")
    tab.keyboard.press(" ")
    wait_for_time(tab, root, 0.1)
    tab.keyboard.press("3")
    assert heard(root) == ["3-high.flac"]
    assert root.get_by_role("radio").nth(2).is_checked()
    tab.keyboard.press("ArrowUp")
    assert heard(root) == ["2-low-reference.flac"]
    tab.keyboard.press(" ")
    assert not root.evaluate("r => r.deck.playing")
    tab.keyboard.press("0")
    assert root.evaluate("r => r.deck.time") == 0
    tab.keyboard.press("l")
    assert not root.get_by_role("checkbox", name="repeat").is_checked()


def test_picture_follows_the_sound_and_its_cursor_the_time(opened):
    tab = opened()
    root = tool(tab, PLAYER)
    assert root.locator("img:visible").get_attribute("src").endswith("1-mixture.jpg")
    root.get_by_role("radio").nth(1).check()
    assert root.locator("img:visible").get_attribute("src").endswith("2-low-reference.jpg")
    box = root.locator(".tool-picture").bounding_box()
    tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    assert root.evaluate("r => r.deck.time") == pytest.approx(0.25 * SECONDS, abs=0.02)
    assert float(root.locator(".tool-cursor").evaluate("c => parseFloat(c.style.left)")) == pytest.approx(25, abs=1)
    tab.keyboard.press(" ")  # a click into the picture gives the player the keys
    wait_for_time(tab, root, 0.7)
    assert root.locator(".tool-cursor").evaluate("c => parseFloat(c.style.left)") > 30
    tab.keyboard.press(" ")
    root.get_by_role("slider", name="position").fill("250")
    assert root.evaluate("r => r.deck.time") == pytest.approx(0.25 * SECONDS, abs=0.05)


def test_arrow_keys_move_the_position(opened):
    tab = opened()
    root = tool(tab, PLAYER)
    root.get_by_role("slider", name="position").focus()
    for key, expected in [
        ("ArrowRight", 0.1),
        ("ArrowUp", 0.2),
        ("PageUp", 1.2),
        ("ArrowLeft", 1.1),
        ("PageDown", 0.1),
        ("Home", 0),
    ]:
        tab.keyboard.press(key)
        assert root.evaluate("r => r.deck.time") == pytest.approx(expected, abs=0.02), key
    assert root.get_by_role("slider", name="position").get_attribute("aria-valuetext") == "0.0 of 2.0 s"


@pytest.mark.parametrize("number", [PLAYER, INLINE])
def test_every_position_can_be_sought(opened, number):
    """Chromium fails where a short FLAC file has no seek table, and in its last block."""
    root = tool(opened(), number)
    reached = root.evaluate("""async r => {
            const audio = r.deck.current, reached = [];
            audio.preload = "auto";
            for (let time = 1.95; time > 0; time -= 0.05) {
                const sought = new Promise((done) => {
                    audio.onseeked = () => done(true);
                    audio.onerror = () => done(false);
                });
                r.deck.seek(time);
                if (audio.seeking && !(await sought)) return `failed at ${time}`;
                reached.push(Math.abs(audio.currentTime - time));
            }
            return Math.max(...reached);
        }""")
    assert reached < 0.16


def test_repeats_only_if_asked(opened):
    tab = opened()
    root = tool(tab, PLAYER)
    root.evaluate("r => r.deck.seek(1.7)")
    root.get_by_role("button", name="Play").click()
    tab.wait_for_function("r => r.deck.playing && r.deck.time < 1", arg=root.element_handle(), timeout=20_000)
    root.get_by_role("checkbox", name="repeat").uncheck()
    root.evaluate("r => r.deck.seek(1.7)")
    tab.wait_for_function("r => !r.deck.playing", arg=root.element_handle(), timeout=20_000)
    assert root.evaluate("r => r.deck.time") == 0


def test_a_damaged_file_stops_the_player(opened, folder):
    """Its button does not stay at Pause, and the page does not draw on for ever."""
    page, beside, place = folder / "page.html", folder / "_static/audio/00/beside", folder / "_static/audio/00/damaged"
    (folder / "damaged.html").write_text(
        page.read_text(encoding="utf-8").replace("00/beside/1-", "00/damaged/1-"), encoding="utf-8"
    )
    sound, place = (beside / "1-mixture.flac").read_bytes(), shutil.copytree(beside, place)
    half = len(sound) // 2
    for damaged in (sound[:half] + bytes(500) + sound[half + 500 :], sound[:100]):  # noticed while it plays, and before
        (place / "1-mixture.flac").write_bytes(damaged)
        tab = opened("damaged.html")
        root = tool(tab, PLAYER)
        root.get_by_role("button", name="Play").click()
        tab.wait_for_function("r => r.deck.current.error && !r.deck.playing", arg=root.element_handle(), timeout=10_000)


def test_a_failed_seek_starts_again_once(opened):
    """What cannot be decoded would fail at the same place again and again."""
    tab = opened()
    root = tool(tab, PLAYER)
    root.get_by_role("button", name="Play").click()
    root.evaluate("""r => {
        const audio = r.deck.current, fail = () => setTimeout(() => audio.dispatchEvent(new Event("error")), 50);
        Object.defineProperty(audio, "error", { value: { code: MediaError.MEDIA_ERR_DECODE } });
        audio.loads = 0;
        audio.load = () => { audio.loads += 1; fail(); };
        r.deck.seek(1);
        fail();
    }""")
    tab.wait_for_timeout(1000)
    assert root.evaluate("r => [r.deck.current.loads, r.deck.playing]") == [1, False]


def test_one_tool_sounds_at_a_time(opened):
    tab = opened()
    for number in (PLAYER, INLINE, SCRUBBER):
        tool(tab, number).get_by_role("button", name="Play").click()
        playing = [tool(tab, k).evaluate("r => r.deck.playing") for k in (PLAYER, INLINE, SCRUBBER)]
        assert playing == [k == number for k in (PLAYER, INLINE, SCRUBBER)]


# ------------------------------------------------------------------------------------- its blind test


def begin_blind_test(tab, draws: list[float]):
    """Start the first player's test between tracks 1 and 3; `draws` in place of chance, repeated."""
    tab.evaluate("draws => { let i = 0; Math.random = () => draws[i++ % draws.length]; }", draws)
    root = tool(tab, PLAYER)
    root.locator("summary").click()
    root.get_by_label("B is").select_option(label="high")
    root.get_by_role("button", name="Start").click()
    return root


@pytest.mark.parametrize("right", [10, 8, 5, 0])
def test_blind_test_scores_and_gives_the_chance_of_guessing(opened, right):
    tab = opened()
    draws = [0.1, 0.9, 0.2, 0.8, 0.7]  # below a half X is A
    root = begin_blind_test(tab, draws)
    for trial in range(10):
        assert root.get_by_role("status").inner_text() == f"Trial {trial + 1} of 10: is X the same as A or as B?"
        answer = (draws[trial % 5] < 0.5) == (trial < right)
        root.get_by_role("button", name="X is A" if answer else "X is B").click()
    p = sum(math.comb(10, k) for k in range(right, 11)) / 2**10
    told = root.get_by_role("status").inner_text()
    assert told.startswith(f"{right} of 10 right.")
    assert float(re.search(r"p = ([\d.e-]+\d)", told)[1]) == pytest.approx(p, rel=0.05)
    assert ("you hear a difference" in told) == (p <= 0.05)
    assert root.locator(".tool-tracks").is_visible() and not root.evaluate("r => r.deck.playing")


def test_blind_test_plays_what_it_says_and_does_not_tell(opened):
    shown = []
    for draw, file in [(0.1, "1-mixture.flac"), (0.9, "3-high.flac")]:
        tab = opened()
        root = begin_blind_test(tab, [draw])
        for key, expected in [("x", file), ("a", "1-mixture.flac"), ("b", "3-high.flac"), ("x", file)]:
            tab.keyboard.press(key)
            assert heard(root) == [expected]
        tab.keyboard.press("2")  # the player's own keys rest meanwhile
        assert heard(root) == [file]
        assert not root.locator(".tool-picture").is_visible() and not root.locator(".tool-tracks").is_visible()
        shown.append(root.locator("details").evaluate("d => d.outerHTML"))
    assert shown[0] == shown[1]


def test_blind_test_can_be_stopped_and_needs_two_sounds(opened):
    tab = opened()
    root = begin_blind_test(tab, [0.1])
    root.get_by_role("button", name="Stop").click()
    assert root.get_by_role("status").inner_text() == "Stopped: no result."
    root.get_by_label("B is").select_option(label="mixture")
    root.get_by_role("button", name="Start").click()
    assert "choose two" in root.get_by_role("status").inner_text()
    assert not root.locator(".tool-trial").is_visible()


# ----------------------------------------------------------------------------------------- scrubber


def test_scrubber_shows_and_plays_each_step(opened):
    tab = opened()
    root = tool(tab, SCRUBBER)
    slider = root.get_by_role("slider", name="step of the separation")
    scores = [si_sdr(r.x0_hat, torch.stack(list(tones().values())[1:])).tolist() for r in records()]
    seen = set()
    for step, t in enumerate(T):
        slider.fill(str(step))
        place = f"step {step + 1} of 4, t = {t}"
        assert slider.get_attribute("aria-valuetext") == place
        assert heard(root) == [f"1-{step + 1:02d}.flac"]
        for k, name in enumerate(["low", "high"]):
            picture = root.locator(".tool-picture").nth(k)
            score = f"SI-SDR {scores[step][k]:.1f} dB".replace(" -", " −")
            assert picture.get_attribute("aria-label") == f"Spectrogram of the estimate of {name} at {place}. {score}"
            assert root.locator("small").nth(k).inner_text() == score
            seen.add(picture.evaluate("p => getComputedStyle(p).backgroundPosition"))
    assert len(seen) == 2 * len(T)


def test_scrubber_pictures_are_those_of_the_step(opened):
    tab = opened()
    root = tool(tab, SCRUBBER)
    width, height = root.evaluate(
        "r => { const i = r.nextElementSibling.querySelector('img'); return [i.naturalWidth, i.naturalHeight]; }"
    )
    assert width % len(T) == 0 and height % 2 == 0  # the cells are of one size, so shares of the sheet find them
    slider, pictures = root.get_by_role("slider").first, root.locator(".tool-picture")

    def look(step):
        slider.fill(str(step))
        return [picture.screenshot() for picture in pictures.all()]

    first, last = look(0), look(len(T) - 1)
    assert first == look(0)
    assert len({*first, *last}) == 4


def test_scrubber_by_keyboard_keeps_the_position(opened):
    tab = opened()
    root = tool(tab, SCRUBBER)
    slider = root.get_by_role("slider", name="step of the separation")
    slider.focus()
    tab.keyboard.press("Home")
    assert heard(root) == ["1-01.flac"]
    tab.keyboard.press(" ")
    wait_for_time(tab, root, 0.5)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("2")
    assert heard(root) == ["2-02.flac"]
    tab.keyboard.press(".")
    tab.keyboard.press(".")
    tab.keyboard.press(".")
    tab.keyboard.press(",")
    assert heard(root) == ["2-03.flac"]
    assert root.evaluate("r => r.deck.time") > 0.45
    time = root.evaluate("r => r.deck.time")
    tab.wait_for_function(
        "([r, t]) => r.deck.playing && Math.abs(r.deck.time - t) > 0.1",
        arg=[root.element_handle(), time],
        timeout=20_000,
    )


# ----------------------------------------------------------------------------------------- explorer


def move(root, values: dict[str, int]) -> dict:
    """Put the sliders at these positions, as a reader's hand would."""
    return root.evaluate(
        """(r, positions) => {
            for (const [name, position] of Object.entries(positions)) {
                const input = r.querySelector(`input[name=${name}]`);
                input.value = position;
                input.dispatchEvent(new Event("input"));
            }
            return { values: r.values, curves: r.curves, told: r.querySelector("[role=status]").textContent };
        }""",
        values,
    )


def test_curves_in_the_page_are_the_librarys(opened):
    root = tool(opened(), EXPLORER)
    ends = root.evaluate(
        "r => Object.fromEntries([...r.querySelectorAll('input')].map((i) => [i.name, [Number(i.min), Number(i.max)]]))"
    )
    assert ends.keys() == CONTROLS.keys()
    chance = random.Random(0)
    settings = [{name: chance.randint(*ends[name]) for name in ends} for _ in range(10)]
    settings += [{name: end[side] for name, end in ends.items()} for side in (0, 1)]
    seen = []
    for setting in settings:
        page = move(root, setting)
        assert all(CONTROLS[name][0] <= value <= CONTROLS[name][1] for name, value in page["values"].items())
        expected = show.curves(page["values"])
        assert page["curves"].keys() == expected.keys()
        for name, curve in expected.items():
            assert np.allclose(page["curves"][name], curve, rtol=1e-6, atol=1e-6 * np.abs(curve).max()), (
                name,
                page["values"],
            )
        assert page["told"] == _facts(page["values"], expected)
        seen.append(tuple(page["values"].values()))
    assert len(set(seen)) == len(settings)


@pytest.mark.parametrize("name", CONTROLS)
def test_each_slider_in_the_page_redraws(opened, name):
    root = tool(opened(), EXPLORER)
    picture = root.locator(".explorer-picture")
    before = picture.inner_html()
    root.locator(f"input[name={name}]").focus()
    root.page.keyboard.press("ArrowLeft")
    after = picture.inner_html()
    assert after != before and "NaN" not in after and "Infinity" not in after
    assert root.evaluate("r => r.values") != DEFAULTS
    root.get_by_role("button", name="Back to the start").click()
    assert picture.inner_html() == before
    assert root.evaluate("r => r.values") == DEFAULTS


def test_curve_drawn_in_the_page_is_the_computed_one(opened):
    root = tool(opened(), EXPLORER)
    move(root, {"s_floor": 25})
    d = root.locator('path[data-curve="Hybrid"]').get_attribute("d")
    y = np.array([float(point) for point in re.findall(r"[\d.]+ ([\d.]+)", d)])
    gamma = 10 ** (1 - (y - 35) / 230 * 5)  # the panel spans 1e-4 to 10 over 230 pixels from 35
    expected = show.curves(root.evaluate("r => r.values"))["Hybrid"]
    assert len(y) == len(expected) and np.allclose(gamma, expected, rtol=0.003)


def test_the_curves_that_sliders_are_about_come_first(opened):
    tab = opened()
    root = tool(tab, EXPLORER)
    root.evaluate("e => scrollTo({ top: e.getBoundingClientRect().top + scrollY, behavior: 'instant' })")
    boxes = [
        root.locator(where).bounding_box()
        for where in (".explorer-sliders", "path[data-curve=Hybrid]", "path[data-curve=beta]")
    ]
    assert boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
    assert boxes[1]["y"] + boxes[1]["height"] < 600, "gamma(t) and all sliders in one look"


def test_start_step_in_the_page_stays_inside_the_chain(opened):
    root = tool(opened(), EXPLORER)
    assert move(root, {"T": 100})["values"]["t_star"] == 100
    assert root.locator("input[name=t_star]").get_attribute("max") == "100"


def test_extremes_in_the_page_draw_finite_curves(opened):
    root = tool(opened(), EXPLORER)
    for end in ("min", "max"):
        ends = root.evaluate(
            "(r, end) => Object.fromEntries([...r.querySelectorAll('input')].map((i) => [i.name, Number(i[end])]))", end
        )
        move(root, ends)
        html = root.locator(".explorer-picture").inner_html()
        assert "NaN" not in html and "Infinity" not in html and "undefined" not in html
