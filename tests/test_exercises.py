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
WITH_EXERCISES = range(1, 12)  # chapters
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


# What a reader may get wrong: a piece of a solution, and what stands there instead.
MISTAKES = [
    ("reverse_variance", "schedule.posterior_x0[t] ** 2 *", "schedule.posterior_x0[t] *"),
    ("reverse_variance", "schedule.posterior_variance[t] + ", ""),
    ("fitting_start", ".sqrt()\n    return", "\n    return"),
    ("fitting_start", "alpha_bar * P + 1 - alpha_bar", "P"),
    ("deterministic_step", "(1 - before).sqrt()", "(1 - before)"),
    ("deterministic_step", "alpha_bar_prev[t]", "alpha_bar[t]"),
    ("guidance_bound", "bound = -", "bound = "),
    ("guidance_bound", "torch.where(power > 0, power, 1)", "power.sqrt()"),
    ("needed_step", " / math.sqrt(N)", ""),
    ("surgery", ".clamp(max=0)", ""),
    ("surgery", "clamp(max=0)", "clamp(min=0)"),
    ("deaf_states", "J**2", "J"),
    ("deaf_states", "(1 - m)", "m"),
    ("first_state", "t_star - 1", "t_star"),
    ("first_state", "(1 - a).sqrt()", "(1 - a)"),
    ("found_share", "2 * P.prod(0)", "P.prod(0)"),
    ("found_share", "(1 - alpha_bar) /", "alpha_bar * V /"),
    ("best_start", " + 1\n", "\n"),
    ("best_start", "rho**2 * M", "rho * M"),
    ("inverted", "** 0.5", ""),
    ("group_loss", 'norms.sum() if reduce == "sum" else norms.mean()', "norms.mean()"),
    ("group_loss", "segment.norm()", "segment.square().sum()"),
    ("group_gradient", "return -", "return "),
    ("group_gradient", ".clamp(min=1e-30)", ""),
    ("equal_pull", "norms[0] / norms", "norms / norms[0]"),
    ("bayes_direction", "rfft(d) / V", "rfft(d) * V"),
    ("bayes_direction", "pull / pull.norm()", "pull"),
    ("rotary", "a * angle.cos() - b * angle.sin()", "a * angle.cos() + b * angle.sin()"),
    ("rotary", "q[:, 0::2], q[:, 1::2]", "q.chunk(2, -1)"),
    ("fold_bands", ".mT", ""),
    ("path_parameters", " + 11 * C", ""),
    ("uneven_projection", "share[:, None] * ", "0.5 * "),
    ("uneven_projection", "variance / variance.sum()", "variance"),
    ("dirac_step", "(below - sigma)", "(sigma - below)"),
    ("dirac_step", "free = u[:-1] + (below - sigma) * (eps[:-1] - eps[-1])", "free = u[:-1]"),
    ("receptive_field", "return 1 + ", "return "),
    ("receptive_field", "i % dilation_cycle", "i"),
    ("multiplicative_update", " / W.sum(0)[:, None]", ""),
    ("multiplicative_update", "V / (W @ H)", "V - (W @ H)"),
    ("largest_batch", "devices * max", "max"),
    ("largest_batch", "(memory - own)", "memory"),
    ("largest_batch", "max(0, int((memory - own) // clip))", "int((memory - own) // clip)"),
    ("error_of_mean", "(1 + shared", "(shared"),
    ("error_of_mean", " / runs", ""),
]


@pytest.mark.parametrize(("checker", "right", "wrong"), MISTAKES)
def test_a_mistake_fails_at_a_named_property(checker, right, wrong):
    (exercise,) = (e for e in EXERCISES if e.checker == checker)
    assert exercise.solution.source.count(right) == 1
    report = verdict(exercise, nbformat.from_dict({"source": exercise.solution.source.replace(right, wrong)}))
    assert not report and report.failed.name and report.failed.hint


def test_every_checker_is_tried_with_a_mistake():
    """Here, or in `test_check`, those of the chapters with the simplest solutions."""
    tried = {checker for checker, _, _ in MISTAKES}
    assert tried == {e.checker for e in EXERCISES if int(e.notebook[:2]) in (3, 6, 8, 9, 10, 11, 12, 14)}


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


@pytest.mark.parametrize("name", ["12_full_training", "14_beyond"])
def test_the_last_chapters_have_three_kinds(name):
    """One to program, one for pen and paper with its solution folded and its numbers checked, an open one with what a
    good answer has.
    """
    cells = NOTEBOOKS[name].cells
    heads = [re.match(r"### (With pen and paper|An open experiment): ", cell.source) for cell in cells]
    places = {found[1]: i for i, found in enumerate(heads) if found}
    assert [e.notebook for e in EXERCISES].count(name) == 1
    paper, opened = places["With pen and paper"], places["An open experiment"]
    assert cells[paper + 1].source.startswith('<details class="solution"><summary>Solution, with pen and paper')
    assert tagged(cells[paper + 2], "hide-cell") and "assert" in cells[paper + 2].source
    assert "A good answer" in cells[opened].source and cells[opened].source.count("\n- ") >= 3


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
