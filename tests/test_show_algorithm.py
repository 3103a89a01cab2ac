"""The drawing of Algorithm 1: every block leads to its chapter, and each chapter lights its own."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

from unasdiff_teach import show
from unasdiff_teach.show.algorithm import ARROWS, BLOCKS, BOX, HEIGHT, LEFT, TOP, WIDTH

BOOK = Path(__file__).resolve().parent.parent / "book"
CHAPTERS = range(2, 11)


def lit(svg: str) -> list[str]:
    return [group.get("data-block") for group in ElementTree.fromstring(svg).iter() if group.get("data-lit") == "1"]


def test_a_block_is_lit_or_none():
    assert lit(show.algorithm_drawing().svg) == []
    for name, block in BLOCKS.items():
        drawing = show.algorithm_drawing(name)
        assert lit(drawing.svg) == [name]
        assert drawing.description.endswith(f"Lit: {block.title}.")
        assert f'aria-label="{drawing.description}"' in drawing.svg


def test_unknown_blocks_are_named():
    with pytest.raises(ValueError, match="no block 'sampler'; there are mixture, start"):
        show.algorithm_drawing("sampler")


def test_blocks_and_lines_keep_inside_and_apart():
    places = [(block.column, block.row) for block in BLOCKS.values()]
    assert len(set(places)) == len(places)
    for column, row in places:
        assert LEFT[column] + BOX[0] <= WIDTH and TOP[row] + BOX[1] <= HEIGHT
    for _, *corners in ARROWS:
        for (a, b), (c, d) in zip(corners, corners[1:]):
            assert a == c or b == d  # upright or level
        for x, y in corners:  # a line begins and ends beside a block, never in one
            assert not any(LEFT[i] < x < LEFT[i] + BOX[0] and TOP[j] < y < TOP[j] + BOX[1] for i, j in places), (x, y)


def test_lines_of_a_block_fit_into_it():
    for block in BLOCKS.values():
        assert len(block.title) <= 14 and len(block.formula) <= 14


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_lights_its_own_block_at_its_top(chapter):
    (path,) = BOOK.glob(f"{chapter:02d}_*.ipynb")
    cell = nbformat.read(path, as_version=4).cells[1]
    (output,) = cell.outputs
    (name,) = lit(output.data["image/svg+xml"])
    assert BLOCKS[name].chapter == chapter
    assert cell.metadata.mystnb.image.alt == show.algorithm_drawing(name).description
    assert output.data["image/svg+xml"] == show.algorithm_drawing(name).svg
    assert "remove-input" in cell.metadata.tags and cell.metadata.jupyter.source_hidden


def test_numbers_on_the_blocks_are_chapters():
    titles = {int(path.name[:2]) for path in BOOK.glob("[0-9][0-9]_*.ipynb")}
    drawn = re.findall(r'text-anchor="end">(\d+)<', show.algorithm_drawing().svg)
    assert [int(number) for number in drawn] == [block.chapter for block in BLOCKS.values()]
    assert {block.chapter for block in BLOCKS.values()} == set(range(1, 11)) <= titles
