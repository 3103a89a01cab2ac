"""A reproduction in words to one that can run: both notebooks' parameters, checked before any work."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from .._machine import check_device
from .notebooks import NOTEBOOKS, book_folder, known_parameters
from .run import Reproduction, stored

SCALES = ("smoke", "pocket", "paper")
BY_OPTION = ("scale", "data", "out", "device", "precision")  # parameters that options of the command set
EXPERTS = ["conv-tasnet", "tf-locoformer"]
METHODS = [
    "unprocessed", "oracle ratio", "oracle wiener", *EXPERTS, "dps", "dsg", "hybrid", "cqt", "analytical", "dirac",
    "recommended",
]  # fmt: skip
COUNTS = {"pocket": 40, "paper": 400}  # mixtures of each task
TABLE3 = {"pocket": 1.0, "paper": 2.0}  # seconds of the shorter clips of Table 3


def parse(text: str) -> tuple[str, object]:
    """NAME=VALUE with a Python literal as the value; anything else is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"-p {text}: NAME=VALUE is needed")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def prepare(
    scale: str, data: Sequence[str], out: Path, given: Mapping[str, object], device: str | None = None,
    book: Path | None = None, needs_data: bool = True, precision: str = "float32",
) -> Reproduction:  # fmt: skip
    """Check everything that can be checked before the work.

    Args:
        scale: one of `SCALES`.
        data: folders or manifests of data sets.
        out: folder of the run.
        given: parameters of the notebooks; each goes to those that have it.
        device: None is CUDA at paper scale where there is one, else the CPU.
        needs_data: False allows to plan the paper's scale before its data are there.
        precision: of the networks' products: "float32", "bfloat16", or "auto", what the run has begun with, or the
            faster one.

    Raises:
        FileNotFoundError: no notebooks, or no manifest where one should be.
        ValueError: an unknown scale or parameter; data that do not suit the scale; or `out` holds another run.
    """
    import torch

    from ..training.plan import plan
    from ..training.scales import Source

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
    check_device(device)
    precision, why = _precision(precision, scale, device, out)
    data = [where if where.startswith("pocket-") else str(Path(where).resolve()) for where in data]

    def values(part: str, of_scale: Mapping[str, object]) -> dict[str, object]:
        chosen = (
            known[part] | {"scale": scale, "out": str(out / part), "device": device, "precision": precision} | of_scale
        )
        chosen |= {name: value for name, value in given.items() if name in known[part]}
        if unknown := sorted(set(chosen) - set(known[part])):
            raise ValueError(
                f"{book / NOTEBOOKS[part]} has no parameter {', '.join(unknown)}; it is not of this version"
            )
        return chosen

    training = values(
        "training",
        ({"data": data} if data or scale != "smoke" else {}) | ({} if scale == "smoke" else {"experts": EXPERTS}),
    )
    sources = [Source.open(where) for where in training["data"]]
    if scale == "paper" and needs_data and {source.kind for source in sources} != {"speech", "sound"}:
        raise ValueError(
            "the paper's scale needs --data twice: converted speech and converted sounds, from `unasdiff-teach data`"
        )
    changes = {name: training[name] for name in ("steps", "batch", "seed", "precision")}
    trainings = plan(scale, sources, training["experts"], device, **changes)
    weights = {t.name: str(out / "training" / f"{t.name}.safetensors") for t in trainings}
    if scale == "smoke":
        evaluation = values("evaluation", {})
    else:
        evaluation = values("evaluation", {
            "data": data, "mixtures": str(out / "mixtures") if scale == "paper" else "pocket", "methods": METHODS,
            "tasks": [], "priors": [f"{kind}={weights[kind]}" for kind in ("speech", "sound")], "preset": "authors",
            "seconds": None, "table3": TABLE3[scale], "table4": scale == "paper",
            "separators": [path for name, path in weights.items() if name.startswith(tuple(EXPERTS))],
            "count": COUNTS[scale], "systems": str(out / "training") if scale == "pocket" else "",
        })  # fmt: skip
    run = Reproduction(scale, out, book, {"training": training, "evaluation": evaluation}, tuple(trainings), why)
    run.check_folder()
    return run


def _check(name: str, value: object, default: object) -> None:
    """Refuse a value of another kind than a parameter's default, where None stands for a number, and numbers that
    count nothing.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if default is None or type(default) is int:
        least = "0 or more" if name == "seed" else "more than 0"
        whole = "a whole number" if type(default) is int or name in ("steps", "batch") else "a number"
        fits = (
            number and (whole == "a number" or isinstance(value, int)) and (value > 0 or name == "seed" and value == 0)
        )
        if not fits and not (default is None and value is None):
            raise ValueError(f"-p {name}={value}: {whole} is needed, {least}")
    elif type(value) is not type(default):
        raise ValueError(f"-p {name}={value}: a value such as {default!r} is needed")


def _precision(asked: str, scale: str, device: str, out: Path) -> tuple[str, str]:
    """The precision of a run, and why: one that goes on keeps that in which it began."""
    import torch

    from ..networks import TriplePathConfig, TriplePathUNet
    from ..precision import for_training

    config, samples = (TriplePathConfig.paper(), 64_000) if scale == "paper" else (TriplePathConfig.pocket(), 16_000)

    def work() -> None:
        x, level = torch.zeros(4, samples, device=device), torch.ones(4, device=device)
        net(x, level, level.long() * 0).sum().backward()
        net.zero_grad(set_to_none=True)

    net = TriplePathUNet(config).to(device)
    before = stored(out)["parameters"].get("training", {}).get("precision")
    choice = for_training(asked, device, before, (config, samples, "training"), work)
    return choice.precision, choice.why
