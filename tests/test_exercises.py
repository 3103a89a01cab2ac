"""The exercises of the book: every solution passes its checker, and every stub fails at a named property.

What marks an exercise in a notebook: a code cell with the tag `exercise` holds the stub, a code cell with the tag
`solution`, folded in the page (`hide-cell`) and in JupyterLab, holds an answer. Both define one function and end with
`check.NAME(function)`. They need nothing but the notebook's imports, so that a reader can go straight to them; here
they run in the same way.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from unasdiff_teach import check

BOOK = Path(__file__).resolve().parent.parent / "book"
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(BOOK.glob("[0-9][0-9]_*.ipynb"))}
WITH_EXERCISES = range(1, 11)  # chapters
FEWEST = 3


@dataclass(frozen=True)
class Exercise:
    notebook: str
    stub: nbformat.NotebookNode
    solution: nbformat.NotebookNode

    @property
    def checker(self) -> str:
        return called(self.stub)


def tagged(notebook, tag: str) -> bool:
    return tag in notebook.metadata.get("tags", [])


def called(cell) -> str:
    """NAME of the call `check.NAME(function)` with which a cell ends."""
    last = ast.parse(cell.source).body[-1]
    match last:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("check"), name), [ast.Name()])):
            return name
    raise AssertionError(f"the cell ends with {ast.unparse(last)!r}, not with check.NAME(function)")


def exercises() -> list[Exercise]:
    found = []
    for name, notebook in NOTEBOOKS.items():
        cells = [cell for cell in notebook.cells if tagged(cell, "exercise") or tagged(cell, "solution")]
        stubs, solutions = cells[::2], cells[1::2]
        assert all(tagged(c, "exercise") for c in stubs) and all(tagged(c, "solution") for c in solutions), name
        found += [Exercise(name, *pair) for pair in zip(stubs, solutions, strict=True)]
    return found


EXERCISES = exercises()


@pytest.fixture(params=EXERCISES, ids=lambda e: f"{e.notebook[:2]}-{e.checker}")
def exercise(request) -> Exercise:
    return request.param


def verdict(exercise: Exercise, cell) -> check.Report:
    """Run one cell after the notebook's imports alone, and return what it shows."""
    names: dict = {"__name__": "__main__"}
    for other in NOTEBOOKS[exercise.notebook].cells:
        if other.cell_type == "code":
            imports = [node for node in ast.parse(other.source).body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(ast.unparse(ast.Module(imports, [])), names)
    *statements, last = ast.parse(cell.source).body
    exec(compile(ast.Module(statements, []), "<exercise>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<exercise>", "eval"), names)


def test_the_solution_passes(exercise):
    report = verdict(exercise, exercise.solution)
    assert report, report


def test_the_stub_fails_at_a_named_property(exercise):
    report = verdict(exercise, exercise.stub)
    assert not report and report.failed.name and report.failed.hint
    assert "Error" not in report.failed.came or "NotImplementedError" in report.failed.came, (
        "a stub runs as far as it goes"
    )


def test_stub_and_solution_have_one_checker_and_the_book_has_one_exercise_for_each(exercise):
    assert exercise.checker == called(exercise.solution)
    assert [other.checker for other in EXERCISES].count(exercise.checker) == 1
    chapter, _, _ = getattr(check, exercise.checker).number.partition(".")
    assert int(chapter) == int(exercise.notebook[:2])


def test_the_stub_is_in_sight_and_the_solution_is_folded(exercise):
    assert not {"hide-cell", "hide-input", "remove-cell"} & set(exercise.stub.metadata.tags)
    assert tagged(exercise.solution, "hide-cell"), "folded in the page"
    assert exercise.solution.metadata.get("jupyter", {}).get("source_hidden"), "folded in JupyterLab"


def test_the_solution_is_one_fold(exercise):
    """Text that JupyterLab folds too, then the cell; the page joins them (`book/_ext/fold_solutions.py`)."""
    cells = NOTEBOOKS[exercise.notebook].cells
    between = cells[cells.index(exercise.stub) + 1 : cells.index(exercise.solution)]
    title = f"Solution {getattr(check, exercise.checker).number}"
    for cell in between:
        assert cell.cell_type == "markdown" and len(between) == 1
        assert re.fullmatch(
            rf'<details class="solution"><summary>{title}</summary>\n\n.*\n\n</details>', cell.source, re.S
        )
    prompts = exercise.solution.metadata.mystnb
    assert prompts.code_prompt_show == prompts.code_prompt_hide == title


def test_the_page_shows_the_verdict_on_the_stub(exercise):
    shown = exercise.stub.outputs[-1]["data"]["text/plain"]
    assert shown == repr(verdict(exercise, exercise.stub)), "run scripts/execute_notebooks.py on this notebook"


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if int(name[:2]) in WITH_EXERCISES])
def test_every_chapter_has_exercises_in_order(name):
    chapter = int(name[:2])
    numbers = [getattr(check, e.checker).number for e in EXERCISES if e.notebook == name]
    assert numbers == [f"{chapter}.{i}" for i in range(1, len(numbers) + 1)] and len(numbers) >= FEWEST


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_solution_is_a_fold_of_its_own_in_the_page(html, name):
    page = BeautifulSoup((html / f"book/{name}.html").read_text(encoding="utf-8"), "html.parser")
    folds = page.select("details.solution")
    titles = [fold.summary.p.get_text() for fold in folds]
    for exercise in (e for e in EXERCISES if e.notebook == name):
        fold = folds[titles.index(f"Solution {getattr(check, exercise.checker).number}")]
        assert "".join(exercise.solution.source.split()) in "".join(fold.get_text().split())
        assert not fold.find("details") and not fold.find_parent("details"), "a fold in a fold"
    assert len(set(titles)) == len(titles)
    assert not [d for d in page.select(".admonition.dropdown") if d.p.get_text().startswith("Solution")]


def test_every_checker_has_its_exercise():
    written = {int(name[:2]) for name in NOTEBOOKS}
    checkers = {name for name in check.__all__ if hasattr(getattr(check, name), "number")}
    expected = {name for name in checkers if int(getattr(check, name).number.partition(".")[0]) in written}
    assert expected == {e.checker for e in EXERCISES}
