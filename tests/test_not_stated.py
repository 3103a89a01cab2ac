"""What the paper does not state: every item says what is missing, what stands here and how to change it, and that is
true.
"""

from __future__ import annotations

import ast
import dataclasses
import re

import pytest
import torch
from helpers import code_spans, is_literal, resolve, sections, text

import unasdiff_teach as ut

PAGE = "appendix_not_stated"
NAMES = {name: getattr(ut, name) for name in ut.__all__}
VALUES = re.findall(r"`([\w.]+)` = `([^`]+)`", text(PAGE))


def line(body: str, title: str) -> str:
    """The line of an item that begins with this word, with the lines that continue it."""
    return re.search(rf"^- \*\*{title}\.\*\* (.*?)(?=^- \*\*|\Z)", body, re.S | re.M)[1]


def test_every_item_has_its_three_lines():
    assert len(sections(PAGE)) > 35
    for title, body in sections(PAGE).items():
        assert re.findall(r"^- \*\*(\w+)\.\*\* ", body, flags=re.M) == ["Missing", "Here", "Change"], title


@pytest.mark.parametrize("title", sections(PAGE))
def test_every_item_names_a_field_or_says_that_there_is_none(title):
    here = line(sections(PAGE)[title], "Here")
    named = [span for span in re.findall(r"`([^`]+)`", re.sub(r"\{\w+\}`[^`]*`", "", here)) if not is_literal(span)]
    assert named or "No field" in here
    for name in named:
        resolve(name)


@pytest.mark.parametrize(("name", "value"), VALUES, ids=[name for name, _ in VALUES])
def test_every_value_is_the_default_of_its_field(name, value):
    owner, _, field = name.rpartition(".")
    default = {f.name: f.default for f in dataclasses.fields(resolve(owner))}[field]
    assert default == ast.literal_eval(value)


def test_every_line_of_code_runs_and_every_name_exists():
    assert len(VALUES) > 40
    for span in code_spans(PAGE):
        if is_literal(span) or span == "torch.autocast":
            continue
        eval(span, dict(NAMES)) if "=" in span or span.endswith("()") else resolve(span)


def changes():
    """Title, fields and line of code of the items whose change makes a configuration."""
    for title, body in sections(PAGE).items():
        code = re.fullmatch(r"`([^`]+\))`", line(body, "Change").strip())
        fields = [name.rpartition(".")[::2] for name, _ in re.findall(r"`([\w.]+)` = `([^`]+)`", line(body, "Here"))]
        if code and fields:
            yield pytest.param(fields, code[1], id=title)


@pytest.mark.parametrize(("fields", "code"), list(changes()))
def test_a_change_changes_a_field_that_is_named(fields, code):
    made = eval(code, dict(NAMES))
    parts = [made, *(getattr(made, f.name) for f in dataclasses.fields(made))]

    def changed(owner, field):
        default = {f.name: f.default for f in dataclasses.fields(resolve(owner))}[field]
        return any(type(part) is resolve(owner) and getattr(part, field) != default for part in parts)

    assert any(changed(*name) for name in fields)


def test_numbers_of_the_page():
    page = " ".join(text(PAGE).split())
    rule, schedule = ut.Hybrid(), ut.NoiseSchedule.linear()
    excess = float(rule.strength(schedule)[0]) / rule.s_floor - 1
    assert round(100 * excess) == 6 and "lifts the strength 6 % above the floor" in page
    silent, speech = torch.zeros(100), torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert float(ut.si_sdr(silent, speech)) == pytest.approx(-80) and ut.metrics.PESQ_LOWEST == 1.0
    assert "-80 dB and 1.0" in page
    assert round(len(schedule) / 33) == 6 and "`SeparationConfig.authors().replace(steps=33)` takes a sixth" in page
    table = ut.evaluation.paper_table(4)
    scores = table[table["metric"] == "si_sdr"].set_index("method")["value"]
    assert scores["hybrid"] == scores["hybrid, t*=125"] == 14.31 and "the same 14.31 dB" in page
    assert 0.1 < scores["hybrid"] - scores["hybrid, s_floor=0.005"] < 0.15 and "differences of 0.1 dB" in page
