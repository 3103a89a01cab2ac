"""The command `unasdiff-teach`. Each subcommand is thin: what it does lives in the room that it names."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import typer

from unasdiff_teach.data.commands import app as data_commands

app = typer.Typer(
    name="unasdiff-teach",
    help="Teach, run and extend audio separation with diffusion source priors.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(data_commands)


@app.command()
def version() -> None:
    """Print the version of this package."""
    try:
        typer.echo(installed_version("unasdiff-teach"))
    except PackageNotFoundError:  # used from a source tree that was never installed
        typer.echo("unknown (not installed)")


@app.command()
def doctor() -> None:
    """Say what is installed, what works, and what to do about the rest."""
    from unasdiff_teach.doctor import main

    raise typer.Exit(main())


if __name__ == "__main__":
    app()
