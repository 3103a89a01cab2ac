"""The pocket table, resumable: `python -m unasdiff_teach.evaluation.pocket tune|measure|real|collect [METHOD ...]`.

`tune` scores a grid of nine settings for each guidance rule on the first three validation mixtures of 1 speech + 1 sound;
`measure` scores every method on the test mixtures, guidance rules at their default (`authors()`, all 200 steps) and, in
`short()`, at their best of the grid; `real` scores the recommended configuration on the mixtures of real recordings, where these are
there; `collect` writes the Parquet files that are shipped. Each method has a folder of its own, so that several processes may share the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from .. import data, priors
from ..diffusion import Prior
from ..guidance import DPS, DSG, Guidance, Hybrid
from ..separation import AnalyticalConfig, SeparationConfig
from . import tables
from .methods import Method, oracle, sampling, unprocessed
from .run import Run, evaluate

if TYPE_CHECKING:
    import pandas as pd

TASK = "1 speech + 1 sound"
TUNED_ON = 3  # validation mixtures
DEFAULTS: dict[str, Guidance] = {"hybrid": Hybrid(), "dsg": DSG(), "dps": DPS()}
GRID: dict[str, list[Guidance]] = {
    "hybrid": [Hybrid(s_floor=floor, sigma_scale=scale) for scale, floor in product((0.1, 0.2, 0.35), (0.002, 0.004, 0.008))],
    "dsg": [DSG(sigma_scale=scale) for scale in (0.05, 0.1, 0.14, 0.2, 0.28, 0.35, 0.5, 0.7, 1.0)],
    "dps": [DPS(scale=scale) for scale in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 3.0)],
}
SHORT: dict[str, Guidance] = {
    "hybrid": Hybrid(s_floor=0.008, sigma_scale=0.2),
    "dsg": DSG(sigma_scale=0.28),
    "dps": DPS(scale=0.2),
}
"""The best of each grid by `pocket_tuning.parquet`, on the mixtures that all its settings have in common."""
NAMES = ("ceilings", "recommended", *(f"{rule}-tuned" for rule in DEFAULTS), "analytical", *DEFAULTS)
RESULTS = Path(__file__).parent / "results"


def pocket_priors() -> dict:
    """The shipped priors by kind of source."""
    return {"speech": priors.load("pocket-speech"), "sound": priors.load("pocket-sound")}


def candidates(rule: str, loaded: Mapping[str, Prior]) -> list[Method]:
    """The grid of a rule as methods, in the short configuration."""
    base = SeparationConfig.short()
    return [sampling(str(guidance), loaded, base.replace(guidance=guidance), "short") for guidance in GRID[rule]]


def tune(rule: str, folder: Path, progress: bool = True, loaded: Mapping[str, Prior] | None = None) -> Guidance:
    """The setting of a rule's grid with the best mean SI-SDR on the validation mixtures, with the shipped priors if no others are given."""
    mixtures = data.mixtures(task=TASK, split="validation", count=TUNED_ON)
    scores = evaluate(candidates(rule, loaded or pocket_priors()), mixtures, Run(folder / f"tune-{rule}"), progress=progress)
    return best_of(rule, scores[scores["mixture"].isin(m.id for m in mixtures)])


def best_of(rule: str, scores: pd.DataFrame) -> Guidance:
    """The setting of a rule's grid with the best mean SI-SDR, all settings on the same mixtures.

    Args:
        scores: results under the names of `candidates`; a mixture that a setting lacks counts for none.

    Raises:
        ValueError: the settings of the grid have no mixture in common.
    """
    grid = {str(guidance): guidance for guidance in GRID[rule]}
    table = scores.pivot_table("si_sdr", "mixture", "method").reindex(columns=list(grid)).dropna()
    if table.empty:
        raise ValueError(f"no mixture was scored with all {len(grid)} settings of {rule!r}")
    return grid[table.mean().idxmax()]


def methods(name: str, folder: Path) -> list[Method]:
    """The methods behind one name of the table."""
    if name == "ceilings":
        return [unprocessed(), oracle("ratio"), oracle("wiener")]
    loaded = pocket_priors()
    if name == "analytical":
        return [sampling(name, loaded, AnalyticalConfig.authors(), "authors")]
    if name == "recommended":
        return [sampling(name, loaded, SeparationConfig.recommended(), name)]
    rule, _, tuned = name.partition("-")
    if tuned:
        return [sampling(f"{rule} tuned", loaded, SeparationConfig.short(tune(rule, folder)), "short")]
    return [sampling(rule, loaded, SeparationConfig.authors(DEFAULTS[rule]), "authors")]


def collect(folder: Path) -> None:
    """Write what has been measured so far to the package: `pocket_table`, `pocket_tuning` and `pocket_real`."""
    parts = {"table": NAMES, "tuning": [f"tune-{rule}" for rule in GRID], "real": ["real"]}
    for part, names in parts.items():
        tables.collect([folder / name for name in names], RESULTS / f"pocket_{part}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tune", "measure", "real", "collect"))
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket-table"))
    parser.add_argument("--count", type=int, help="only the first mixtures of the test list")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if args.what == "tune":
        for rule in sorted(set(args.names) & set(GRID)):
            print(rule, tune(rule, args.folder))
    elif args.what == "measure":
        mixtures = data.mixtures(task=TASK, split="test", count=args.count)
        for name in args.names:
            evaluate(methods(name, args.folder), mixtures, Run(args.folder / name), progress=True)
    elif args.what == "real":
        both = [*methods("ceilings", args.folder), *methods("recommended", args.folder)]
        evaluate(both, data.real_mixtures(), Run(args.folder / "real"), progress=True)
    else:
        collect(args.folder)


if __name__ == "__main__":
    main()
