"""The package as a thing that is installed: quick to import, complete in its wheel, pinned, layered."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import ROOMS, requirements
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "unasdiff_teach"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# what a requirement is called where it is used, when that is not its name with an underscore
USED_AS = {
    "ruff": r"-m ruff\b",
    "soundfile": r"\bsoundfile\b",
    "beautifulsoup4": r"\bbs4\b",
    "jupyter-book": r"\bjupyter_book\b",
    "jupyterlab": r"-m jupyterlab\b",
    "ipykernel": r"\bipykernel\b",
    "sphinx-mathjax-offline": r"\bsphinx-mathjax-offline\b",
    "sphinxcontrib-bibtex": r"\bsphinxcontrib\.bibtex\b",
    "nbval": r"--nbval\b",
    "pytest-xdist": r"-n \d+ --dist",
    "pyarrow": r"\b(to|read)_parquet\b",
    "scikit-learn": r"\bfrom sklearn\b",
    "setuptools": r"\bsetuptools\.build_meta\b",
    "tensorboard": r"\btorch\.utils\.tensorboard\b",
    "lightning-fabric": r"\blightning_fabric\b|\blightning\.fabric\b",
}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------ import

SLOW = (
    "IPython ipywidgets lightning_fabric matplotlib pandas pesq pyarrow scipy seaborn soundfile torchaudio torchmetrics"
    " typer"
)


def test_import_is_light():
    """Less than 1.5 s beyond torch: what takes time is other packages, so those are counted, not the seconds."""
    code = (
        "import sys, torch; before = set(sys.modules); import unasdiff_teach; new = set(sys.modules) - before\n"
        "print(*{m.partition('.')[0] for m in new} - {'unasdiff_teach'}, len(new))"
    )
    *packages, count = run(code).split()
    assert not set(packages) & set(SLOW.split())
    assert int(count) < 200, f"{count} modules beyond torch's: {sorted(packages)}"


@pytest.mark.slow
def test_no_name_hides_a_module():
    """`import unasdiff_teach.data.mixing as m` gives the module; a function of that name in its package would take its
    place.
    """
    code = """
import importlib, pkgutil, types
import unasdiff_teach
packages, hidden = [unasdiff_teach], []
for package in packages:
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        name = found.name.rpartition(".")[2]
        hidden += [found.name] * (not isinstance(vars(package).get(name, types), types.ModuleType))
        if found.ispkg:
            packages.append(importlib.import_module(found.name))
print(len(packages), hidden)
"""
    count, _, hidden = run(code).strip().partition(" ")
    assert hidden == "[]" and int(count) > 8


def test_import_touches_no_network_no_gpu_and_no_file():
    """Every file that is opened and every socket raises an audit event; only Python's own modules may be read."""
    code = """
import sys, torch
touched = []
def audit(event, arguments):
    opened = event == "open" and not str(arguments[0]).endswith((".py", ".pyc"))
    if opened or event.startswith(("socket.", "subprocess.")):
        touched.append((event, str(arguments[0])))
sys.addaudithook(audit)
import unasdiff_teach
seen = list(touched)
assert not torch.cuda.is_initialized(), "CUDA was initialised"
# Python opens the shared libraries of extension modules, which are modules too
print([t for t in seen if not t[1].endswith((".so", ".pyd"))])
"""
    assert run(code).strip() == "[]"


# ---------------------------------------------------------------------------------------------- layering


def imports(path: Path) -> set[str]:
    """What of the package a file imports, inside its functions too: dotted names of modules, or of what is in them."""
    here = ("unasdiff_teach", *path.relative_to(PACKAGE).parts)
    found = set()

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                # relative: drop `level` parts from this file's own position
                module = [*(here[: len(here) - child.level] if child.level else ()), *filter(None, [child.module])]
                found.update(".".join([*module, alias.name]) for alias in child.names)
            else:
                walk(child)

    walk(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name.startswith("unasdiff_teach.")}


@pytest.mark.parametrize(
    "path", [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__"], ids=str
)
def test_rooms_import_only_from_rooms_above(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in ROOMS, "a new room: give it a place in ROOMS and in the README"
    above = set(ROOMS[: ROOMS.index(room) + 1])
    assert {name.split(".")[1] for name in imports(path)} & set(ROOMS) <= above


def test_no_modules_import_each_other():
    """Not even through others, nor inside functions: again and again modules are taken away that import nothing which
    is left, or that nothing left imports, until circles and what lies between two of them remain.
    """
    dotted = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for path, name in dotted.items()}
    # a name that is no module is in the module before its last dot
    left = {
        name: {found if found in paths else found.rpartition(".")[0] for found in imports(path)} - {name}
        for name, path in paths.items()
    }
    for _ in paths:
        used = set().union(*left.values())
        left = {name: needed & left.keys() for name, needed in left.items() if name in used and needed & left.keys()}
    assert not left


def test_no_file_of_the_library_is_long():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_test_file_imports_another():
    """What several need is in `helpers`: a test file can be run, moved and removed alone."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    assert not [path.name for path in files if re.search(r"^(from|import) test_", path.read_text(), flags=re.M)]


# ------------------------------------------------------------------------------------- what is installed


def test_every_requirement_is_pinned_and_installed():
    for requirement in requirements():
        pins = [s for s in requirement.specifier if s.operator == "=="]
        assert len(pins) == len(requirement.specifier) == 1, requirement
        # a build of torch for another device calls itself 2.11.0+cpu or the like
        assert version(requirement.name).partition("+")[0] == pins[0].version, requirement


def test_ranges_of_the_package_admit_the_pins():
    pins = {r.name: next(iter(r.specifier)).version for r in requirements()}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for line in PROJECT["project"]["dependencies"] + [line for extra in extras for line in extra]:
        ranged = Requirement(line)
        assert ranged.name in pins, f"{ranged.name} is not pinned in requirements.txt"
        assert pins[ranged.name] in ranged.specifier, ranged


@pytest.mark.slow
def test_every_requirement_is_used():
    files = [ROOT / "Makefile", ROOT / "_config.yml", ROOT / "pyproject.toml"]
    for folder in ("unasdiff_teach", "scripts", "book", "tests"):
        files += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".ipynb")]
    lines = "\n".join(p.read_text(encoding="utf-8") for p in files if p != Path(__file__).resolve()).splitlines()
    dependency = re.compile(r'^\s*"[\w-]+[<>=]=?[^"]*",?$|^(book|test) = \[')  # the lists of pyproject.toml are no use
    text = "\n".join(line for line in lines if not dependency.match(line))
    unused = []
    for requirement in requirements():
        name = requirement.name.replace("-", "_")
        if not re.search(USED_AS.get(requirement.name, rf"\bimport {name}\b|\bfrom {name}\b|- {name}\b"), text):
            unused.append(requirement.name)
    assert not unused


@pytest.mark.slow
def test_wheel_holds_priors_separators_corpus_and_results(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    packed = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for folder in ("data/corpus", "priors/weights", "separators/weights", "evaluation", "show/static"):
        shipped = [p for p in (PACKAGE / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        assert shipped, f"unasdiff_teach/{folder} is empty"
        assert not {p.relative_to(ROOT).as_posix() for p in shipped} - packed
    assert {p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*.py")} <= packed
    assert not [name for name in packed if name.startswith("tests")]


# ---------------------------------------------------------------------------------------------- commands


def test_doctor_reports_on_everything_and_never_raises(monkeypatch, capsys):
    from unasdiff_teach import doctor

    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_python, broken))
    assert doctor.main() == 1
    printed = capsys.readouterr().out
    assert "Python" in printed and "RuntimeError: no such thing" in printed and "1 problem to fix" in printed


def test_doctor_finds_nothing_to_fix_here():
    from unasdiff_teach import doctor

    assert [finding for finding in doctor.examine() if finding.level == "fail"] == []


def test_command_line():
    from typer.testing import CliRunner

    import unasdiff_teach
    from unasdiff_teach.cli import app

    result = CliRunner().invoke(app, ["version"])
    assert result.exit_code == 0
    assert result.stdout.strip() == version("unasdiff-teach") == unasdiff_teach.__version__
    assert CliRunner().invoke(app, ["--version"]).stdout == result.stdout
    assert "separate talk.wav --sources" in CliRunner().invoke(app, ["--help"]).stdout
    assert "doctor" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.slow
def test_example_of_the_readme_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.S)[1].rstrip().splitlines()
    names: dict = {}
    exec("\n".join(code[:-1]), names)
    scores = eval(code[-1], names)  # the last line is an expression: SI-SDR of each source
    assert scores.shape == (2,)
    assert scores.mean() > 0, "the example should show a separation, and the unprocessed mixture scores 0"
