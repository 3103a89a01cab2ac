"""A Sphinx extension: a search that shows what it found, without a server.

Sphinx fetches each page that it found to show a few words of it, which a browser refuses on file://. Here the texts of
all pages are one script, which the search page alone loads; `_static/search.js` cuts the excerpts. And words that
every question has, "how do I",
are left out of the search: each of them would have to stand on the page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

ASKED = set(
    """
can could did do does has have how i me my our own should we what when where which who why would you your
""".split()
)
FILE = "search_texts.js"
SILENT = (nodes.section, nodes.raw, nodes.literal_block, nodes.Invisible, addnodes.desc_signature)


def setup(app: Sphinx) -> dict:
    SearchEnglish.stopwords = SearchEnglish.stopwords | ASKED
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _load(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if page == "search":
        app.add_js_file(FILE, loading_method="defer")
        app.add_js_file("search.js", loading_method="defer")


def _write(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    texts = {page: sections(app.env.get_doctree(page)) for page in sorted(app.env.found_docs)}
    script = f"window.pageTexts = {json.dumps(texts, ensure_ascii=False, separators=(',', ':'))};\n"
    (Path(app.outdir) / "_static" / FILE).write_text(script, encoding="utf-8")


def sections(document: nodes.document) -> list[list[str]]:
    """Anchor and text of each section, in reading order."""
    return [
        [section["ids"][0] if section["ids"] else "", _text(section)] for section in document.findall(nodes.section)
    ]


def _text(section: nodes.section) -> str:
    """What a reader reads in a section itself: no formulas, which would be TeX here, no code and nothing of sections
    within.
    """
    words: list[str] = []

    def walk(node: nodes.Node) -> None:
        if isinstance(node, nodes.Text):
            words.append(str(node))
        elif isinstance(node, nodes.math | nodes.math_block):
            words.append(" … ")
        elif not isinstance(node, SILENT) and node.get("refdomain") != "cite":  # whose names are not known yet
            for child in node.children:
                walk(child)
            if not isinstance(node, nodes.Inline):
                words.append(" ")

    for child in section.children[1:]:  # without the title
        walk(child)
    return re.sub(r"(… ?)+", "… ", " ".join("".join(words).split()))
