"""The page of versions: its stored tables are those of the pins and of the notebooks as they are now."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from helpers import requirements

BOOK = Path(__file__).resolve().parent.parent / "book"
PAGE = "appendix_versions"
OUTPUTS = [o for cell in nbformat.read(BOOK / f"{PAGE}.ipynb", as_version=4).cells for o in cell.get("outputs", [])]
AGAIN = f"run scripts/execute_notebooks.py book/{PAGE}.ipynb, after all others"


def table(index: str) -> dict[str, dict[str, str]]:
    """Rows of the stored table whose index has this name: what stands in it, by column."""
    for html in (output.get("data", {}).get("text/html", "") for output in OUTPUTS):
        if f"<th>{index}</th>" in html:
            shown = BeautifulSoup(html, "html.parser")
            columns = [cell.get_text() for cell in shown.thead.tr.find_all("th")[1:]]
            rows = shown.tbody.find_all("tr")
            return {
                row.th.get_text(): dict(zip(columns, (c.get_text() for c in row.find_all("td")), strict=True))
                for row in rows
            }
    raise AssertionError(f"no table of {index}: {AGAIN}")


def test_versions_are_the_pinned_ones():
    pins = {r.name: next(iter(r.specifier)).version for r in requirements()}
    assert {name: row["version"] for name, row in table("package").items()} == pins, AGAIN


def test_every_notebook_is_listed_and_ran():
    titles = {
        nbformat.read(path, as_version=4).cells[0].source.partition("\n")[0].removeprefix("# ")
        for path in BOOK.glob("*.ipynb")
        if path.stem != PAGE
    }
    status = table("page")
    assert set(status) == titles, AGAIN
    good = {"from top to bottom": "yes", "errors": "0", "warnings": "0", "checked": "yes"}
    assert all(row == good for row in status.values())


def test_the_page_is_dated():
    printed = "".join(output.get("text", "") for output in OUTPUTS)
    stamp = date.fromisoformat(re.search(r"^date: (\d{4}-\d\d-\d\d)$", printed, flags=re.M)[1])
    assert date(2025, 12, 1) < stamp <= date.today()
    assert re.search(r"^Python: 3\.1[12]\.\d+ ", printed, flags=re.M)


@pytest.mark.parametrize("name", ["pocket-speech", "pocket-sound"])
def test_the_weights_are_the_shipped_ones(name):
    from hashlib import sha256

    import unasdiff_teach as ut

    file = Path(ut.priors.__file__).parent / "weights" / f"{name}.safetensors"
    printed = "".join(output.get("text", "") for output in OUTPUTS)
    assert f"{name}: {sha256(file.read_bytes()).hexdigest()[:16]}\n" in printed, AGAIN
