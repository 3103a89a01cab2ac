"""`unasdiff-teach evaluate`: methods on whole lists of mixtures, shared among processes, stopped and gone on with at
will.

Every process appends what it has scored to a journal of its own, OUT/shards/N/results.jsonl; no file has two writers,
and none is ever cut. What a call finds in any of them is not done again, whoever did it. `results.parquet` is the
union of all journals, written again when the work is done. Mixtures are separated in batches that do not depend on the
number of processes, with noise that depends on a mixture's identifier alone, so neither do the results.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .._console import duration
from .._files import locked, read_json, replacing, write_json
from ..data.audio import rms_db
from ..data.mixing import SILENT_BELOW_DB, TASKS, Mixture
from ..precision import COMPILED, PRECISIONS, canonical, compiling
from ..priors import NeuralPrior
from . import lists, nmf
from .forms import choose_precision, flop_rate
from .job import FACTS, Job, begun_in, check_words, device_of, ranks, sizes
from .methods import Method
from .run import ITEM, SHARDS, Key, Run, Scoring, Stored, stored
from .share import share
from .systems import NMF, Systems

if TYPE_CHECKING:
    import pandas as pd

TABLE = "results.parquet"
SCORE_SECONDS = 0.1  # to read and score one mixture: PESQ above all
PATIENCE = 5.0  # seconds for a process that is being stopped to give its folder back


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
        ValueError: a word that is unknown; priors, separators or labels that do not fit the mixtures; or the folder
            holds results that were made otherwise.
    """
    return plan(job).lines


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
class PlannedJob:
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
        mine = (
            self.batches
            if world == 1
            else [b for b in self.batches if (b.part + list(TASKS).index(b.task)) % world == rank]
        )
        total = sum(batch.weight for batch in mine)
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        with tqdm(
            total=total, desc="evaluate", bar_format=form, smoothing=0, disable=not progress or rank > 0 or not mine
        ) as bar:

            def report(batch: Batch) -> None:
                bar.update(batch.weight)
                bar.set_postfix_str(f"{batch.method}, {batch.task}")

            try:
                if world > 1 or min(job.processes, len(mine)) < 2:
                    for batch in work(job, mine, rank, device_of(job, int(os.environ.get("LOCAL_RANK", 0)))):
                        report(batch)
                else:
                    share(partial(_worker, job), mine, job.processes, report)
            finally:
                found = stored(job.out)
                if world == 1 or self.items <= set(found[ITEM].itertuples(index=False, name=None)):
                    found.attrs = self.facts
                    with replacing(job.out / TABLE, shared=True) as partial_table:
                        found.to_parquet(partial_table, index=False)
        return found


def plan(job: Job) -> PlannedJob:
    """Check everything that can be checked before the work; see `check` for the errors."""
    check_words(job)
    of_task, systems, scoring = sizes(job), job.systems(), getattr(Scoring, job.scoring)()
    chosen, why = choose_precision(job, systems, of_task)
    job = replace(job, precision=chosen)
    held = Stored(stored(job.out))
    batches, items, facts, work_left = [], set(), {}, {"calls": 0, "flop": 0.0}
    silent = strange = 0
    for task, size in of_task.items():
        methods = {name: job.method(systems, name, task) for name in dict.fromkeys(job.methods)}
        loaded, parts = job.load(task), math.ceil(size / job.batch)
        for part in range(parts):
            complete = [m for m in loaded[part::parts] if float(rms_db(m.sources).min()) > SILENT_BELOW_DB]
            mixtures = [m for m in complete if not (job.known and _unknown(m, systems))]
            silent, strange = silent + len(loaded[part::parts]) - len(complete), strange + len(complete) - len(mixtures)
            for mixture in mixtures:
                _check_fit(mixture, systems)
                if NMF in job.methods:
                    nmf.check_fit(mixture, lists.corpus(job.mixtures))
                facts = facts or _facts(job, mixture)
            for name, method in methods.items():
                items |= {(m.id, method.name, method.preset, job.seed) for m in mixtures}
                todo = held.left(method, mixtures, job.seed, scoring)
                if todo:
                    calls, flop = systems.cost(name, task, len(todo[0].mixture), job.preset, job.own)
                    work_left["calls"] += calls * len(todo)
                    work_left["flop"] += flop * len(todo)
                    batches.append(Batch(task, part, parts, name, frozenset(m.id for m in todo), flop * len(todo)))
    if not items:
        raise ValueError(f"nothing to score in {job.mixtures}")
    _check_facts(job.out, facts)
    per_second, who = flop_rate(job) if work_left["flop"] else (1.0, f"{job.processes} x {job.device}")
    score_seconds = SCORE_SECONDS / min(job.processes, os.cpu_count() or 1)
    batches = [replace(b, weight=b.weight / per_second + score_seconds * len(b.todo)) for b in batches]
    # All methods and tasks have some mixtures early, in place of one having all.
    batches.sort(key=lambda b: b.part)
    left, seconds = sum(len(b.todo) for b in batches), sum(b.weight for b in batches)
    presets = sorted({f"{name} ({preset})" if preset else name for _, name, preset, _ in items})
    lines = [
        (
            f"{', '.join(f'{n} x {task!r}' for task, n in of_task.items())} of {job.mixtures}, {facts['seconds']:g} s"
            f" at {facts['sample_rate']} Hz"
        ),
        f"methods: {', '.join(presets)}; seed {job.seed}, scoring {job.scoring}",
        *([f"left out: {silent} mixtures that the cut leaves without a source"] if silent else []),
        *([f"left out: {strange} mixtures with a class that the priors do not know"] if strange else []),
        (
            f"{len(items)} separations, {len(items) - left} of them stored in {job.out}; {left} to do in {len(batches)}"
            " batches"
        ),
        *why,
    ]
    if left:
        compiled, line = compiling(job.compile, job.device, work_left["calls"] >= COMPILED)
        job = replace(job, compile=compiled)
        lines.extend([line] if line else [])
        lines.append(
            f"to do: {work_left['calls']:,} network calls, {work_left['flop']:.2g} FLOP; {who}: about"
            f" {duration(seconds)} (the progress bar will know better)"
        )
    return PlannedJob(job, tuple(batches), frozenset(items), facts, lines)


def _check_fit(mixture: Mixture, systems: Systems) -> None:
    """Raises ValueError if a mixture suits the priors or the separators badly."""
    used = {kind: prior for kind, prior in systems.priors.items() if kind in mixture.kinds}
    for name, network in (*used.items(), *(("separator", s) for s in systems.separators if s.kinds == mixture.kinds)):
        rate = getattr(network, "sample_rate", None)
        if rate not in (None, mixture.sample_rate):
            what = "the separator" if name == "separator" else f"the prior of {name}"
            raise ValueError(f"{what} works at {rate} Hz; {mixture.id!r} is at {mixture.sample_rate} Hz")
    for kind, label, labels in _unknown(mixture, systems):
        raise ValueError(
            f"{mixture.id!r} holds {label!r}; the prior of {kind} knows {', '.join(labels) or 'no classes'}"
        )


def _unknown(mixture: Mixture, systems: Systems) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, class, the classes that its prior knows) of each source of a class that its prior does not know."""
    of_kind = {kind: getattr(prior, "labels", None) for kind, prior in systems.priors.items()}
    pairs = zip(mixture.kinds, mixture.labels, strict=True)
    return [
        (k, label, of_kind[k])
        for k, label in pairs
        if label is not None and of_kind.get(k) is not None and label not in of_kind[k]
    ]


def _facts(job: Job, mixture: Mixture) -> dict:
    """What a folder is about."""
    return {
        "mixtures": job.mixtures, "list": lists.fingerprint(job.mixtures), "placement": job.placement,
        "scoring": job.scoring, "sample_rate": mixture.sample_rate,
        "seconds": len(mixture.mixture) / mixture.sample_rate, "precision": begun_in(job) or job.precision,
    }  # fmt: skip


def _check_facts(out: Path, facts: dict) -> None:
    """Raises ValueError if the folder is for another list of mixtures, placement, scoring or rate."""
    if not (path := out / FACTS).is_file():
        return
    before = read_json(path)
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
    with locked(out, "evaluation", PATIENCE):
        _check_facts(out, facts)
        if not (out / FACTS).is_file():
            write_json(out / FACTS, facts)


# --------------------------------------------------------------------------------------------------------------- work


def work(job: Job, batches: Iterable[Batch], shard: int, device: str) -> Iterator[Batch]:
    """Separate and score batches one after the other; each is given back when its results are on disk."""
    here, scoring = Run(job.out / SHARDS / str(shard)), getattr(Scoring, job.scoring)()
    with locked(here.folder, "evaluation", PATIENCE):
        systems = job.systems(device)
        for prior in systems.priors.values():
            if isinstance(prior, NeuralPrior):
                prior.for_inference(PRECISIONS[canonical(job.precision)])
        methods: dict[tuple[str, str], Method] = {}
        for batch in batches:
            key = batch.method, batch.task
            if key not in methods:
                methods[key] = job.method(systems, *key, device)
            mixtures = [m for m in job.load(batch.task, batch.part, batch.parts) if m.id in batch.todo]
            here.measure(methods[key], mixtures, job.seed, scoring)
            yield batch


def _worker(job: Job, batches: Iterator[Batch], shard: int) -> Iterator[Batch]:
    return work(job, batches, shard, device_of(job, shard))
