"""Run notebooks with papermill, each in its own folder, and store what they show.

    python scripts/execute_notebooks.py                        every notebook of the book, in place
    python scripts/execute_notebooks.py book/05_*.ipynb        only these
    python scripts/execute_notebooks.py book/05_*.ipynb -p seed=3 -p steps=40
                                                               with other parameters: the result goes to
                                                               runs/notebooks and the book stays as it is

Below each figure a cell repeats its caption for JupyterLab, which shows no captions otherwise; `--captions` writes
these cells alone. Stored outputs hold no timestamps, no widget state and no interpreter version, so that running the
same notebook twice changes nothing. A notebook that fails, or that writes to stderr, is not stored.
"""

from __future__ import annotations

import argparse
import ast
import sys
import time
import warnings
from pathlib import Path

import nbformat
import papermill

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "notebooks"
CAPTION = "caption"
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebooks() -> list[Path]:
    """The notebooks of the book, in reading order."""
    return sorted(p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove everything that differs from run to run. Returns the same notebook, changed."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        for volatile in ("execution", "papermill", "ExecuteTime"):
            cell.metadata.pop(volatile, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        cell.setdefault("id", f"cell-{number}")
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            # a stored view of a widget is a dead widget; its plain text is kept, and nbval compares that
            output.get("data", {}).pop(WIDGET, None)
            output.get("metadata", {}).pop(WIDGET, None)
    return notebook


def captioned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Put the caption of each figure into a cell below it, which the pages leave out: they have the caption itself.
    Solutions, whose outputs are folded, have none. Returns the same notebook, changed.
    """
    cells = []
    for cell in notebook.cells:
        if CAPTION in cell.metadata.get("tags", []):
            continue
        cells.append(cell)
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
        if caption and not cell.metadata.get("jupyter", {}).get("outputs_hidden"):
            below = nbformat.v4.new_markdown_cell(f"**Figure.** {caption}", id=f"{cell.id}-{CAPTION}")
            below.metadata["tags"] = [CAPTION, "remove-cell"]
            cells.append(below)
    notebook.cells = cells
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The same outputs, with printed lines that follow each other in one: on a busy machine they arrive in pieces."""
    found = []
    for output in outputs:
        if found and output.output_type == "stream" and output.name == found[-1].get("name"):
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def stderr_of(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells wrote to stderr."""
    outputs = (o for cell in notebook.cells for o in cell.get("outputs", []))
    return "".join(o["text"] for o in outputs if o.get("name") == "stderr")


def check_parameters(path: Path, parameters: dict) -> None:
    """Raise `SystemExit` when the notebook's `parameters` cell lacks one of these names.

    papermill itself only warns, and then runs with the default.
    """
    known = sorted(papermill.inspect_notebook(str(path)))
    for name in sorted(set(parameters) - set(known)):
        raise SystemExit(f"error: {path.name} has no parameter {name!r}; it has: {', '.join(known) or 'none'}")


def execute(path: Path, parameters: dict) -> Path:
    """Run one notebook in its own folder. Returns where it was stored."""
    check_parameters(path, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about cell ids of old notebooks; `clean` adds them
        notebook = papermill.execute_notebook(
            str(path), None, parameters=parameters, cwd=str(path.parent), kernel_name="python3", progress_bar=False
        )
    if text := stderr_of(notebook):
        raise SystemExit(f"error: {path.name} writes to stderr, so it was not stored:\n{text}")
    target = RUNS / path.name if parameters else path
    target.parent.mkdir(parents=True, exist_ok=True)
    store(captioned(clean(notebook)), target)
    return target


def store(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write with one trailing newline, like every other file of the repository."""
    path.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")


def parse_parameter(text: str) -> tuple[str, object]:
    """`name=value` with a Python literal for a value; anything else is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected name=value, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook of the book")
    parser.add_argument("-p", "--parameter", action="append", default=[], type=parse_parameter, metavar="NAME=VALUE")
    parser.add_argument(
        "--captions", action="store_true", help="run nothing, write the captions below the figures anew"
    )
    arguments = parser.parse_args()
    if arguments.captions:
        for path in arguments.notebooks or notebooks():
            store(captioned(nbformat.read(path, as_version=4)), path)
        return 0
    failed = []
    for path in arguments.notebooks or notebooks():
        start = time.perf_counter()
        try:
            target = execute(path.resolve(), dict(arguments.parameter))
        except papermill.exceptions.PapermillExecutionError as error:
            failed.append(path)
            print(f"{path}: FAILED\n{error}", file=sys.stderr)
        else:
            print(f"{path}: {time.perf_counter() - start:.1f} s, stored in {target}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
