"""A Sphinx extension: works are listed under the names by which the text cites them, "Song et al., 2021"."""

from __future__ import annotations

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    app.config.bibtex_default_style = "author_year"
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


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
