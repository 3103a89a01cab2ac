"""`unasdiff-teach reproduce`: parameters checked first, the cost, what is run, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from unasdiff_teach import reproduce
from unasdiff_teach._files import LOCK, locked
from unasdiff_teach.cli import app
from unasdiff_teach.data.mixing import TASKS
from unasdiff_teach.networks import TriplePathConfig
from unasdiff_teach.networks.budget import flops
from unasdiff_teach.reproduce.costs import evaluation_flops
from unasdiff_teach.training.plan import plan

ROOT = Path(__file__).resolve().parent.parent


def call(*words):
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The two notebooks with the parameters of the real ones, and cells that take no time; each run leaves a line in
    OUT.runs.
    """
    folder = tmp_path_factory.mktemp("book")
    for part, name in reproduce.NOTEBOOKS.items():
        parameters = next(
            c for c in nbformat.read(ROOT / "book" / name, 4).cells if "parameters" in c.metadata.get("tags", [])
        )
        work = f"""
            import os, sys, time
            os.makedirs(out, exist_ok=True)
            with open(out + ".runs", "a") as file:
                file.write(f"{{seed}} {{sys.executable}}\\n")
            print("{part} at work")
            while os.path.exists(out + ".wait"):
                time.sleep(0.1)
            assert not os.path.exists(out + ".fail"), "told to fail"
        """
        source = "\n".join(line.removeprefix(" " * 12) for line in work.strip("\n").splitlines())
        cells = [
            nbformat.v4.new_code_cell(parameters.source, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(source),
        ]
        kernel = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)
    return folder


def runs(out, part):
    path = out / f"{part}.runs"
    return path.read_text().splitlines() if path.is_file() else []


# --- before any work --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "sede=1"], "no notebook has a parameter sede: 12_full_training.ipynb has"),
        (["-p", "scale=paper"], "use the option --scale"),
        (["-p", "seed"], "NAME=VALUE is needed"),
        (["-p", "seed=abc"], "-p seed=abc: a whole number is needed, 0 or more"),
        (["-p", "count=0"], "-p count=0: a whole number is needed, more than 0"),
        (["-p", "steps=-3"], "-p steps=-3: a whole number is needed, more than 0"),
        (["-p", "batch=1.5"], "-p batch=1.5: a whole number is needed"),
        (["-p", "table4=1"], "-p table4=1: a value such as False is needed"),
        (["-p", "methods=dps"], "-p methods=dps: a value such as ["),
        (["--scale", "huge"], "scale is 'huge'; accepted: smoke, pocket, paper"),
        (["--scale", "paper"], "the paper's scale needs --data twice"),
        (["--scale", "pocket", "--data", "pocket-speech"], "takes no other data"),
        (
            ["--scale", "paper", "--data", "pocket-speech", "--data", "pocket-sound"],
            "needs 16000 Hz: `unasdiff-teach data ... --rate 16000` converts to that, and --scale pocket",
        ),
        (["--data", "nowhere"], "no manifest at"),
        (["-p", "experts=['wavenet']"], "experts has wavenet"),
        (["--book", "nowhere"], "no 12_full_training.ipynb and no 13_full_evaluation.ipynb in nowhere"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(tmp_path, words, message):
    done = call("--out", tmp_path / "run", *words)
    assert done.exit_code == 1 and message in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_an_installed_library_without_the_book_says_so(tmp_path, monkeypatch):
    home = tmp_path / "site-packages" / "unasdiff_teach" / "reproduce"
    monkeypatch.setattr(reproduce.notebooks, "__file__", str(home / "notebooks.py"))
    with pytest.raises(FileNotFoundError, match="the installed library has no book.*--book"):
        reproduce.book_folder()


def test_every_scale_knows_all_parameters_of_the_notebooks():
    for part, name in reproduce.NOTEBOOKS.items():
        cell = next(
            c for c in nbformat.read(ROOT / "book" / name, 4).cells if "parameters" in c.metadata.get("tags", [])
        )
        assert set(reproduce.known_parameters(ROOT / "book" / name)) == {
            line.partition(" = ")[0] for line in cell.source.splitlines()
        }, part


def test_smoke_is_the_notebooks_defaults(tmp_path):
    run = reproduce.prepare("smoke", [], tmp_path, {})
    for part, values in run.parameters.items():
        known = reproduce.known_parameters(ROOT / "book" / reproduce.NOTEBOOKS[part])
        assert {k for k in values if values[k] != known[k]} == {"out"} and values["out"] == str(tmp_path / part)


def test_a_parameter_goes_to_the_notebooks_that_have_it(tmp_path):
    run = reproduce.prepare("pocket", [], tmp_path, {"seed": 3, "steps": 7, "count": 2})
    assert run.parameters["training"]["seed"] == run.parameters["evaluation"]["seed"] == 3
    assert run.parameters["training"]["steps"] == 7 and {t.config.steps for t in run.trainings} == {7}
    assert run.parameters["evaluation"]["count"] == 2
    assert [t.name for t in run.trainings][:4] == ["joint", "speech", "sound", "diffwave-speech"]
    weights = [str(tmp_path / "training" / f"{t.name}.safetensors") for t in run.trainings]
    assert [spec.partition("=")[2] for spec in run.parameters["evaluation"]["priors"]] == weights[1:3]
    assert run.parameters["evaluation"]["separators"] == weights[4:] and len(weights) == 4 + 2 * len(TASKS)
    assert run.parameters["evaluation"]["systems"] == str(tmp_path / "training")
    costs = evaluation_flops(run)  # on two mixtures a task, tuning takes more than what is tuned
    assert costs["rest of the benchmark"] > costs["hybrid"] > 0 and "Table 4" not in costs


@pytest.mark.slow
def test_the_cost_of_the_paper_is_counted(tmp_path):
    run = reproduce.prepare("paper", [], tmp_path / "run", {}, needs_data=False)
    names = [t.name for t in run.trainings]
    assert names[:2] == ["speech", "sound"] and len(names) == 2 + 2 * len(TASKS) and len(set(names)) == len(names)
    for training in run.trainings[:2]:
        assert training.flops == pytest.approx(6.6e18, rel=0.01)
    guided = 400 * 12 * 200 * flops(TriplePathConfig.paper(), 64_000, "guided")
    costs = evaluation_flops(run)
    assert costs["hybrid"] == costs["dps"] == guided == pytest.approx(9.3e17, rel=0.01)
    assert costs["recommended"] < costs["dirac"] < costs["analytical"] < guided
    done = call("--scale", "paper", "--out", tmp_path / "run", "--dry-run")
    assert (
        done.exit_code == 0
        and "train speech: 37 million parameters, 400,000 steps of 12, 6.6e+18 FLOP, about" in done.stdout
    )
    assert "GPU hours" in done.stdout and "evaluate hybrid: 9.3e+17 FLOP" in done.stdout
    borrowed, two, whole = reproduce.plans(run)
    assert borrowed.training == 0 and borrowed.sampling == two.sampling == 3 * guided
    assert two.training == sum(t.flops for t in run.trainings[:2]) and whole.trained == tuple(names)
    assert whole.evaluated == tuple(costs) and whole.sampling == sum(costs.values())
    rate = reproduce.rates(run)
    assert two.hours(rate) - borrowed.hours(rate) == pytest.approx(two.training / rate.training / 3600)
    for number, plan_ in enumerate((borrowed, two, whole), 1):
        shown = re.search(rf"^plan {number}, {plan_.name}: .* about (\S+) GPU hours$", done.stdout, re.M)
        assert float(shown[1].replace(",", "")) == pytest.approx(plan_.hours(rate), rel=0.05), plan_.name
    assert not (tmp_path / "run").exists()


def test_half_the_steps_are_half_the_cost():
    whole, half = (plan("paper", batch=12, steps=steps)[0] for steps in (None, 200_000))
    assert half.flops * 2 == whole.flops


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_leaves_notebooks_logs_and_its_environment(tmp_path, book):
    out = tmp_path / "run"
    done = call("--out", out, "--book", book, "-p", "seed=5")
    assert done.exit_code == 0, done.output
    for part, name in reproduce.NOTEBOOKS.items():
        assert runs(out, part) == [f"5 {sys.executable}"]  # this interpreter's kernel
        assert f"{part} at work" in (out / "logs" / f"{Path(name).stem}.log").read_text()
        assert any(
            o.get("text") == f"{part} at work\n"
            for c in nbformat.read(out / "notebooks" / name, 4).cells
            for o in c.get("outputs", [])
        )
    (facts,) = json.loads((out / "environment.json").read_text())
    assert (
        facts["python"] == ".".join(map(str, sys.version_info[:3]))
        and facts["packages"]["torch"]
        and facts["machine"]["cores"]
    )
    assert not list(book.glob("*.tmp")) and {p.name for p in book.iterdir()} == set(reproduce.NOTEBOOKS.values())
    # finished: nothing runs again, and the command says so
    again = call("--out", out, "--book", book, "-p", "seed=5")
    assert again.exit_code == 0 and "has finished, and is not run again" in again.stdout
    assert len(runs(out, "training")) == len(runs(out, "evaluation")) == 1
    # another seed is another run
    other = call("--out", out, "--book", book, "-p", "seed=6")
    assert other.exit_code == 1 and "seed was 5, is now 6" in other.stderr and "Use another folder" in other.stderr
    # what only says where and how fast may change
    assert call("--out", out, "--book", book, "-p", "seed=5", "-p", "processes=2").exit_code == 0


def test_the_commit_is_kept_where_there_is_one(tmp_path):
    assert reproduce.environment(tmp_path)["commit"] is None
    if (ROOT / ".git").exists():
        assert len(reproduce.environment(ROOT / "book")["commit"]) == 40


def test_a_failing_cell_is_named_and_only_its_notebook_runs_again(tmp_path, book):
    out = tmp_path / "run"
    out.mkdir()
    (out / "evaluation.fail").touch()
    done = call("--out", out, "--book", book)
    assert done.exit_code == 1 and "13_full_evaluation.ipynb, cell 3: AssertionError: told to fail" in done.stderr
    (out / "evaluation.fail").unlink()
    assert call("--out", out, "--book", book).exit_code == 0
    assert (len(runs(out, "training")), len(runs(out, "evaluation"))) == (1, 2)


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def start(*words):
    command = [sys.executable, "-m", "unasdiff_teach.cli", "reproduce", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_it_goes_on_with_the_notebook_it_was_in(tmp_path, book):
    out = tmp_path / "run"
    out.mkdir()
    (out / "evaluation.wait").touch()
    process = start("--out", out, "--book", book)
    wait_for(lambda: runs(out, "evaluation"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / "evaluation.wait").unlink()
    assert call("--out", out, "--book", book).exit_code == 0
    assert (len(runs(out, "training")), len(runs(out, "evaluation"))) == (1, 2)
    assert len(json.loads((out / "environment.json").read_text())) == 2


def test_two_runs_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce.run, "PATIENCE", 0.2)
    out = tmp_path / "run"
    with locked(out, "reproduction"):
        done = call("--out", out)
    assert done.exit_code == 1 and "another reproduction is running" in done.output and os.listdir(out) == [LOCK]


@pytest.mark.slow
def test_the_smoke_reproduction_killed_once_on_the_way(tmp_path):
    """The real notebooks: the toy of a prior is trained once, whatever happens, and all is there in the end."""
    from unasdiff_teach.evaluation.jobs import ITEM, stored
    from unasdiff_teach.priors.neural import read

    out = tmp_path / "run"
    if os.name == "posix":
        process = start("--out", out)
        wait_for(lambda: (out / "training" / "speech.safetensors").is_file(), 300)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = call("--out", out)
    assert done.exit_code == 0, done.output
    assert {read(out / "training" / f"{kind}.safetensors").card["steps"] for kind in ("speech", "sound")} == {20}
    results = stored(out / "evaluation")
    assert not results.duplicated([*ITEM, "source"]).any()
    assert {"hybrid", "recommended", "unprocessed", "oracle ratio"} == set(results["method"]) and results[
        "mixture"
    ].nunique() == 4
    for name in reproduce.NOTEBOOKS.values():
        notebook = nbformat.read(out / "notebooks" / name, 4)
        assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
