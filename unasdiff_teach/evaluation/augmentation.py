"""Does more variety in the training examples help? `python -m unasdiff_teach.evaluation.augmentation`.

The shipped priors of real recordings are trained on for a while, each time with one change in how examples are cut,
and once without: same clips and steps for each seed. All runs denoise the same validation clips, cut without any
change. What was stopped goes on; commands with other seeds may run side by side.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from .._files import Journal, locked
from ..priors.shipped import load
from ..training.crops import CropConfig
from ..training.pocket import BRANCHES, Corpus
from ..training.prior import PriorTrainer, TrainConfig
from ..training.recipes import SECONDS, crop, prior_config
from .experiments import RESULTS
from .search import denoising_db, store

TABLE = RESULTS / "augmentation.parquet"
LOG = "results.jsonl"
BEFORE, SAME = "not trained on", "as before"
MANY_AT_ONCE = ("Bark", "Fire_crackling", "Rain", "Rooster", "Sea_waves")
CHANGES = {
    SAME: {},
    "one speed": {"speeds": (1.0,)},
    "equaliser": {"equalise_db": 6.0},
    "rooms": {"reverberant": 0.3},
    "two of a class": {"layered": 0.5},
}
EXAMPLES = 192  # of each kind, that are denoised
LEARNING_RATE = 3e-4  # a third of the one that made the priors: they are trained on, not made from nothing


def examples(change: str, kind: str, labels: tuple[str, ...]) -> CropConfig | None:
    """How examples of a kind are cut under one of `CHANGES`; None where it changes nothing for this kind."""
    changes = dict(CHANGES[change])
    if changes.get("layered"):
        if kind == "speech":  # a crowd is not a voice
            return None
        changes["layered_labels"] = tuple(labels.index(name) for name in MANY_AT_ONCE)
    return replace(crop(SECONDS[kind]), **changes)


def work(change: str, kind: str, seed: int, steps: int, out: Path) -> None:
    """Train one prior on under one change and score it; one more line in OUT/results.jsonl."""
    corpus, prior = Corpus.shipped("recorded"), load(f"recorded-{kind}")
    line = {"change": change, "kind": kind, "seed": seed, "steps": steps, "seconds": 0.0}
    if change != BEFORE:
        cut = examples(change, kind, prior.labels)
        draw = corpus.crops((kind,), "train", prior.labels, cut)
        config = TrainConfig.pocket(steps=steps, learning_rate=LEARNING_RATE, seed=seed)
        start = {key: value.float() for key, value in prior.net.state_dict().items()}
        folder = out / f"{change.replace(' ', '-')}-{kind}-{seed}-{steps}"
        description = {"corpus": corpus.name, "sha256": corpus.sha256, "started_from": f"recorded-{kind}"}
        run = PriorTrainer(folder, prior_config(kind, corpus.sounds), config, draw, description, start=start)
        began = time.process_time()
        run.fit()
        line["seconds"] = round(time.process_time() - began, 1)
        prior.net.load_state_dict(run.ema)
    line["denoising_db"] = denoising_db(prior, corpus, (kind,), EXAMPLES)[kind]
    with locked(out, "augmentation", patience=60.0):
        Journal(out / LOG).append(line)


def planned(seeds: list[int], steps: int) -> list[tuple[str, str, int, int]]:
    """Each change, kind, seed and number of steps; first the priors as they are."""
    runs = [(BEFORE, kind, 0, 0) for kind in BRANCHES] if 0 in seeds else []
    for seed in seeds:
        for kind in BRANCHES:
            labels = load(f"recorded-{kind}").labels
            runs += [(change, kind, seed, steps) for change in CHANGES if examples(change, kind, labels)]
    return runs


def collect(out: Path, path: Path = TABLE) -> None:
    """Write what has been scored so far to the package, with where it was computed."""
    import pandas as pd

    table = pd.DataFrame(Journal(out / LOG).read())
    store(table.sort_values(["kind", "seed", "change"], ignore_index=True), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/augmentation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--collect", action="store_true", help="Write what has been scored so far to the package.")
    args = parser.parse_args()
    if args.collect:
        return collect(args.out)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    names = ("change", "kind", "seed", "steps")
    done = {tuple(line[name] for name in names) for line in Journal(args.out / LOG).read()}
    for run in planned(args.seeds, args.steps):
        if run not in done:
            work(*run, args.out)


if __name__ == "__main__":
    main()
