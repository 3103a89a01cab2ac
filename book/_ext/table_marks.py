"""A Sphinx extension: tables that can be read across.

pandas writes the names of an index into a row of their own, which is empty otherwise; here they move up into the empty
cells of the row above. Columns of numbers are marked, so that the style sheet sets them flush right; so are cells with
a sentence, and the cell at the start of each row, which stays in sight while a wide table scrolls. On a narrow column
cells break into lines, but neither within an interval nor between a number and its unit.
"""

from __future__ import annotations

import re
from html import escape

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

TABLE = re.compile(r'<table\b(?![^>]*\bclass="[^"]*sound-player).*?</table>', re.S)
NUMBER = re.compile(
    r"""[-+−±]?\d[\d\s.,]*([eE][-+]?\d+)?\s*   # 3, 12 800, 6.6e18
        (\[[-+−\d.,\s]+\])?\s*                 # an interval
        (of\s\d+|%|dB)?""",
    re.X,
)
LONG = 30  # characters
MANY = 8  # columns: set smaller
TOGETHER = re.compile(r"\[[-+−\d.,\s]+\]|[-+−]?[\d.,]+(?:\s\d{3})*\s(?:of\s\d+|%|dB|PESQ|points)")
BLANK = {"", "–", "—", "·", "none", "nan", "<na>"}


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", _improve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _improve(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if "body" in context:
        context["body"] = TABLE.sub(lambda found: improved(found[0]), context["body"])


def improved(html: str) -> str:
    """The same table, marked for the style sheet."""
    table = BeautifulSoup(html, "html.parser").table
    if table.thead is None or table.tbody is None:
        return html
    _join_header(table)
    _mark_numbers(table)
    _mark_sentences(table)
    _pin_first(table)
    _keep_together(table)
    if len(_cells(table.tbody.tr)) >= MANY:
        table["class"] = [*table.get("class", []), "many-columns"]
    return str(table)


def _cells(row: Tag) -> list[Tag]:
    return row.find_all(["th", "td"], recursive=False)


def _text(cell: Tag) -> str:
    return " ".join(cell.get_text().split())


def _join_header(table: Tag) -> None:
    """Names of the index, alone in the last row of the header, go into the row above; they replace the name of the
    columns there.
    """
    rows = table.thead.find_all("tr", recursive=False)
    if len(rows) < 2:
        return
    above, last = _cells(rows[-2]), _cells(rows[-1])
    names = [_text(cell) for cell in last]
    index = max((i + 1 for i, name in enumerate(names) if name), default=0)
    if len(above) != len(last) or not 0 < index < len(last) or any(_text(cell) for cell in above[: index - 1]):
        return
    for cell, name in zip(above, names[:index]):
        cell.string = name
    rows[-1].decompose()


def _mark_numbers(table: Tag) -> None:
    """Class `number` for the columns of which every cell is a number or blank."""
    body = [_cells(row) for row in table.tbody.find_all("tr", recursive=False)]
    width = max(map(len, body), default=0)
    head = _cells(table.thead.find_all("tr", recursive=False)[-1])
    # counted from the right: a cell that spans rows is missing on the left of the rows below
    for place in range(1, width + 1):
        column = [row[-place] for row in body if len(row) >= place]
        texts = [_text(cell) for cell in column if cell.name == "td" and _text(cell).lower() not in BLANK]
        if texts and all(NUMBER.fullmatch(text) for text in texts):
            for cell in column + ([head[-place]] if len(head) >= place else []):
                cell["class"] = [*cell.get("class", []), "number"]


def _mark_sentences(table: Tag) -> None:
    """Class `sentence` for long cells that are no numbers, such as an interval."""
    for cell in table.tbody.find_all("td"):
        if len(text := _text(cell)) > LONG and not NUMBER.fullmatch(text):
            cell["class"] = [*cell.get("class", []), "sentence"]


def _pin_first(table: Tag) -> None:
    rows = [_cells(row) for row in table.tbody.find_all("tr", recursive=False)]
    width = max(map(len, rows), default=0)
    full = [row[0] for row in rows if len(row) == width > 2]
    head = [_cells(row)[0] for row in table.thead.find_all("tr", recursive=False) if _cells(row)] if full else []
    for cell in full + head:
        cell["class"] = [*cell.get("class", []), "pinned"]


def _keep_together(table: Tag) -> None:
    """No break within an interval, nor between a number and its unit."""
    for cell in table.tbody.find_all(["th", "td"]):
        if cell.string and TOGETHER.search(cell.string):
            parts = TOGETHER.sub(lambda found: f'<span class="keep-together">{found[0]}</span>', escape(cell.string))
            cell.clear()
            cell.extend(BeautifulSoup(parts, "html.parser").contents)
