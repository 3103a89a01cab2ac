"""Compare the speed of two checkouts: `python scripts/compare_speed.py --base DIR`, this one beside the one in DIR.

    git worktree add ../base 26b9cb3
    python scripts/compare_speed.py --base ../base --json speed.json

Each measurement runs in a process of its own with one thread, in one checkout and then in the other, again and again,
so that what else the machine does falls on both alike. Seconds are CPU time, memory is what tensors take at once;
medians count. "plain" is bench's plain form of Algorithm 1, which stands for the released code.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent.parent
STEPS = 2  # of a guided run


# Both checkouts run the measurements: they use only what the package has had since 26b9cb3.


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_gb(work: Callable[[], object]) -> float:
    """Most memory that the tensors of a call take at once."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    return max(accumulate(e.nbytes() for e in events if e.name() == "[memory]")) / 1e9


def training(tiny: bool) -> dict[str, float]:
    """A step of the pocket prior, 8 examples of 2 s: a third of what three steps more take, without start and end."""
    import torch

    from unasdiff_teach.networks import TriplePathConfig
    from unasdiff_teach.priors import PriorConfig
    from unasdiff_teach.training import CropConfig, Crops, PriorTrainer, TrainConfig

    samples, prior = 2000 if tiny else 16_000, PriorConfig(8000, network=TriplePathConfig.pocket())
    draw = Crops([0.1 * torch.randn(2 * samples, generator=torch.Generator().manual_seed(0))], [0], CropConfig(samples))

    def fit(steps: int) -> float:
        with TemporaryDirectory() as folder:
            config = TrainConfig(steps=steps, batch=8, log_every=100, save_every=100)
            trainer = PriorTrainer(folder, prior, config, draw, {"sha256": "0"})
            return seconds(lambda: trainer.fit(progress=False))

    fit(1)
    return {"pocket training step / s": (fit(4) - fit(1)) / 3}


def separation(tiny: bool) -> dict[str, float]:
    """One mixture of 2 s of two sources with `recommended()` and the shipped priors."""
    import torch

    import unasdiff_teach as ut

    mixture = 0.1 * torch.randn(2000 if tiny else 16_000, generator=torch.Generator().manual_seed(0))
    priors = [ut.priors.load("pocket-speech"), ut.priors.load("pocket-sound")]

    work = partial(ut.separate, mixture, priors, [None, 3], config=ut.SeparationConfig.recommended(), noise=0)
    work()
    return {"pocket separation / s": seconds(work)}


def guided(tiny: bool, form: str = "fast") -> dict[str, float]:
    """A guided step of the paper's network: 0.6 s, two sources."""
    import torch

    import unasdiff_teach as ut
    from unasdiff_teach import bench
    from unasdiff_teach.networks import TriplePathConfig

    prior = bench._prior(TriplePathConfig.pocket() if tiny else TriplePathConfig.paper(), form)
    mixture = 0.1 * torch.randn(2000 if tiny else 9600, generator=torch.Generator().manual_seed(0))
    schedule = prior.schedule.respace(STEPS)

    def noise(kind: str, i: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(i))

    plain = partial(bench.plain_separate, mixture, prior, 2, schedule, noise)
    fast = partial(ut.separate, mixture, prior, [None] * 2, schedule, ut.SeparationConfig.authors(), noise)
    work = plain if form == "plain" else fast
    peak = peak_gb(work)  # and warm
    return {f"paper guided step, {form} / s": seconds(work) / STEPS, f"paper guided step, {form} / GB": peak}


plain = partial(guided, form="plain")
MEASUREMENTS = {"training": training, "separation": separation, "guided": guided, "plain": plain}


def measure(checkout: Path, name: str, tiny: bool) -> dict[str, float]:
    settings = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "99"}
    command = [sys.executable, __file__, "--base", str(checkout), "--child", name, *["--tiny"] * tiny]
    done = subprocess.run(command, env=os.environ | settings, cwd=checkout, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed in {checkout}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=lambda path: Path(path).resolve(), required=True, help="the other checkout")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS, help="some of them")
    parser.add_argument("--repeats", type=int, default=5, help="processes for each measurement and checkout")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--tiny", action="store_true", help="small networks and signals: a test of this script")
    parser.add_argument("--child", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        import unasdiff_teach

        assert Path(unasdiff_teach.__file__).is_relative_to(args.base), f"imported {unasdiff_teach.__file__}"
        print(json.dumps(MEASUREMENTS[args.child](args.tiny)))
        return
    found: dict[str, dict[str, list[float]]] = {}
    for name in args.only:
        for checkout, folder in [("base", args.base), ("here", HERE)] * args.repeats:
            for what, value in measure(folder, name, args.tiny).items():
                found.setdefault(what, {"base": [], "here": []})[checkout].append(value)
    medians = {what: {c: statistics.median(values) for c, values in pair.items()} for what, pair in found.items()}
    print(f"{'':32} {'base':>8} {'here':>8} {'ratio':>6} {'to plain':>9}")
    for what, m in medians.items():
        m["ratio"] = m["here"] / m["base"]
        if plain := medians.get(what.replace("fast", "plain")) if "fast" in what else None:
            m["to_plain"] = m["here"] / plain["base"]
        print(f"{what:32} {m['base']:8.3f} {m['here']:8.3f} {m['ratio']:6.2f} {m.get('to_plain', math.nan):9.2f}")
    if args.json:
        args.json.write_text(json.dumps({"base": str(args.base), "medians": medians, "all": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
