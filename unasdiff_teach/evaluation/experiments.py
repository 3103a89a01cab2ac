"""The experiments behind the book's tables: `unasdiff-teach evaluate --experiment NAME`.

An experiment is data: a list of mixtures, and jobs that say which methods separate it, with which priors and seeds.
What is shipped of each is `results/NAME.parquet`; the command makes the same table, as OUT/results.parquet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from .. import separators
from ..analytical import AnalyticalConfig
from ..data.mixing import SPEECH_SOUND, TASKS
from ..guidance import Guidance
from ..priors.shipped import FAMILIES
from ..separation import SeparationConfig
from . import jobs
from .choice import CHOICES, HYPOTHESES
from .jobs import Job
from .lists import POCKET
from .run import COLUMNS
from .settings import GRID, SHARES, SIX, TUNED, TWO_VOICES, ablations, beyond, tried
from .systems import NETWORKS, NMF, ORACLES, Setting, starts
from .tables import load_results

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
CHECKED = ("hybrid", "dsg", "dps")  # with the released code's constants and all 200 steps
TUNING = " tuned"
REST = (NMF, *(rule + TUNING for rule in GRID))
"""Methods of "table-2" that no job of plain words has."""
SEEDS = (0, 1, 2)  # of Table 4, and in "table-2" of "recommended", and of "hybrid tuned" on `WITH_SEEDS`
WITH_SEEDS = (SPEECH_SOUND, "2 speech")


@dataclass(frozen=True)
class Trained:
    """Where lies what was trained: names of the package, or files.

    Attributes:
        priors: one of speech and one of sounds, as [KIND=]WHERE.
        diffwave: a prior of speech of the other network, if there is one.
        separators: supervised experts.
    """

    priors: tuple[str, ...] = ("pocket-speech", "pocket-sound")
    diffwave: str | None = "pocket-diffwave-speech"
    separators: tuple[str, ...] = field(default_factory=lambda: _experts(FAMILIES["rendered"]))

    @classmethod
    def folder(cls, folder: str | Path) -> Trained:
        """What chapter 12 has trained into a folder.

        Raises:
            FileNotFoundError: no prior of speech or of sounds in it.
        """
        files = {path.stem: path for path in sorted(Path(folder).glob("*.safetensors"))}
        for kind in ("speech", "sound"):
            if kind not in files:
                raise FileNotFoundError(f"no {kind}.safetensors in {folder}")
        wave = files.get("diffwave-speech")
        experts = tuple(str(path) for stem, path in files.items() if stem.startswith(tuple(NETWORKS)))
        return cls(tuple(f"{kind}={files[kind]}" for kind in ("speech", "sound")), wave and f"speech={wave}", experts)


def _experts(family: str) -> tuple[str, ...]:
    """The shipped separators of a family."""
    return tuple(name for name in separators.available() if name.startswith(f"{family}-"))


Winners = Mapping[str, Mapping[str, Guidance]]


@dataclass(frozen=True)
class Experiment:
    """One of the book's experiments.

    Attributes:
        about: what is measured, in a line.
        jobs: (what was trained, of each task the best setting of each rule) -> the jobs, cheap ones first; their `out`
            is the caller's.
    """

    about: str
    jobs: Callable[[Trained, Winners], list[Job]]


def _job(mixtures: str, trained: Trained, methods: Collection[str] | Mapping[str, Setting], **words) -> Job:
    own = dict(methods) if isinstance(methods, Mapping) else {}
    return Job(mixtures, Path(), tuple(methods), priors=trained.priors, separators=(), own=own, **words)


def _tuned(winners: Winners, task: str, rules: Sequence[str] = tuple(GRID)) -> dict[str, Setting]:
    """The rules of a task, each with its best setting."""
    return {f"{rule}{TUNING}": Setting(tried(rule, winners[task][rule])[1], "short") for rule in rules}


def _preset(configs: Mapping[str, SeparationConfig], preset: str = "") -> dict[str, Setting]:
    """Under the preset that is named, or that has their name."""
    return {
        name: Setting(c, preset or (name if name in ("short", "recommended") else "")) for name, c in configs.items()
    }


def tuning(trained: Trained, winners: Winners) -> list[Job]:
    """Every setting of `GRID`, on the same validation mixtures of each task."""
    grid = [tried(rule, guidance) for rule, settings in GRID.items() for guidance in settings]
    settings = {name: Setting(config, "short") for name, config in grid}
    return [_job(f"{POCKET} validation", trained, settings, tasks=(task,), count=12) for task in TASKS]


def table_2(trained: Trained, winners: Winners) -> list[Job]:
    """All systems, all tasks."""
    own = {"analytical 1/K": Setting(AnalyticalConfig.recommended(), "recommended")}
    fast, slow = ("unprocessed", *ORACLES, "recommended", "dirac", "analytical"), CHECKED
    made = [_job(POCKET, trained, fast), *_supervised(POCKET, trained)]
    made += [_job(POCKET, trained, [NMF], tasks=tuple(task for task, kinds in TASKS.items() if "sound" in kinds))]
    made += [_job(POCKET, trained, _tuned(winners, task), tasks=(task,)) for task in TASKS]
    made += [_job(POCKET, trained, own), _job(POCKET, trained, slow)]
    made += [_job(POCKET, trained, ["recommended"], seed=seed) for seed in SEEDS[1:]]
    return made + [
        _job(POCKET, trained, _tuned(winners, task, ["hybrid"]), tasks=(task,), seed=seed)
        for task, seed in product(WITH_SEEDS, SEEDS[1:])
    ]


def _supervised(mixtures: str, trained: Trained, **words) -> list[Job]:
    """Every expert on its task: files are called "conv-tasnet-sound-sound", and so on."""
    found = [
        (name, task)
        for name, task in product(NETWORKS, TASKS)
        if any(Path(where).stem.endswith("-".join((name, *TASKS[task]))) for where in trained.separators)
    ]
    return [
        replace(_job(mixtures, trained, [name], tasks=(task,), **words), separators=trained.separators)
        for name, task in found
    ]


def table_3(trained: Trained, winners: Winners) -> list[Job]:
    """Two priors, two samplers, two lengths. The analytical sampler goes without its corrector: 149 network calls that
    change nothing.
    """
    task = "2 speech"
    (hybrid,) = _tuned(winners, task, ["hybrid"]).values()
    methods = {"analytical": Setting(AnalyticalConfig.authors().replace(corrector=False), "authors"), "hybrid": hybrid}
    job = _job(POCKET, trained, methods, tasks=(task,))
    both = [job, replace(job, priors=(trained.diffwave,))] if trained.diffwave else [job]
    return [replace(j, seconds=seconds) for seconds in (1.0, 2.0) for j in both]


def table_4(trained: Trained, winners: Winners) -> list[Job]:
    """`ablations`, and t* of `recommended()`, with all of `SEEDS`."""
    recommended = SeparationConfig.recommended()
    later = {f"recommended, {what}": config for what, config in starts(recommended).items()}
    settings = _preset(ablations(), "short") | _preset({"recommended": recommended} | later, "recommended")
    return [_job(POCKET, trained, settings, tasks=(SPEECH_SOUND,), seed=seed) for seed in SEEDS]


def _beyond(trained: Trained, winners: Winners) -> list[Job]:
    settings = {name: config for block in beyond().values() for name, config in block.items()}
    return [
        _job(f"{POCKET} validation", trained, methods, tasks=(SPEECH_SOUND,))
        for methods in (_preset(settings), list(HYPOTHESES))
    ]


def real(trained: Trained, winners: Winners) -> list[Job]:
    """Ten mixtures of recordings that are not in the package."""
    return [_job("real", trained, ("unprocessed", "oracle ratio", "oracle wiener", "recommended"))]


def _families(trained: Trained) -> dict[str, Trained]:
    """Both families of shipped priors, by corpus; or those of one's own alone, as "trained"."""
    if trained != Trained():
        return {"trained": trained}
    return {
        corpus: Trained((f"{name}-speech", f"{name}-sound"), None, _experts(name)) for corpus, name in FAMILIES.items()
    }


def _of_real(trained: Trained) -> Trained:
    """The priors of real recordings; or those of one's own."""
    return _families(trained).get("recorded", trained)


def recorded_tuning(trained: Trained, winners: Winners) -> list[Job]:
    """Every setting of `SHARES` on the same validation mixtures of real recordings."""
    return [_job("recorded validation", _of_real(trained), _preset(SHARES), count=12)]


def two_voices(trained: Trained, winners: Winners) -> list[Job]:
    """`TWO_VOICES`, choices among hypotheses and orders, and half the context."""
    mixtures, part, own = "recorded validation", {"tasks": ("2 speech",)}, _of_real(trained)
    settings = _preset(TWO_VOICES)
    return [
        _job(mixtures, own, ("unprocessed",), **part),
        _job(mixtures, own, settings, **part),
        _job(mixtures, own, list(CHOICES), **part),
        replace(_job(mixtures, own, {"recommended": settings["recommended"]}, **part), seconds=1.0),
    ]


def _recommended(mixtures: str, trained: Trained) -> list[Job]:
    """`recommended()` with each family of priors; those of rendered sounds where they know the classes."""
    found = []
    for family, own in _families(trained).items():
        methods = _preset({f"{family} priors": SeparationConfig.recommended()}, "recommended")
        found.append(_job(mixtures, own, methods, known=True))
    return found


def recorded_validation(trained: Trained, winners: Winners) -> list[Job]:
    """Both families of shipped priors on real recordings."""
    mixtures = "recorded validation"
    return [_job(mixtures, trained, ("unprocessed", "oracle ratio")), *_recommended(mixtures, trained)]


def recorded_test(trained: Trained, winners: Winners) -> list[Job]:
    """Floors, ceilings, dictionaries, experts, both families of priors, the recorded ones also with `SIX`; of a voice
    and a sound also the guidance rules.
    """
    with_sounds = tuple(task for task, kinds in TASKS.items() if "sound" in kinds)
    return [
        _job("recorded", trained, ("unprocessed", *ORACLES)),
        *_recommended("recorded", trained),
        _job("recorded", _of_real(trained), {"recorded priors, six runs": Setting(SHARES[SIX], "")}),
        _job("recorded", trained, [NMF], tasks=with_sounds),
        *_supervised("recorded", _of_real(trained)),
        _job("recorded", _of_real(trained), _tuned(winners, SPEECH_SOUND), tasks=(SPEECH_SOUND,)),
    ]


def rendered_control(trained: Trained, winners: Winners) -> list[Job]:
    """The priors of real recordings on rendered voices and sounds, where they know the classes."""
    methods = _preset({"recorded priors": SeparationConfig.recommended()}, "recommended")
    return [_job(POCKET, _of_real(trained), methods, tasks=(SPEECH_SOUND, "2 sounds"), known=True)]


def unseen(trained: Trained, winners: Winners) -> list[Job]:
    """Experts of rendered sounds on real recordings; the priors of rendered sounds are in "recorded-test"."""
    return _supervised("recorded", trained)


EXPERIMENTS: dict[str, Experiment] = {
    "tuning": Experiment(
        "guidance rules at nine settings each, 12 validation mixtures of each task (chapter 11)", tuning
    ),
    "table-2": Experiment("every system on five tasks, 40 test mixtures each (chapter 11)", table_2),
    "table-3": Experiment("two priors, two samplers, two lengths, 40 mixtures of 2 speech (chapter 11)", table_3),
    "table-4": Experiment("start, loss, floor, and other differences of text and code (chapters 8 and 9)", table_4),
    "beyond": Experiment("from Algorithm 1 to recommended(), 24 validation mixtures (chapter 14)", _beyond),
    "real": Experiment("ten mixtures of the folder UNASDIFF_REAL_AUDIO (pocket priors)", real),
    "recorded-tuning": Experiment(
        "recommended() at seven settings, 12 validation mixtures of real recordings of each task", recorded_tuning
    ),
    "recorded-validation": Experiment(
        "both families of priors, 24 validation mixtures of each task (real world)", recorded_validation
    ),
    "rendered-control": Experiment(
        "priors of real recordings on rendered test mixtures of their classes (real world)", rendered_control
    ),
    "two-voices": Experiment("two voices of one prior, 24 validation mixtures (chapter 14)", two_voices),
    "recorded-test": Experiment("real recordings, 40 test mixtures of each task (chapter 13)", recorded_test),
    "unseen": Experiment("experts of rendered sounds on 40 mixtures of real recordings (claims)", unseen),
}


def plans(
    name: str, out: str | Path, trained: Trained | None = None, methods: Sequence[str] = (), count: int | None = None,
    winners: Winners = TUNED, **how,
) -> list[Job]:  # fmt: skip
    """The jobs of an experiment.

    Args:
        name: of `EXPERIMENTS`.
        out: folder of the run.
        trained: other networks than the shipped ones.
        methods: only these of its methods.
        count: only the first mixtures of each task.
        winners: of each task the settings of the tuned rules.
        how: processes, device, batch and precision of `Job`.

    Raises:
        ValueError: an unknown experiment or method.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment is {name!r}; accepted: {', '.join(EXPERIMENTS)}")
    made = EXPERIMENTS[name].jobs(trained or Trained(), winners)
    if unknown := set(methods) - {method for job in made for method in job.methods}:
        raise ValueError(f"{name} has no method {', '.join(map(repr, sorted(unknown)))}")
    chosen = [replace(job, methods=tuple(m for m in job.methods if not methods or m in methods)) for job in made]
    fewer = [replace(job, count=min(count, job.count or count)) if count else job for job in chosen]
    return [replace(job, out=Path(out), **how) for job in fewer if job.methods]


def measure(
    name: str, out: str | Path, trained: Trained | None = None, methods: Sequence[str] = (), count: int | None = None,
    progress: bool = True, say: Callable[[str], None] | None = None, **how,
) -> pd.DataFrame:  # fmt: skip
    """Do what is left of an experiment. With networks of one's own, rules that it has tuned are tuned first, on the
    tasks that it has them for, in OUT/tuning.

    Args:
        say: told what each job will do.

    See `plans` for the rest.

    Returns:
        What the folder holds, columns as in `run.COLUMNS`.
    """

    def run(jobs_left: Collection[Job]) -> pd.DataFrame:
        for job in jobs_left:
            ready = jobs.plan(job)
            for line in ready.lines if say else ():
                say(line)
            found = ready.run(progress)
        return found

    winners = dict(TUNED)
    for task, rules in _rules(plans(name, out, trained, methods)).items() if trained else ():
        settings = [tried(rule, guidance)[0] for rule in rules for guidance in GRID[rule]]
        grids = plans("tuning", Path(out) / "tuning", trained, settings, **how)
        winners[task] = TUNED[task] | best(run([job for job in grids if job.tasks == (task,)]), task, rules)
    return run(plans(name, out, trained, methods, count, winners, **how))


def _rules(planned: Collection[Job]) -> dict[str, list[str]]:
    """The tuned rules of each task among jobs."""
    found: dict[str, list[str]] = {}
    for job in planned:
        for task, method in product(job.tasks, job.methods):
            rule = method.removesuffix(TUNING)
            if rule != method and rule not in found.setdefault(task, []):
                found[task].append(rule)
    return found


def best(scores: pd.DataFrame, task: str, rules: Collection[str] = tuple(GRID)) -> dict[str, Guidance]:
    """The setting of each rule's grid with the best mean SI-SDR, all settings on the same mixtures of a task.

    Args:
        scores: results of "tuning"; a mixture that a setting lacks counts for none.

    Raises:
        ValueError: the settings of a grid have no mixture in common.
    """
    found, scores = {}, scores[scores["task"] == task]
    for rule in rules:
        names = {tried(rule, guidance)[0]: guidance for guidance in GRID[rule]}
        table = scores.pivot_table("si_sdr", "mixture", "method").reindex(columns=list(names)).dropna()
        if table.empty:
            raise ValueError(f"no mixture of {task!r} was scored with all {len(names)} settings of {rule!r}")
        found[rule] = names[table.mean().idxmax()]
    return found


def shipped(name: str) -> pd.DataFrame:
    """The results of an experiment that come with the package; no rows, but the columns, where nothing has been
    measured yet.
    """
    import pandas as pd

    path = RESULTS / f"{name}.parquet"
    return load_results(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
