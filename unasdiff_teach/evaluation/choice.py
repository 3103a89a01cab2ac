"""What chapter 14 measures `recommended()` against: choosing one of its hypotheses instead of averaging them, and
choosing the order of its sources again in every frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import permutations

import torch
from torch import Tensor

from ..data.mixing import Mixture
from ..diffusion import Prior, denoising_loss
from ..metrics import si_sdr
from ..priors.neural import NeuralPrior
from ..separation import SeparationConfig
from .methods import Method, sampling

LEVELS = (20, 60, 100)  # steps at which `prior_error` asks the priors
FRAME = 0.25  # seconds of one order of the sources in `in_the_best_orders`


def prior_error(priors: list[NeuralPrior], sources: Tensor, labels: list, seed: int) -> Tensor:
    """How badly the priors denoise the estimates [B, K, N], mean over `LEVELS` and sources, [B]: what no reference is
    needed for.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(sources.shape[-1], generator=generator).to(sources)
    total = sources.new_zeros(len(sources))
    for k, prior in enumerate(priors):
        names = [row[k] for row in labels]
        label = [prior.unconditional if name is None else prior.labels.index(name) for name in names]
        label = torch.tensor(label, device=sources.device)
        x0 = sources[:, k] * (prior.sigma_data / sources[:, k].square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4))
        for t in LEVELS:
            with torch.no_grad():
                total += denoising_loss(
                    prior, x0, torch.full_like(label, t), noise.expand_as(x0), prior.schedule, label
                )
    return total / len(LEVELS) / len(priors)


def _first(found: Tensor, *_) -> Tensor:
    return torch.arange(found.shape[1], device=found.device).expand(found.shape[:2])


def _blind(found: Tensor, priors: list[NeuralPrior], labels: list, _: object) -> Tensor:
    return torch.stack([prior_error(priors, found[:, h], labels, 0) for h in range(found.shape[1])], 1)


def _hindsight(found: Tensor, _: object, __: object, mixtures: list[Mixture]) -> Tensor:
    return -si_sdr(found, torch.stack([m.sources for m in mixtures]).to(found)[:, None].expand_as(found)).mean(-1)


def choice(
    criterion: Callable, name: str, priors: Mapping[str, Prior], config: SeparationConfig | None = None, **how
) -> Method:
    """The hypothesis with the least `criterion`.

    Args:
        criterion: (estimates [B, H, K, N], priors, labels, mixtures) -> [B, H].
        name: see `Method`.
        priors: by kind of source.
        config: whose hypotheses are made one by one; by default `SeparationConfig.recommended()`.
        how: device and precision, as in `sampling`.
    """
    config = config or SeparationConfig.recommended()
    one = sampling("", priors, config.replace(hypotheses=1), **how)

    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        drawn = [one.separate(mixtures, [seed + h * 2**16 for seed in seeds]) for h in range(config.hypotheses)]
        found = torch.stack([sources for sources, _ in drawn], 1)
        chosen, labels = [priors[kind] for kind in mixtures[0].kinds], [list(m.labels) for m in mixtures]
        best = criterion(found, chosen, labels, mixtures).argmin(1)
        return found[torch.arange(len(found)), best], sum(calls for _, calls in drawn)

    return Method(name, run, settings=sampling("", priors, config, **how).settings)


def in_the_best_orders(name: str, priors: Mapping[str, Prior], config: SeparationConfig | None = None, **how) -> Method:
    """`recommended()`, and then in every `FRAME` the order of the sources that is closest to the references: what a
    rule could hope for that decides which voice a stretch of an estimate belongs to, and does not mend the estimate.

    See `choice` for the arguments.
    """
    whole = sampling("", priors, config or SeparationConfig.recommended(), **how)

    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        sources, calls = whole.separate(mixtures, seeds)
        size = round(FRAME * mixtures[0].sample_rate)
        truth = torch.stack([m.sources for m in mixtures]).to(sources).split(size, -1)
        orders = torch.tensor(list(permutations(range(sources.shape[1]))))
        frames = []
        for found, wanted in zip(sources.split(size, -1), truth, strict=True):
            ordered = found[:, orders]  # [B, orders, K, n]
            best = (ordered - wanted[:, None]).square().sum((-2, -1)).argmin(1)
            frames.append(ordered[torch.arange(len(found)), best])
        return torch.cat(frames, -1), calls

    return Method(name, run, settings=whole.settings)


HYPOTHESES = {
    "first of four": partial(choice, _first),
    "blind choice of four": partial(choice, _blind),
    "best of four in hindsight": partial(choice, _hindsight),
}
CHOICES = HYPOTHESES | {"best orders in hindsight": in_the_best_orders}
"""Name -> (name, priors, config, **how) -> the method; blind is the one with the least `prior_error`."""
