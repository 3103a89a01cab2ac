"""Trains the two shipped priors, resumable: `python -m unasdiff_teach.training.pocket [speech|sound]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import data
from ..networks import TriplePathConfig
from ..priors.neural import PriorConfig
from ..priors.shipped import WEIGHTS
from .crops import CropConfig, Crops
from .prior import PriorTrainer, TrainConfig

KINDS = ("speech", "sound")
SECONDS = 2.0
SIGMA_DATA = 0.13  # RMS of a source in a mixture normalised to its peak, about -18 dB


def trainer(kind: str, folder: str | Path, config: TrainConfig) -> PriorTrainer:
    """A trainer of the pocket prior for "speech" or "sound" in `folder`."""
    clips = data.pocket(kind, split="train")
    labels = clips.labels if kind == "sound" else ()
    crop = CropConfig(
        length=round(SECONDS * clips.sample_rate),
        level_db=(-26.0, -11.0),
        partial=0.5,
        speeds=(1.0, 0.92, 1.08) if kind == "speech" else (1.0, 0.95, 1.05),
    )
    draw = Crops([clip.audio for clip in clips], [labels.index(clip.label) if labels else 0 for clip in clips], crop)
    prior = PriorConfig(
        sample_rate=clips.sample_rate,
        labels=labels,
        target="preconditioned",
        sigma_data=SIGMA_DATA,
        network=TriplePathConfig.pocket(classes=len(labels)),
    )
    return PriorTrainer(folder, prior, config, draw, {"corpus": f"pocket {kind}, train split", "sha256": data.pocket_hash()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"which priors; default {' '.join(KINDS)}")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="state and milestones go to FOLDER/pocket-KIND")
    parser.add_argument("--steps", type=int, default=TrainConfig.pocket().steps)
    args = parser.parse_args()
    if unknown := set(args.kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    for kind in args.kinds:
        run = trainer(kind, args.folder / f"pocket-{kind}", TrainConfig.pocket(steps=args.steps))
        run.fit()
        run.export(WEIGHTS / f"pocket-{kind}.safetensors")


if __name__ == "__main__":
    main()
