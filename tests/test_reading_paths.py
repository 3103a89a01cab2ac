"""Reading paths and plans agree with the chapters: times, sums, sections, exercises."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from helpers import rows, text

from unasdiff_teach import check

BOOK = Path(__file__).resolve().parent.parent / "book"
PAGE = "appendix_reading_paths"
CHAPTERS = {int(path.name[:2]): path for path in sorted(BOOK.glob("[0-9][0-9]_*.ipynb"))}


def markdown(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


def stated_times(path: Path) -> tuple[int, str]:
    """Minutes to read, and the time to run in the chapter's words."""
    found = re.search(r"\*\*Time:?\*\*:? (\d+) minutes to read,\s+(?:about )?(.+?) to run", markdown(path)[0])
    assert found, f"{path.name} does not state its times"
    return int(found[1]), " ".join(found[2].split())


TIMES = {number: stated_times(path) for number, path in CHAPTERS.items()}


def test_the_table_has_the_times_that_the_chapters_state():
    listed = {}
    for link, read, run in rows(PAGE, "times"):
        number, file = re.fullmatch(r"\[(\d+) .*\]\((.*)\)", link.strip()).groups()
        assert file == CHAPTERS[int(number)].name
        listed[int(number)] = (int(read.removesuffix(" min")), run.strip())
    assert listed == TIMES


def test_the_table_has_the_chapters_titles():
    for link, _, _ in rows(PAGE, "times"):
        number, title = re.match(r"\[(\d+) (.*)\]", link).groups()
        own = markdown(CHAPTERS[int(number)])[0].partition("\n")[0].removeprefix(f"# {number} ")
        assert own.startswith(title)


FOLLOWING = [*CHAPTERS.values(), BOOK / "failure_gallery.ipynb"]


# Chapters 5 and 7 point elsewhere until their revision is in.
@pytest.mark.parametrize("number", CHAPTERS)
def test_a_chapter_ends_with_a_link_to_the_next(number):
    """Its last words and the button below them lead to the same page."""
    (last,) = re.findall(
        r"^\*\*(?:Try|What to try) next\.\*\* (.*(?:\n(?!\n).*)*)", "\n\n".join(markdown(CHAPTERS[number])), re.M
    )
    linked = re.findall(r"\]\(([\w.]+)\)", last)
    assert linked == [FOLLOWING[number].name], last


def test_short_paths_of_the_welcome_page_are_those_of_the_appendix():
    welcome = "\n\n".join(markdown(BOOK / "index.ipynb"))
    short = dict(re.findall(r"^- \*\*(.+?)\.\*\* Chapters ([\d, ]+)", welcome, flags=re.M))
    assert len(short) >= 4
    for who, chapters in short.items():
        section = text(PAGE).partition(f"### {who}\n")[2]
        assert re.search(r"^\*\*Chapters\*\* ([\d, ]+):", section, flags=re.M)[1] == chapters.rstrip(", "), who


PATHS = re.findall(r"^\*\*Chapters\*\* ([\d, ]+): (\d+) minutes\.$", text(PAGE), flags=re.M)


def test_the_times_of_the_paths_are_the_sums_of_their_chapters():
    assert len(PATHS) >= 7
    for chapters, minutes in PATHS:
        numbers = [int(n) for n in chapters.split(", ")]
        assert numbers == sorted(set(numbers)) and sum(TIMES[n][0] for n in numbers) == int(minutes), chapters
    assert [int(n) for n in PATHS[-1][0].split(", ")] == list(CHAPTERS), "the last path is the whole book"


@pytest.mark.parametrize("plan", ["own-rule", "lecture", "day"])
def test_the_minutes_of_a_plan_add_up(plan):
    section = text(PAGE).partition(f":name: {plan}")[2]
    assert sum(int(row[0]) for row in rows(PAGE, plan)) == int(re.search(r"\*\*In all\*\* (\d+) minutes", section)[1])


@pytest.mark.parametrize("plan", ["own-rule", "lecture"])
def test_these_plans_take_90_minutes(plan):
    assert sum(int(row[0]) for row in rows(PAGE, plan)) == 90


def test_the_way_to_a_rule_of_ones_own_can_be_read_in_its_minutes():
    """Words at 200 a minute, and lines of code in sight at ten."""
    minutes: dict[str, float] = {}
    for path in CHAPTERS.values():
        section = None
        for cell in nbformat.read(path, as_version=4).cells:
            if "caption" in cell.metadata.get("tags", []):  # a figure's, which is not counted in the page either
                continue
            if cell.cell_type == "markdown":
                for part in re.split(r"^(?=## )", cell.source, flags=re.M):
                    if part.startswith("## "):
                        section = part.split()[1]
                    minutes[section] = minutes.get(section, 0) + len(part.split()) / 200
            elif not {"hide-input", "hide-cell", "remove-input"} & set(cell.metadata.get("tags", [])):
                minutes[section] = minutes.get(section, 0) + (cell.source.count("\n") + 1) / 10
    *reading, _own = rows(PAGE, "own-rule")
    for stated, _, where in reading:
        if sections := re.findall(r"\d+\.\d+", where):
            assert 0 <= int(stated) - sum(minutes[s] for s in sections) < 1.5, where


def test_sections_and_exercises_exist():
    sections = {
        found[1]
        for path in CHAPTERS.values()
        for cell in markdown(path)
        for found in re.finditer(r"^## (\d+\.\d+) ", cell, re.M)
    }
    named = [
        place
        for plan in ("own-rule", "lecture", "day")
        for *_, where in rows(PAGE, plan)
        for place in re.findall(r"\d+\.\d+", where)
    ]
    assert len(named) > 20 and set(named) <= sections
    assert (
        set(re.findall(r"\b\d\.\d\b", re.sub(r"^  - [\d., ]+$|[Ee]xercises? [\d., and]+", "", text(PAGE), flags=re.M)))
        <= sections
    )
    numbers = {getattr(check, name).number for name in check.__all__ if hasattr(getattr(check, name), "number")}
    exercises = [
        n for group in re.findall(r"[Ee]xercises? ([\d., and]+)", text(PAGE)) for n in re.findall(r"\d+\.\d+", group)
    ]
    assert len(exercises) > 8 and set(exercises) <= numbers
