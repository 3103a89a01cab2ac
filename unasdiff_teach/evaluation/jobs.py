"""`unasdiff-teach evaluate`: methods on whole lists of mixtures, shared among processes, stopped and gone on with at will.

Every process appends what it has scored to a journal of its own, OUT/shards/N/results.jsonl; no file has two writers, and none
is ever cut. What a call finds in any of them is not done again, whoever did it. `results.parquet` is the union of all journals,
written anew when the work is done. Mixtures are separated in batches that do not depend on the number of processes, with noise
that depends on a mixture's identifier alone, so neither do the results.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from torch import nn

from .. import data, precision, separators
from .._console import duration
from ..cost import peak_matmul_flops, usual_mfu
from ..data import full_mixtures
from ..data.audio import rms_db
from ..data.mixing import SILENT_BELOW_DB, TASKS, Mixture
from ..diffusion import Prior
from ..dirac import DiracConfig
from ..guidance import CQT, DPS, DSG, Hybrid
from ..networks import DiffWave, TriplePathUNet, budget
from ..precision import AUTO, PRECISIONS, canonical
from ..priors import NeuralPrior
from ..schedule import NoiseSchedule
from ..separation import AnalyticalConfig, SeparationConfig
from ..separators import Separator
from .ablations import FLOORS, LOSSES, starts
from .methods import Method, oracle, sampling, supervised, unprocessed
from .pocket import SHORT
from .run import ITEM, Key, Run, Scoring, finished, level_db, score

if TYPE_CHECKING:
    import pandas as pd

POCKET = "pocket"
RULES: dict[str, type] = {"dps": DPS, "dsg": DSG, "hybrid": Hybrid, "cqt": CQT}
SAMPLERS = (*RULES, "analytical", "dirac", "recommended")
ORACLES = ("oracle binary", "oracle ratio", "oracle wiener")
NETWORKS = {"conv-tasnet": "ConvTasNet", "tf-locoformer": "TFLoCoformer"}
METHODS = ("unprocessed", *SAMPLERS, *ORACLES, *NETWORKS)
PRESETS = ("authors", "paper", "short", "recommended")
SCORINGS = ("recommended", "paper", "authors")
FACTS, TABLE, SHARDS = "run.json", "results.parquet", "shards"
COMPILED = 5000  # network calls on a GPU, from which compiling pays
SCORE_SECONDS = 0.1  # to read and score one mixture: PESQ above all


# --------------------------------------------------------------------------------------------------------------- job


@dataclass(frozen=True)
class Job:
    """What is evaluated, in words: the same job means the same numbers, and goes on where it stopped.

    Attributes:
        mixtures: folder that `unasdiff-teach data mixtures` wrote, or "pocket", the shipped test lists.
        out: folder of the run, for one list of mixtures, placement and scoring; methods, tasks and seeds may be added later.
        methods: names as in the paper's Table 2, and `METHODS`; or of Table 4, as "hybrid, t*=175" (`variants`).
        preset: of the guidance rules, "authors", "paper" or "short"; "recommended" is for the methods "recommended" and
            "analytical" alone, which know no other, or authors'.
        priors: [KIND=]WHERE, see `separate_file.load_prior`. Of DiffWave priors, methods are called "diffwave hybrid" and so on (Table 3).
        separators: supervised experts, shipped names or files; without any, those that are shipped.
        tasks: some of `TASKS`; all that the list has by default.
        count: only the first mixtures of each task.
        seed: of all noise.
        scoring: "recommended", "paper" or "authors" (the oracle permutation), of `Scoring`.
        batch: mixtures separated at once.
        processes: on this machine; under torchrun its count holds.
        device: "cpu", "cuda" (a GPU for each process, in turn) or "mps".
        seconds: cut mixtures to this length around their middle (Table 3's 2 s); tasks are then called "2 speech, 2 s".
        placement: of a written list, "paper" or "authors".
        precision: of the priors' products, "float32", "bfloat16", or "auto": what the folder has begun with, or else the
            faster one, as `plan` measures it.
        compile: compile triple-path networks: minutes for each batch size and process, then faster on a GPU; None: where it pays.
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

    def __post_init__(self):
        object.__setattr__(self, "mixtures", str(self.mixtures))
        object.__setattr__(self, "out", Path(self.out))
        for name in ("methods", "priors", "separators", "tasks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


def run(job: Job, progress: bool = True) -> pd.DataFrame:
    """Do what is left of a job.

    Args:
        progress: show a progress bar, of all processes together.

    Returns:
        Everything that the folder holds, one row for each source of each separation, columns as in `run.COLUMNS`. Under
        torchrun, what is there when this process has done its share; the last one writes the table.

    Raises:
        FileNotFoundError, ValueError: as `check`, before any work.
        RuntimeError: a process failed; what was finished is kept.
    """
    return plan(job).run(progress)


def check(job: Job) -> list[str]:
    """Whether a job can be done: reads its mixtures, priors and results, and separates nothing.

    Returns:
        Lines: what will be done, what is stored already, network calls and FLOP of the rest, and a guess of the time.

    Raises:
        FileNotFoundError: no list, prior or separator where one is said to be.
        ValueError: a word that is unknown; priors, separators or labels that do not fit the mixtures; or the folder holds
            results that were made otherwise.
    """
    return plan(job).lines


# ----------------------------------------------------------------------------------------------- mixtures of the list


@cache
def _pocket(task: str) -> list[Mixture]:
    return data.mixtures(task, "test")


def _load(job: Job, task: str, part: int = 0, parts: int = 1) -> list[Mixture]:
    """Every `parts`-th mixture of a task, from the `part`-th on."""
    if job.mixtures == POCKET:
        found = _pocket(task)[: job.count][part::parts]
    else:
        found = full_mixtures.load(job.mixtures, task, job.placement, job.count, (part, parts))
    return found if job.seconds is None else [_middle(mixture, job.seconds) for mixture in found]


def _complete(mixture: Mixture) -> bool:
    """Whether a cut has left something of every source."""
    return float(rms_db(mixture.sources).min()) > SILENT_BELOW_DB


def _middle(mixture: Mixture, seconds: float) -> Mixture:
    """A mixture cut around its middle, under a name of its own."""
    length = round(seconds * mixture.sample_rate)
    start = (len(mixture.mixture) - length) // 2
    if start < 0 or length < 1:
        raise ValueError(f"seconds is {seconds:g}; {mixture.id} lasts {len(mixture.mixture) / mixture.sample_rate:g} s")
    cut, name = slice(start, start + length), f"{seconds:g} s"
    return replace(
        mixture, mixture=mixture.mixture[cut], sources=mixture.sources[:, cut], id=f"{mixture.id}_{seconds:g}s",
        task=f"{mixture.task}, {name}",
    )  # fmt: skip


def _sizes(job: Job) -> dict[str, int]:
    """Task -> mixtures of it that are to be scored."""
    if job.mixtures == POCKET:
        there = {task: len(_pocket(task)) for task in TASKS}
        if job.placement != "paper":
            raise ValueError(f"placement is {job.placement!r}; the pocket lists have the paper's alone")
    else:
        rows = full_mixtures.table(job.mixtures)
        rows = rows[rows["placement"] == job.placement]
        there = {task: n for task in TASKS if (n := rows.loc[rows["task"] == task, "id"].nunique())}
        if not there:
            raise ValueError(f"{job.mixtures} has no mixtures of placement {job.placement!r}")
    if missing := [task for task in job.tasks if task not in there]:
        raise ValueError(f"{job.mixtures} has no task {missing[0]!r}; there are {', '.join(map(repr, there))}")
    if job.count is not None and job.count > min(there[task] for task in job.tasks or there):
        raise ValueError(f"count is {job.count}; {job.mixtures} has {min(there[task] for task in job.tasks or there)} mixtures of a task")
    return {task: job.count or n for task, n in there.items() if task in (job.tasks or there)}


# ------------------------------------------------------------------------------------------------------------ methods


@dataclass(frozen=True)
class Systems:
    """What was trained: priors by kind of source, and separators."""

    priors: Mapping[str, Prior]
    separators: Sequence[Separator]

    @classmethod
    def load(cls, job: Job, device: str = "cpu") -> Systems:
        """Those that the job's methods need, on `device`.

        Raises:
            FileNotFoundError, ValueError: as `separate_file.load_prior`; two priors of one kind; a prior of no kind of source.
        """
        from ..separate_file import load_prior  # a room below this one, for this word of its command alone

        priors: dict[str, Prior] = {}
        for spec in job.priors if set(map(_family, job.methods)) & set(SAMPLERS) else ():
            found = load_prior(spec)
            kind = found.name or "sound"
            if kind not in ("speech", "sound"):
                raise ValueError(f"prior {spec!r} is for {kind!r}; KIND= must be speech or sound")
            if kind in priors:
                raise ValueError(f"prior {spec!r} is the second one for {kind}; KIND=WHERE says what a prior is for")
            priors[kind] = found.prior
        experts = []
        if set(job.methods) & set(NETWORKS):
            experts = [_separator(where) for where in job.separators or separators.available()]
        for network in (*priors.values(), *experts):
            if isinstance(network, nn.Module):
                network.to(device)
            if job.compile and isinstance(getattr(network, "net", None), TriplePathUNet):
                network.net.compile_core()
        return cls(priors, experts)

    def method(self, job: Job, name: str, task: str, device: str = "cpu") -> Method:
        """A method of the job for one task.

        Raises:
            ValueError: a prior or a separator for it is missing.
        """
        kinds = TASKS[task]
        if name == "unprocessed":
            return unprocessed()
        if name in ORACLES:
            return oracle(name.removeprefix("oracle "))
        if name in NETWORKS:
            fitting = [s for s in self.separators if type(s.net).__name__ == NETWORKS[name] and s.kinds == kinds]
            if len(fitting) != 1:
                raise ValueError(
                    f"{len(fitting) or 'no'} separators are {name} for {task!r}; give one with --separator, or choose tasks with --task"
                )
            return supervised(name, fitting[0], device)
        if missing := sorted(set(kinds) - set(self.priors)):
            raise ValueError(f"{name!r} needs a prior of {' and of '.join(missing)} for {task!r}; KIND=WHERE says what a prior is for")
        priors = {kind: self.priors[kind] for kind in sorted(set(kinds))}
        config, preset = configuration(name, job.preset)
        if all(isinstance(getattr(prior, "net", None), DiffWave) for prior in priors.values()):
            name = f"diffwave {name}"
        return sampling(name, priors, config, preset, device=device, precision=PRECISIONS[canonical(job.precision)])


def _separator(where: str) -> Separator:
    return separators.load(where) if where in separators.available() else separators.read(where)


def _family(name: str) -> str:
    return name.partition(", ")[0]


def configuration(name: str, preset: str) -> tuple[SeparationConfig | AnalyticalConfig | DiracConfig, str]:
    """The configuration of one of `SAMPLERS` or of a row of Table 4, and the preset that it comes from.

    Raises:
        ValueError: no such row, or a gradient rule was asked for in the preset "recommended".
    """
    if name == "recommended":
        return SeparationConfig.recommended(), name
    if name == "analytical":
        preset = "recommended" if preset == "recommended" else "authors"
        return getattr(AnalyticalConfig, preset)(), preset
    if name == "dirac":
        return DiracConfig(), ""
    rule = _family(name)
    if preset == "recommended":
        raise ValueError(f"the preset 'recommended' has no gradients, and {rule!r} is a rule for them; use the method 'recommended'")
    if preset == "short":
        guidance = SHORT.get(rule, RULES[rule]())
    else:
        guidance = RULES[rule].paper() if preset == "paper" and rule in ("dsg", "hybrid") else RULES[rule]()
    base = getattr(SeparationConfig, preset)(guidance)
    return ({rule: base} | variants(base))[name], preset


def variants(base: SeparationConfig) -> dict[str, SeparationConfig]:
    """The rows of the paper's Table 4, of any base with the hybrid rule."""
    if not isinstance(base.guidance, Hybrid):
        return {}
    rows = starts(base)
    rows |= {terms: base.replace(loss=replace(base.loss, **weights)) for terms, weights in LOSSES.items()}
    rows |= {f"s_floor={floor}": base.replace(guidance=replace(base.guidance, s_floor=floor)) for floor in FLOORS}
    return {f"hybrid, {what}": config for what, config in rows.items()}


def calls(config: SeparationConfig | AnalyticalConfig | DiracConfig, schedule: NoiseSchedule) -> int:
    """Network calls for each source, as `Separation.calls` will count them."""
    if isinstance(config, DiracConfig):
        return config.steps or len(schedule)
    if isinstance(config, AnalyticalConfig):
        corrected = int(((schedule.index > 0) & (schedule.index < config.corrector_below)).sum()) if config.corrector else 0
        return len(schedule) + corrected
    last = schedule.position(config.init_step) + 1 if config.start == "init_step" else len(schedule)
    return config.hypotheses * (config.steps or last)


# --------------------------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class Batch:
    """Mixtures that are separated at once: those of `todo` among every `parts`-th of a task from the `part`-th on.

    `weight` is what it may take, in seconds.
    """

    task: str
    part: int
    parts: int
    method: str
    todo: frozenset[str]
    weight: float


@dataclass(frozen=True)
class Plan:
    """A checked job: what is left to do, and what it costs in words."""

    job: Job
    batches: tuple[Batch, ...]
    items: frozenset[Key]  # all of the job, done or not
    facts: dict
    lines: list[str]

    def run(self, progress: bool = True) -> pd.DataFrame:
        """See `run`."""
        from tqdm import tqdm

        job, (rank, world) = self.job, ranks()
        job.out.mkdir(parents=True, exist_ok=True)
        _claim(job.out, self.facts)
        # Each rank plans by itself, at its own time: shares must depend on nothing that is stored.
        mine = self.batches if world == 1 else [b for b in self.batches if (b.part + list(TASKS).index(b.task)) % world == rank]
        total = sum(batch.weight for batch in mine)
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        with tqdm(total=total, desc="evaluate", bar_format=form, smoothing=0, disable=not progress or rank > 0 or not mine) as bar:

            def report(batch: Batch) -> None:
                bar.update(batch.weight)
                bar.set_postfix_str(f"{batch.method}, {batch.task}")

            try:
                if world > 1 or min(job.processes, len(mine)) < 2:
                    for batch in work(job, mine, rank, device_of(job, int(os.environ.get("LOCAL_RANK", 0)))):
                        report(batch)
                else:
                    _share(job, mine, report)
            finally:
                found = stored(job.out)
                if world == 1 or self.items <= _keys(found):
                    found.attrs = self.facts
                    _replace(job.out / TABLE, rank, lambda path: found.to_parquet(path, index=False))
        return found


def plan(job: Job) -> Plan:
    """Check everything that can be checked before the work; see `check` for the errors."""
    _check_words(job)
    sizes, systems, scoring = _sizes(job), Systems.load(job), getattr(Scoring, job.scoring)()
    chosen, why = _precision(job, systems, sizes)
    job = replace(job, precision=chosen)
    table = stored(job.out)
    rows = {tuple(row[c] for c in ITEM): row for row in table.to_dict("records")}
    levels = table.groupby("mixture")["mixture_db"].first()
    batches, items, silent, facts, work_left = [], set(), 0, {}, {"calls": 0, "flop": 0.0}
    for task, size in sizes.items():
        methods = {name: systems.method(job, name, task) for name in dict.fromkeys(job.methods)}
        loaded, parts = _load(job, task), math.ceil(size / job.batch)
        for part in range(parts):
            mixtures = [m for m in loaded[part::parts] if _complete(m)]
            silent += len(loaded[part::parts]) - len(mixtures)
            for mixture in mixtures:
                _check_fit(job, mixture, systems, levels.get(mixture.id))
                facts = facts or _facts(job, mixture)
            for name, method in methods.items():
                items |= {(m.id, method.name, method.preset, job.seed) for m in mixtures}
                todo = [m for m in mixtures if not finished(rows, method, m, job.seed, scoring)]
                if todo:
                    calls, flop = _cost(job, systems, name, task, len(todo[0].mixture))
                    work_left["calls"] += calls * len(todo)
                    work_left["flop"] += flop * len(todo)
                    batches.append(Batch(task, part, parts, name, frozenset(m.id for m in todo), flop * len(todo)))
    if not items:
        raise ValueError(f"nothing to score in {job.mixtures}")
    _check_facts(job.out, facts)
    rate, who = _rate(job) if work_left["flop"] else (1.0, f"{job.processes} x {job.device}")
    score_seconds = SCORE_SECONDS / min(job.processes, os.cpu_count() or 1)
    batches = [replace(b, weight=b.weight / rate + score_seconds * len(b.todo)) for b in batches]
    # All methods and tasks have some mixtures early, in place of one having all.
    batches.sort(key=lambda b: b.part)
    left, seconds = sum(len(b.todo) for b in batches), sum(b.weight for b in batches)
    presets = sorted({f"{name} ({preset})" if preset else name for _, name, preset, _ in items})
    lines = [
        f"{', '.join(f'{n} x {task!r}' for task, n in sizes.items())} of {job.mixtures}, {facts['seconds']:g} s at {facts['sample_rate']} Hz",
        f"methods: {', '.join(presets)}; seed {job.seed}, scoring {job.scoring}",
        *([f"left out: {silent} mixtures that the cut leaves without a source"] if silent else []),
        f"{len(items)} separations, {len(items) - left} of them stored in {job.out}; {left} to do in {len(batches)} batches",
        *why,
    ]
    if left:
        job, how = _compiled(job, work_left["calls"])
        lines.extend(how)
        lines.append(
            f"to do: {work_left['calls']:,} network calls, {work_left['flop']:.2g} FLOP; {who}: about {duration(seconds)} "
            "(the progress bar will know better)"
        )
    return Plan(job, tuple(batches), frozenset(items), facts, lines)


def _check_words(job: Job) -> None:
    known = (*METHODS, *variants(SeparationConfig.authors()))
    for what, values, accepted in (
        ("method", job.methods, known), ("task", job.tasks, TASKS), ("preset", [job.preset], PRESETS), ("scoring", [job.scoring], SCORINGS),
        ("placement", [job.placement], full_mixtures.PLACEMENTS),
    ):  # fmt: skip
        for value in values:
            if value not in accepted:
                raise ValueError(f"{what} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
    canonical(job.precision, auto=True)
    if not job.methods:
        raise ValueError(f"no method is given; accepted: {', '.join(map(repr, known))}")
    if job.separators and not set(job.methods) & set(NETWORKS):
        raise ValueError(f"separators are given, but no method uses them: {', '.join(NETWORKS)}")
    for name in ("batch", "processes", "count"):
        if (value := getattr(job, name)) is not None and value < 1:
            raise ValueError(f"{name} is {value}; at least 1 is needed")
    device_of(job, 0)
    if job.out.exists() and not job.out.is_dir():
        raise ValueError(f"{job.out} is a file; the folder of a run is needed")


def _check_fit(job: Job, mixture: Mixture, systems: Systems, level: float | None) -> None:
    """Raises ValueError if a mixture suits the priors or the separators badly, or is not the one that was scored before."""
    if level is not None and abs(float(level) - level_db(mixture)) > 1e-3:
        raise ValueError(f"{job.out} holds {mixture.id!r} for another mixture; use another folder")
    used = {kind: prior for kind, prior in systems.priors.items() if kind in mixture.kinds}
    for name, network in (*used.items(), *(("separator", s) for s in systems.separators if s.kinds == mixture.kinds)):
        rate = getattr(network, "sample_rate", None)
        if rate not in (None, mixture.sample_rate):
            what = "the separator" if name == "separator" else f"the prior of {name}"
            raise ValueError(f"{what} works at {rate} Hz; {mixture.id!r} is at {mixture.sample_rate} Hz")
    for kind, label in zip(mixture.kinds, mixture.labels):
        labels = getattr(used.get(kind), "labels", None)
        if label is not None and labels is not None and label not in labels:
            raise ValueError(f"{mixture.id!r} holds {label!r}; the prior of {kind} knows {', '.join(labels) or 'no classes'}")


def _facts(job: Job, mixture: Mixture) -> dict:
    """What a folder is about."""
    made = data.pocket_hash()[:8] if job.mixtures == POCKET else full_mixtures.fingerprint(job.mixtures)
    return {
        "mixtures": job.mixtures, "list": made, "placement": job.placement, "scoring": job.scoring,
        "sample_rate": mixture.sample_rate, "seconds": len(mixture.mixture) / mixture.sample_rate, "precision": _begun_in(job) or job.precision,
    }  # fmt: skip


def _begun_in(job: Job) -> str | None:
    """The precision that the folder has begun with; float32 where it is older than the choice."""
    if not (path := job.out / FACTS).is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8")).get("precision", "float32")


def _precision(job: Job, systems: Systems, sizes: Mapping[str, int]) -> tuple[str, list[str]]:
    """The precision of the run and, where it was chosen here, a line that says why."""
    asked, device = canonical(job.precision, auto=True), device_of(job, 0)
    networks = [prior for prior in systems.priors.values() if isinstance(prior, nn.Module)]
    if asked != AUTO:
        precision.check(asked, device)
        return asked, []
    if not networks:
        return "float32", []
    if before := _begun_in(job):
        return before, [f"precision: {before}, as the folder has begun"]
    if ranks()[1] > 1:  # each process measures something else, and all must agree
        chosen = "bfloat16" if job.device == "cuda" else "float32"
        return chosen, [f"precision: {chosen}, the usual choice for {job.device}; several processes do not measure"]
    (mixture,) = _load(job, next(iter(sizes)), 0, next(iter(sizes.values())))
    configs = [configuration(name, job.preset)[0] for name in job.methods if _family(name) in SAMPLERS]
    guided = any(_guided(config) for config in configs)
    prior, rows = networks[0], 1 if device == "cpu" else job.batch * len(mixture.kinds)
    x = torch.zeros(rows, len(mixture.mixture), device=device)
    t = torch.full((rows,), len(prior.schedule) // 2, device=device)
    where = next(prior.parameters()).device

    def work() -> None:
        x_t = x.clone().requires_grad_(guided)
        with torch.set_grad_enabled(guided):
            eps = prior(x_t, t)
        if guided:
            torch.autograd.grad(eps.sum(), x_t)

    prior.to(device)
    key = (getattr(prior.net, "config", type(prior.net).__name__), *x.shape, "guided" if guided else "forward")
    choice = precision.choose(AUTO, device, key, work)
    prior.to(where)
    return choice.precision, [f"precision: {choice.why}"]


def _guided(config: SeparationConfig | AnalyticalConfig | DiracConfig) -> bool:
    """Whether a sampler asks the priors for gradients."""
    return isinstance(config, SeparationConfig) and config.guidance.needs_gradient


def _compiled(job: Job, calls: int) -> tuple[Job, list[str]]:
    """The job with its choice whether to compile, and a line about it where there was one."""
    if job.compile is False or job.compile is None and (job.device != "cuda" or calls < COMPILED):
        return replace(job, compile=False), []
    if not precision.has_compiler(job.device):
        return replace(job, compile=False), ["networks: not compiled, for want of a compiler here; the eager form computes the same"]
    return replace(job, compile=True), ["networks: compiled, which takes minutes for each size and process (--no-compile does without)"]


def _check_facts(out: Path, facts: dict) -> None:
    """Raises ValueError if the folder is for another list of mixtures, placement, scoring or rate."""
    if not (path := out / FACTS).is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if before.get("list", facts["list"]) != facts["list"]:  # older folders do not say
        raise ValueError(
            f"{out} is for the mixtures of {before['mixtures']} (list {before['list']}), now {facts['mixtures']} "
            f"(list {facts['list']}); use another folder"
        )
    for name in ("placement", "scoring", "sample_rate"):
        if before[name] != facts[name]:
            raise ValueError(f"{out} is for {name} = {before[name]!r}, now {facts[name]!r}; use another folder")


def _claim(out: Path, facts: dict) -> None:
    """Say what a folder is about, once; two calls that begin at the same time must agree, as later ones must."""
    with FileLock(out / "claim.lock"):
        _check_facts(out, facts)
        if not (out / FACTS).is_file():
            _replace(out / FACTS, 0, lambda path: path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8"))


def _cost(job: Job, systems: Systems, name: str, task: str, samples: int) -> tuple[int, float]:
    """Network calls and FLOP of one mixture, all its sources together; networks of no known shape count no FLOP."""

    def work(network: object, kind: str) -> float:
        return _flops(getattr(getattr(network, "net", None), "config", None), samples, kind)

    if name in NETWORKS:
        expert = next(s for s in systems.separators if type(s.net).__name__ == NETWORKS[name] and s.kinds == TASKS[task])
        return 1, work(expert, "forward")
    if _family(name) not in SAMPLERS:
        return 0, 0.0
    config, _ = configuration(name, job.preset)
    first = systems.priors[TASKS[task][0]]
    n = calls(config, first.schedule) if hasattr(first, "schedule") else 0
    return n * len(TASKS[task]), n * sum(work(systems.priors[kind], "guided" if _guided(config) else "forward") for kind in TASKS[task])


def _flops(shape: object, samples: int, kind: str) -> float:
    return float(budget.flops(shape, samples, kind)) if type(shape) in budget.NETWORKS else 0.0


def _rate(job: Job) -> tuple[float, str]:
    """FLOP per second that all processes may reach, and who they are."""
    count = max(job.processes, ranks()[1])
    together = min(count, torch.cuda.device_count()) if job.device == "cuda" else 1
    dtype = PRECISIONS[job.precision]
    peak, mfu = together * peak_matmul_flops(job.device, dtype, seconds=0.1), usual_mfu(job.device, dtype)
    return mfu * peak, f"{count} x {job.device}, {peak / 1e12:.3g} TFLOP/s of matrix products, at {mfu:.0%} of that"


# --------------------------------------------------------------------------------------------------------------- work


def ranks() -> tuple[int, int]:
    """(this process, their count) as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def device_of(job: Job, index: int) -> str:
    """The device of a process of this machine.

    Raises:
        ValueError: there is none.
    """
    if job.device == "cpu":
        return "cpu"
    if job.device == "cuda" and torch.cuda.is_available():
        return f"cuda:{index % torch.cuda.device_count()}"
    if job.device == "mps" and torch.backends.mps.is_available():
        return "mps"
    raise ValueError(f"device is {job.device!r}; there is no such device here. Accepted: cpu, and cuda or mps where there is one")


def work(job: Job, batches: Iterable[Batch], shard: int, device: str) -> Iterator[Batch]:
    """Separate and score batches one after the other; each is given back when its results are on disk."""
    here, scoring = Run(job.out / SHARDS / str(shard)), getattr(Scoring, job.scoring)()
    here.folder.mkdir(parents=True, exist_ok=True)
    with _locked(here.folder / "lock"):
        systems = Systems.load(job, device)
        for prior in systems.priors.values():
            if isinstance(prior, NeuralPrior):
                prior.for_inference(PRECISIONS[canonical(job.precision)])
        methods: dict[tuple[str, str], Method] = {}
        for batch in batches:
            key = batch.method, batch.task
            if key not in methods:
                methods[key] = systems.method(job, *key, device)
            mixtures = [m for m in _load(job, batch.task, batch.part, batch.parts) if m.id in batch.todo]
            here.append(score(methods[key], mixtures, job.seed, scoring))
            yield batch


def _share(job: Job, batches: Sequence[Batch], report: Callable[[Batch], None]) -> None:
    """Have several processes work, each taking the next batch when it has done one.

    Raises:
        RuntimeError: one of them failed; the others were stopped.
    """
    import multiprocessing
    import queue

    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    count = min(job.processes, len(batches))
    for batch in [*batches, *[None] * count]:
        todo.put(batch)
    threads = max(1, torch.get_num_threads() // count)
    workers = [context.Process(target=_worker, args=(job, i, threads, todo, done), daemon=True) for i in range(count)]
    try:
        for worker in workers:
            worker.start()
        left = len(batches)
        while left:
            try:
                news = done.get(timeout=1)
            except queue.Empty:
                if gone := [i for i, worker in enumerate(workers) if worker.exitcode]:
                    raise RuntimeError(
                        f"process {gone[0] + 1} of {count} ended by itself (status {workers[gone[0]].exitcode}; too little memory?); "
                        "what is finished is kept"
                    ) from None
                continue
            if isinstance(news, str):
                raise RuntimeError(news)
            report(news)
            left -= 1
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()
        todo.cancel_join_thread()


def _worker(job: Job, shard: int, threads: int, todo, done) -> None:
    """What each process of `_share` runs."""
    import multiprocessing
    import signal
    import threading

    def follow_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees it too, and stops all
    threading.Thread(target=follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        for batch in work(job, iter(todo.get, None), shard, device_of(job, shard)):
            done.put(batch)
    except Exception as error:  # of any kind: it must reach the reader of the parent's output
        done.put(f"{error or type(error).__name__} (process {shard + 1}; what is finished is kept)")


@contextmanager
def _locked(path: Path, patience: float = 5.0) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Raises:
        RuntimeError: another process holds it, and does not give it back in `patience` seconds.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    with open(path, "w") as file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise RuntimeError(f"another process is at work in {path.parent}; wait for it, or stop it") from None
                time.sleep(0.1)
        yield


# ------------------------------------------------------------------------------------------------------------ results


def stored(out: str | Path) -> pd.DataFrame:
    """What all processes have stored in the folder of a job so far, columns as in `run.COLUMNS`."""
    import pandas as pd

    out = Path(out)
    frames = [Run(folder).results() for folder in (out, *sorted((out / SHARDS).glob("*")))]
    whole = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    return whole.drop_duplicates([*ITEM, "source"]).sort_values(["task", *ITEM, "source"], ignore_index=True)


def _keys(results: pd.DataFrame) -> set[Key]:
    return set(results[ITEM].itertuples(index=False, name=None))


def _replace(path: Path, shard: int, write: Callable[[Path], None]) -> None:
    """Write a file whole or not at all, whatever other processes do."""
    partial = path.with_name(f"{path.name}.{shard}.partial")
    write(partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
