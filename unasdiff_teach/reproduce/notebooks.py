"""The two notebooks of a reproduction: where they are, what they take, and how one is run."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from .._files import read_json

NOTEBOOKS = {"training": "12_full_training.ipynb", "evaluation": "13_full_evaluation.ipynb"}


def book_folder(given: Path | None = None) -> Path:
    """The folder with the two notebooks: the one that is given, or `book` of the checkout that this package is used
    from.

    Raises:
        FileNotFoundError: they are not there. An installed wheel holds the library, and not the book.
    """
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "book"
    if missing := [name for name in NOTEBOOKS.values() if not (folder / name).is_file()]:
        hint = (
            ""
            if given
            else "; the installed library has no book: get the project's repository, and say --book ITS/book"
        )
        raise FileNotFoundError(f"no {' and no '.join(missing)} in {folder}{hint}")
    return folder


def known_parameters(notebook: Path) -> dict[str, object]:
    """Names and defaults of a notebook's parameters.

    Raises:
        ImportError: papermill is missing.
    """
    try:
        import papermill
    except ImportError as error:
        raise ImportError("reproduce needs papermill and a kernel: pip install 'unasdiff-teach[book]'") from error

    return {
        name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(str(notebook)).items()
    }


def source_hash(notebook: Path) -> str:
    """SHA-256 of a notebook's code."""
    cells = read_json(notebook)["cells"]
    return hashlib.sha256(json.dumps([c["source"] for c in cells if c["cell_type"] == "code"]).encode()).hexdigest()


def own_time(notebook: Path) -> str:
    """How long a chapter says that it takes to run, or nothing."""
    found = re.search(r"minutes to read, (about [^.]*? to run[^.]*)", notebook.read_text(encoding="utf-8"))
    return found[1] if found else ""


def execute(
    notebook: Path, target: Path, parameters: Mapping[str, object], log: Path, echo: Callable[[str], object],
    lock: int | None = None,
) -> None:  # fmt: skip
    """Run a notebook into `target`; what its cells print goes to `echo` and is appended to `log`.

    Args:
        lock: a descriptor that the kernel holds as long as it lives.

    Raises:
        RuntimeError: a cell failed.
    """
    import papermill

    for path in (target, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file, _kernel(target.parent, lock) as kernel:
        file.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n")
        printed = _Tee(file, echo)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about how a widget's state is stored
                papermill.execute_notebook(
                    str(notebook), str(target), dict(parameters), kernel_name="python3", cwd=str(target.parent),
                    km=kernel, stdout_file=printed, stderr_file=printed, progress_bar=True,
                )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            raise RuntimeError(
                f"{target.name}, cell {error.exec_count}: {error.ename}: {error.evalue} (all of it is in {target})"
            ) from None


@dataclass(frozen=True)
class _Tee:
    """The file to which papermill writes what cells print."""

    file: IO[str]
    echo: Callable[[str], object]

    def write(self, text: str) -> None:
        self.echo(text)
        self.file.write(text)

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def _kernel(folder: Path, lock: int | None) -> Iterator[object]:
    """A kernel of this very interpreter, whatever kernels are installed; it holds the run's lock as long as it
    lives.
    """
    import torch
    from jupyter_client import KernelManager
    from jupyter_client.kernelspec import KernelSpecManager

    kernel = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    kernel.start_kernel(
        cwd=str(folder), extra_arguments=["--HistoryManager.hist_file=:memory:", "--IPKernelApp.log_level=40"],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        **({"pass_fds": (lock,)} if lock is not None and os.name == "posix" else {}),
    )  # fmt: skip
    try:
        yield kernel
    finally:
        kernel.shutdown_kernel(now=True)
