"""What a command imports before it works: `--help` no torch, and a separation nothing for figures and tables."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import unasdiff_teach as ut
from unasdiff_teach.cli import app

ROOT = Path(__file__).resolve().parent.parent
HEAVY = "torch torchaudio pandas matplotlib scipy seaborn IPython ipywidgets lightning_fabric soundfile numpy"


def loaded(code: str) -> set[str]:
    """The packages that a program has imported at its end."""
    code += "\nimport sys; print(*{module.partition('.')[0] for module in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def words(command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every subcommand, as the words that call it."""
    return [
        path,
        *(found for name, below in getattr(command, "commands", {}).items() for found in words(below, (*path, name))),
    ]


def test_no_help_imports_torch():
    """All in one process, which would find torch whichever of them imported it."""
    every = words(typer.main.get_command(app))
    assert len(every) > 12
    code = f"""
import contextlib, io, sys
from unasdiff_teach.cli import app
for arguments in {every!r}:
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        app([*arguments, "--help"])
    assert "Usage" in shown.getvalue(), arguments
"""
    assert not loaded(code) & set(HEAVY.split())


def test_the_package_is_the_command():
    code = """
import runpy, sys
sys.argv = ["unasdiff_teach", "--help"]
try:
    runpy.run_module("unasdiff_teach", run_name="__main__")
except SystemExit as end:
    assert not end.code
"""
    assert not loaded(code) & set(HEAVY.split())
    command = [sys.executable, "-m", "unasdiff_teach", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert shown.returncode == 0 and "Usage: unasdiff-teach [OPTIONS] COMMAND" in shown.stdout and not shown.stderr


@pytest.mark.slow
def test_the_page_of_a_separation_needs_no_figures(tmp_path):
    code = f"""
import torch
from pathlib import Path
import soundfile
import unasdiff_teach as ut
from unasdiff_teach.separate_file import NamedPrior, Source, prepare
prior = ut.priors.StationaryGaussian(torch.full((501,), 0.01))
prior.sample_rate = 8000
soundfile.write({str(tmp_path / "a.wav")!r}, 0.1 * torch.randn(2000).numpy(), 8000)
sources = [Source(name, NamedPrior(prior, name), None) for name in "ab"]
page = prepare({str(tmp_path / "a.wav")!r}, sources, {str(tmp_path / "out")!r}, window=0.125).run() / "listen.html"
assert "<audio" in page.read_text()
"""
    assert not loaded(code) & set("pandas scipy seaborn IPython ipywidgets sympy lightning_fabric pesq".split())


@pytest.mark.parametrize("file", ["__init__.py", "show/__init__.py"])
def test_lazy_names_are_those_that_tools_see(file):
    """What is imported under TYPE_CHECKING, what `__getattr__` finds, and `__all__` are one list."""
    tree = ast.parse((ROOT / "unasdiff_teach" / file).read_text(encoding="utf-8"))
    module = ut if file == "__init__.py" else ut.show
    seen = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node.module and node.module != "_lazy":
            seen |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level and not node.module:
            seen |= {alias.name: alias.name for alias in node.names}
    assert set(seen) == set(module.__all__)
    assert {name: home for home, names in module._HOMES.items() for name in names.split()}.items() <= seen.items()
    assert all(getattr(module, name) is not None for name in module.__all__) and set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize(
    "line",
    [
        "train prior --scale smoke --data pocket-speech --out OUT",
        "train separator --scale smoke --data pocket-speech --data pocket-sound --out OUT",
        "bench --out OUT.json",
        "reproduce --out OUT",
    ],
)
def test_a_device_that_is_not_there_is_named(line, tmp_path):
    """In the project's words, where torch and Lightning list twenty others."""
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*line.replace("OUT", str(out)).split(), "--device", "abacus"])
    assert done.exit_code == 1 and not list(tmp_path.iterdir())
    assert "device is 'abacus'; there is no such device here. Accepted: cpu, and cuda or mps" in done.output


def test_the_doctor_looks_at_all_that_a_separation_takes(monkeypatch, tmp_path):
    from unasdiff_teach import doctor, priors
    from unasdiff_teach.data import pocket_corpus

    monkeypatch.setitem(pocket_corpus.CORPORA, "recorded", tmp_path)
    assert doctor.check_corpus().todo.endswith("make corpus RECORDINGS=DIR")

    def load(name):
        if name == "recorded-sound":
            raise ValueError("gone")
        return argparse.Namespace(sample_rate=8000)

    monkeypatch.setattr(priors, "load", load)
    found = doctor.check_priors()
    assert (found.level, found.what) == ("fail", "recorded-sound: gone")
