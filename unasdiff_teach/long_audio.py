"""Mixtures longer than the priors' training clips: overlapping windows that are denoised together, and their memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .diffusion import Prior
from .reconstruction import Loss
from .separation import Label, Separation, SeparationConfig, separate
from .task import PEAK, checked_config, checked_priors

CREST = 3.0  # peak over what 99 % of samples stay below: of the shipped test mixtures, 1.4 to 2.9
MOST = 2**24  # samples that torch finds a quantile of; of more, evenly spaced ones are looked at
FLOOR = 0.01  # of the loudest window: softer ones are not brought to full level


@dataclass(frozen=True)
class Windows:
    """How a long signal is cut into windows, and put together again by cross-fades whose weights sum to 1.

    Attributes:
        size: samples of a window; what the prior was trained on is a good choice.
        overlap: samples that neighbours share, at least; 0 to size / 2.
    """

    size: int
    overlap: int

    def __post_init__(self):
        if self.size < 1 or not 0 <= self.overlap <= self.size // 2:
            raise ValueError(f"size is {self.size} and overlap {self.overlap}; need at least 1, and 0 to half the size")

    @classmethod
    def of_seconds(cls, window: float, overlap: float | None, rate: int) -> Windows:
        """Windows of so many seconds at a rate, by default a quarter of which neighbours share."""
        overlap = window / 4 if overlap is None else overlap
        if round(window * rate) < 1:
            raise ValueError(f"window is {window:g} s; more than 0 is needed")
        if not 0 <= round(overlap * rate) <= round(window * rate) // 2:
            raise ValueError(f"overlap is {overlap:g} s; accepted is 0 to half the window, {window / 2:g} s")
        return cls(round(window * rate), round(overlap * rate))

    def starts(self, N: int, shift: float = 0.0) -> Tensor:
        """First sample of each of the W windows of a signal of N samples, [W]; a short signal is one window.

        `shift`, 0 to 1, moves all windows to the left by that fraction of their distance; the outer ones stay inside.
        """
        hop, last = self.size - self.overlap, max(N - self.size, 0)
        return torch.arange(-round(shift * hop), last + hop, hop).clamp(0, last).unique()

    def weights(self, N: int, shift: float = 0.0) -> Tensor:
        """Cross-fade weights of the windows, [W, size] float64, positive; at each sample they sum to 1 over the
        windows.
        """
        return torch.stack(list(self.fades(N, shift)))

    def fades(self, N: int, shift: float = 0.0) -> Iterator[Tensor]:
        """The weights of one window after the other, each [size]."""
        ramp, total = _ramps(self, N, shift)
        return (ramp / total[span] for span in self.spans(N, shift))

    def spans(self, N: int, shift: float = 0.0) -> list[slice]:
        """The samples of each window, W slices."""
        return [slice(start, start + min(self.size, N)) for start in self.starts(N, shift).tolist()]

    def cut(self, x: Tensor, shift: float = 0.0) -> Tensor:
        """Windows of a signal, [..., N] -> [..., W, size]."""
        return torch.stack([x[..., span] for span in self.spans(x.shape[-1], shift)], -2)

    def merge(self, pieces: Tensor, N: int, shift: float = 0.0) -> Tensor:
        """The weighted sum of windows, [..., W, size] -> [..., N]; merge(cut(x), N) = x."""
        index = self.starts(N, shift)[:, None] + torch.arange(pieces.shape[-1])
        faded = (self.weights(N, shift).to(pieces) * pieces).flatten(-2)
        index = index.to(pieces.device).flatten().expand(faded.shape)
        return pieces.new_zeros(*faded.shape[:-1], N).scatter_add(-1, index, faded)


@lru_cache(maxsize=2)
@torch.inference_mode(False)  # what is kept may be needed for a gradient later
def _ramps(windows: Windows, N: int, shift: float) -> tuple[Tensor, Tensor]:
    """The fades of a window, [size], and their sum over all windows at each sample, [N], both float64."""
    edge = torch.arange(min(windows.size, N), dtype=torch.float64) + 0.5
    ramp = (torch.minimum(edge, edge.flip(0)) / max(windows.overlap, 1)).clamp(max=1)
    total = torch.zeros(N, dtype=torch.float64)
    for span in windows.spans(N, shift):
        total[span] += ramp
    return ramp, total


def shift_at(t: int) -> float:
    """Where the windows lie at step t: golden-section fractions of their distance, which spread evenly over any few
    steps.
    """
    return t * (math.sqrt(5) - 1) / 2 % 1


class WindowedPrior:
    """A prior for signals of any length: windows of x_t go through the given prior, and its estimates are cross-faded.

    The windows share one x_t at every step, as in MultiDiffusion (Bar-Tal et al. 2023): what one finds in an overlap
    its neighbour sees at the next step. They also move from step to step, so that no place is a seam for long and what
    was found spreads further; sources that one prior models change places less often. A signal no longer than a window
    goes through the prior as it is. Labels, schedule and all else are the prior's own.

    Args:
        prior: see `Prior`.
        windows: how to cut.
        chunk: windows that go through the prior at once, which bounds memory. Where there are more, and gradients are
            wanted, each chunk is computed a second time in the backward pass instead of being remembered.
    """

    def __init__(self, prior: Prior, windows: Windows, chunk: int = 8):
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; at least 1 is needed")
        self.prior, self.windows, self.chunk = prior, windows, chunk

    def __getattr__(self, name: str):
        if name == "prior":  # not there yet while a copy is being made
            raise AttributeError(name)
        return getattr(self.prior, name)

    def __call__(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """eps [M, N] of x_t [M, N], t [M], label [M] or None."""
        shift = shift_at(int(t[0]))
        if not (torch.is_grad_enabled() and x_t.requires_grad):
            return self._streamed(x_t, t, label, shift)
        rows = self.windows.cut(x_t, shift)  # [M, W, size]
        W = rows.shape[1]
        rows, t = rows.flatten(0, 1), t.repeat_interleave(W)
        label = None if label is None else label.repeat_interleave(W)
        spans = [slice(i, i + self.chunk) for i in range(0, len(rows), self.chunk)]
        pieces = [self._predict(rows[s], t[s], None if label is None else label[s], len(spans) > 1) for s in spans]
        return self.windows.merge(torch.cat(pieces).unflatten(0, (-1, W)), x_t.shape[-1], shift)

    def _streamed(self, x_t: Tensor, t: Tensor, label: Tensor | None, shift: float) -> Tensor:
        """The same without gradients: no more than a chunk of windows is in memory."""
        N = x_t.shape[-1]
        ramp, total = (fade.to(x_t) for fade in _ramps(self.windows, N, shift))
        places = [(m, span) for m in range(len(x_t)) for span in self.windows.spans(N, shift)]
        merged = torch.zeros_like(x_t)
        for i in range(0, len(places), self.chunk):
            some = places[i : i + self.chunk]
            m = torch.tensor([m for m, _ in some], device=x_t.device)
            eps = self.prior(torch.stack([x_t[m, span] for m, span in some]), t[m], None if label is None else label[m])
            for (row, span), piece in zip(some, eps, strict=True):
                merged[row, span] += ramp / total[span] * piece
        return merged

    def _predict(self, rows: Tensor, t: Tensor, label: Tensor | None, forget: bool) -> Tensor:
        if forget:
            return checkpoint(self.prior, rows, t, label, use_reentrant=False, preserve_rng_state=False)
        return self.prior(rows, t, label)


@dataclass(frozen=True)
class WindowedLoss:
    """L_recons of a long mixture: the sum over its windows, each weighted by the square root of its cross-fade.

    The gradient of a norm has length 1 wherever the signal is loud or soft, and the guidance steps have a length for
    the whole signal. One norm over a long signal would therefore spend the step where the signal is loudest; the sum of
    the windows' norms gives each window the step that it would have alone. (Squared norms add up to the norm of the
    whole: with `ReconstructionLoss.paper()` nothing changes but the group and STFT terms at the windows' edges.)

    Attributes:
        base: loss of one window.
        windows: those of the priors.
    """

    base: Loss
    windows: Windows

    def __call__(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """[B, N], [B, N] -> [B]."""
        root = self.windows.weights(mixture.shape[-1]).sqrt().to(mixture)
        y, y_hat = ((root * self.windows.cut(x)).flatten(0, 1) for x in (mixture, estimate))
        return self.base(y, y_hat).unflatten(0, (-1, len(root))).sum(1)


def working_gain(y: Tensor, windows: Windows) -> Tensor:
    """The gain that brings each window of a signal to the level that the priors know, a peak of 0.95.

    The level of a window is its peak, but at most `CREST` times what 99 % of its samples stay below: a click says
    nothing about the rest. Windows below `FLOOR` of the loudest are raised with it, and no further. From window to
    window the gain in dB fades as the windows do.

    Args:
        y: [C, N].

    Returns:
        [C, N], positive, float64: some samplers are chaotic, and a recording should not sound different at another
        level.
    """
    N = y.shape[-1]
    levels = []
    for span in windows.spans(N):
        size = y[:, span].abs()
        some = size[:, :: -(-size.numel() // MOST)]
        levels.append(torch.minimum(size.amax(-1), CREST * some.quantile(0.99, -1)))
    level = torch.stack(levels, -1).double()  # [C, W]
    loudest = level.amax(-1, keepdim=True)
    loudest = torch.where(loudest > 0, loudest, y.abs().amax(-1, keepdim=True).double())  # nothing but a click
    logarithm = torch.zeros_like(y, dtype=torch.float64)
    for w, (span, weight) in enumerate(zip(windows.spans(N), windows.fades(N), strict=True)):
        logarithm[:, span] += weight * (level[:, w : w + 1] / loudest).clamp_min(FLOOR).log()
    return PEAK / loudest * torch.exp(-logarithm)


def separate_long(
    mixture: Tensor,
    prior: Prior | Sequence[Prior],
    labels: Sequence[Label] | Sequence[Sequence[Label]],
    windows: Windows,
    config: SeparationConfig | None = None,
    chunk: int = 8,
    **options,
) -> Separation:
    """`separate` for a mixture of any length, by windows that are denoised together.

    A mixture shorter than a window is padded with silence to the length that the prior knows. One as long as a window
    is separated as `separate` does it.

    Args:
        mixture: [N] or [B, N].
        prior, labels: see `separate`.
        windows, chunk: see `WindowedPrior`.
        config: by default `SeparationConfig.recommended()`.
        options: everything else that `separate` takes.

    Raises:
        TypeError, ValueError, FloatingPointError: as `separate`.
    """
    config = checked_config(config or SeparationConfig.recommended(), SeparationConfig)
    listed = isinstance(prior, Sequence | nn.ModuleList) and not isinstance(prior, str)
    priors = checked_priors(list(prior) if listed else [prior])
    # One wrapper for each prior, so that sources that share a prior still go through it together.
    wrapped = {id(p): WindowedPrior(p, windows, chunk) for p in priors}
    priors = [wrapped[id(p)] for p in priors]
    N = mixture.shape[-1]
    result = separate(
        F.pad(mixture, (0, max(0, windows.size - N))),
        priors if listed else priors[0],
        labels,
        config=config.replace(loss=WindowedLoss(config.loss, windows)),
        **options,
    )
    return Separation(result.sources[..., :N], result.calls, result.schedule)
