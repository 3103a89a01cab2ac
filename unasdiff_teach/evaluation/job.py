"""A job of `unasdiff-teach evaluate`, in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import separators
from .._files import read_json
from .._machine import check_device
from ..data import full_mixtures
from ..data.mixing import TASKS, Mixture
from ..precision import canonical
from ..separation import SeparationConfig
from . import lists
from .choice import CHOICES
from .methods import Method
from .systems import METHODS, NETWORKS, PRESETS, SAMPLERS, Setting, Systems, family, variants

SCORINGS = ("recommended", "paper", "authors")
FACTS = "run.json"


@dataclass(frozen=True)
class Job:
    """What is evaluated, in words: the same job means the same numbers, and goes on where it stopped.

    Attributes:
        mixtures: folder that `unasdiff-teach data mixtures` wrote, or the name of a list of the package, of
            `lists.NAMED`.
        out: folder of the run, for one list of mixtures, placement and scoring; methods, tasks and seeds may be added
            later.
        methods: names as in the paper's Table 2, and `METHODS`; or of Table 4, as "hybrid, t*=175" (`variants`); or of
            `own`.
        preset: of the guidance rules, "authors", "paper" or "short"; "recommended" is for the methods "recommended" and
            "analytical" alone, which know no other, or authors'.
        priors: [KIND=]WHERE, see `priors.named.load_prior`. Of DiffWave priors, methods are called "diffwave hybrid"
            and so on (Table 3).
        separators: supervised experts, shipped names or files; without any, those that are shipped.
        tasks: some of `TASKS`; all that the list has by default.
        count: only the first mixtures of each task.
        seed: of all noise.
        scoring: "recommended", "paper" or "authors" (the oracle permutation), of `Scoring`.
        batch: mixtures separated at once.
        processes: on this machine; under torchrun its count holds.
        device: "cpu", "cuda" (a GPU for each process, in turn), "cuda:1" (that one for all) or "mps".
        seconds: cut mixtures to this length around their middle (Table 3's 2 s); tasks are then called "2 speech, 2 s".
        placement: of a written list, "paper" or "authors".
        precision: of the priors' products, "float32", "bfloat16", or "auto": what the folder has begun with, or else
            the faster one, as `plan` measures it.
        own: configurations under names of their own, for `methods`.
        known: leave out mixtures with a class of sound that the priors do not know, in place of refusing them.
        compile: compile triple-path networks: minutes for each batch size and process, then faster on a GPU; None:
            where it pays.
    """

    mixtures: str
    out: Path
    methods: tuple[str, ...]
    preset: str = "authors"
    priors: tuple[str, ...] = ("pocket-speech", "pocket-sound")
    separators: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    count: int | None = None
    seed: int = 0
    scoring: str = "recommended"
    batch: int = 8
    processes: int = 1
    device: str = "cpu"
    seconds: float | None = None
    placement: str = "paper"
    precision: str = "float32"
    compile: bool | None = False
    own: Mapping[str, Setting] = field(default_factory=dict)
    known: bool = False

    def __post_init__(self):
        object.__setattr__(self, "mixtures", str(self.mixtures))
        object.__setattr__(self, "out", Path(self.out))
        for name in ("methods", "priors", "separators", "tasks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def load(self, task: str, part: int = 0, parts: int = 1) -> list[Mixture]:
        """Every `parts`-th mixture of a task, from the `part`-th on."""
        return lists.load(self.mixtures, task, self.placement, self.count, (part, parts), self.seconds)

    def samples(self, name: str) -> bool:
        """Whether a method asks priors."""
        return name in self.own or name in CHOICES or family(name) in SAMPLERS

    def systems(self, device: str = "cpu") -> Systems:
        """What the methods need, on `device`; see `Systems.load`."""
        priors = self.priors if any(map(self.samples, self.methods)) else ()
        experts = (self.separators or separators.available()) if set(self.methods) & set(NETWORKS) else ()
        return Systems.load(priors, experts, device, bool(self.compile))

    def method(self, systems: Systems, name: str, task: str, device: str = "cpu") -> Method:
        """One of the methods for one task; see `Systems.method`."""
        return systems.method(name, task, self.preset, self.own, lists.corpus(self.mixtures), device, self.precision)


def sizes(job: Job) -> dict[str, int]:
    """Task -> mixtures of it that are to be scored."""
    there = lists.sizes(job.mixtures, job.placement)
    if missing := [task for task in job.tasks if task not in there]:
        raise ValueError(f"{job.mixtures} has no task {missing[0]!r}; there are {', '.join(map(repr, there))}")
    fewest = min(n for task, n in there.items() if task in (job.tasks or there))
    if job.count is not None and job.count > fewest:
        raise ValueError(f"count is {job.count}; {job.mixtures} has {fewest} mixtures of a task")
    return {task: job.count or n for task, n in there.items() if task in (job.tasks or there)}


def check_words(job: Job) -> None:
    """Raises ValueError for a word that is unknown, or for words that do not go together."""
    known = (*METHODS, *CHOICES, *variants(SeparationConfig.authors()), *job.own)
    for what, values, accepted in (
        ("method", job.methods, known), ("task", job.tasks, TASKS), ("preset", [job.preset], PRESETS), ("scoring",
        [job.scoring], SCORINGS), ("placement", [job.placement], full_mixtures.PLACEMENTS),
    ):  # fmt: skip
        for value in values:
            if value not in accepted:
                raise ValueError(f"{what} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
    canonical(job.precision, auto=True)
    if not job.methods:
        raise ValueError(f"no method is given; accepted: {', '.join(map(repr, METHODS))}")
    if job.separators and not set(job.methods) & set(NETWORKS):
        raise ValueError(f"separators are given, but no method uses them: {', '.join(NETWORKS)}")
    for name in ("batch", "processes", "count"):
        if (value := getattr(job, name)) is not None and value < 1:
            raise ValueError(f"{name} is {value}; at least 1 is needed")
    device_of(job, 0)
    if job.out.exists() and not job.out.is_dir():
        raise ValueError(f"{job.out} is a file; the folder of a run is needed")


def begun_in(job: Job) -> str | None:
    """The precision that the folder has begun with; float32 where it is older than the choice."""
    if not (path := job.out / FACTS).is_file():
        return None
    return read_json(path).get("precision", "float32")


def ranks() -> tuple[int, int]:
    """(this process, their count) as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def device_of(job: Job, index: int) -> str:
    """The device of a process of this machine: the job's, or for "cuda" a GPU in turn.

    Raises:
        ValueError: there is none.
    """
    in_turn = job.device == "cuda" and torch.cuda.is_available()
    device = f"cuda:{index % torch.cuda.device_count()}" if in_turn else job.device
    check_device(device)
    return device
