"""Choosing among the hypotheses of `recommended()`, instead of averaging them: chapter 14."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ..data.mixing import Mixture
from ..diffusion import Prior, denoising_loss
from ..priors.neural import NeuralPrior
from ..separation import SeparationConfig, separate
from .methods import Method, sampling
from .metrics import si_sdr

LEVELS = (20, 60, 100)  # steps at which `prior_error` asks the priors


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


def _first(found: Tensor, *_) -> Tensor:
    return torch.arange(found.shape[1]).expand(found.shape[:2])


def _blind(found: Tensor, priors: list[NeuralPrior], labels: list, _) -> Tensor:
    return torch.stack([prior_error(priors, found[:, h], labels, 0) for h in range(found.shape[1])], 1)


def _hindsight(found: Tensor, _, __, mixtures: list[Mixture]) -> Tensor:
    return -si_sdr(found, torch.stack([m.sources for m in mixtures])[:, None].expand_as(found)).mean(-1)


def choice(criterion: Callable, name: str, priors: Mapping[str, Prior], config: SeparationConfig | None = None) -> Method:
    """The hypothesis with the least `criterion`.

    Args:
        criterion: (estimates [B, H, K, N], priors, labels, mixtures) -> [B, H].
        name: see `Method`.
        priors: by kind of source.
        config: whose hypotheses are made one by one; by default `SeparationConfig.recommended()`.
    """
    config = config or SeparationConfig.recommended()

    def run(mixtures: list[Mixture], seeds: list[int]) -> tuple[Tensor, int]:
        chosen, labels = [priors[kind] for kind in mixtures[0].kinds], [list(m.labels) for m in mixtures]
        y, one = torch.stack([m.mixture for m in mixtures]), config.replace(hypotheses=1)
        found = torch.stack([
            separate(y, chosen, labels, config=one, noise=[seed + h * 2**16 for seed in seeds]).sources
            for h in range(config.hypotheses)
        ], 1)  # fmt: skip
        best = criterion(found, chosen, labels, mixtures).argmin(1)
        return found[torch.arange(len(found)), best], config.hypotheses * config.steps

    return Method(name, run, settings=sampling("", priors, config).settings)


CHOICES = {
    "first of four": partial(choice, _first),
    "blind choice of four": partial(choice, _blind),
    "best of four in hindsight": partial(choice, _hindsight),
}
"""Name -> (name, priors, config) -> the method; blind is the one with the least `prior_error`."""
