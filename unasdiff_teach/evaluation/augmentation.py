"""Does more variety in the training examples help? `python -m unasdiff_teach.evaluation.augmentation`.

The shipped priors of real recordings are trained on for a while, each time with one change in how examples are cut,
and once without: same clips and steps for each seed. All runs denoise the same validation clips, cut without any
change. What was stopped goes on; commands with other seeds may run side by side.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..priors.shipped import load
from ..training.crops import CropConfig
from ..training.pocket import BRANCHES, Corpus
from ..training.prior import PriorTrainer, TrainConfig
from ..training.recipes import SECONDS, crop, prior_config
from .comparison import options, results, run, store
from .experiments import RESULTS
from .methods import fingerprint
from .search import denoising_db

TABLE = RESULTS / "augmentation.parquet"
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


def work(change: str, kind: str, seed: int, steps: int, out: Path) -> dict[str, float]:
    """Train one prior on under one change, and score it: processor seconds, and how far its error lies below the
    validation examples, in dB.
    """
    corpus, prior = Corpus.shipped("recorded"), load(f"recorded-{kind}")
    seconds = 0.0
    if change != BEFORE:
        cut = examples(change, kind, prior.labels)
        draw = corpus.crops((kind,), "train", prior.labels, cut)
        config = TrainConfig.pocket(steps=steps, learning_rate=LEARNING_RATE, seed=seed)
        start = {key: value.float() for key, value in prior.net.state_dict().items()}
        folder = out / f"{change.replace(' ', '-')}-{kind}-{seed}-{steps}"
        description = {"corpus": corpus.name, "sha256": corpus.sha256, "started_from": f"recorded-{kind}"}
        trainer = PriorTrainer(folder, prior_config(kind, corpus.sounds), config, draw, description, start=start)
        began = time.process_time()
        trainer.fit()
        seconds = round(time.process_time() - began, 1)
        prior.net.load_state_dict(trainer.ema)
    return {"seconds": seconds, "denoising_db": denoising_db(prior, corpus, (kind,), EXAMPLES)[kind]}


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

    table = pd.DataFrame(results(out))
    store(table.sort_values(["kind", "seed", "change"], ignore_index=True), path)


def main() -> None:
    args = options(__doc__, "augmentation").parse_args()
    if args.collect:
        return collect(args.out)
    priors = {name: fingerprint(load(name)) for name in (f"recorded-{kind}" for kind in BRANCHES)}
    about = {"corpus": Corpus.shipped("recorded").sha256, "priors": priors}
    names = ("change", "kind", "seed", "steps")
    run(args.out, about, names, planned(args.seeds, args.steps), partial(work, out=args.out))


if __name__ == "__main__":
    main()
