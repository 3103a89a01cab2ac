"""Trains the shipped priors, resumable: `python -m unasdiff_teach.training.pocket [STAGE ...]`.

A prior is written into the folder of the training; --ship also puts it, once it is finished, in the place of the one
that comes with the package.

Speech and sounds are first learned together by one network that is told the class, speech being one of them; the two
priors then start from its weights and each goes on alone. What sounds have in common is so learned once.

The stages diffwave-speech and diffwave-sound train the DiffWave priors of the pocket form of Table 3, each from its
beginning, on the same recordings. Its operations lie between those that the triple-path prior spent on its own kind of
recordings and those of both its stages.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import _lazy, data
from ..data.pocket_corpus import Clip
from ..data.recordings import SOUND_CLASSES, recordings, recordings_hash
from ..priors.neural import read
from ..priors.shipped import FAMILIES, WEIGHTS
from . import recipes
from .crops import CropConfig, Crops
from .prior import PriorTrainer, TrainConfig
from .recipes import BRANCHES, SPEECH, STAGES
from .state import read_state

__getattr__ = _lazy.renamed(
    __name__,
    {
        name: f"training.recipes.{name}"
        for name in "BATCH JOINT_LABELS LEVEL_DB SECONDS SIGMA_DATA SPEECH_SHARE STEPS crop prior_config".split()
    },
)


@dataclass(frozen=True)
class Corpus:
    """Recordings to train on.

    Attributes:
        name, sha256: for cards.
        clips: clips(kind, split).
        sounds: classes of sound; the place of a name is its class index.
    """

    name: str
    sha256: str
    clips: Callable[[str, str], Sequence[Clip]]
    sounds: tuple[str, ...]

    @classmethod
    def shipped(cls, name: str = "rendered") -> Corpus:
        """A corpus of the package: "rendered" (cards call it "pocket") or "recorded"."""
        clips = partial(data.pocket, corpus=name)
        return cls(FAMILIES[name], data.pocket_hash(name), clips, clips("sound").labels)

    @classmethod
    def recorded(cls, folder: Path) -> Corpus:
        """Real recordings in a folder, see `data.recordings`."""
        return cls("recordings", recordings_hash(folder), partial(recordings, folder), SOUND_CLASSES)

    def crops(
        self,
        kinds: Sequence[str],
        split: str,
        labels: Sequence[str],
        config: CropConfig,
        speech_share: float | None = None,
    ) -> Crops:
        """Crops of the clips of these kinds.

        Args:
            labels: class names. Speech is one class, and sounds have theirs; without labels all are class 0.
            speech_share: of the examples, where there are sounds as well; by default speech comes as often as each
                class.
        """
        clips = [clip for kind in kinds for clip in self.clips(kind, split)]
        names = [SPEECH if clip.kind == "speech" else clip.label for clip in clips]
        shares = None
        if speech_share is not None:
            present = [label for label in labels if label in names]
            shares = [speech_share if label == SPEECH else (1 - speech_share) / (len(present) - 1) for label in present]
        return Crops(
            [clip.audio for clip in clips], [labels.index(name) if labels else 0 for name in names], config, shares
        )


def trainer(
    stage: str,
    folder: str | Path,
    config: TrainConfig,
    start: dict[str, Tensor] | None = None,
    corpus: Corpus | None = None,
    device: str = "cpu",
    started_from: str = f"{recipes.STEPS['joint']} steps of joint training on speech and sounds",
    **looking,
) -> PriorTrainer:
    """A trainer of one of `STAGES` in `folder`, on the pocket corpus unless another is named; `started_from` says of
    the card where the weights `start` come from; `looking` are more arguments of `PriorTrainer`."""
    corpus = corpus or Corpus.shipped()
    prior = recipes.prior_config(stage, corpus.sounds)
    kinds = ("speech", "sound") if stage == "joint" else (stage.removeprefix("diffwave-"),)
    share = recipes.SPEECH_SHARE if stage == "joint" else None
    draw = corpus.crops(kinds, "train", prior.labels, recipes.crop(recipes.SECONDS[stage]), share)
    description = {"corpus": f"{corpus.name} {' and '.join(kinds)}, train split", "sha256": corpus.sha256}
    if start is not None:
        description["started_from"] = started_from
    return PriorTrainer(folder, prior, config, draw, description, device, start, **looking)


def stage_trainer(
    stage: str, folder: str | Path, changes: Mapping, start: dict[str, Tensor] | None = None, **looking
) -> PriorTrainer:  # fmt: skip
    """A trainer of one of `STAGES` on the pocket corpus, as `trainer`; `changes` are fields of `TrainConfig` that
    differ from the recipe's."""
    return trainer(stage, folder, recipes.stage_config(stage, **changes), start, **looking)


def branch(stage: str, labels: Sequence[str], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a joint network that knows `labels`, as initial weights of a branch: its rows of the label tables,
    everything else as it is."""
    if stage == "speech":
        rows = [labels.index(SPEECH)]  # an unconditional prior has one row
    else:
        rows = [i for i, label in enumerate(labels) if label != SPEECH] + [len(labels)]
    return {
        key: value[torch.tensor(rows)] if key.endswith("embed_label.weight") else value.clone()
        for key, value in weights.items()
    }


def branch_of(stage: str, joint: PriorTrainer) -> dict[str, Tensor]:
    """Initial weights of a branch from a finished joint training.

    Raises:
        ValueError: it is not finished.
    """
    if joint.step < joint.config.steps:
        raise ValueError(
            f"{stage} starts from the joint stage, which stands at step {joint.step} of {joint.config.steps}"
        )
    return branch(stage, joint.prior.labels, joint.ema)


def _under_its_old_name(old: Path, new: Path, corpus: Corpus) -> str | None:
    """What to do about a training on this corpus that was begun when those on recordings were called "pocket"."""
    if new.exists() or not (old / "state.pt").is_file():
        return None
    if read_state(old / "state.pt", "cpu").get("identity", {}).get("data") != {"sha256": corpus.sha256}:
        return None
    return f"{old} holds a training on these recordings, which is called {new.name} now; rename it to {new} to go on"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=STAGES, help=f"default: {' '.join(STAGES)}, in this order")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs"),
        help="State and milestones go to FOLDER/NAME, the prior to FOLDER/NAME.safetensors; NAME is pocket-STAGE, or"
        " recorded-STAGE on real recordings.",
    )
    parser.add_argument("--recordings", type=Path, help="Train on this folder of real recordings instead.")
    parser.add_argument(
        "--corpus", choices=data.CORPORA, default="rendered", help="Which of the package's corpora to train on."
    )
    parser.add_argument(
        "--joint", type=Path, metavar="PRIOR", help="Begin both branches from this joint prior instead."
    )
    parser.add_argument("--steps", type=int, help="Length of each stage, instead of the recipe's.")
    parser.add_argument(
        "--minutes", type=float, help="Stop after so many minutes in all, loading included; the next call goes on."
    )
    parser.add_argument(
        "--ship", action="store_true", help="Put each finished prior in the place of the one that the package has."
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--threads", type=int, help="Threads to compute with; two branches can train side by side with one each."
    )
    args, began = parser.parse_args(), time.monotonic()
    if unknown := set(args.stages) - set(STAGES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    if args.ship and args.recordings:
        parser.error("--ship is for priors of the package's corpora; leave out --recordings, or --ship")
    if args.threads:
        torch.set_num_threads(args.threads)
    corpus = Corpus.recorded(args.recordings) if args.recordings else Corpus.shipped(args.corpus)
    name = FAMILIES["recorded" if args.recordings else args.corpus]
    changes = {"save_minutes": 2} | ({"steps": args.steps} if args.steps else {})
    configs = {stage: recipes.stage_config(stage, **changes) for stage in STAGES}
    folder = {stage: args.folder / f"{name}-{stage}" for stage in STAGES}
    if args.recordings:
        for stage in STAGES:
            if problem := _under_its_old_name(args.folder / f"pocket-{stage}", folder[stage], corpus):
                parser.error(problem)
    for stage in STAGES:
        if stage not in args.stages:
            continue
        start, origin = None, {}
        if stage in BRANCHES and args.joint:
            joint = read(args.joint)
            origin = {"started_from": f"{joint.card['steps']} steps of joint training on speech and sounds"}
            start = branch(stage, joint.labels, {key: value.float() for key, value in joint.net.state_dict().items()})
        elif stage in BRANCHES:
            try:
                start = branch_of(stage, trainer("joint", folder["joint"], configs["joint"], corpus=corpus))
            except ValueError as error:
                parser.error(str(error))
        run = trainer(stage, folder[stage], configs[stage], start, corpus, args.device, **origin)
        finished = run.fit(seconds=args.minutes and max(1.0, 60 * args.minutes - (time.monotonic() - began)))
        made = args.folder / f"{name}-{stage}.safetensors"
        run.export(made)
        print(f"{stage}: step {run.step} of {run.config.steps}, {made}")
        if args.ship and finished:
            run.export(WEIGHTS / made.name)
            print(f"{stage}: shipped as {WEIGHTS / made.name}")


if __name__ == "__main__":
    main()
