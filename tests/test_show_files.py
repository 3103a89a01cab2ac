"""The sounds and pictures beside the pages: all there, each of one player or scrubber, none left over."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import torch

from unasdiff_teach import show

BOOK = Path(__file__).resolve().parent.parent / "book"
LARGEST_FOLDER = 1_000_000  # bytes: a scrubber of 12 steps and two sources of 2 s at 8 kHz has 0.7 MB


def files_named(text: str) -> set[str]:
    """Files beside the page that one output needs."""
    files = set(re.findall(r'src="(_static/audio/[^"]+)"', text))
    for run in re.findall(r'data-run="([^"]+)"', text):
        described = json.loads(html.unescape(run))
        folder = next(iter(files)).rpartition("/")[0]
        for k in range(len(described["names"])):
            files |= {f"{folder}/{k + 1}-{step + 1:02d}.flac" for step in range(len(described["t"]))}
    return files


def trouble(book: Path) -> list[str]:
    """What is wrong with the files beside the pages of a book, in words."""
    used, folders = set(), Counter()
    for path in sorted(book.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                files = files_named(output.get("data", {}).get("text/html", ""))
                used |= files
                folders.update({file.rpartition("/")[0] for file in files})
    there = {path.relative_to(book).as_posix() for path in (book / "_static" / "audio").rglob("*") if path.is_file()}
    sizes = Counter()
    for file in there:
        sizes[file.rpartition("/")[0]] += (book / file).stat().st_size
    return (
        [f"{file} is missing: run `make execute`" for file in sorted(used - there)]
        + [f"{file} belongs to no output: delete it" for file in sorted(there - used)]
        + [f"{folder} is the id of {n} outputs" for folder, n in folders.items() if n > 1]
        + [f"{folder} has {size} bytes" for folder, size in sizes.items() if size > LARGEST_FOLDER]
    )


def test_files_beside_the_pages_of_the_book():
    assert trouble(BOOK) == []


@pytest.fixture
def small_book(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    records = [type("Record", (), {"step": i, "t": 1 - i, "x0_hat": 0.1 * torch.rand(2, 4000)}) for i in range(2)]
    tools = [
        show.player({"one": torch.rand(4000)}, 8000, id="01/player"),
        show.scrubber(records, ["a", "b"], 8000, "01/run"),
    ]
    outputs = [nbformat.v4.new_output("display_data", {"text/html": tool._repr_html_()}) for tool in tools]
    cells = [nbformat.v4.new_code_cell("", outputs=[output]) for output in outputs]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), "01_chapter.ipynb")
    assert trouble(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    "name", ["01/player/1-one.flac", "01/player/1-one.jpg", "01/run/sheet.jpg", "01/run/2-01.flac"]
)
def test_a_missing_file_is_found(small_book, name):
    (small_book / "_static" / "audio" / name).unlink()
    assert trouble(small_book) == [f"_static/audio/{name} is missing: run `make execute`"]


def test_other_trouble_is_found(small_book):
    audio = small_book / "_static" / "audio"
    (audio / "01" / "player" / "old.flac").write_bytes(b"x" * LARGEST_FOLDER)
    notebook = nbformat.read("01_chapter.ipynb", as_version=4)
    nbformat.write(nbformat.v4.new_notebook(cells=notebook.cells[1:]), "02_chapter.ipynb")
    found = trouble(small_book)
    assert found[:2] == [
        "_static/audio/01/player/old.flac belongs to no output: delete it",
        "_static/audio/01/run is the id of 2 outputs",
    ]
    assert len(found) == 3 and found[2].startswith("_static/audio/01/player has 10")
