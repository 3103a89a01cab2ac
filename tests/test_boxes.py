"""Boxes of the pages, which are quotes in JupyterLab."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils import new_document

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "book" / "_ext"))
from author_year import cited
from boxes import Boxes


def quote(*first: nodes.Node) -> nodes.document:
    document = new_document("page")
    document += nodes.block_quote("", nodes.paragraph("", "", *first), nodes.paragraph("", "below"))
    Boxes(document).run()
    return document


def test_a_bold_title_makes_a_box():
    (box,) = quote(nodes.Text(""), nodes.strong("", "Predict first"), nodes.Text("")).children
    assert isinstance(box, nodes.admonition) and box["classes"] == ["tip"]
    assert [type(child) for child in box] == [nodes.title, nodes.paragraph]
    assert [child.astext() for child in box] == ["Predict first", "below"]


def test_a_quote_that_begins_in_bold_stays_a_quote():
    (kept,) = quote(nodes.strong("", "Predict first."), nodes.Text(" How many?")).children
    assert isinstance(kept, nodes.block_quote) and len(kept) == 2


def test_questions_lead_to_the_first_place_that_names_them():
    questions = [nodes.list_item("", nodes.paragraph("", f"question {n}")) for n in (1, 2, 3)]
    document = new_document("page")
    document += nodes.block_quote(
        "", nodes.paragraph("", "", nodes.strong("", "Predict first")), nodes.enumerated_list("", *questions)
    )
    document += [nodes.paragraph("", text) for text in ("(Predictions 2 and 1.)", "prediction 1 again")]
    Boxes(document).run()
    box, answer, again = document.children
    assert answer["ids"] == ["prediction-1", "prediction-2"] and not again["ids"]
    assert [link["refid"] for link in box.findall(nodes.reference)] == answer["ids"]
    assert [item.astext() for item in box.findall(nodes.list_item)][2] == "question 3"


def test_which_links_name_a_work():
    assert cited("Ho et al., 2020") == cited("Ho et al. (2020)") == "Ho et al., 2020"
    assert cited("Nichol and Dhariwal (2021)") == "Nichol and Dhariwal, 2021"
    assert cited("the references") is None and cited("chapter 7") is None
