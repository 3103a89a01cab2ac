"""The page "From an empty GPU to Table 2": its commands are those of the command line, as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import nbformat
import pytest
import typer

from unasdiff_teach.cli import app

USAGE_ERROR = typer.BadParameter.__base__  # of the parser that Typer brings
PAGE = Path(__file__).resolve().parent.parent / "book" / "appendix_gpu.ipynb"


def commands() -> list[str]:
    text = "\n\n".join(c.source for c in nbformat.read(PAGE, 4).cells if c.cell_type == "markdown")
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
        for line in block.replace("\\\n", "").splitlines()
    ]


def understood(line: str) -> None:
    """Take a command apart as the command line does, without running it."""
    program, *words = shlex.split(line)
    assert program == "unasdiff-teach"
    command = typer.main.get_command(app)
    while isinstance(command, typer.core.TyperGroup):
        _, command, words = command.resolve_command(typer.Context(command), words)
    command.make_context(command.name, words)


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_page_is_understood(line):
    understood(line)


def test_the_commands_lead_from_data_to_a_report():
    names = [tuple(w for w in line.split()[1:3] if not w.startswith("-")) for line in commands()]
    order = [("doctor",), ("data", "vctk"), ("data", "mixtures"), ("evaluate",), ("report",), ("train", "prior")]
    places = [names.index(name) for name in order]
    assert places == sorted(places) and ("reproduce",) in names[places[-1] :]


@pytest.mark.parametrize(
    "line", ["unasdiff-teach train prior --date x", "unasdiff-teach trane", "unasdiff-teach report --out"]
)
def test_a_wrong_command_is_found(line):
    with pytest.raises(USAGE_ERROR):
        understood(line)
