"""Trainings that differ in one thing, each scored by one line of a journal: what `search`, `codec` and `augmentation`
share. What was stopped goes on, and commands may share a folder. The journal begins with what all its lines have in
common, and takes no others.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .._files import Journal, locked, replacing

if TYPE_CHECKING:
    import pandas as pd

LOG = "results.jsonl"
ABOUT = "about"


def options(description: str | None, name: str) -> argparse.ArgumentParser:
    """The options of a comparison over seeds, whose folder is runs/NAME by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs", name))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--collect", action="store_true", help="Write what has been scored so far to the package.")
    return parser


def begin(out: Path, about: dict) -> None:
    """Begin a folder, or go on with it.

    Args:
        about: what its results have in common: hashes of recordings, of a corpus, of priors.

    Raises:
        ValueError: the folder has results of something else.
    """
    with _locked(out):
        Journal(out / LOG).begin({ABOUT: about})


def results(out: Path) -> list[dict]:
    """What has been scored so far."""
    return [line for line in Journal(out / LOG).read() if ABOUT not in line]


def record(out: Path, line: dict) -> None:
    """One more line; trainings side by side end when they will."""
    with _locked(out):
        Journal(out / LOG).append(line)


def _locked(out: Path) -> AbstractContextManager:
    return locked(out, "results", patience=60.0)


def run(out: Path, about: dict, names: Sequence[str], planned: Iterable[tuple], work: Callable[..., dict]) -> None:
    """Do what is planned and not in the journal, each by one thread.

    Args:
        about: see `begin`, also for the error.
        names: of what tells one run from another, the beginning of its line.
        planned: their values for each run.
        work: work(*values) -> the rest of the line.
    """
    torch.set_num_threads(1)
    begin(out, about)
    done = {tuple(line[name] for name in names) for line in results(out)}
    for values in planned:
        if values not in done:
            record(out, dict(zip(names, values)) | work(*values))


def store(table: pd.DataFrame, path: Path) -> None:
    """Write a table, with where it was computed."""
    table["machine"] = f"{platform.machine()}, 1 thread, torch {torch.__version__}"
    with replacing(path) as partial:
        table.to_parquet(partial, index=False)
