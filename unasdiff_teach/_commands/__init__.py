"""The subcommands of `unasdiff-teach`: their options and help. What they do lives in the room that each imports when
it is called.

Nothing here imports torch, pandas or any room before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

Precision = Annotated[
    str,
    typer.Option(
        help=(
            "What the networks compute their products in: float32, bfloat16, or auto, the one that is measured to be"
            " faster."
        )
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the networks: minutes first, then faster. Default: for long runs on a GPU.",
    ),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; default: as many as are measured to be fastest now.")]


def say(line: str) -> None:
    """Print a line, unless there is nothing to say."""
    if line:
        typer.echo(line)


def say_next(*words: object) -> None:
    """Print the command of this package that comes next, as a shell takes it."""
    typer.echo(f"next: {shlex.join(['unasdiff-teach', *map(str, words)])}")
