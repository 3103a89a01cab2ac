"""Which pocket network makes the most of a processor's seconds: `python -m unasdiff_teach.evaluation.search
--recordings DIR`.

Every candidate is trained alike, from nothing and by one thread, on an equal clock of processor seconds, which other
work on the machine stretches little: one network for speech and all classes of sound, a constant learning rate and
averaged weights, so that each moment of a run is a result. In each round the best go on, and today's configuration with
them. A search that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from .._files import read_json, write_json
from ..data.mixing import SPEECH_SOUND
from ..data.pocket_corpus import SAMPLE_RATE
from ..data.recordings import recorded_mixtures, recordings_hash
from ..diffusion import forward_noise, tweedie
from ..metrics import si_sdr
from ..networks import TriplePathConfig, budget
from ..priors.neural import NeuralPrior, PriorConfig, read
from ..separation import separate
from ..training.crops import Crops
from ..training.pocket import Corpus
from ..training.prior import PriorTrainer, TrainConfig
from ..training.recipes import SIGMA_DATA, SPEECH, SPEECH_SHARE, crop
from .comparison import begin, record, results, store
from .experiments import RESULTS

TODAY = "today"
TABLE = RESULTS / "network_search.parquet"
CLOCK = "clock.json"
LEVELS = (10, 20, 40, 80)  # steps t of the chain where sources come apart: noise at 0.08 to 0.65 of full scale
EXAMPLES = 48  # of speech, and as many of sounds, that are denoised
MIXTURES = 12  # that are separated


@dataclass(frozen=True)
class Candidate:
    """A network and how it is fed: batches of `batch` examples of `seconds`."""

    network: TriplePathConfig
    batch: int = 16
    seconds: float = 1.0
    learning_rate: float = 1e-3


def candidates(classes: int) -> dict[str, Candidate]:
    """From today's configuration to fewer and wider positions."""
    today = TriplePathConfig.pocket(classes)
    tall, wide, both = (today.replace(patch=patch, channels=48) for patch in ((8, 2), (4, 4), (8, 4)))
    flat = wide.replace(depths=(1, 1, 1, 1, 1))
    return {
        TODAY: Candidate(today),
        "today, rate 2e-3": Candidate(today, learning_rate=2e-3),
        "4 x 2, 48 channels": Candidate(today.replace(channels=48)),
        "4 x 4, 32 channels": Candidate(today.replace(patch=(4, 4))),
        "4 x 4, 48 channels": Candidate(wide),
        "8 x 4, 48 channels": Candidate(both),
        "4 x 4, 48 channels, latent 1": Candidate(flat),
        "4 x 4, 48 channels, latent 1, rate 2e-3": Candidate(flat, learning_rate=2e-3),
        "8 x 4, 64 channels, latent 1": Candidate(both.replace(channels=64, depths=(1, 1, 1, 1, 1))),
        "8 x 2, 48 channels, 64 ms": Candidate(tall.replace(n_fft=510, hop=255)),
    }


class ClockedTrainer(PriorTrainer):
    """Trains until a clock of processor seconds has run down; it is kept beside the state."""

    def train(self, seconds: float) -> float:
        """Train until `seconds` of all runs together are spent. Returns those that were."""
        path = self.folder / CLOCK
        kept = read_json(path) if path.is_file() else {"step": 1, "seconds": 0.0}
        self.spent, self.limit = kept["seconds"] * self.step / kept["step"], seconds
        self.last = time.process_time()
        if self.spent < self.limit:
            with suppress(TimeoutError):
                self.fit(progress=False)
        return self.spent

    def validate(self) -> None:
        now = time.process_time()
        self.spent, self.last = self.spent + now - self.last, now
        if self.spent >= self.limit:  # saved here, while the folder is locked
            self._save()
            write_json(self.folder / CLOCK, {"step": self.step, "seconds": self.spent})
            raise TimeoutError


def joint(corpus: Corpus, network: TriplePathConfig, seconds: float) -> tuple[PriorConfig, Crops]:
    """A prior of speech and all classes of sound in one network, and the examples of this length that teach it."""
    labels = (SPEECH, *corpus.sounds)
    prior = PriorConfig(SAMPLE_RATE, labels, "preconditioned", SIGMA_DATA, network=network)
    return prior, corpus.crops(("speech", "sound"), "train", labels, crop(seconds), SPEECH_SHARE)


def trainer(candidate: Candidate, corpus: Corpus, folder: Path) -> ClockedTrainer:
    """A candidate's trainer in `folder`."""
    prior, draw = joint(corpus, candidate.network, candidate.seconds)
    config = TrainConfig.pocket(
        steps=10**6, batch=candidate.batch, learning_rate=candidate.learning_rate, cosine=False, save_every=10**6
    )
    return ClockedTrainer(folder, prior, config, draw, {"corpus": corpus.name, "sha256": corpus.sha256})


@torch.no_grad()
def denoising_db(
    prior: NeuralPrior, corpus: Corpus, kinds: Sequence[str] = ("speech", "sound"), examples: int | None = None
) -> dict[str, float]:
    """How far the error of the denoised signal lies below the signal, in dB, mean over validation examples of 1 s
    (`examples` of each kind, by default `EXAMPLES`) and `LEVELS`.
    """
    found, examples = {}, examples or EXAMPLES
    for kind in kinds:
        generator = torch.Generator().manual_seed(0)
        draw = corpus.crops((kind,), "validation", prior.labels, crop(1.0, speeds=(1.0,)))
        x0, label = draw(examples, generator)
        noise, total = torch.randn(x0.shape, generator=generator), 0.0
        for t in LEVELS:
            x_t = forward_noise(x0, t, noise, prior.schedule)
            x0_hat = tweedie(x_t, prior(x_t, torch.full_like(label, t), label), t, prior.schedule)
            total += float(10 * (x0.square().sum(-1) / (x0_hat - x0).square().sum(-1)).log10().mean()) / len(LEVELS)
        found[kind] = total
    return found


def separation_db(prior: NeuralPrior, folder: Path, count: int = MIXTURES, device: str = "cpu") -> list[float]:
    """SI-SDR of `separate(recommended())` on validation mixtures of real recordings, mean of both sources, for each
    mixture.
    """
    prior, found = prior.to(device), []
    for i, mixture in enumerate(recorded_mixtures(folder, SPEECH_SOUND, "validation", count)):
        labels = [
            SPEECH if kind == "speech" else label for kind, label in zip(mixture.kinds, mixture.labels, strict=True)
        ]
        sources = separate(mixture.mixture.to(device), prior, labels, noise=i).sources.cpu()
        found.append(float(si_sdr(sources, mixture.sources).mean()))
    return found


def work(name: str, minutes: float, recordings: Path, out: Path, mixtures: int = MIXTURES) -> None:
    """Train one candidate up to a clock and score it; one more line in OUT/results.jsonl."""
    torch.set_num_threads(1)
    corpus = Corpus.recorded(recordings)
    candidate = candidates(1 + len(corpus.sounds))[name]
    run = trainer(candidate, corpus, out / name.replace(" ", "_").replace(",", ""))
    spent = run.train(60 * minutes)
    path = run.folder / f"{minutes:g}min.safetensors"
    run.export(path)
    prior = read(path)
    denoised, separated = denoising_db(prior, corpus), separation_db(prior, recordings, mixtures)
    gflop = budget.flops(candidate.network, round(candidate.seconds * SAMPLE_RATE), "training") * candidate.batch / 1e9
    line = {
        "name": name, "minutes": minutes, "seconds": round(spent, 1), "steps": run.step, "batch": candidate.batch,
        "crop_seconds": candidate.seconds, "learning_rate": candidate.learning_rate,
        "channels": candidate.network.channels, "patch": "x".join(map(str, candidate.network.patch)),
        "depths": " ".join(map(str, candidate.network.depths)), "heads": candidate.network.heads,
        "n_fft": candidate.network.n_fft, "parameters": budget.parameters(candidate.network),
        "tflop": gflop * run.step / 1e3, "gflops_per_second": gflop * run.step / spent,
        "denoising_speech_db": denoised["speech"], "denoising_sound_db": denoised["sound"], "si_sdr": separated,
    }  # fmt: skip
    record(out, line)


def collect(out: Path, path: Path = TABLE) -> None:
    """Write what has been scored so far to the package, the common mixtures alone, with where it was computed."""
    import pandas as pd

    table = pd.DataFrame(results(out))
    common = int(table["si_sdr"].str.len().min())
    table["si_sdr"] = table["si_sdr"].str[:common]
    store(table, path)


def best(scored: list[dict], minutes: float, count: int) -> list[str]:
    """Today's configuration and the `count` others that denoise best at this clock."""
    at = {
        line["name"]: line["denoising_speech_db"] + line["denoising_sound_db"]
        for line in scored
        if line["minutes"] == minutes
    }
    return [TODAY, *sorted(at.keys() - {TODAY}, key=at.get, reverse=True)[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recordings", type=Path, required=True, help="Folder with manifest.csv and the recordings that it names."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--rounds", nargs="+", default=["5:9", "15:3"], metavar="MINUTES:COUNT",
                        help="Clock of each round, and how many others than today's take part.")  # fmt: skip
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--score", type=Path, metavar="PRIOR", help="Score a joint prior that is trained, into OUT/validation.json."
    )
    parser.add_argument("--device", default="cpu", help="Where --score separates.")
    parser.add_argument("--collect", action="store_true", help="Write what has been scored so far to the package.")
    parser.add_argument("--one", help="Train and score this candidate alone, up to the clock of the first round.")
    args = parser.parse_args()
    rounds = [(float(minutes), int(count)) for minutes, count in (r.split(":") for r in args.rounds)]
    args.out.mkdir(parents=True, exist_ok=True)
    if args.score:
        scores = separation_db(read(args.score), args.recordings, device=args.device)
        line = {"mixtures": len(scores), "si_sdr": sum(scores) / len(scores), "each": scores}
        write_json(args.out / "validation.json", line)
        return print(f"{line['si_sdr']:.2f} dB, mean of {len(scores)} validation mixtures")
    if args.collect:
        return collect(args.out)
    begin(args.out, {"recordings": recordings_hash(args.recordings)})
    if args.one:
        return work(args.one, rounds[0][0], args.recordings, args.out)
    for i, (minutes, count) in enumerate(rounds):
        chosen = best(results(args.out), rounds[i - 1][0], count) if i else list(candidates(1))
        done = {line["name"] for line in results(args.out) if line["minutes"] == minutes}

        def run(name: str, minutes: float = minutes) -> None:
            command = [sys.executable, "-m", "unasdiff_teach.evaluation.search", "--recordings", str(args.recordings),
                       "--out", str(args.out), "--rounds", f"{minutes:g}:1", "--one", name]  # fmt: skip
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            line = next(r for r in reversed(results(args.out)) if r["name"] == name and r["minutes"] == minutes)
            mean = sum(line["si_sdr"]) / len(line["si_sdr"])
            denoising = f"{line['denoising_speech_db']:.2f} {line['denoising_sound_db']:.2f} dB"
            speed = f"{line['gflops_per_second']:.0f} GFLOP/s"
            print(f"{minutes:g} min  {name:44} denoising {denoising}, SI-SDR {mean:.2f} dB, {speed}", flush=True)

        with ThreadPoolExecutor(args.processes) as pool:
            list(pool.map(run, [name for name in chosen if name not in done]))


if __name__ == "__main__":
    main()
