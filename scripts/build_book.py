"""Build the book: `_build/html`, from a clean tree, with warnings as errors.

`make book` calls this; without make, `python scripts/build_book.py` does the same on any system.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
PAGE = BUILD / "html" / "index.html"
DONE = BUILD / "done"  # written after a build without warnings; the page tests compare its age with the sources'


def build(quiet: bool = False) -> Path:
    """Remove `_build`, build the pages and return the one to open.

    A second build on the same tree hides the warnings of the first, so nothing is kept.
    Raises `SystemExit` with what to look at when there was a warning or an error.
    """
    if BUILD.exists():
        shutil.rmtree(BUILD)
    # -W turns warnings into errors, --keep-going shows all of them first, -n reports broken references
    run = "from jupyter_book.cli.main import main; main()"  # the command jupyter-book, of this very Python
    command = [sys.executable, "-c", run, "build", str(ROOT), "-W", "-n", "--keep-going"]
    if quiet:
        command.append("-q")
    finished = subprocess.run(command, cwd=ROOT, capture_output=quiet, text=True)
    if finished.returncode != 0 or not PAGE.is_file():
        if quiet:
            print(finished.stdout, finished.stderr, sep="\n", file=sys.stderr)
        raise SystemExit("The book was not built: every line with WARNING or ERROR above counts.")
    DONE.touch()
    return PAGE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    page = build(quiet=parser.parse_args().quiet)
    print(f"\nOpen this page in a browser (no server and no network needed):\n  {page}\n")
