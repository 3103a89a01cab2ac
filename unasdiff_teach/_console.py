"""What the commands share: errors in one line, and times in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors(stopped: str) -> Iterator[None]:
    """Errors that name what is wrong and what to do end the command with one line and status 1; a stop, with 130 and
    `stopped`.

    With UNASDIFF_TRACEBACK=1 in the environment they show where they come from.
    """
    import typer

    try:
        yield
    except (typer.Exit, typer.Abort):  # of the command itself; they are RuntimeErrors too
        raise
    except (ArithmeticError, ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        if os.environ.get("UNASDIFF_TRACEBACK"):
            raise
        typer.echo("error: " + " ".join(_words(error).split()), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; {stopped}", err=True)
        raise typer.Exit(130) from None


def _words(error: Exception) -> str:
    """What an error says, also where it says nothing by itself."""
    if isinstance(error, MemoryError):
        return str(error) or "memory does not suffice"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left on the disk"
    if isinstance(error, OSError) and error.strerror and error.filename is None:  # a number that says nothing
        return error.strerror
    return str(error) or type(error).__name__


def duration(seconds: float) -> str:
    """A time in the unit that suits it: "3 seconds", "3 minutes", "2.5 hours", "4 days"."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 6000:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
