"""A Sphinx extension: works are listed under the names by which the text cites them, "Ho et al., 2020".

The text links to the list, `[Ho et al., 2020](references.md)` or `[Ho et al. (2020)](references.md)`, which JupyterLab
follows too. Here the link goes on to the work; one that names no work of the list is a warning.
"""

from __future__ import annotations

import re

from docutils import nodes
from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    app.config.bibtex_default_style = "author_year"
    app.connect("doctree-resolved", _to_the_work)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _to_the_work(app: Sphinx, document: nodes.document, page: str) -> None:
    works = {c.formatted_entry.label: c.citation_id for c in app.env.get_domain("cite").citations}
    for link in document.findall(nodes.reference):
        if link.get("refuri", "").endswith("references.html") and (name := cited(link.astext())):
            if name in works:
                link["refuri"] += f"#{works[name]}"
            else:
                logger.warning("%r is no work of the references", name, location=link)


def cited(text: str) -> str | None:
    """The label of a work as its list has it; None for other words, such as "the references"."""
    found = re.fullmatch(r"(.+?)(?:, | \()(\d{4})\)?", text)
    return found and f"{found[1]}, {found[2]}"


class Labels(BaseLabelStyle):
    def format_labels(self, sorted_entries: list[Entry]):
        short = [label(entry) for entry in sorted_entries]
        for entry, name in zip(sorted_entries, short):
            yield name if short.count(name) == 1 else label(entry, named=2)


class AuthorYear(Style):
    default_label_style = Labels
    default_sorting_style = "author_year_title"


def label(entry: Entry, named: int = 1) -> str:
    """The first `named` authors and the year; two authors are both named."""
    people = entry.persons.get("author") or entry.persons["editor"]
    names = [str(Text.from_latex(" ".join(person.prelast_names + person.last_names))) for person in people]
    who = f"{', '.join(names[:named])} et al." if len(names) > 2 else " and ".join(names)
    return f"{who}, {entry.fields['year']}"
