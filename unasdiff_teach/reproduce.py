"""`unasdiff-teach reproduce`: chapters 12 (training) and 13 (evaluation), run by papermill into a folder at one of three scales.

papermill runs a notebook from its first cell and cannot go on in the middle. So what the notebooks train and evaluate lies in
folders that resume, and a notebook that has finished is not run again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from ._commands import Precision, Threads, say
from ._console import duration, errors
from ._files import locked, replacing
from ._machine import use_threads

if TYPE_CHECKING:
    from .training.plan import Training

NOTEBOOKS = {"training": "12_full_training.ipynb", "evaluation": "13_full_evaluation.ipynb"}
SCALES = ("smoke", "pocket", "paper")
BY_OPTION = ("scale", "data", "out", "device", "precision")  # parameters that options of the command set
FREE = ("device", "processes")  # parameters that change no result, and may differ when a run goes on
OLDER = {"precision": "float32"}  # parameters that a run of an earlier version did not have
EXPERTS = ["conv-tasnet", "tf-locoformer"]
METHODS = [
    "unprocessed", "oracle ratio", "oracle wiener", *EXPERTS, "dps", "dsg", "hybrid", "cqt", "analytical", "dirac", "recommended",
]  # fmt: skip
COUNTS = {"pocket": 20, "paper": 400}  # mixtures of each task
TABLE3 = {"pocket": 1.0, "paper": 2.0}  # seconds of the shorter clips of Table 3
H200 = 780e12  # FLOP per second of its bfloat16 matrix products, as measured: for estimates where there is no GPU
STATE, ENVIRONMENT = "reproduction.json", "environment.json"
PATIENCE = 10.0  # seconds: the notebook of a command that was killed notices within one that it is alone


def command(
    out: Annotated[Path, typer.Option(help="Folder of this run: notebooks, training, evaluation, report, logs, environment.")],
    scale: Annotated[str, typer.Option(help="smoke (minutes), pocket (a day of two cores) or paper (weeks of a GPU).")] = "smoke",
    data: Annotated[
        list[str] | None, typer.Option(help="Converted data set (`unasdiff-teach data`), repeated: at paper scale one of speech, one of sounds.")
    ] = None,
    parameter: Annotated[list[str] | None, typer.Option("-p", "--parameter", help="NAME=VALUE of a notebook's parameter, repeated.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: cuda at paper scale where there is one, else cpu.")] = None,
    precision: Precision = "auto",
    threads: Threads = None,
    book: Annotated[Path | None, typer.Option(help="Folder with the two notebooks; default: book of the repository.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the cost, but do not start.")] = False,
) -> None:
    """Run chapters 12 (training) and 13 (evaluation) in full: priors, experts, mixtures, scores, and the tables beside the paper's.

    smoke is the chapters' default; pocket remakes the shipped priors and their benchmark; paper is the paper, and needs VCTK and
    FSDKaggle2018. The same command goes on where it stopped.

    \b
    unasdiff-teach reproduce --out runs/smoke
    unasdiff-teach reproduce --scale pocket --out runs/pocket --dry-run
    unasdiff-teach reproduce --scale paper --data /data/vctk-mic1-16k --data /data/fsdkaggle2018-16k --out /data/paper
    unasdiff-teach reproduce --scale paper --dry-run --out /data/paper      (the cost, before any data are there)
    unasdiff-teach reproduce --out runs/try -p seed=1 -p count=2
    """
    with errors("the same command goes on from what was saved"):
        given = dict(map(parse, parameter or []))
        say(use_threads(threads, device or "cpu"))
        run = prepare(scale, data or [], out, given, device, book, not dry_run, precision)
        for line in run.cost():
            typer.echo(line)
        if not dry_run:
            run.run()
            typer.echo(f"done: {run.out}")


def parse(text: str) -> tuple[str, object]:
    """NAME=VALUE with a Python literal as the value; anything else is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"-p {text}: NAME=VALUE is needed")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


# ----------------------------------------------------------------------------------------------------------- what is run


def book_folder(given: Path | None = None) -> Path:
    """The folder with the two notebooks: the one that is given, or `book` of the checkout that this package is used from.

    Raises:
        FileNotFoundError: they are not there. An installed wheel holds the library, and not the book.
    """
    folder = Path(given) if given else Path(__file__).resolve().parent.parent / "book"
    if missing := [name for name in NOTEBOOKS.values() if not (folder / name).is_file()]:
        hint = "" if given else "; the installed library has no book: get the project's repository, and say --book ITS/book"
        raise FileNotFoundError(f"no {' and no '.join(missing)} in {folder}{hint}")
    return folder


def known_parameters(notebook: Path) -> dict[str, object]:
    """Names and defaults of a notebook's parameters.

    Raises:
        ImportError: papermill is missing.
    """
    try:
        import papermill
    except ImportError as error:
        raise ImportError("reproduce needs papermill and a kernel: pip install 'unasdiff-teach[book]'") from error

    return {name: ast.literal_eval(found["default"]) for name, found in papermill.inspect_notebook(str(notebook)).items()}


def prepare(
    scale: str, data: Sequence[str], out: Path, given: Mapping[str, object], device: str | None = None, book: Path | None = None,
    needs_data: bool = True, precision: str = "float32",
) -> Reproduction:  # fmt: skip
    """Check everything that can be checked before the work.

    Args:
        scale: one of `SCALES`. data: folders or manifests of data sets. out: folder of the run.
        given: parameters of the notebooks; each goes to those that have it.
        device: None is CUDA at paper scale where there is one, else the CPU.
        needs_data: False allows to plan the paper's scale before its data are there.
        precision: of the networks' products: "float32", "bfloat16", or "auto", what the run has begun with, or the faster one.

    Raises:
        FileNotFoundError: no notebooks, or no manifest where one should be.
        ValueError: an unknown scale or parameter; data that do not suit the scale; or `out` holds another run.
    """
    import torch

    from .training.plan import plan
    from .training.scales import Source

    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; accepted: {', '.join(SCALES)}")
    book, out = book_folder(book), Path(out).resolve()
    known = {part: known_parameters(book / name) for part, name in NOTEBOOKS.items()}
    if strange := sorted(set(given) - set().union(*known.values())):
        there = "; ".join(f"{NOTEBOOKS[part]} has {', '.join(names)}" for part, names in known.items())
        raise ValueError(f"no notebook has a parameter {', '.join(strange)}: {there}")
    if taken := sorted(set(given) & set(BY_OPTION)):
        raise ValueError(f"-p {taken[0]}=...: use the option --{taken[0]}")
    for name, value in given.items():
        _check(name, value, next(defaults[name] for defaults in known.values() if name in defaults))
    if device is None:
        device = "cuda" if scale == "paper" and torch.cuda.is_available() else "cpu"
    precision, why = _precision(precision, scale, device, out)
    data = [where if where.startswith("pocket-") else str(Path(where).resolve()) for where in data]

    def values(part: str, of_scale: Mapping[str, object]) -> dict[str, object]:
        chosen = known[part] | {"scale": scale, "out": str(out / part), "device": device, "precision": precision} | of_scale
        chosen |= {name: value for name, value in given.items() if name in known[part]}
        if unknown := sorted(set(chosen) - set(known[part])):
            raise ValueError(f"{book / NOTEBOOKS[part]} has no parameter {', '.join(unknown)}; it is not of this version")
        return chosen

    training = values("training", ({"data": data} if data or scale != "smoke" else {}) | ({} if scale == "smoke" else {"experts": EXPERTS}))
    sources = [Source.open(where) for where in training["data"]]
    if scale == "paper" and needs_data and {source.kind for source in sources} != {"speech", "sound"}:
        raise ValueError("the paper's scale needs --data twice: converted speech and converted sounds, from `unasdiff-teach data`")
    changes = {name: training[name] for name in ("steps", "batch", "seed", "precision")}
    trainings = plan(scale, sources, training["experts"], device, **changes)
    weights = {t.name: str(out / "training" / f"{t.name}.safetensors") for t in trainings}
    if scale == "smoke":
        evaluation = values("evaluation", {})
    else:
        evaluation = values("evaluation", {
            "data": data, "mixtures": str(out / "mixtures") if scale == "paper" else "pocket", "methods": METHODS, "tasks": [],
            "priors": [f"{kind}={weights[kind]}" for kind in ("speech", "sound")], "preset": "authors", "seconds": None,
            "table3": TABLE3[scale], "table4": scale == "paper",
            "separators": [path for name, path in weights.items() if name.startswith(tuple(EXPERTS))], "count": COUNTS[scale],
            "systems": str(out / "training") if scale == "pocket" else "",
        })  # fmt: skip
    run = Reproduction(scale, out, book, {"training": training, "evaluation": evaluation}, tuple(trainings), why)
    run.check_folder()
    return run


def _check(name: str, value: object, default: object) -> None:
    """Refuse a value of another kind than a parameter's default, where None stands for a number, and numbers that count nothing."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if default is None or type(default) is int:
        least = "0 or more" if name == "seed" else "more than 0"
        whole = "a whole number" if type(default) is int or name in ("steps", "batch") else "a number"
        fits = number and (whole == "a number" or isinstance(value, int)) and (value > 0 or name == "seed" and value == 0)
        if not fits and not (default is None and value is None):
            raise ValueError(f"-p {name}={value}: {whole} is needed, {least}")
    elif type(value) is not type(default):
        raise ValueError(f"-p {name}={value}: a value such as {default!r} is needed")


def _precision(asked: str, scale: str, device: str, out: Path) -> tuple[str, str]:
    """The precision of a run, and why: one that goes on keeps that in which it began."""
    import torch

    from .networks import TriplePathConfig, TriplePathUNet
    from .precision import AUTO, canonical, choose

    before = _stored(out)["parameters"].get("training", {}).get("precision")
    if canonical(asked, auto=True) == AUTO and before:
        return before, f"{before}, as the run began"
    if canonical(asked, auto=True) == AUTO and torch.device(device).type == "cpu":
        return "float32", "float32: on processors bfloat16 trains more slowly"
    config, samples = (TriplePathConfig.paper(), 64_000) if scale == "paper" else (TriplePathConfig.pocket(), 16_000)

    def work() -> None:
        x, level = torch.zeros(4, samples, device=device), torch.ones(4, device=device)
        net(x, level, level.long() * 0).sum().backward()
        net.zero_grad(set_to_none=True)

    net = TriplePathUNet(config).to(device)
    choice = choose(asked, device, (config, samples, "training"), work)
    return choice.precision, choice.why


@dataclass(frozen=True)
class Reproduction:
    """A checked run: `parameters` are all of each notebook's, `trainings` what the first of them trains."""

    scale: str
    out: Path
    book: Path
    parameters: Mapping[str, Mapping[str, object]]
    trainings: tuple[Training, ...]
    precision: str  # of the products, and why

    # --- cost

    def evaluation_flops(self) -> dict[str, float]:
        """FLOP of each method that samples, over all mixtures, and of the rows of Tables 3 and 4 that Table 2 does not have."""
        from .data.mixing import SPEECH_SOUND, TASKS
        from .evaluation import experiments
        from .evaluation.systems import SAMPLERS, Config, calls, guided, setting, variants
        from .networks import TriplePathConfig
        from .networks.budget import flops
        from .schedule import NoiseSchedule
        from .separation import SeparationConfig

        values = self.parameters["evaluation"]
        network, rate, whole = (TriplePathConfig.paper(), 16_000, 4.0) if self.scale == "paper" else (TriplePathConfig.pocket(), 8000, 2.0)
        schedule = NoiseSchedule.linear()

        def cost(config: Config, tasks: Sequence[str], seconds: float, count: int) -> int:
            one = calls(config, schedule) * flops(network, round(seconds * rate), "guided" if guided(config) else "forward")
            return one * count * sum(len(TASKS[task]) for task in tasks)

        def work(methods: Sequence[str], tasks: Sequence[str], seconds: float) -> int:
            return sum(cost(setting(method, values["preset"]).config, tasks, seconds, values["count"]) for method in methods)

        tasks, seconds = values["tasks"] or TASKS, values["seconds"] or whole
        found = {name: work([name], tasks, seconds) for name in values["methods"] if name.partition(", ")[0] in SAMPLERS}
        if values["table3"]:
            found["Table 3"] = work(["hybrid", "analytical"], ["2 speech"], values["table3"])
        if values["systems"]:
            rest = experiments.plans("tuning", self.out)
            for name, methods in {"table-2": experiments.REST, "table-3": ()}.items():
                rest += experiments.plans(name, self.out, methods=methods, count=values["count"])
            found["rest of the benchmark"] = sum(
                cost(own.config, job.tasks or TASKS, job.seconds or whole, job.count) for job in rest for own in job.own.values()
            )
        if values["table4"]:
            found["Table 4"] = work(list(variants(SeparationConfig.authors())), [SPEECH_SOUND], seconds)
        return found

    def cost(self) -> list[str]:
        """What the run will train and evaluate, and a guess of the time."""
        rate, who = self._rate()

        def hours(flop: float) -> str:
            seconds = flop / rate
            return f"{seconds / 3600:.2g} GPU hours" if self.scale == "paper" else duration(seconds)

        lines = [f"scale {self.scale}, into {self.out}; times on {who}", f"precision: {self.precision}"]
        for t in self.trainings:
            lines.append(
                f"train {t.name}: {t.parameters / 1e6:.2g} million parameters, {t.config.steps:,} steps of {t.config.batch}, "
                f"{t.flops:.2g} FLOP, about {hours(t.flops)}"
            )
        methods = self.evaluation_flops()
        for name, flop in methods.items():
            lines.append(f"evaluate {name}: {flop:.2g} FLOP, about {hours(flop)}")
        total = sum(t.flops for t in self.trainings) + sum(methods.values())
        lines.append(f"in all {total:.2g} FLOP, about {hours(total)}, and {sum(t.bytes for t in self.trainings) / 1e9:.2g} GB of weights and states")
        for part, name in NOTEBOOKS.items():
            state = "has finished, and is not run again" if self._finished(part) else "is run"
            lines.append(f"{name} {state}{self._own_time(part) if self.scale == 'smoke' else ''}")
        return lines

    def _rate(self) -> tuple[float, str]:
        """FLOP per second that the networks may reach, and on what."""
        import torch

        from .cost import peak_matmul_flops, usual_mfu
        from .precision import PRECISIONS

        device = self.parameters["training"]["device"]
        if self.scale == "paper" and device != "cuda":
            mfu = usual_mfu("cuda", torch.bfloat16)
            return mfu * H200, f"an H200 ({H200 / 1e12:.0f} TFLOP/s in bfloat16), {mfu:.0%} of it"
        precision = PRECISIONS[self.parameters["training"]["precision"]]
        peak, mfu = peak_matmul_flops(device, precision), usual_mfu(device, precision)
        return mfu * peak, f"this machine's {device} ({peak / 1e12:.3g} TFLOP/s measured), {mfu:.0%} of it"

    def _own_time(self, part: str) -> str:
        """How long the chapter itself says that it takes."""
        text = (self.book / NOTEBOOKS[part]).read_text(encoding="utf-8")
        found = re.search(r"minutes to read, (about [^.]*? to run[^.]*)", text)
        return f": {found[1]}" if found else ""

    # --- state

    def check_folder(self) -> None:
        """Raises ValueError if the folder belongs to a run with other parameters, or is a file."""
        if self.out.is_file():
            raise ValueError(f"{self.out} is a file; a folder is needed")
        for part, before in _stored(self.out)["parameters"].items():
            now = json.loads(json.dumps(self.parameters[part]))
            changed = [f"{k} was {before.get(k)!r}, is now {now.get(k)!r}" for k in sorted({*before, *now} - {*FREE}) if before.get(k, OLDER.get(k)) != now.get(k)]
            if changed:
                raise ValueError(f"{self.out} holds another run: in {NOTEBOOKS[part]} {'; '.join(changed)}. Use another folder")

    def _finished(self, part: str) -> bool:
        """Whether the notebook as it is now has been run to its end."""
        return _stored(self.out)["finished"].get(part, {}).get("source") == self._source(part)

    def _source(self, part: str) -> str:
        """A hash of the notebook's code."""
        cells = json.loads((self.book / NOTEBOOKS[part]).read_text(encoding="utf-8"))["cells"]
        return hashlib.sha256(json.dumps([c["source"] for c in cells if c["cell_type"] == "code"]).encode()).hexdigest()

    # --- work

    def run(self) -> None:
        """Run the notebooks that have not finished.

        Raises:
            RuntimeError: a cell failed, or another process is at work in the folder.
        """
        with locked(self.out, "reproduction", PATIENCE) as lock:
            _write(self.out / STATE, _stored(self.out) | {"scale": self.scale, "parameters": self.parameters})
            past = json.loads((self.out / ENVIRONMENT).read_text(encoding="utf-8")) if (self.out / ENVIRONMENT).is_file() else []
            _write(self.out / ENVIRONMENT, [*past, environment(self.book)])
            for part in NOTEBOOKS:
                if not self._finished(part):
                    self._execute(part, lock)

    def _execute(self, part: str, lock: int | None) -> None:
        import warnings

        import papermill

        source, began, began_at = self._source(part), time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        notebook = self.out / "notebooks" / NOTEBOOKS[part]
        (self.out / "logs").mkdir(exist_ok=True)
        notebook.parent.mkdir(exist_ok=True)
        with open(self.out / "logs" / f"{notebook.stem}.log", "a", encoding="utf-8") as file, _kernel(notebook.parent, lock) as kernel:
            file.write(f"--- {began_at}\n")
            log = Tee(file)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about how a widget's state is stored
                    papermill.execute_notebook(
                        str(self.book / NOTEBOOKS[part]), str(notebook), dict(self.parameters[part]), kernel_name="python3",
                        cwd=str(notebook.parent), km=kernel, stdout_file=log, stderr_file=log, progress_bar=True,
                    )  # fmt: skip
            except papermill.PapermillExecutionError as error:
                raise RuntimeError(f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue} (all of it is in {notebook})") from None
        state = _stored(self.out)
        state["finished"][part] = {"source": source, "began": began_at, "seconds": round(time.monotonic() - began)}
        _write(self.out / STATE, state)


def _stored(out: Path) -> dict:
    """What a folder knows of its run."""
    path = out / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"parameters": {}, "finished": {}}


class Tee:
    """What cells print, on the terminal and in the log."""

    def __init__(self, file: IO[str]):
        self.file = file

    def write(self, text: str) -> None:
        typer.echo(text, nl=False)
        self.file.write(text)

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def _kernel(folder: Path, lock: int | None) -> Iterator[object]:
    """A kernel of this very interpreter, whatever kernels are installed; it holds the run's lock as long as it lives."""
    import torch
    from jupyter_client import KernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class Here(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python", display_name="Python 3")

    kernel = KernelManager(kernel_name="python3", kernel_spec_manager=Here())
    kernel.start_kernel(
        cwd=str(folder), extra_arguments=["--HistoryManager.hist_file=:memory:", "--IPKernelApp.log_level=40"],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        **({"pass_fds": (lock,)} if lock is not None and os.name == "posix" else {}),
    )  # fmt: skip
    try:
        yield kernel
    finally:
        kernel.shutdown_kernel(now=True)


def environment(book: Path) -> dict:
    """When, where and with what a run was started or gone on with."""
    import torch

    names = {"unasdiff-teach", *(re.match(r"[\w.-]+", line)[0] for line in metadata.requires("unasdiff-teach") or [])}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count(), "gpus": gpus},
        "python": platform.python_version(),
        "packages": {name: version for name in sorted(names) if (version := _version(name))},
        "commit": _git(book, "rev-parse", "HEAD"),
        "changed since": (_git(book, "status", "--porcelain", "--untracked-files=no") or "").splitlines(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *words: str) -> str | None:
    """What git says of a checkout; None where there is none."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _write(path: Path, content: object) -> None:
    """JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
