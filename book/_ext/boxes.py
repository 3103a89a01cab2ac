"""A Sphinx extension: a quote whose first line is a bold title becomes a box.

    > **Predict first**
    >
    > 1. How many ...

JupyterLab, which knows no directives, shows the quote. In the page each question of "Predict first" leads to its
answer, the first paragraph that says "prediction 1".
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

PREDICT = "Predict first"
ANSWERED = re.compile(r"[Pp]redictions? (\d)(?: and (\d))?")
LOOKS = {PREDICT: "tip", "Theorem": "important", "Slips": "warning"}  # by the title's beginning


def setup(app: Sphinx) -> dict:
    app.add_post_transform(Boxes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class Boxes(SphinxPostTransform):
    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for quote in list(self.document.findall(nodes.block_quote)):
            if (title := title_of(quote)) is not None:
                look = [look for start, look in LOOKS.items() if title.astext().startswith(start)]
                box = nodes.admonition("", nodes.title("", "", *title.children), *quote.children[1:], classes=look)
                quote.replace_self(box)
                if title.astext() == PREDICT:
                    link_to_answers(box, self.document)


def link_to_answers(box: nodes.admonition, document: nodes.document) -> None:
    """A link behind each question, to the first paragraph that names its number."""
    answers: dict[int, nodes.Element] = {}
    for text in document.findall(nodes.Text):
        for found in ANSWERED.finditer(text):
            for number in filter(None, found.groups()):
                answers.setdefault(int(number), text.parent)
    for number, item in enumerate(box.findall(nodes.list_item), 1):
        if number in answers:
            answers[number]["ids"].append(f"prediction-{number}")
            link = nodes.reference("", "answer", refid=f"prediction-{number}", internal=True)
            item.children[-1].extend([nodes.Text(" "), nodes.inline("", "", link, classes=["to-answer"])])


def title_of(quote: nodes.block_quote) -> nodes.strong | None:
    """What is bold in the first paragraph, if nothing else stands there (the parser leaves empty texts around it)."""
    first = quote.children[0] if quote.children else None
    shown = [child for child in first.children if child.astext()] if isinstance(first, nodes.paragraph) else []
    return shown[0] if [type(child) for child in shown] == [nodes.strong] else None
