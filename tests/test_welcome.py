"""The first screen of the welcome page: a separation to listen to, its scores, and what to do next."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import torch

import unasdiff_teach as ut

BOOK = Path(__file__).resolve().parent.parent / "book"
INDEX = 22  # a voice and a flute that no prior has heard
TRACKS = ["mixture", "voice, separated", "voice, true", "flute, separated", "flute, true"]


@pytest.fixture(scope="module")
def case():
    case = ut.data.mixtures(split="validation", corpus="recorded")[INDEX]
    assert case.labels == (None, "Flute")
    return case


@pytest.fixture(scope="module")
def heard():
    files = sorted((BOOK / "_static" / "audio" / "00" / "welcome").glob("*.flac"))
    assert len(files) == len(TRACKS)
    return [ut.data.read(file) for file in files]


def test_its_sounds_are_those_of_a_fixed_list(case, heard):
    for (stored, rate), wanted in zip(heard[::2], [case.mixture, *case.sources]):
        assert rate == case.sample_rate
        assert torch.allclose(stored, wanted, atol=2**-15)


def test_its_scores_are_those_of_its_sounds(case, heard):
    (cell,) = [c for c in nbformat.read(BOOK / "index.ipynb", as_version=4).cells if c.id == "welcome-player"]
    told = [float(number) for number in re.findall(r"-?\d+\.\d", "".join(o.get("text", "") for o in cell.outputs))]
    separated = torch.stack([heard[1][0], heard[3][0]])
    before = ut.si_sdr(case.mixture.expand(2, -1), case.sources)
    after = ut.si_sdr(separated, case.sources)
    assert told == pytest.approx(torch.stack([before, after], 1).flatten().tolist(), abs=0.06)
    assert min(after - before) > 10


SIZES = {"screen": (1280, 800), "phone": (390, 844)}


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
def test_player_and_scores_are_seen_without_scrolling(browser, html, size):
    width, height = SIZES[size]
    context = browser.new_context(offline=True, viewport={"width": width, "height": height})
    tab = context.new_page()
    tab.goto((html / "book" / "index.html").as_uri())
    tab.wait_for_selector(".page-tool")
    player = tab.locator(".page-tool").first
    assert player.locator(".tool-tracks label").count() == len(TRACKS)
    for seen in (tab.locator(".cell_output pre").first, player.locator(".tool-tracks"), player.locator(".tool-play")):
        box = seen.bounding_box()
        assert box["y"] > 0 and box["y"] + box["height"] <= height, (seen, box)
    context.close()


@pytest.mark.browser
def test_three_ways_lead_on(browser, html):
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.goto((html / "book" / "index.html").as_uri())
    ways = tab.locator(".ways a")
    assert ways.count() == 3
    first, *inside = ways.evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert first == "01_one_channel.html"
    for place in inside:
        assert tab.locator(f"{place} h2, {place}:is(h2)").count() == 1, place
    context.close()
