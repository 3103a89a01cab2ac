"""Ablation of the network's three paths at pocket scale, resumable: `python -m unasdiff_teach.training.ablation`.

For each seed one small network for each of the eight subsets of paths, and two controls whose attention is replaced by
the identity, all with the same data and steps. When all are trained, their denoising errors on fixed validation
examples are written, example by example, as a Parquet file; --ship also puts it in the place of the one that comes
with the package.
"""

from __future__ import annotations

import argparse
import platform
import warnings
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from .. import data
from .._files import replacing
from ..data.pocket_corpus import SAMPLE_RATE
from ..diffusion import forward_noise, tweedie
from ..networks import TriplePathConfig
from ..priors.neural import NeuralPrior, PriorConfig
from .crops import Crops
from .pocket import Corpus
from .prior import PriorTrainer, TrainConfig
from .recipes import JOINT_LABELS, SIGMA_DATA, crop

PATHS = ("global", "frame", "frequency")
SUBSETS = tuple(subset for n in range(len(PATHS) + 1) for subset in combinations(PATHS, n))
CONTROLS = (("frame",), PATHS)  # once more without attention; "frequency" would be the same network as "frame"
SEEDS = (0, 1, 2)
STEPS = 1500
SECONDS = 1.0
EXAMPLES = 128  # of the validation split, for each noise level
LEVELS = (10, 30, 100)  # t of the errors, from mostly sound to mostly noise
LABELS = JOINT_LABELS
RESULTS = Path(__file__).parent.parent / "evaluation" / "results" / "ablation_paths.parquet"


def name_of(paths: Sequence[str], attention: bool = True) -> str:
    """What a network is called: "frame+frequency", "frame without attention", or "none" without any path."""
    return ("+".join(paths) or "none") + ("" if attention else " without attention")


def network(paths: Sequence[str], attention: bool = True) -> TriplePathConfig:
    """A small pocket network with these paths; where it has none, convolutions alone are left."""
    return TriplePathConfig.pocket(classes=len(LABELS)).replace(
        channels=16,
        embedding=32,
        heads=2,
        depths=(1, 1, 1, 1, 1),
        patch=(4, 4),
        paths=tuple(paths),
        attention=attention,
    )


def examples(split: str) -> Crops:
    """Crops of all voices and sounds of a split; speech is one class, as in the joint training of the shipped
    priors.
    """
    return Corpus.shipped().crops(("speech", "sound"), split, LABELS, crop(SECONDS, speeds=(1.0,)))


def trainer(
    paths: Sequence[str], folder: str | Path, steps: int, seed: int, draw: Crops, attention: bool = True
) -> PriorTrainer:
    """The trainer of one network, in a folder of its own below `folder`."""
    prior = PriorConfig(
        sample_rate=SAMPLE_RATE, labels=LABELS, target="preconditioned", sigma_data=SIGMA_DATA,
        network=network(paths, attention),
    )  # fmt: skip
    config = TrainConfig.pocket(steps=steps, batch=16, learning_rate=2e-3, seed=seed)
    description = {"corpus": "pocket speech and sound, train split", "sha256": data.pocket_hash()}
    with warnings.catch_warnings():
        # the modulation of a level without paths
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return PriorTrainer(
            Path(folder) / f"{name_of(paths, attention)}-{steps}-{seed}", prior, config, draw, description
        )


@torch.no_grad()
def errors(prior: NeuralPrior, x0: Tensor, label: Tensor, seed: int) -> pd.DataFrame:
    """Denoising error of each example [B, N] at each of `LEVELS`, in dB relative to the example; columns example,
    label, t, error_db.
    """
    rows = []
    for t in LEVELS:
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
        x_t = forward_noise(x0, t, noise, prior.schedule)
        eps = torch.cat(
            [prior(x, torch.full((len(x),), t), c) for x, c in zip(x_t.split(16), label.split(16), strict=True)]
        )
        ratio = (tweedie(x_t, eps, t, prior.schedule) - x0).square().sum(-1) / x0.square().sum(-1)
        rows += [
            {"example": i, "label": LABELS[c], "t": t, "error_db": e}
            for i, (c, e) in enumerate(zip(label.tolist(), (10 * ratio.log10()).tolist(), strict=True))
        ]
    return pd.DataFrame(rows)


def run(
    folder: str | Path,
    steps: int = STEPS,
    seeds: Sequence[int] = SEEDS,
    subsets: Sequence[Sequence[str]] = SUBSETS,
    controls: Sequence[Sequence[str]] = CONTROLS,
    progress: bool = True,
) -> pd.DataFrame:
    """Train what is missing, and measure every network with its averaged weights.

    Args:
        seeds: of the weights, the training examples and the noises; the examples measured are the same for all.
        subsets: of paths, one network each.
        controls: subsets whose network is trained without attention.

    Returns:
        One row for each seed, network, example and t, with what made it: parameters, steps, seed, corpus, machine,
            versions.
    """
    draw = examples("train")
    x0, label = examples("validation")(EXAMPLES, torch.Generator().manual_seed(0))
    networks = [(paths, True) for paths in subsets] + [(paths, False) for paths in controls]
    tables = []
    for seed, (paths, attention) in product(seeds, networks):
        training = trainer(paths, folder, steps, seed, draw, attention)
        training.fit(progress=progress)
        training.prior.net.load_state_dict(training.ema)
        tables.append(
            errors(training.prior, x0, label, seed)
            .astype({"error_db": "float32"})
            .assign(
                paths=name_of(paths, attention),
                parameters=sum(p.numel() for p in training.prior.net.parameters()),
                steps=steps,
                seed=seed,
                train_loss=training.losses[-1][1],
                corpus=data.pocket_hash(),
                machine=f"{platform.machine()}, {training.device.type}",
                versions=f"torch {torch.__version__}",
            )
        )
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/ablation"), help="states go to FOLDER/NETWORK-STEPS-SEED"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--out", type=Path, help=f"default: FOLDER/{RESULTS.name}")
    parser.add_argument(
        "--ship", action="store_true", help="Put the errors in the place of those that the package has."
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    table = run(args.folder, args.steps, args.seeds)
    out = args.out or args.folder / RESULTS.name
    for path in (out, RESULTS) if args.ship else (out,):
        with replacing(path) as partial:
            table.to_parquet(partial, index=False)
        print(path)
    print(table.groupby(["paths", "t"], sort=False)["error_db"].mean().unstack().round(2))


if __name__ == "__main__":
    main()
