"""The pocket benchmark, resumable: `python -m unasdiff_teach.evaluation.benchmark measure|table3|collect [METHOD ...]`.

`measure` scores every system on the test mixtures of the five tasks, the pocket form of Table 2; `table3` compares DiffWave
priors with triple-path ones, with two samplers and two lengths, on 2 speech; `collect` writes the Parquet files that are
shipped. Work goes in rounds: a few mixtures of every task with every method, the cheap ones first, then more of them, so that
there is a whole table early. Each method has a folder of its own, so that several processes may share the work.

Guidance rules stand at their default (`authors()`, all 200 steps) and, in `short()`, at the best setting of the
grid that `evaluation.pocket tune` has measured on validation mixtures; what is missing of that is measured first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .. import data, separators
from ..data.mixing import TASKS, Mixture
from ..diffusion import Prior
from ..dirac import DiracConfig
from ..priors import neural, shipped
from ..separation import AnalyticalConfig, SeparationConfig
from ..separators import Separator
from . import tables
from .jobs import NETWORKS
from .methods import Method, oracle, sampling, supervised, unprocessed
from .pocket import DEFAULTS, RESULTS, pocket_priors, tune
from .run import Run, evaluate
from .tables import load_results

if TYPE_CHECKING:
    import pandas as pd

ROUNDS = (1, 4, 8, 12, 16)  # mixtures of each task that are done by the end of a round
COUNT = 20
NAMES = (
    "ceilings", "supervised", "nmf", "recommended", "dirac", "hybrid-tuned", "dsg-tuned", "dps-tuned", "analytical", "hybrid", "dsg",
    "dps", "seeds",
)  # fmt: skip
SEED_TASKS = ("1 speech + 1 sound", "2 speech")
SEEDS = (1, 2)  # of the block "seeds", besides 0 of all others
DIFFWAVE = "pocket-diffwave-speech"
TABLE3 = ("hybrid", "analytical", "diffwave hybrid", "diffwave analytical")
LENGTHS = {"2 speech, 1 s": 1.0, "2 speech, 2 s": 2.0}


class Missing(Exception):
    """Something that a method needs is not there; the message says what to do."""


@dataclass(frozen=True)
class Block:
    """Methods that are measured together, in a folder of their own.

    Attributes:
        folder: name of the folder.
        methods: task -> the methods; raises `Missing`.
        tasks: those that the methods are for.
        seeds: of the runs.
    """

    folder: str
    methods: Callable[[str], list[Method]]
    tasks: tuple[str, ...] = tuple(TASKS)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Systems:
    """What was trained.

    Attributes:
        priors: by kind of source.
        diffwave: the DiffWave prior of speech, if there is one.
        separators: all of them.
    """

    priors: Mapping[str, Prior]
    diffwave: Prior | None
    separators: Sequence[Separator]

    @classmethod
    @cache
    def shipped(cls) -> Systems:
        """Those that come with the package, read once."""
        diffwave = shipped.load(DIFFWAVE) if DIFFWAVE in shipped.available() else None
        return cls(pocket_priors(), diffwave, [separators.load(name) for name in separators.available()])

    @classmethod
    def read(cls, folder: str | Path) -> Systems:
        """Those that chapter 12 has trained into a folder.

        Raises:
            FileNotFoundError, ValueError: no prior of speech or of sounds in it, or a damaged one.
        """
        folder = Path(folder)
        files = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
        loaded = {kind: neural.read(folder / f"{kind}.safetensors") for kind in ("speech", "sound")}
        wave = files.get(DIFFWAVE.removeprefix("pocket-"))
        experts = [separators.read(path) for stem, path in files.items() if stem.startswith(tuple(NETWORKS))]
        return cls(loaded, neural.read(wave) if wave else None, experts)


def block(name: str, tuning: Path, systems: Systems | None = None) -> Block:
    """One of `NAMES`; `tuning` is the folder of `evaluation.pocket`. Without `systems`, those that are shipped."""
    rule = name.removesuffix("-tuned")
    systems = systems or Systems.shipped()
    priors = systems.priors

    @cache
    def tuned(rule: str) -> Method:
        config = SeparationConfig.short(tune(rule, tuning, loaded=priors))
        return sampling(f"{rule} tuned", priors, config, "short")

    if name == "ceilings":
        return Block(name, lambda task: [unprocessed(), *map(oracle, ("binary", "ratio", "wiener"))])
    if name == "supervised":
        return Block(name, lambda task: experts(task, systems.separators))
    if name == "nmf":
        return Block(name, lambda task: [dictionary_method()], tuple(task for task, kinds in TASKS.items() if "sound" in kinds))
    if name == "recommended":
        return Block(name, lambda task: [sampling(name, priors, SeparationConfig.recommended(), name)])
    if name == "dirac":
        return Block(name, lambda task: [sampling(name, priors, DiracConfig())])
    if name == "analytical":
        variants = {name: ("authors", AnalyticalConfig.authors()), f"{name} 1/K": ("recommended", AnalyticalConfig.recommended())}
        return Block(name, lambda task: [sampling(n, priors, c, preset) for n, (preset, c) in variants.items()])
    if name == "seeds":
        return Block(name, lambda task: [tuned("hybrid")], SEED_TASKS, SEEDS)
    if name != rule:
        return Block(name, lambda task: [tuned(rule)])
    return Block(name, lambda task: [sampling(rule, priors, SeparationConfig.authors(DEFAULTS[rule]), "authors")])


def experts(task: str, trained: Sequence[Separator]) -> list[Method]:
    """The separators of a task among those that were trained, in the order of `NETWORKS`."""
    of_task = {type(s.net).__name__: s for s in trained if s.kinds == TASKS[task]}
    found = [supervised(network, of_task[kind]) for network, kind in NETWORKS.items() if kind in of_task]
    if not found:
        raise Missing(f"no separator is there for {task}")
    return found


@cache
def dictionary_method() -> Method:
    """NMF with dictionaries learned from the pocket corpus: 16 spectra for each class of sound, 64 for speech."""
    try:
        from .nmf import Dictionaries, nmf

        clips = [clip for kind in ("speech", "sound") for clip in data.pocket(kind, "train")]
        recordings = {}
        for clip in clips:
            recordings.setdefault("speech" if clip.kind == "speech" else clip.label, []).append(clip.audio)
        components = {name: 64 if name == "speech" else 16 for name in recordings}
        return nmf(Dictionaries(recordings, components), f"64 spectra of speech, 16 of each sound, corpus {data.pocket_hash()[:8]}")
    except ModuleNotFoundError as error:
        raise Missing(f"NMF comes from scikit-learn: {error}") from error


def table3_block(name: str, tuning: Path, systems: Systems | None = None) -> Block:
    """One of `TABLE3`. The analytical sampler goes without its corrector, which costs 149 network calls and changes nothing."""
    network, _, sampler = name.rpartition(" ")
    systems = systems or Systems.shipped()

    @cache
    def methods(task: str) -> list[Method]:
        prior = systems.diffwave if network else systems.priors["speech"]
        if prior is None:
            raise Missing("no DiffWave prior is there; `python -m unasdiff_teach.training.pocket diffwave-speech` trains it")
        if sampler == "hybrid":
            config, preset = SeparationConfig.short(tune("hybrid", tuning, loaded=systems.priors)), "short"
        else:
            config, preset = AnalyticalConfig.authors().replace(corrector=False), "authors"
        return [sampling(name, {"speech": prior}, config, preset)]

    return Block(f"table3-{name.replace(' ', '-')}", methods, tuple(LENGTHS))


@cache
def mixtures_of(task: str, count: int) -> list[Mixture]:
    """The first test mixtures of one of `TASKS`, or of 2 speech cut to one of `LENGTHS` around their middle."""
    if task in TASKS:
        return data.mixtures(task=task, split="test", count=count)
    result = []
    for m in data.mixtures(task="2 speech", split="test", count=count):
        length = round(LENGTHS[task] * m.sample_rate)
        start = (m.mixture.shape[-1] - length) // 2
        cut = slice(start, start + length)
        name = f"{m.id}_{LENGTHS[task]:g}s"
        result.append(replace(m, mixture=m.mixture[cut], sources=m.sources[:, cut], id=name, task=task))
    return result


def order(blocks: Sequence[Block], count: int) -> Iterator[tuple[Block, str, int, int]]:
    """(block, task, seed, mixtures) in the order of work: every block and task in each round, the blocks as they are given."""
    for last in [*(n for n in ROUNDS if n < count), count]:
        for b in blocks:
            for task in b.tasks:
                for seed in b.seeds:
                    yield b, task, seed, last


def measure(blocks: Sequence[Block], folder: Path, count: int = COUNT, budget: float | None = None) -> bool:
    """Score `count` mixtures of each task with each block; what is stored is skipped, what is missing named.

    Args:
        blocks: cheapest first.
        folder: each block has its folder in it.
        count: mixtures of each task; the results tell how many there are of each method.
        budget: minutes after which no new piece of work (a method, a task, at most four mixtures) is begun.

    Returns:
        Whether all is done.
    """
    end = None if budget is None else time.monotonic() + 60 * budget
    missing = set()
    for b, task, seed, last in order(blocks, count):
        if (b.folder, task) in missing:
            continue
        if end is not None and time.monotonic() > end:
            print(f"stopped before {b.folder}, {task}, mixture {last}; the same command goes on from here")
            return False
        try:
            methods = b.methods(task)
        except Missing as reason:
            print(f"left out: {b.folder}, {task}: {reason}")
            missing.add((b.folder, task))
            continue
        began = time.monotonic()
        evaluate(methods, mixtures_of(task, count)[:last], Run(folder / b.folder), seed)
        if time.monotonic() - began > 1:
            print(f"{b.folder}, {task}, seed {seed}: {last} mixtures, {time.monotonic() - began:.0f} s", flush=True)
    return True


def stored(part: str) -> pd.DataFrame:
    """The shipped results of "benchmark" or "table3"; no rows, but the columns, where nothing has been collected yet."""
    path = RESULTS / f"pocket_{part}.parquet"
    return load_results(path) if path.is_file() else Run(path).results()


def collect(folder: Path, out: Path = RESULTS) -> list[Path]:
    """Write what has been measured so far as `pocket_benchmark.parquet` and `pocket_table3.parquet`; returns those written."""
    parts = {"benchmark": NAMES, "table3": [table3_block(name, folder).folder for name in TABLE3]}
    paths = {part: out / f"pocket_{part}.parquet" for part in parts}
    return [paths[part] for part, names in parts.items() if tables.collect([folder / name for name in names], paths[part])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "table3", "collect"))
    parser.add_argument("names", nargs="*", metavar="METHOD", help=f"of {', '.join(NAMES)}; for table3 of {', '.join(TABLE3)}")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket-benchmark"))
    parser.add_argument("--tuning", type=Path, default=Path("runs/pocket-table"), help="folder of `evaluation.pocket tune`")
    parser.add_argument("--systems", type=Path, help="folder of priors and separators that chapter 12 has trained; default: the shipped ones")
    parser.add_argument("--count", type=int, default=COUNT, help=f"test mixtures of each task, by default {COUNT}")
    parser.add_argument("--budget", type=float, help="minutes after which no new work is begun")
    args = parser.parse_args()
    if args.what == "collect":
        print("\n".join(map(str, collect(args.folder))) or f"no results in {args.folder}")
        return
    known, make = (NAMES, block) if args.what == "measure" else (TABLE3, table3_block)
    if unknown := set(args.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    try:
        systems = Systems.read(args.systems) if args.systems else None
    except (OSError, ValueError) as error:
        parser.error(str(error))
    measure([make(name, args.tuning, systems) for name in args.names or known], args.folder, args.count, args.budget)


if __name__ == "__main__":
    main()
