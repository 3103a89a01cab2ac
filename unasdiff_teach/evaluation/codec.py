"""Does the compression of the training clips harm what is trained on them? `python -m unasdiff_teach.evaluation.codec
--recordings DIR`.

The pocket network, for speech and all classes of sound, is trained from nothing on the recordings as they are, and on
the same after the Vorbis of `data.pack`: same clips, steps and draws, for each seed. All runs denoise the same
validation clips, which were never compressed. What was stopped goes on; commands with other seeds may run side by side.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .._files import Journal, locked
from ..data.pack import encode
from ..data.pocket_corpus import Clip
from ..networks import TriplePathConfig
from ..priors.neural import read
from ..training.pocket import Corpus
from ..training.prior import PriorTrainer, TrainConfig
from .experiments import RESULTS
from .search import denoising_db, joint, store

TABLE = RESULTS / "codec.parquet"
LOG = "results.jsonl"
CODECS = ("none", "vorbis")


def decoded(clip: Clip) -> Clip:
    """A clip as it comes back from the compression of the package."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.ogg"
        encode(path, clip.audio)
        found = replace(clip, path=path)
        found.audio  # noqa: B018  read while the file is there
    return found


def compressed(corpus: Corpus) -> Corpus:
    """A corpus whose training clips have been compressed; those of validation and test are as they were."""

    def clips(kind: str, split: str) -> Sequence[Clip]:
        found = corpus.clips(kind, split)
        return [decoded(clip) for clip in found] if split == "train" else found

    return replace(corpus, clips=clips)


def work(codec: str, seed: int, steps: int, recordings: Path, out: Path, network: TriplePathConfig) -> None:
    """Train and score one network; one more line in OUT/results.jsonl."""
    raw = Corpus.recorded(recordings)
    corpus = compressed(raw) if codec == "vorbis" else raw
    prior, draw = joint(corpus, network, 1.0)
    config = TrainConfig.pocket(steps=steps, batch=16, seed=seed)
    run = PriorTrainer(
        out / f"{codec}-{seed}-{steps}", prior, config, draw, {"corpus": f"{corpus.name}, codec {codec}"}
    )
    run.fit()
    path = run.folder / "last.safetensors"
    run.export(path)
    found = {f"denoising_{kind}_db": db for kind, db in denoising_db(read(path), raw).items()}
    with locked(out, "codec", patience=60.0):
        Journal(out / LOG).append({"codec": codec, "seed": seed, "steps": steps} | found)


def collect(out: Path, path: Path = TABLE) -> None:
    """Write what has been scored so far to the package, with where it was computed."""
    import pandas as pd

    store(pd.DataFrame(Journal(out / LOG).read()).sort_values(["seed", "codec"]), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recordings", type=Path, required=True, help="Folder with manifest.csv and the recordings that it names."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/codec"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--collect", action="store_true", help="Write what has been scored so far to the package.")
    args = parser.parse_args()
    if args.collect:
        return collect(args.out)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    network = TriplePathConfig.pocket(1 + len(Corpus.recorded(args.recordings).sounds))
    done = {(line["codec"], line["seed"], line["steps"]) for line in Journal(args.out / LOG).read()}
    for seed in args.seeds:
        for codec in CODECS:
            if (codec, seed, args.steps) not in done:
                work(codec, seed, args.steps, args.recordings, args.out, network)


if __name__ == "__main__":
    main()
