"""The reconstruction loss L_recons: how far the sum of the estimates is from the mixture (below Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ._checks import one_of

Loss = Callable[[Tensor, Tensor], Tensor]
"""loss(mixture [B, N], estimate [B, N]) -> [B], differentiable in the estimate. `ReconstructionLoss` is one, and any
callable will do.
"""


@dataclass(frozen=True)
class ReconstructionLoss:
    """Weighted sum of a time, a group and an STFT term, loss(mixture [B, N], estimate [B, N]) -> [B].

    The defaults are the released code's; `paper()` follows the text (differences 2 to 4).

    Attributes:
        time, group, stft: weights lambda of the three terms; a term of weight 0 is not computed.
        n_groups: segments of the group term; each has ceil(N / n_groups) samples, so that short signals have fewer.
        group_reduce: "sum" or "mean" over the segments.
        n_fft, hop: window (Hann) and hop of the STFT term, in samples.
        squared: squared norms (the text) instead of norms.
    """

    time: float = 1.0
    group: float = 0.05
    stft: float = 0.1
    n_groups: int = 512
    group_reduce: Literal["sum", "mean"] = "sum"
    n_fft: int = 512
    hop: int = 256
    squared: bool = False

    @classmethod
    def paper(cls) -> ReconstructionLoss:
        """The text: squared norms, groups averaged."""
        return cls(group_reduce="mean", squared=True)

    def __post_init__(self):
        one_of("group_reduce", self.group_reduce, ("sum", "mean"))
        if min(self.time, self.group, self.stft) < 0 or not self.time + self.group + self.stft:
            raise ValueError(f"weights are {self.time}, {self.group}, {self.stft}; need none negative and one positive")

    def __call__(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """The loss of each mixture.

        Raises:
            ValueError: the shapes differ, or the signal is too short for the STFT (N <= n_fft / 2).
        """
        if mixture.shape != estimate.shape:
            raise ValueError(f"mixture {tuple(mixture.shape)} and estimate {tuple(estimate.shape)} differ in shape")
        loss = mixture.new_zeros(mixture.shape[:-1])
        if self.time:
            loss = loss + self.time * self.time_term(mixture, estimate)
        if self.group:
            loss = loss + self.group * self.group_term(mixture, estimate)
        if self.stft:
            loss = loss + self.stft * self.stft_term(mixture, estimate)
        return loss

    def time_term(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """|| y - y_hat ||, [..., N] -> [...]."""
        return self._norm(mixture - estimate, -1)

    def group_term(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """Sum or mean over segments of || y_(n) - y_hat_(n) ||, [..., N] -> [...]."""
        difference = mixture - estimate
        length = -(-difference.shape[-1] // self.n_groups)
        segments = F.pad(difference, (0, -difference.shape[-1] % length)).unflatten(-1, (-1, length))
        norms = self._norm(segments, -1)
        return norms.sum(-1) if self.group_reduce == "sum" else norms.mean(-1)

    def stft_term(self, mixture: Tensor, estimate: Tensor) -> Tensor:
        """|| |STFT(y)| - |STFT(y_hat)| || over all bins and frames, [..., N] -> [...]."""
        return self._norm((self._magnitude(estimate) - self._magnitude(mixture)).flatten(-2), -1)

    def _magnitude(self, x: Tensor) -> Tensor:
        if x.shape[-1] <= self.n_fft // 2:
            raise ValueError(f"a signal of {x.shape[-1]} samples is too short for an STFT of {self.n_fft}")
        window = torch.hann_window(self.n_fft, dtype=x.dtype, device=x.device)
        return torch.stft(x, self.n_fft, self.hop, window=window, return_complex=True).abs()

    def _norm(self, x: Tensor, dim: int) -> Tensor:
        # vector_norm has the subgradient 0 at 0, so that an exact reconstruction gives no NaN.
        return x.square().sum(dim) if self.squared else torch.linalg.vector_norm(x, dim=dim)
