"""Trains the shipped priors, resumable: `python -m unasdiff_teach.training.pocket [STAGE ...]`.

Speech and sounds are first learned together by one network that is told the class, speech being one of them; the two
priors then start from its weights and each goes on alone. What sounds have in common is so learned once.

The stages diffwave-speech and diffwave-sound train the DiffWave priors of the pocket form of Table 3, each from its
beginning, on the same recordings. Its operations lie between those that the triple-path prior spent on its own kind of
recordings and those of both its stages.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .. import data
from ..data.pocket import LABELS, SAMPLE_RATE
from ..networks import DiffWaveConfig, TriplePathConfig
from ..priors.neural import PriorConfig
from ..priors.shipped import WEIGHTS
from .crops import CropConfig, Crops
from .prior import PriorTrainer, TrainConfig

STAGES = ("joint", "speech", "sound", "diffwave-speech", "diffwave-sound")
BRANCHES = ("speech", "sound")  # of the joint stage
SPEECH = "speech"  # its class in the joint stage
SOUNDS = LABELS["sound"]
JOINT_LABELS = (SPEECH, *SOUNDS)
SECONDS = {"joint": 1.0, "speech": 2.0, "sound": 2.0, "diffwave-speech": 2.0, "diffwave-sound": 2.0}
BATCH = {"joint": 16, "speech": 8, "sound": 8, "diffwave-speech": 8, "diffwave-sound": 8}  # as many seconds in each stage
STEPS = {"joint": 3600, "speech": 1500, "sound": 1500, "diffwave-speech": 2300, "diffwave-sound": 2300}
SPEECH_SHARE = 0.35  # of the joint examples: six voices and all phonemes are more to learn than one instrument
LEVEL_DB = (-26.0, -11.0)  # from the quietest source of a raw mixture to the loudest of one normalised to its peak
SIGMA_DATA = 0.13  # RMS of a source in a mixture normalised to its peak, about -18 dB


def crops(
    kinds: Sequence[str], split: str, labels: Sequence[str], config: CropConfig, shares: Sequence[float] | None = None
) -> Crops:
    """Crops of the pocket clips of these kinds. Speech is one class, and sounds have theirs; without `labels` all are class 0."""
    clips = [clip for kind in kinds for clip in data.pocket(kind, split)]
    names = [SPEECH if clip.kind == "speech" else clip.label for clip in clips]
    return Crops([clip.audio for clip in clips], [labels.index(name) if labels else 0 for name in names], config, shares)


def trainer(stage: str, folder: str | Path, config: TrainConfig, start: dict[str, Tensor] | None = None) -> PriorTrainer:
    """A trainer of one of `STAGES` in `folder`."""
    kind = stage.removeprefix("diffwave-")
    kinds = ("speech", "sound") if kind == "joint" else (kind,)
    labels = {"joint": JOINT_LABELS, "speech": (), "sound": SOUNDS}[kind]
    network = TriplePathConfig if kind == stage else DiffWaveConfig
    crop = CropConfig(length=round(SECONDS[stage] * SAMPLE_RATE), level_db=LEVEL_DB, partial=0.5, speeds=(1.0, 0.94, 1.06))
    shares = [SPEECH_SHARE, *[(1 - SPEECH_SHARE) / len(SOUNDS)] * len(SOUNDS)] if stage == "joint" else None
    draw = crops(kinds, "train", labels, crop, shares)
    prior = PriorConfig(
        sample_rate=SAMPLE_RATE,
        labels=labels,
        target="preconditioned",
        sigma_data=SIGMA_DATA,
        network=network.pocket(classes=len(labels)),
    )
    description = {"corpus": f"pocket {' and '.join(kinds)}, train split", "sha256": data.pocket_hash()}
    if start is not None:
        description["started_from"] = f"{STEPS['joint']} steps of joint training on speech and sounds"
    return PriorTrainer(folder, prior, config, draw, description, start=start)


def branch(stage: str, joint: PriorTrainer) -> dict[str, Tensor]:
    """The joint weights, averaged, as initial weights of a branch: its rows of the label tables, everything else as it is."""
    labels = joint.prior_config.labels
    if stage == "speech":
        rows = [labels.index(SPEECH)]  # an unconditional prior has one row
    else:
        rows = [i for i, label in enumerate(labels) if label != SPEECH] + [len(labels)]
    return {
        key: value[torch.tensor(rows)] if key.endswith("embed_label.weight") else value.clone()
        for key, value in joint.average.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=STAGES, help=f"default: {' '.join(STAGES)}, in this order")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="state and milestones go to FOLDER/pocket-STAGE")
    parser.add_argument("--threads", type=int, help="of the processor; two branches can train side by side with one each")
    args = parser.parse_args()
    if unknown := set(args.stages) - set(STAGES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = {stage: args.folder / f"pocket-{stage}" for stage in STAGES}
    configs = {stage: TrainConfig.pocket(steps=STEPS[stage], batch=BATCH[stage]) for stage in STAGES}
    for stage in STAGES:
        if stage not in args.stages:
            continue
        start = None
        if stage in BRANCHES:
            joint = trainer("joint", folder["joint"], configs["joint"])
            if joint.step < STEPS["joint"]:
                parser.error(f"{stage} starts from the joint stage, which stands at step {joint.step} of {STEPS['joint']}")
            start = branch(stage, joint)
        run = trainer(stage, folder[stage], configs[stage], start)
        run.fit()
        run.export(WEIGHTS / f"pocket-{stage}.safetensors")


if __name__ == "__main__":
    main()
