"""`unasdiff-teach reproduce`: chapters 12 and 13 at one of three scales."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .._console import errors
from .._machine import use_threads
from . import Precision, Threads, say


def reproduce(
    out: Annotated[
        Path, typer.Option(help="Folder of this run: notebooks, training, evaluation, report, logs, environment.")
    ],
    scale: Annotated[
        str, typer.Option(help="Scale: smoke (minutes), pocket (a day of two cores) or paper (weeks of a GPU).")
    ] = "smoke",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Converted data set (`unasdiff-teach data`), repeated: at paper scale one of speech, one of sounds."
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="Parameter of a notebook, repeated, as NAME=VALUE.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device: cpu, cuda, cuda:1 or mps; default: cuda at paper scale where there is one, else cpu."
        ),
    ] = None,
    precision: Precision = "auto",
    threads: Threads = None,
    book: Annotated[
        Path | None, typer.Option(help="Folder with the two notebooks; default: book of the repository.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the cost, but do not start.")
    ] = False,
) -> None:
    """Run chapters 12 (training) and 13 (evaluation) in full: priors, experts, mixtures, scores, and the tables beside
    the paper's.

    smoke is the chapters' default; pocket remakes the shipped priors and their benchmark; paper is the paper, and
    needs VCTK and FSDKaggle2018. The same command goes on where it stopped.

    \b
    unasdiff-teach reproduce --out runs/smoke
    unasdiff-teach reproduce --scale pocket --out runs/pocket --dry-run
    unasdiff-teach reproduce --scale paper --data data/vctk-mic1-16k --data data/fsdkaggle2018-16k --out data/paper
    unasdiff-teach reproduce --scale paper --dry-run --out data/paper      (the cost, before any data are there)
    unasdiff-teach reproduce --out runs/try -p seed=1 -p count=2
    """
    from .. import reproduce as room

    with errors("the same command goes on from what was saved"):
        given = dict(map(room.parse, parameter or []))
        say(use_threads(threads, device or "cpu"))
        run = room.prepare(scale, data or [], out, given, device, book, not dry_run, precision)
        for line in room.cost(run):
            typer.echo(line)
        if not dry_run:
            run.run(echo=partial(typer.echo, nl=False))
            typer.echo(f"done: {run.out}")
