"""Trainings that differ in one thing, each scored by one line of a journal: what `search`, `codec` and `augmentation`
share. What was stopped goes on, and commands may share a folder.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .._files import Journal, locked, replacing

if TYPE_CHECKING:
    import pandas as pd

LOG = "results.jsonl"


def options(description: str | None, name: str) -> argparse.ArgumentParser:
    """The options of a comparison over seeds, whose folder is runs/NAME by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs", name))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--collect", action="store_true", help="Write what has been scored so far to the package.")
    return parser


def results(out: Path) -> list[dict]:
    """What has been scored so far."""
    return Journal(out / LOG).read()


def record(out: Path, line: dict) -> None:
    """One more line; trainings side by side end when they will."""
    with locked(out, "results", patience=60.0):
        Journal(out / LOG).append(line)


def run(out: Path, names: Sequence[str], planned: Iterable[tuple], work: Callable[..., dict]) -> None:
    """Do what is planned and not in the journal, each by one thread.

    Args:
        names: of what tells one run from another, the beginning of its line.
        planned: their values for each run.
        work: work(*values) -> the rest of the line.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    done = {tuple(line[name] for name in names) for line in results(out)}
    for values in planned:
        if values not in done:
            record(out, dict(zip(names, values)) | work(*values))


def store(table: pd.DataFrame, path: Path) -> None:
    """Write a table, with where it was computed."""
    table["machine"] = f"{platform.machine()}, 1 thread, torch {torch.__version__}"
    with replacing(path) as partial:
        table.to_parquet(partial, index=False)
