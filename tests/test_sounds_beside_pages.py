"""The sounds beside the pages make none too heavy; `test_show_files` says that they are all there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parent.parent / "book"
HEAVIEST = 3 * 2**20  # bytes of a page with everything beside it
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))


def html_of(path: Path) -> str:
    """All that the cells of a notebook show as HTML."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    return "\n".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)


def files_of(html: str) -> set[Path]:
    """Files beside the page: those that it names, and all steps of its scrubbers."""
    named = {BOOK / source for source in re.findall(r'src="(_static/audio/[^"]+)"', html)}
    folders = {file.parent for file in named if file.name == "sheet.jpg"}
    return named | {file for folder in folders for file in folder.glob("*.flac")}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_page_is_too_heavy_with_its_sounds(html, path):
    page = html / "book" / f"{path.stem}.html"
    text = page.read_text(encoding="utf-8")
    pictures = {
        (page.parent / source).resolve() for source in re.findall(r'<img[^>]* src="(\.\./_images/[^"]+)"', text)
    }
    size = page.stat().st_size + sum(file.stat().st_size for file in pictures | files_of(html_of(path)))
    assert size <= HEAVIEST, f"{size / 2**20:.1f} MB"
