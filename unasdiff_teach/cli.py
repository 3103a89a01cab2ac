"""The command `unasdiff-teach`. The subcommands are in `_commands`; what they do lives in the rooms."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from unasdiff_teach._commands.bench import bench
from unasdiff_teach._commands.data import app as data
from unasdiff_teach._commands.evaluate import evaluate, report
from unasdiff_teach._commands.reproduce import reproduce
from unasdiff_teach._commands.separate import separate
from unasdiff_teach._commands.train import app as train

app = typer.Typer(
    name="unasdiff-teach",
    help="""Teach, run and extend audio separation with diffusion source priors.

\b
unasdiff-teach separate talk.wav --sources speech,violin_or_fiddle
unasdiff-teach doctor
""",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(data)
app.add_typer(train)
app.command()(separate)
app.command()(bench)
app.command()(reproduce)
app.command()(evaluate)
app.command()(report)


@app.command()
def version() -> None:
    """Print the version of this package."""
    try:
        typer.echo(installed_version("unasdiff-teach"))
    except PackageNotFoundError:  # used from a source tree that was never installed
        typer.echo("unknown (not installed)")


def print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def doctor() -> None:
    """Say what is installed, what works, and what to do about the rest."""
    from unasdiff_teach.doctor import main

    raise typer.Exit(main())


if __name__ == "__main__":
    app()
