"""How the priors separate real recordings, resumable: `python -m unasdiff_teach.evaluation.recorded measure|collect`.

`measure` scores the priors of the recorded corpus, and those of the rendered one where they know the classes, on the fixed mixtures of
real recordings, all five tasks, beside the unprocessed mixture and the ratio mask. `collect` writes the shipped table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import data, priors
from ..data.mixing import LIST_SPLITS, TASKS, Mixture
from ..priors.shipped import FAMILIES
from ..separation import SeparationConfig
from . import tables
from .methods import Method, oracle, sampling, unprocessed
from .pocket import RESULTS
from .run import Run, evaluate


def separating(corpus: str) -> tuple[Method, tuple[str, ...]]:
    """`separate(recommended())` with the priors of one corpus, and the classes of sound that they know."""
    loaded = {kind: priors.load(f"{FAMILIES[corpus]}-{kind}") for kind in ("speech", "sound")}
    return sampling(f"{corpus} priors", loaded, SeparationConfig.recommended(), "recommended"), loaded["sound"].labels


def known(mixtures: list[Mixture], classes: tuple[str, ...]) -> list[Mixture]:
    """The mixtures whose sounds are all of these classes."""
    return [m for m in mixtures if all(label is None or label in classes for label in m.labels)]


def measure(folder: Path, tasks: list[str], split: str, count: int | None = None) -> None:
    """Score every method on the mixtures of `tasks` and one split; one folder for each task."""
    for task in tasks:
        mixtures, run = data.mixtures(task, split, count, "recorded"), Run(folder / f"{split} {task}".replace(" ", "_"))
        evaluate([unprocessed(), oracle("ratio")], mixtures, run)
        for corpus in FAMILIES:
            method, classes = separating(corpus)
            if some := known(mixtures, classes):
                evaluate([method], some, run, progress=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "collect"))
    parser.add_argument("--task", action="append", choices=TASKS, help="Of the five tasks; all by default. May be repeated.")
    parser.add_argument("--split", choices=LIST_SPLITS, default="validation")
    parser.add_argument("--count", type=int, help="Only the first mixtures of each list.")
    parser.add_argument("--folder", type=Path, default=Path("runs/recorded"))
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.folder, args.task or list(TASKS), args.split, args.count)
    else:
        folders = sorted(args.folder.glob(f"{args.split}_*"))
        tables.collect(folders, RESULTS / f"recorded_{args.split}.parquet")


if __name__ == "__main__":
    main()
