"""A Sphinx extension: one fold for each solution, whatever it is made of.

A notebook writes a solution as text between `<details class="solution">` and `</details>`, which JupyterLab folds by
itself, then a code cell, and perhaps another that checks the text's numbers; a solution that needs no text has the
cells only. In the page the cells, tagged `hide-cell`, would each be a fold of their own. Here they join the text.
"""

from __future__ import annotations

import re

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

OPENS = re.compile(r'\s*<details class="solution"><summary>(.*?)</summary>\s*')
CLOSES = re.compile(r"\s*</details>\s*")


def setup(app: Sphinx) -> dict:
    app.add_post_transform(FoldSolutions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class FoldSolutions(SphinxPostTransform):
    default_priority = 198  # before myst_nb folds each cell on its own
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for parent in {id(node.parent): node.parent for node in self.document.findall(_starts)}.values():
            parent.children = list(_folded(parent.children))
            for child in parent.children:
                child.parent = parent


def _starts(node: nodes.Node) -> bool:
    return _title(node) is not None or "tag_solution" in getattr(node, "attributes", {}).get("classes", ())


def _title(node: nodes.Node) -> str | None:
    opens = isinstance(node, nodes.raw) and OPENS.fullmatch(node.astext())
    return opens[1] if opens else None


def _is_hidden_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("hide_mode") == "all"


def _folded(children: list[nodes.Node]):
    """The same nodes, each solution's in one fold."""
    rest = list(children)
    while rest:
        node = rest.pop(0)
        if not _starts(node):
            yield node
            continue
        title, inside = _title(node), []
        if title is None:
            title, inside = node["prompt_show"], [node]
        else:
            while not (isinstance(rest[0], nodes.raw) and CLOSES.fullmatch(rest[0].astext())):
                inside.append(rest.pop(0))
            rest.pop(0)
        while rest and _is_hidden_cell(rest[0]):
            inside.append(rest.pop(0))
        for cell in filter(_is_hidden_cell, inside):
            del cell["hide_mode"]
        fold = HideCodeCellNode("", *inside, classes=["above-input", "solution"], prompt_show=title, prompt_hide=title)
        yield nodes.container("", fold, classes=["cell", "container"])
