"""Trains the shipped separators, resumable: `python -m unasdiff_teach.training.separators [NAME ...]`.

Each NAME, such as pocket-conv-tasnet-speech-sound, is a corpus ("pocket" is the rendered one), a network and the kinds
of sound that it takes apart: an expert for one task, trained on mixtures that are made on the fly by the rules of the
test mixtures. It is written into the folder of the training; --ship also puts it in the place of the one that comes
with the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .. import data
from ..data.mixing import TASKS, MixtureRules
from ..data.mixture_lists import SOUND_SECONDS
from ..priors.shipped import FAMILIES
from ..separators import Separator, SeparatorConfig
from ..separators.shipped import WEIGHTS
from .crops import CropConfig, Crops
from .recipes import CONFIGS, NAMES, NETWORKS, SPEEDS
from .separator import Mixer, SeparatorTrainConfig, SeparatorTrainer, separation_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Lists that a finished expert is scored on; the test list of real recordings is opened by an experiment alone.
SCORED = {"rendered": ("validation", "test"), "recorded": ("validation",)}


def mixer(task: str, corpus: str = "rendered") -> Mixer:
    """Sources of a task's mixtures from a corpus's training clips, by the rules of the fixed lists: speech fills the
    2 s, a sound half or more.
    """
    rules = MixtureRules.pocket()
    shortest = SOUND_SECONDS[0] * rules.sample_rate / rules.length
    crops = {}
    for kind in set(TASKS[task]):
        clips = data.pocket(kind, "train", corpus=corpus)
        config = CropConfig(
            rules.length, rules.level_db, partial=float(kind == "sound"), shortest=shortest, speeds=SPEEDS
        )
        crops[kind] = Crops([clip.audio for clip in clips], [clips.labels.index(clip.label) for clip in clips], config)
    return Mixer(crops, TASKS[task])


def trainer(name: str, folder: str | Path, config: SeparatorTrainConfig | None = None) -> SeparatorTrainer:
    """The trainer of one of `NAMES` in `folder`; by default with its network's configuration of `CONFIGS`."""
    corpus, network, task = NAMES[name]
    return expert(network, task, folder, config, corpus=corpus)


def expert(
    network: str,
    task: str,
    folder: str | Path,
    config: SeparatorTrainConfig | None = None,
    fabric: Fabric | None = None,
    corpus: str = "rendered",
) -> SeparatorTrainer:
    """The trainer of a network of `NETWORKS` for a task, on a corpus of the package."""
    kinds = TASKS[task]
    separator = SeparatorConfig(MixtureRules.pocket().sample_rate, kinds, NETWORKS[network].pocket(len(kinds)))
    description = {
        "corpus": f"{FAMILIES[corpus]} {' and '.join(sorted(set(kinds)))}, train split",
        "task": task,
        "sha256": data.pocket_hash(corpus),
    }
    draw = mixer(task, corpus)
    return SeparatorTrainer(folder, separator, config or CONFIGS[network], draw, description, fabric=fabric)


@torch.no_grad()
def score(separator: Separator, name: str, split: str) -> float:
    """Mean SI-SDR of one of `NAMES` over all sources of its fixed list in dB, in the best order of the sources of one
    kind.
    """
    corpus, _, task = NAMES[name]
    mixtures = data.mixtures(task=task, split=split, corpus=corpus)
    losses = [separation_loss(separator(m.mixture[None]), m.sources[None], m.kinds) for m in mixtures]
    return -float(torch.cat(losses).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME", help=f"default: {' '.join(NAMES)}")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs"),
        help="State and milestones go to FOLDER/NAME, the separator to FOLDER/NAME.safetensors.",
    )
    parser.add_argument(
        "--ship", action="store_true", help="Put each separator in the place of the one that the package has."
    )
    parser.add_argument("--threads", type=int, help="CPU threads; several names can train side by side with one each")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if args.threads:
        torch.set_num_threads(args.threads)
    for name in args.names:
        run = trainer(name, args.folder / name)
        run.fit()
        separator = run.model
        separator.net.load_state_dict(run.ema)
        separator.eval()
        scores = {split: round(score(separator, name, split), 2) for split in SCORED[NAMES[name][0]]}
        for home in (args.folder, WEIGHTS) if args.ship else (args.folder,):
            run.export(home / f"{name}.safetensors", si_sdr_db=scores)
        print(f"{name}: mean SI-SDR " + ", ".join(f"{db} dB on the {split} mixtures" for split, db in scores.items()))


if __name__ == "__main__":
    main()
