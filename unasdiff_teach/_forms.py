"""The forms that `bench` compares: what each does to the network, and the calls that are measured.

"plain" is Algorithm 1 as one would first write it, and as the released code has it: softmax(q k^T) written out, one
source at a time, a loop over the segments of the group term, and weights that could be trained. "fast" is this
package: fused attention, all sources of all mixtures in one call, weights that are fixed. "checkpointed" computes the
activations of each block twice instead of keeping them, and "compiled" is "fast" with its core compiled. A training
takes whole batches in each form, so that "plain" is there its attention alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .diffusion import denoising_loss, posterior_mean, tweedie
from .guidance import Hybrid
from .networks import TriplePathConfig
from .networks.attention import Attention
from .priors.neural import NeuralPrior, PriorConfig
from .reconstruction import ReconstructionLoss
from .schedule import NoiseSchedule
from .separation import SeparationConfig, separate

if TYPE_CHECKING:
    from .bench import BenchConfig

FORMS = ("plain", "fast", "checkpointed", "compiled")
MODES = ("forward", "guided", "training")
STEPS = 2  # of a guided run
Noise = Callable[[str, int, tuple[int, ...]], Tensor]


def applies(form: str, mode: str) -> bool:
    return mode != "forward" or form != "checkpointed"


def explicit_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, with all its weights in memory."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def plain_separate(mixture: Tensor, prior: NeuralPrior, K: int, schedule: NoiseSchedule, noise: Noise) -> Tensor:
    """Algorithm 1 with the released code's constants, one source at a time: what `separate` gives for `authors()`.

    Args:
        mixture: [N].
        noise: as for `separate`.

    Returns:
        K sources without labels, [K, N].
    """
    s, rule, loss, N = schedule, Hybrid.authors(), ReconstructionLoss(), len(mixture)
    length = -(-N // loss.n_groups)
    alpha_bar = s.at(s.alpha_bar, s.index_of(150), mixture)
    e = noise("init", 0, (N,)).to(mixture)
    sources = [alpha_bar.sqrt() * mixture + (1 - alpha_bar).sqrt() * e for _ in range(K)]
    for i, t in enumerate(reversed(range(len(s)))):
        sources = [x.detach().requires_grad_() for x in sources]
        estimates = []
        for x in sources:
            eps = prior(x[None], s.timesteps[t : t + 1].to(mixture.device))[0]
            estimates.append(tweedie(x, eps, t, s, clamp=1.0))
        total = sum(estimates)
        groups = sum(torch.linalg.vector_norm((mixture - total)[n : n + length]) for n in range(0, N, length))
        value = (
            loss.time * loss.time_term(mixture, total)
            + loss.group * groups
            + loss.stft * loss.stft_term(mixture, total)
        )
        gradients = torch.autograd.grad(value, sources)
        with torch.no_grad():
            z = noise("step", i, (K, N)).to(mixture) if t else torch.zeros(K, N).to(mixture)
            for k, (x, x0_hat, gradient) in enumerate(zip(sources, estimates, gradients, strict=True)):
                gamma = rule.gamma(s, t, torch.linalg.vector_norm(gradient), N)
                sources[k] = posterior_mean(x, x0_hat, t, s) + s.at(s.sigma, t, x) * z[k] - gamma * gradient
    return torch.stack(sources)


def prior_of(network: TriplePathConfig, form: str) -> NeuralPrior:
    """The same prior in each form."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = PriorConfig(sample_rate=16_000, network=network.replace(zero_init=False)).build().eval()
    prior.requires_grad_(form == "plain")
    if form == "plain":
        for module in prior.modules():
            if isinstance(module, Attention):
                module.attend = explicit_attention
    elif form == "checkpointed":
        prior.net.checkpoint_activations()
    elif form == "compiled":
        prior.net.compile_core()
    return prior


def work_of(
    prior: NeuralPrior, form: str, mode: str, batch: int, config: BenchConfig, device: torch.device
) -> Callable[[], Tensor]:
    """One forward prediction of the batch, `STEPS` guided steps, or one step of training."""
    generator = torch.Generator().manual_seed(0)
    K = 1 if batch == 1 else config.sources
    signals = 0.1 * torch.randn(batch, config.samples, generator=generator).to(device)
    schedule = prior.schedule.respace(STEPS)

    def noise(kind: str, i: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(i))

    @torch.no_grad()
    def forward() -> Tensor:
        t = torch.full((batch,), 100, device=device)
        if form == "plain":
            return torch.cat([prior(signals[i : i + 1], t[:1]) for i in range(batch)])
        return prior(signals, t)

    def guided() -> Tensor:
        mixtures = signals.unflatten(0, (-1, K)).sum(1)
        if form == "plain":
            return torch.stack([plain_separate(mixture, prior, K, schedule, noise) for mixture in mixtures])
        return separate(mixtures, prior, [None] * K, schedule, SeparationConfig.authors(), noise).sources

    def training() -> Tensor:
        t = torch.full((batch,), 100, device=device)
        try:
            prior.requires_grad_()
            optimiser = torch.optim.AdamW(prior.parameters())
            loss = denoising_loss(prior, signals, t, signals, prior.schedule).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
            optimiser.step()
            return loss.detach()
        finally:  # where memory did not suffice, too: what is measured next shares the prior
            prior.zero_grad()
            prior.requires_grad_(form == "plain")

    return {"forward": forward, "guided": guided, "training": training}[mode]
