"""What a reproduction will cost: FLOP, counted before the work, and a guess of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._console import duration
from .notebooks import NOTEBOOKS, own_time

if TYPE_CHECKING:
    from .run import Reproduction

H200 = 780e12  # FLOP per second of its bfloat16 matrix products, as measured: for estimates where there is no GPU


def evaluation_flops(run: Reproduction) -> dict[str, float]:
    """FLOP of each method that samples, over all mixtures, and of the rows of Tables 3 and 4 that Table 2 does not
    have.
    """
    from ..data.mixing import SPEECH_SOUND, TASKS
    from ..evaluation import experiments
    from ..evaluation.systems import SAMPLERS, Config, calls, guided, setting, variants
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
        one = calls(config, schedule) * flops(network, round(seconds * rate), "guided" if guided(config) else "forward")
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
    """What the run will train and evaluate, and a guess of the time."""
    rate, who = _rate(run)

    def hours(flop: float) -> str:
        seconds = flop / rate
        return f"{seconds / 3600:.2g} GPU hours" if run.scale == "paper" else duration(seconds)

    lines = [f"scale {run.scale}, into {run.out}; times on {who}", f"precision: {run.precision}"]
    for t in run.trainings:
        lines.append(
            f"train {t.name}: {t.parameters / 1e6:.2g} million parameters, {t.config.steps:,} steps of"
            f" {t.config.batch}, {t.flops:.2g} FLOP, about {hours(t.flops)}"
        )
    methods = evaluation_flops(run)
    for name, flop in methods.items():
        lines.append(f"evaluate {name}: {flop:.2g} FLOP, about {hours(flop)}")
    total = sum(t.flops for t in run.trainings) + sum(methods.values())
    lines.append(
        f"in all {total:.2g} FLOP, about {hours(total)}, and {sum(t.bytes for t in run.trainings) / 1e9:.2g} GB of"
        " weights and states"
    )
    for part, name in NOTEBOOKS.items():
        state = "has finished, and is not run again" if run.finished(part) else "is run"
        takes = own_time(run.book / name) if run.scale == "smoke" else ""
        lines.append(f"{name} {state}{takes and f': {takes}'}")
    return lines


def _rate(run: Reproduction) -> tuple[float, str]:
    """FLOP per second that the networks may reach, and on what."""
    import torch

    from ..cost import peak_matmul_flops, usual_mfu
    from ..precision import PRECISIONS

    device = run.parameters["training"]["device"]
    if run.scale == "paper" and device != "cuda":
        mfu = usual_mfu("cuda", torch.bfloat16)
        return mfu * H200, f"an H200 ({H200 / 1e12:.0f} TFLOP/s in bfloat16), {mfu:.0%} of it"
    precision = PRECISIONS[run.parameters["training"]["precision"]]
    peak, mfu = peak_matmul_flops(device, precision), usual_mfu(device, precision)
    return mfu * peak, f"this machine's {device} ({peak / 1e12:.3g} TFLOP/s measured), {mfu:.0%} of it"
