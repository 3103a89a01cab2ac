"""From Algorithm 1 to `recommended()`, a change at a time, resumable: `python -m unasdiff_teach.evaluation.beyond measure|collect [BLOCK ...]`.

`measure` scores each method on the first twelve validation mixtures of 1 speech + 1 sound with one seed; `collect` writes the
Parquet file that is shipped. Each block of methods has a folder of its own, so that several processes may share the work.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .. import data
from ..data.mixing import Mixture
from ..diffusion import denoising_loss
from ..guidance import Wiener
from ..priors.neural import NeuralPrior
from ..separation import SeparationConfig, separate
from .blocks import command
from .metrics import si_sdr
from .methods import Method, sampling
from .pocket import RESULTS, TASK, pocket_priors

COUNT = 12  # validation mixtures
LEVELS = (20, 60, 100)  # steps at which `prior_error` asks the priors
TABLE = RESULTS / "pocket_beyond.parquet"


def configurations() -> dict[str, dict[str, SeparationConfig]]:
    """Block -> method name -> configuration."""
    short, recommended = SeparationConfig.short(), SeparationConfig.recommended()
    shares = short.replace(guidance=Wiener(), project=False)
    later = shares.replace(init_step=100)
    fresh = later.replace(renoise=1.0)
    return {
        "gradients": {
            "short": short,
            "without projection": short.replace(project=False),
            "loop from T": short.replace(start="T"),
            "even in time": short.replace(spacing="time"),
            "t*=100": short.replace(init_step=100),
        },
        "shares": {
            "shares": shares,
            "shares, t*=100": later,
            "shares, t*=100, fresh noise": fresh,
            "shares, t*=100, fresh noise, 10 steps": fresh.replace(steps=10),
            "recommended": recommended,
        },
        "around": {
            "4 x 10 steps, t*=125": recommended.replace(init_step=125),
            "4 x 10 steps, t*=75": recommended.replace(init_step=75),
            "2 x 20 steps": recommended.replace(steps=20, hypotheses=2),
            "8 x 5 steps": recommended.replace(steps=5, hypotheses=8),
            "floor=0": recommended.replace(guidance=Wiener(floor=0.0)),
            "floor=0.3": recommended.replace(guidance=Wiener(floor=0.3)),
            "independent noise": recommended.replace(init_noise="independent"),
        },
    }


BLOCKS = (*configurations(), "choice")


def prior_error(priors: list[NeuralPrior], sources: Tensor, labels: list, seed: int) -> Tensor:
    """How badly the priors denoise the estimates [B, K, N], mean over `LEVELS` and sources, [B]: what no reference is needed for."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(sources.shape[-1], generator=generator)
    total = torch.zeros(len(sources))
    for k, prior in enumerate(priors):
        names = [row[k] for row in labels]
        label = torch.tensor([prior.unconditional if name is None else prior.labels.index(name) for name in names])
        x0 = sources[:, k] * (prior.sigma_data / sources[:, k].square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4))
        for t in LEVELS:
            with torch.no_grad():
                total += denoising_loss(prior, x0, torch.full((len(x0),), t), noise.expand_as(x0), prior.schedule, label)
    return total / len(LEVELS) / len(priors)


def choice(config: SeparationConfig, priors: dict) -> list[Method]:
    """One choice among the hypotheses of `config`: the first, the blind one with the least `prior_error`, the best in hindsight."""

    def runs(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, list[NeuralPrior], list]:
        chosen, labels = [priors[kind] for kind in mixtures[0].kinds], [list(m.labels) for m in mixtures]
        y, one = torch.stack([m.mixture for m in mixtures]), config.replace(hypotheses=1)
        found = [
            separate(y, chosen, labels, config=one, noise=[seed + h * 2**16 for seed in seeds]).sources
            for h in range(config.hypotheses)
        ]
        return torch.stack(found, 1), chosen, labels  # [B, H, K, N]

    def pick(criterion):
        def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
            found, chosen, labels = runs(mixtures, seeds)
            best = criterion(found, chosen, labels, mixtures).argmin(1)
            return found[torch.arange(len(found)), best], config.hypotheses * config.steps

        return run

    def first(found, *_):
        return torch.arange(found.shape[1]).expand(found.shape[:2])

    def blind(found, chosen, labels, _):
        return torch.stack([prior_error(chosen, found[:, h], labels, 0) for h in range(found.shape[1])], 1)

    def hindsight(found, chosen, labels, mixtures):
        return -si_sdr(found, torch.stack([m.sources for m in mixtures])[:, None].expand_as(found)).mean(-1)

    criteria = {"first of four": first, "blind choice of four": blind, "best of four in hindsight": hindsight}
    settings = sampling("", priors, config).settings
    return [Method(name, pick(criterion), settings=settings) for name, criterion in criteria.items()]


def methods(block: str) -> list[Method]:
    """The methods of one of `BLOCKS`, with the shipped priors."""
    loaded = pocket_priors()
    if block == "choice":
        return choice(SeparationConfig.recommended(), loaded)
    presets = {"short", "recommended"}
    return [sampling(name, loaded, c, name if name in presets else "") for name, c in configurations()[block].items()]


def main() -> None:
    def mixtures(count: int) -> list[Mixture]:
        return data.mixtures(task=TASK, split="validation", count=count)

    command(__doc__, BLOCKS, methods, mixtures, Path("runs/pocket-beyond"), COUNT, TABLE)


if __name__ == "__main__":
    main()
