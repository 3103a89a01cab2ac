"""What the commands share: errors in one line, and times in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors(stopped: str) -> Iterator[None]:
    """Errors that name what is wrong and what to do end the command with one line and status 1; a stop, with 130 and `stopped`."""
    import typer

    try:
        yield
    except (typer.Exit, typer.Abort):  # of the command itself; they are RuntimeErrors too
        raise
    except (ArithmeticError, ImportError, OSError, RuntimeError, ValueError) as error:
        # A full disk has no file name, and a number that says nothing.
        what = error.strerror if isinstance(error, OSError) and error.strerror and error.filename is None else str(error)
        typer.echo("error: " + " ".join(what.split()), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; {stopped}", err=True)
        raise typer.Exit(130) from None


def duration(seconds: float) -> str:
    """A time in the unit that suits it: "3 seconds", "3 minutes", "2.5 hours", "4 days"."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 6000:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
