"""The API reference: every public name of every room, with its signature, its docstring and a chapter."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from helpers import ROOMS

import unasdiff_teach as ut

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK / "_ext"))
import api_reference as api  # noqa: E402

LISTED = re.search(
    r"^```\{api-rooms\}\n(.*?)\n```$", (BOOK / "appendix_api.md").read_text(encoding="utf-8"), flags=re.M | re.S
)[1].split()
TAUGHT = {
    room: chapters.split()
    for listed in LISTED
    for room, chapters in re.findall(
        r"^```\{api\} (\w+)\n(?::taught: (.+)\n)?```$",
        (BOOK / f"api_{listed}.md").read_text(encoding="utf-8"),
        flags=re.M,
    )
}
NAMES = [(room, name) for room in TAUGHT if room != "cli" for name in api.public(room)]


def value_of(room: str, name: str):
    return api.public(room)[name]


def test_every_room_is_there_in_order():
    package = Path(ut.__file__).parent
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    private = {room for room in rooms if room.startswith("_")}
    assert set(TAUGHT) == rooms - private - {"doctor"}, "doctor is a command, and stands with those"
    assert sorted(TAUGHT, key=ROOMS.index) == list(TAUGHT)


def test_each_room_has_a_page_of_its_own():
    assert LISTED == list(TAUGHT)
    assert {path.stem for path in BOOK.glob("api_*.md")} == {f"api_{room}" for room in LISTED}


def test_every_name_of_the_package_is_there():
    shown = {name for _, name in NAMES}
    rooms = {name for name in ut.__all__ if inspect.ismodule(getattr(ut, name))}
    assert set(ut.__all__) - rooms <= shown and rooms <= set(TAUGHT)


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_every_name_has_a_docstring(room, name):
    value = value_of(room, name)
    if api.kind_of(value) != "data":
        assert (value.__doc__ or "").strip() and not value.__doc__.startswith(f"{name}("), (
            "a dataclass without a docstring"
        )


def test_chapters_exist_and_are_found_by_their_code():
    for room, chapters in TAUGHT.items():
        assert chapters or room == "cli", f"where is {room} taught?"
        assert all((BOOK / f"{chapter}.ipynb").is_file() for chapter in chapters), room
    used = api.chapters_of()
    assert used[id(ut.NoiseSchedule)][0] == "02_forward_process"
    assert "07_guidance_schedules" in used[id(ut.guidance.smooth_max)]
    assert id(ut.data.write) not in used  # nobody writes files in a chapter


def test_signatures_are_those_of_the_code():
    def written(value):
        return "".join(node.astext() for node in api.parameters(value))

    assert written(ut.smooth_max) == "(a: Tensor | float, b: Tensor | float, sharpness: float) -> Tensor"
    assert written(ut.DPS) == "(scale: float = 1.5)"
    assert "variant: Literal['authors', 'original'] = 'authors'" in written(ut.DSG)
    assert "loss: Loss = ..." in written(ut.SeparationConfig)  # made anew for each object
    assert written(vars(ut.NoiseSchedule)["linear"]).startswith("(T: int = 200, ")  # without the class itself


def test_paths_begin_at_the_package():
    assert api.shown(ut.data.CORPORA["rendered"]) == "Path('unasdiff_teach/data/corpus')"
    assert api.shown({"a": Path("/elsewhere")}) == repr({"a": Path("/elsewhere")}) and api.shown(1.5) == "1.5"


def test_docstrings_are_taken_apart():
    shown = api.docstring(
        "First `code` sentence,\nand |x|, *y* and x_ as they are.\n\nArgs:\n    a, b: two\n        lines.\n    c:"
        " one.\n\nReturns:\n    [K, N].\n\nRaises:\n    ValueError: always.\n",
        (),
    )
    assert [type(node).__name__ for node in shown] == [
        "paragraph", "rubric", "definition_list", "rubric", "paragraph", "rubric", "definition_list",
    ]  # fmt: skip
    assert shown[0].astext() == "First code sentence, and |x|, *y* and x_ as they are."
    assert [item.astext().split("\n\n") for item in shown[2]] == [["a, b", "two lines."], ["c", "one."]]
    assert shown[6].astext() == "ValueError\n\nalways."
    known, _ = api.docstring("length: samples\n    of it.\n\nother: not an argument.", ("length",))
    assert known.astext() == "length\n\nsamples of it."


def test_members_are_what_a_class_documents_itself():
    assert {"linear", "sigma", "respace"} <= set(api.members(ut.NoiseSchedule))
    assert "__post_init__" not in api.members(ut.SeparationConfig) and "__call__" in api.members(ut.ReconstructionLoss)


@pytest.mark.slow
def test_the_built_pages_show_all_of_it(html):
    pages = {
        room: BeautifulSoup((html / f"book/api_{room}.html").read_text(encoding="utf-8"), "html.parser")
        for room in LISTED
    }
    for room, name in NAMES:
        value, page = value_of(room, name), pages[room]
        in_package = getattr(ut, name, None) is value
        entry = page.find(id=f"unasdiff_teach.{'' if in_package else room + '.'}{name}")
        assert entry, f"{room}.{name}"
        for argument in api.names_of(value):
            assert argument in entry.get_text()
        content = entry.find_next_sibling("dd")
        if api.kind_of(value) != "data":
            first = re.split(r"[.,:;`'\"(]", inspect.getdoc(value))[0]
            assert " ".join(first.split()) in " ".join(content.get_text().split())
        chapters = content.select_one(".api-chapters")
        assert chapters.select("a"), f"{room}.{name} leads to no chapter"
    assert "unasdiff-teach doctor" in pages["cli"].get_text()
    index = BeautifulSoup((html / "book/appendix_api.html").read_text(encoding="utf-8"), "html.parser")
    assert [a["href"] for a in index.select(".api-rooms dt a")] == [f"api_{room}.html" for room in LISTED]
