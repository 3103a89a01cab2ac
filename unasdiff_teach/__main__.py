"""`python -m unasdiff_teach`: the command where it is not on the path."""

from .cli import app

app(prog_name="unasdiff-teach")
