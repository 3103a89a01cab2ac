"""A Sphinx extension: figures are numbered within their page, "Fig. 7.2" in chapter 7.

Numbers that run through the book make its "Fig. 2" look like the paper's. Sphinx numbers by chapter only if it numbers
the chapters, whose titles have their numbers already.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    app.connect("env-get-updated", _renumber, priority=900)  # after Sphinx has counted
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def prefix(page: str) -> str:
    """What stands before the point: the chapter's number, or the first letter of another page's name."""
    name = page.rpartition("/")[2].removeprefix("appendix_")
    chapter = re.match(r"(\d+)_", name)
    return str(int(chapter[1])) if chapter else name[0].upper()


def _renumber(app: Sphinx, env) -> list[str]:
    for page, kinds in env.toc_fignumbers.items():
        for numbers in kinds.values():
            numbers.update({node: (prefix(page), place) for place, node in enumerate(numbers, 1)})
    return []
