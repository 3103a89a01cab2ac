"""What every notebook of the book keeps to. That its stored outputs are true is proven by `pytest --nbval book`."""

from __future__ import annotations

import ast
import base64
import copy
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST_CELL = 30  # lines
LONGEST_IN_SIGHT = 15  # lines of a cell that the page shows before it is asked to
LONGER = {"05_inverse_problem": 24}  # lines: Algorithm 1 stands in one piece
LARGEST_CLIP = 200_000  # characters of base64: five seconds at 16 kHz and 16 bits are 213 kB, two at 8 kHz 43 kB
LARGEST_NOTEBOOK = 3 * 2**20  # bytes
SHORTEST_ALT = 15  # characters
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_REPR = re.compile(
    r"(\w*(Box|Slider|Text|Progress|Picker)|Output|Tab|Accordion|Dropdown|interactive|HTML|Label)\("
)

NOTEBOOKS = sorted(p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    """(number in the notebook counted from 1, cell) for each code cell."""
    return [(i, cell) for i, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]


def outputs(notebook):
    return [(i, cell, output) for i, cell in code_cells(notebook) for output in cell.outputs]


def text_of(value) -> str:
    return value if isinstance(value, str) else "".join(value)


def test_every_cell_was_run_in_order(notebook):
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run `make execute`: cells were not run, or not from the top"


def test_no_error_and_no_stderr(notebook):
    bad = [i for i, _, o in outputs(notebook) if o.output_type == "error" or o.get("name") == "stderr"]
    assert not bad, f"cells {bad}"


def test_no_dead_widget(notebook):
    assert "widgets" not in notebook.metadata, "stored widget state: run `make execute`"
    for i, cell, output in outputs(notebook):
        data = output.get("data", {})
        assert WIDGET not in data, f"cell {i} stores a dead widget: run `make execute`"
        if WIDGET_REPR.match(text_of(data.get("text/plain", ""))):
            tags = cell.metadata.get("tags", [])
            assert {"remove-output", "remove-cell"} & set(tags), f"cell {i}: tag a widget's cell `remove-output`"


def test_nothing_volatile_is_stored(notebook):
    for i, cell in enumerate(notebook.cells, 1):
        assert not {"execution", "papermill", "ExecuteTime"} & set(cell.metadata), f"cell {i}: run `make execute`"
    assert "version" not in notebook.metadata.get("language_info", {}), "run `make execute`"
    assert notebook.metadata.kernelspec.name == "python3"


def test_cells_are_short(notebook):
    long = {i: lines for i, c in code_cells(notebook) if (lines := c.source.count("\n") + 1) > LONGEST_CELL}
    assert not long, f"cells with more than {LONGEST_CELL} lines: {long}"


FOLDS = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def test_what_is_folded_has_a_name_and_is_folded_in_jupyterlab_too(notebook):
    for i, cell in code_cells(notebook):
        if FOLDS & {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])):
            assert cell.metadata.get("jupyter", {}).get("source_hidden"), f"cell {i}"
            assert cell.metadata.get("mystnb", {}).get("code_prompt_show"), f"cell {i}: what is folded has a name"


def test_long_cells_are_folded(notebook, path):
    """Plotting, set-up and checks are folded; what teaches is short. Parameters are one cell, whatever their number."""
    most = LONGER.get(path.stem, LONGEST_IN_SIGHT)
    for i, cell in code_cells(notebook):
        if not (FOLDS | {"parameters"}) & set(cell.metadata.get("tags", [])):
            lines = cell.source.count("\n") + 1
            assert lines <= most, f"cell {i} shows {lines} lines: split it, or tag what does not teach hide-input"


def test_a_cell_that_is_longer_stands_where_it_is_said(path, notebook):
    if path.stem in LONGER:
        shown = [c.source for _, c in code_cells(notebook) if not FOLDS & set(c.metadata.get("tags", []))]
        shown = [source for source in shown if source.count("\n") + 1 == LONGER[path.stem]]
        assert shown, f"{path.stem} has no such cell any more: take it from LONGER"


def test_chapters_have_one_template(notebook, path):
    """Exercises and recap are numbered sections, each exercise has a heading; references and versions stand last."""
    chapter = re.match(r"(\d+)_", path.stem)
    if not chapter:
        return
    number, text = int(chapter[1]), "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    sections = [int(n) for n in re.findall(rf"^## {number}\.(\d+) ", text, flags=re.M)]
    assert sections == list(range(1, len(sections) + 1))
    titles = re.findall(r"^## (.*)", text, flags=re.M)
    assert titles[-2:] == [f"{number}.{sections[-1]} Recap", "References"]
    assert "**Versions used**" in text.rpartition("## References")[2]
    exercises = [c for _, c in code_cells(notebook) if "exercise" in c.metadata.get("tags", [])]
    headings = re.findall(rf"^### Exercise {number}\.(\d+): ", text, flags=re.M)
    assert [int(n) for n in headings] == list(range(1, len(exercises) + 1))
    assert not exercises or f"{number}.{sections[-2]} Exercises" in titles


def test_text_reads_in_jupyterlab(notebook):
    """Lab knows no directives, no roles and no labels: it would show them as they are written."""
    written = re.compile(r"^\s*(:::|```)\s*\{|\{[a-z]+(:[a-z]+)?\}`|^\([\w-]+\)=$", re.M)
    raw = [
        found[0] for cell in notebook.cells if cell.cell_type == "markdown" for found in written.finditer(cell.source)
    ]
    assert not raw


def test_captions_stand_below_their_figures_in_jupyterlab(notebook):
    import execute_notebooks  # scripts/ is on the path of pytest

    written = [(cell.cell_type, cell.source) for cell in notebook.cells]
    again = execute_notebooks.captioned(copy.deepcopy(notebook)).cells
    assert [(cell.cell_type, cell.source) for cell in again] == written, "run scripts/execute_notebooks.py --captions"
    for place, cell in enumerate(notebook.cells):
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
        if caption and not cell.metadata.get("jupyter", {}).get("outputs_hidden"):
            below = notebook.cells[place + 1]
            assert caption in below.source and "remove-cell" in below.metadata.tags  # the page has its own


def test_every_figure_has_a_text(notebook):
    for i, cell in code_cells(notebook):
        pictures = sum(any(mime.startswith("image/") for mime in o.get("data", {})) for o in cell.outputs)
        assert pictures <= 1, f"cell {i} has {pictures} pictures, and its metadata only one text"
        if pictures:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) >= SHORTEST_ALT, f"cell {i}: put what its figure shows into metadata mystnb.image.alt"


def test_figures_are_sharp_on_dense_screens(notebook):
    """`show.use_style` gives them twice the pixels of their size on the screen."""
    for i, _, output in outputs(notebook):
        if "image/png" in output.get("data", {}):
            header = base64.b64decode(output.data["image/png"][:64])
            shown = output.metadata["image/png"]["width"]
            assert int.from_bytes(header[16:20], "big") in (2 * shown, 2 * shown + 1), f"cell {i}: run `make execute`"


def test_every_alt_text_has_its_figure(notebook):
    for i, cell in code_cells(notebook):
        if "alt" in cell.metadata.get("mystnb", {}).get("image", {}):
            pictures = [o for o in cell.outputs if any(kind.startswith("image/") for kind in o.get("data", {}))]
            assert pictures, f"cell {i} describes a figure that it does not store"


def test_every_picture_in_the_text_has_a_text(notebook):
    for i, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            assert not re.search(r"!\[\s*\]\(", cell.source), f"cell {i}"
            assert not re.search(r"<img(?![^>]*\balt=\"[^\"]+\")", cell.source), f"cell {i}"


def test_sounds_are_small_and_stay_here(notebook, path):
    for i, _, output in outputs(notebook):
        html = text_of(output.get("data", {}).get("text/html", ""))
        assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html), f"cell {i} fetches from elsewhere"
        clips = re.findall(r"data:audio/[^;]+;base64,([A-Za-z0-9+/=\s]+)", html)
        assert all(len(clip) <= LARGEST_CLIP for clip in clips), (
            f"cell {i}: a clip of {max(map(len, clips))} characters"
        )
    assert path.stat().st_size <= LARGEST_NOTEBOOK


def test_begins_with_its_title(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.lstrip().startswith("# ")


def test_parameters_are_literals(notebook):
    cells = [c for _, c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) <= 1
    for cell in cells:
        for statement in ast.parse(cell.source).body:
            assert isinstance(statement, (ast.Assign, ast.AnnAssign)), "papermill can replace assignments only"
            ast.literal_eval(statement.value)
