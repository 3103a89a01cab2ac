"""A Sphinx extension: lines break where a reader would break them.

A browser breaks a line between a formula and the comma after it, and between a number and its unit; and it knows no
place within `NoiseSchedule.alpha_bar`, so that it breaks such a name anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

UNIT = re.compile(r"(?<=\d) (?=(?:%|dB|k?Hz|m?s|[kMG]B|nat|bits?)(?!\w))")
NAME = re.compile(r'(?<=<span class="pre">)[^<]+(?=</span>)')
OPTION = re.compile(r"--?[a-z][\w-]*")
MARK = re.compile(r"[.,;:!?)’”]*")
VERBATIM = nodes.FixedTextElement | nodes.literal | nodes.math | nodes.raw


def setup(app: Sphinx) -> dict:
    app.add_post_transform(KeepTogether)
    app.connect("html-page-context", _break_names)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class KeepTogether(SphinxPostTransform):
    default_priority = 900  # after references have their texts
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for parent in list(self.document.findall(nodes.TextElement)):
            if not isinstance(parent, VERBATIM):
                children = list(kept_together(parent.children))
                parent.clear()
                parent += children


def kept_together(children: list[nodes.Node]) -> Iterator[nodes.Node]:
    """The same children; a formula and the punctuation after it are in one span, in which the style sheet allows no
    break.
    """
    formula = None
    for child in [*children, None]:
        text = isinstance(child, nodes.Text)
        mark = MARK.match(child)[0] if text and formula is not None else ""
        if mark:
            yield nodes.inline("", "", formula, nodes.Text(mark), classes=["keep-together"])
        elif formula is not None:
            yield formula
        formula = child if isinstance(child, nodes.math) else None
        if text:
            yield nodes.Text(keep_units(child[len(mark) :]))
        elif child is not None and formula is None:
            yield child


def _break_names(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if "body" in context:
        context["body"] = NAME.sub(lambda name: breakable(name[0]), context["body"])


def breakable(name: str) -> str:
    """The same name in HTML, with a place for a break after each point and each run of underscores; an option of a
    command is never broken at its hyphens.
    """
    if OPTION.fullmatch(name):
        return f'<span class="keep-together">{name}</span>'
    return re.sub(r"(?<=[^\W_])(?!\.\d)([._]+|::)(?=[^\W_])", r"\1<wbr/>", name)


def keep_units(text: str) -> str:
    """The same text with no-break spaces between numbers and units."""
    return UNIT.sub("\N{NO-BREAK SPACE}", text)
