"""Does the compression of the training clips harm what is trained on them? `python -m unasdiff_teach.evaluation.codec
--recordings DIR`.

The pocket network, for speech and all classes of sound, is trained from nothing on the recordings as they are, and on
the same after the Vorbis of `data.pack`: same clips, steps and draws, for each seed. All runs denoise the same
validation clips, which were never compressed. What was stopped goes on; commands with other seeds may run side by side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..data.pack import encode
from ..data.pocket_corpus import Clip
from ..data.recordings import recordings_hash
from ..networks import TriplePathConfig
from ..priors.neural import read
from ..training.pocket import Corpus
from ..training.prior import PriorTrainer, TrainConfig
from .comparison import options, results, run, store
from .experiments import RESULTS
from .search import denoising_db, joint

TABLE = RESULTS / "codec.parquet"
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


def work(codec: str, seed: int, steps: int, recordings: Path, out: Path) -> dict[str, float]:
    """Train and score one network: how far its error lies below the validation clips, for each kind, in dB."""
    raw = Corpus.recorded(recordings)
    corpus = compressed(raw) if codec == "vorbis" else raw
    prior, draw = joint(corpus, TriplePathConfig.pocket(1 + len(raw.sounds)), 1.0)
    config = TrainConfig.pocket(steps=steps, batch=16, seed=seed)
    description = {"corpus": f"{corpus.name}, codec {codec}", "sha256": corpus.sha256}
    trainer = PriorTrainer(out / f"{codec}-{seed}-{steps}", prior, config, draw, description)
    trainer.fit()
    path = trainer.folder / "last.safetensors"
    trainer.export(path)
    return {f"denoising_{kind}_db": db for kind, db in denoising_db(read(path), raw).items()}


def collect(out: Path, path: Path = TABLE) -> None:
    """Write what has been scored so far to the package, with where it was computed."""
    import pandas as pd

    store(pd.DataFrame(results(out)).sort_values(["seed", "codec"]), path)


def main() -> None:
    parser = options(__doc__, "codec")
    parser.add_argument(
        "--recordings", type=Path, required=True, help="Folder with manifest.csv and the recordings that it names."
    )
    args = parser.parse_args()
    if args.collect:
        return collect(args.out)
    planned = [(codec, seed, args.steps) for seed in args.seeds for codec in CODECS]
    about = {"recordings": recordings_hash(args.recordings)}
    one = partial(work, recordings=args.recordings, out=args.out)
    run(args.out, about, ("codec", "seed", "steps"), planned, one)


if __name__ == "__main__":
    main()
