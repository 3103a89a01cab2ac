"""What a reproduction will cost: FLOP, counted before the work, and a guess of the time; smaller plans beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._console import duration
from .notebooks import NOTEBOOKS, own_time

if TYPE_CHECKING:
    from .run import Reproduction

PRIORS = ("speech", "sound")  # the trainings of plan 2
RULES = ("dps", "dsg", "hybrid")  # what plans 1 and 2 evaluate


@dataclass(frozen=True)
class Rates:
    """FLOP per second that the networks may reach in training and in sampling, and on what."""

    training: float
    sampling: float
    machine: str


@dataclass(frozen=True)
class Plan:
    """A part of a reproduction that makes sense by itself.

    Attributes:
        name: what is there beforehand, or what is made.
        trained: names of the trainings.
        evaluated: names of what is sampled, as in `evaluation_flops`.
        training, sampling: FLOP of each.
    """

    name: str
    trained: tuple[str, ...]
    evaluated: tuple[str, ...]
    training: float
    sampling: float

    def hours(self, rates: Rates) -> float:
        """Of one device, without reading, converting and scoring."""
        return (self.training / rates.training + self.sampling / rates.sampling) / 3600


def plans(run: Reproduction) -> list[Plan]:
    """Three plans of the paper's scale, the next of which has all that the one before it evaluates: published priors
    under the three rules; two priors trained for them; every training and every table.
    """
    flops = {training.name: training.flops for training in run.trainings}
    methods = evaluation_flops(run)
    rules, everything = [name for name in RULES if name in methods], tuple(flops)
    parts = {
        "the authors' checkpoints": ((), rules),
        "two priors and three rules": (PRIORS, rules),
        "everything": (everything, methods),
    }
    return [
        Plan(name, trained, tuple(sampled), sum(map(flops.get, trained)), sum(map(methods.get, sampled)))
        for name, (trained, sampled) in parts.items()
    ]


def rates(run: Reproduction) -> Rates:
    """Of this machine's device, by its matrix products; of the H200 that was measured where the paper's scale is
    planned without a GPU.
    """
    import pandas as pd

    from ..cost import peak_matmul_flops, usual_mfu
    from ..evaluation.experiments import RESULTS
    from ..precision import PRECISIONS

    device = run.parameters["training"]["device"]
    if run.scale == "paper" and not device.startswith("cuda"):
        table = pd.read_parquet(RESULTS / "gpu_bench.parquet")
        fast = table[(table["form"] == "fast") & (table["precision"] == "bfloat16")]
        largest = fast.sort_values("batch").groupby("mode").last()
        flops = largest["source_steps_per_second"] * largest["gflop"] * 1e9
        name = f"one {largest['device'].iloc[0]} as measured, products in bfloat16"
        return Rates(flops["training"], flops["guided"], name)
    precision = PRECISIONS[run.parameters["training"]["precision"]]
    peak, mfu = peak_matmul_flops(device, precision), usual_mfu(device, precision)
    machine = f"this machine's {device} ({peak / 1e12:.3g} TFLOP/s measured), {mfu:.0%} of it"
    return Rates(mfu * peak, mfu * peak, machine)


def evaluation_flops(run: Reproduction) -> dict[str, float]:
    """FLOP of each method that samples, over all mixtures, and of the rows of Tables 3 and 4 that Table 2 does not
    have.
    """
    from ..data.mixing import SPEECH_SOUND, TASKS
    from ..evaluation import experiments
    from ..evaluation.systems import SAMPLERS, Config, guided, setting, variants
    from ..networks import TriplePathConfig
    from ..networks.budget import flops
    from ..schedule import NoiseSchedule
    from ..separation import SeparationConfig

    values = run.parameters["evaluation"]
    network, rate, whole = (
        (TriplePathConfig.paper(), 16_000, 4.0) if run.scale == "paper" else (TriplePathConfig.pocket(), 8000, 2.0)
    )
    schedule = NoiseSchedule.linear()

    def cost(config: Config, tasks: Sequence[str], seconds: float, count: int) -> int:
        one = config.calls(schedule) * flops(network, round(seconds * rate), "guided" if guided(config) else "forward")
        return one * count * sum(len(TASKS[task]) for task in tasks)

    def work(methods: Sequence[str], tasks: Sequence[str], seconds: float) -> int:
        return sum(
            cost(setting(method, values["preset"]).config, tasks, seconds, values["count"]) for method in methods
        )

    tasks, seconds = values["tasks"] or TASKS, values["seconds"] or whole
    found = {name: work([name], tasks, seconds) for name in values["methods"] if name.partition(", ")[0] in SAMPLERS}
    if values["table3"]:
        found["Table 3"] = work(["hybrid", "analytical"], ["2 speech"], values["table3"])
    if values["systems"]:
        rest = experiments.plans("tuning", run.out)
        for name, methods in {"table-2": experiments.REST, "table-3": ()}.items():
            rest += experiments.plans(name, run.out, methods=methods, count=values["count"])
        found["rest of the benchmark"] = sum(
            cost(own.config, job.tasks or TASKS, job.seconds or whole, job.count)
            for job in rest
            for own in job.own.values()
        )
    if values["table4"]:
        found["Table 4"] = work(list(variants(SeparationConfig.authors())), [SPEECH_SOUND], seconds)
    return found


def cost(run: Reproduction) -> list[str]:
    """What the run will train and evaluate, and a guess of the time; at the paper's scale, three plans as well."""
    rate = rates(run)

    def words(hours: float) -> str:
        digits = ",.0f" if hours >= 10 else ".2g"
        return f"{hours:{digits}} GPU hours" if run.scale == "paper" else duration(3600 * hours)

    lines = [f"scale {run.scale}, into {run.out}; times on {rate.machine}", f"precision: {run.precision}"]
    for t in run.trainings:
        lines.append(
            f"train {t.name}: {t.parameters / 1e6:.2g} million parameters, {t.config.steps:,} steps of"
            f" {t.config.batch}, {t.flops:.2g} FLOP, about {words(t.flops / rate.training / 3600)}"
        )
    methods = evaluation_flops(run)
    for name, flop in methods.items():
        lines.append(f"evaluate {name}: {flop:.2g} FLOP, about {words(flop / rate.sampling / 3600)}")
    training, sampling = sum(t.flops for t in run.trainings), sum(methods.values())
    hours = (training / rate.training + sampling / rate.sampling) / 3600
    disk = sum(t.bytes for t in run.trainings) / 1e9
    lines.append(
        f"in all {training + sampling:.2g} FLOP, about {words(hours)}, and {disk:.2g} GB of weights and states"
    )
    if run.scale == "paper":
        for number, plan in enumerate(plans(run), 1):
            trained = f"{len(plan.trained)} trainings" if plan.trained else "no training"
            lines.append(
                f"plan {number}, {plan.name}: {trained}, {len(plan.evaluated)} evaluations, about"
                f" {words(plan.hours(rate))}"
            )
    for part, name in NOTEBOOKS.items():
        state = "has finished, and is not run again" if run.finished(part) else "is run"
        takes = own_time(run.book / name) if run.scale == "smoke" else ""
        lines.append(f"{name} {state}{takes and f': {takes}'}")
    return lines
