"""What several test files need: small trainings, the text of the book's pages, and facts of the package."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import torch
from packaging.requirements import Requirement

import unasdiff_teach as ut
from unasdiff_teach.evaluation.run import ITEM
from unasdiff_teach.networks import ConvTasNetConfig, TFLoCoformerConfig, TriplePathConfig
from unasdiff_teach.priors import PriorConfig
from unasdiff_teach.separators import SeparatorConfig
from unasdiff_teach.training import CropConfig, Crops, PriorTrainer, SeparatorTrainConfig, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"

# --- small trainings -------------------------------------------------------------------------------------------------

TINY = TriplePathConfig(
    n_fft=62,
    hop=31,
    channels=8,
    embedding=16,
    heads=2,
    depths=(1, 1, 1, 1, 1),
    sub_bands=2,
    squeezed=4,
    patch=(2, 2),
    classes=2,
)
PRIOR = PriorConfig(8000, ("low", "high"), target="preconditioned", sigma_data=0.1, network=TINY)
CONFIG = TrainConfig(
    steps=20,
    batch=4,
    learning_rate=2e-3,
    warmup=2,
    cosine=True,
    ema_decay=0.9,
    log_uniform=0.8,
    log_every=5,
    save_every=5,
    checkpoint_every=20,
)


def crops(length=250):
    n = torch.arange(3 * length)
    return Crops([0.1 * torch.sin(2 * torch.pi * f * n / 8000) for f in (400, 900)], [0, 1], CropConfig(length))


def trainer(folder, config=CONFIG, prior=PRIOR, **options):
    return PriorTrainer(folder, prior, config, crops(), {"corpus": "tones", "sha256": "5ea1"}, **options)


def train(folder, config=CONFIG, **options):
    run = trainer(folder, config, **options)
    run.fit(progress=False)
    return run


def state(folder):
    return torch.load(Path(folder) / "state.pt", weights_only=True)


def equal(a, b):
    """Whether two nested states are the same to the bit; how long they took does not count."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


TASNET = ConvTasNetConfig(filters=32, window=16, bottleneck=16, hidden=32, layers=3, stacks=1)
LOCOFORMER = TFLoCoformerConfig(blocks=1, channels=16, hidden=16, heads=2, attention=16, n_fft=62, hop=31)
SEPARATOR = SeparatorConfig(8000, ("speech", "sound"), TASNET)
EXPERT_CONFIG = SeparatorTrainConfig.pocket(
    steps=12, batch=2, learning_rate=2e-3, warmup=2, ema_decay=0.9, log_every=3, save_every=4
)


def journal(out):
    """The lines of all journals: (mixture, method, preset, seed) of each, as often as it was done."""
    lines = [
        json.loads(line) for path in Path(out).glob("shards/*/results.jsonl") for line in path.read_text().splitlines()
    ]
    return [tuple(rows[0][column] for column in ITEM) for rows in lines]


# --- pages of the book ---


def text(page: str) -> str:
    return (BOOK / f"{page}.md").read_text(encoding="utf-8")


def code_spans(page: str) -> list[str]:
    """Inline code outside of directive names and fences, each once."""
    prose = re.sub(r"^```.*$", "", text(page), flags=re.M)
    prose = re.sub(r"\{[\w:]+\}`[^`]*`", "", prose)  # roles
    return sorted(set(re.findall(r"`([^`]+)`", prose)))


def rows(page: str, name: str) -> list[list[str]]:
    """Body rows of the list-table with this :name:."""
    table = re.search(
        rf"```\{{list-table\}}\n(?:(?!```)[^\n]*\n)*?:name: {name}\n([^`].*?)^```", text(page), re.S | re.M
    )[1]
    cells = [re.split(r"\n  - ", row.strip()) for row in re.split(r"^\* - ", table, flags=re.M)[1:]]
    return cells[1:]


def sections(page: str) -> dict[str, str]:
    """Title and text of each section of level 3."""
    parts = re.split(r"^### (.*)$", text(page), flags=re.M)
    return {title: re.split(r"^## |^\([\w-]+\)=", body, flags=re.M)[0] for title, body in zip(parts[1::2], parts[2::2])}


def resolve(name: str):
    """The object that a dotted name of the package stands for; `f(x)` is argument x of f.

    Raises AttributeError if there is none.
    """
    name, _, argument = name.removeprefix("unasdiff_teach.").removesuffix(")").partition("(")
    found = ut
    for part in name.split("."):
        if inspect.ismodule(found) and not hasattr(found, part):
            try:
                found = importlib.import_module(f"{found.__name__}.{part}")
            except ModuleNotFoundError:
                raise AttributeError(f"{found.__name__} has no {part}") from None
        elif hasattr(found, part):
            found = getattr(found, part)
        elif inspect.isclass(found) and part in inspect.signature(found).parameters:  # a field without a default
            found = inspect.signature(found).parameters[part]
        else:
            raise AttributeError(f"{found!r} has no {part}")
    if argument and argument not in inspect.signature(found).parameters:
        raise AttributeError(f"{name} has no argument {argument}")
    return found


def is_literal(span: str) -> bool:
    try:
        ast.literal_eval(span)
    except (ValueError, SyntaxError):
        return False
    return True


# --- the package ---

# In the order in which a signal walks through them: each imports only from those before it.
ROOMS = (
    "_lazy _checks _files _console _machine precision cost schedule diffusion _measure networks data priors"
    " reconstruction guidance task metrics separation analytical dirac conflict long_audio separators show training"
    " evaluation check _expectation _forecast _result separate_file _forms bench reproduce _commands doctor cli"
    " __main__"
).split()


def requirements() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]
