"""`unasdiff-teach separate`: a recording into its sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._console import errors
from .._machine import use_threads
from . import Compile, Precision, Threads, say


def separate(
    file: Annotated[
        Path, typer.Argument(help="Recording: WAV, FLAC, Ogg, MP3 or AIFF, of any rate, channels and length.")
    ],
    sources: Annotated[
        str, typer.Option(help="What is in it, two or more names that the priors know, with commas between.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: NAME-separated in the current folder.")
    ] = None,
    prior: Annotated[
        list[str],
        typer.Option(
            help=(
                "Prior, repeated, as [NAME=]WHERE: a shipped prior, a .safetensors file or a folder with some, a"
                " checkpoint of the paper's authors (.pt) or of UnDiff (.ckpt). NAME is what a prior without classes"
                " stands for (default: speech). The first that knows a source is asked: by default those of real"
                " recordings, then that of rendered sounds."
            )
        ),
    ] = ["recorded-speech", "recorded-sound", "pocket-sound"],
    preset: Annotated[
        str, typer.Option(help="Settings of the separation: recommended, short, paper or authors.")
    ] = "recommended",
    runs: Annotated[
        int | None, typer.Option(min=1, help="Runs whose mean is the result; default: the preset's (recommended: 4).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the noise.")] = 0,
    channels: Annotated[str, typer.Option(help="With several channels, separate their mean (mid), or each.")] = "mid",
    window: Annotated[
        float | None, typer.Option(help="Seconds denoised at once; default: 2, and 4 above 8 kHz.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Seconds that windows share; default: a quarter of the window.")
    ] = None,
    memory: Annotated[float, typer.Option(help="Memory that the priors may take, in GB.")] = 2.0,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1 or mps.")] = "cpu",
    precision: Precision = "auto",
    compile: Compile = None,
    threads: Threads = None,
    format: Annotated[
        str, typer.Option(help="Format of the sources: wav (32-bit floating point) or flac (24 bits).")
    ] = "wav",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the cost, but do not start.")
    ] = False,
) -> None:
    """Separate a recording into sources that the priors know.

    Writes a folder: each source and the residual, listen.html to listen to, and separation.json, which says what was
    done. It appears whole or not at all.

    \b
    unasdiff-teach separate talk.wav --sources speech,rain --runs 6
    unasdiff-teach separate band.flac --sources violin_or_fiddle,flute,snare_drum --out band --seed 1
    unasdiff-teach separate talk.wav --sources speech,Cello --prior speech.pt --prior sound.pt --preset authors
    unasdiff-teach separate bay.wav --sources whale,rain --prior whale=runs/whale --prior rain=rain.safetensors
    """
    from .. import separate_file as room

    with errors("the same command goes on from the last saved step"):
        say(use_threads(threads, device))
        found = room.find_sources(
            [name for name in sources.split(",") if name.strip()], [room.load_prior(spec) for spec in prior]
        )
        job = room.prepare(
            file, found, out, preset=preset, seed=seed, channels=channels, window=window, overlap=overlap,
            memory=memory * 1e9, device=device, format=format, overwrite=overwrite, precision=precision,
            compile=compile, runs=runs,
        )  # fmt: skip
        for line in job.describe():
            typer.echo(line)
        if dry_run:
            return
        written = job.run(progress=True)
        if written != job.out:
            typer.echo(f"{job.out} holds something that was not there at the start, and was left alone")
        typer.echo(f"written: {written / 'listen.html'}")
