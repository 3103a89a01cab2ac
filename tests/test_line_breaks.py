"""Where lines of a page break: punctuation stays with its formula, a unit with its number, names break after points."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "book" / "_ext"))
from line_breaks import breakable, keep_units, kept_together


def test_punctuation_stays_with_its_formula():
    children = [
        nodes.math(text="t"),
        nodes.Text(", and "),
        nodes.math(text="s"),
        nodes.Text(" too "),
        nodes.math(text="u"),
    ]
    first, text, *rest = kept_together(children)
    assert first["classes"] == ["keep-together"] and [type(node) for node in first] == [nodes.math, nodes.Text]
    assert first.astext() == "t," and text == " and "
    assert [node.astext() for node in rest] == ["s", " too ", "u"]


def test_nothing_is_lost_or_doubled():
    children = [
        nodes.strong(text="a"),
        nodes.Text("b"),
        nodes.math(text="c"),
        nodes.emphasis(text="d"),
        nodes.Text("."),
    ]
    assert [(type(node), node.astext()) for node in kept_together(children)] == [
        (type(node), node.astext()) for node in children
    ]


def test_units_stay_with_their_numbers():
    assert keep_units("18 %, 4 dB, at 16 kHz for 2 s") == "18_%, 4_dB, at 16_kHz for 2_s".replace(
        "_", "\N{NO-BREAK SPACE}"
    )


def test_words_are_no_units():
    assert keep_units("4 samples, 2 sounds, chapter 7 says") == "4 samples, 2 sounds, chapter 7 says"


def test_names_break_after_points_and_underscores():
    assert breakable("NoiseSchedule.alpha_bar") == "NoiseSchedule.<wbr/>alpha_<wbr/>bar"
    assert breakable("--dry-run") == '<span class="keep-together">--dry-run</span>'
    assert breakable("a.py::test_b") == "a.<wbr/>py::<wbr/>test_<wbr/>b"
    assert breakable("ReconstructionLoss.__call__(estimate)") == "ReconstructionLoss.__<wbr/>call__(estimate)"
    assert breakable("StepRecord.x0_hat") == "StepRecord.<wbr/>x0_<wbr/>hat" and breakable("0.5") == "0.5"
