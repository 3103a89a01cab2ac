"""Masks that know the sources: what weighing the mixture's time-frequency bins can reach."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

SILENT_BIN = 1e-20  # so that a bin without any source is shared equally


def oracle_mask(
    mixture: Tensor,
    sources: Tensor,
    kind: Literal["ratio", "binary", "wiener", "phase-sensitive"] = "ratio",
    n_fft: int = 512,
    hop: int = 128,
) -> Tensor:
    """Separate a mixture with the mask computed from its true sources S_k, in the STFT domain (periodic Hann window).

    "binary" gives a bin to its strongest source, "ratio" shares it by magnitude |S_k| / sum |S_j|, and "wiener" by
    power |S_k|^2 / sum |S_j|^2: these sum to 1, so the estimates sum to the mixture. "phase-sensitive" is
    Re(S_k / Y), clipped to [0, 1], the best such mask in each bin for itself. All are real: the mixture's phase
    remains.

    Args:
        mixture: [..., N], N > n_fft / 2.
        sources: [..., K, N].
        n_fft, hop: samples; hop divides n_fft at least twice.

    Returns:
        [..., K, N].

    Raises:
        ValueError: shapes do not fit, `kind` is unknown, N is too short or `hop` too long.

    Source: Vincent et al. 2007, "Oracle estimators for the benchmarking of source separation algorithms"; Erdogan et
    al. 2015 for the phase-sensitive mask.
    """
    length = mixture.shape[-1]
    if sources.ndim != mixture.ndim + 1 or sources.shape[:-2] != mixture.shape[:-1] or sources.shape[-1] != length:
        raise ValueError(
            f"sources is {list(sources.shape)} and mixture {list(mixture.shape)}; needed are [..., K, N] and [..., N]"
        )
    if length <= n_fft // 2:
        raise ValueError(f"the mixture has {length} samples; n_fft = {n_fft} needs more than {n_fft // 2}")
    if not 0 < hop <= n_fft // 2:
        raise ValueError(f"hop is {hop}; accepted are 1..{n_fft // 2}, half of n_fft")
    window = torch.hann_window(n_fft, dtype=mixture.dtype, device=mixture.device)

    def spectrum(signal: Tensor) -> Tensor:
        flat = torch.stft(signal.reshape(-1, length), n_fft, hop, window=window, return_complex=True)
        return flat.reshape(*signal.shape[:-1], *flat.shape[-2:])

    parts, whole = spectrum(sources), spectrum(mixture).unsqueeze(-3)  # [..., K, F, frames], [..., 1, F, frames]
    magnitude = parts.abs()
    if kind == "binary":
        strongest = magnitude.argmax(-3, keepdim=True)
        mask = torch.zeros_like(magnitude).scatter_(-3, strongest, 1.0)
    elif kind in ("ratio", "wiener"):
        weight = (magnitude if kind == "ratio" else magnitude.square()) + SILENT_BIN
        mask = weight / weight.sum(-3, keepdim=True)
    elif kind == "phase-sensitive":
        mask = ((parts * whole.conj()).real / (whole.abs().square() + SILENT_BIN)).clamp(0, 1)
    else:
        raise ValueError(f"kind is {kind!r}; accepted are 'ratio', 'binary', 'wiener' and 'phase-sensitive'")
    separated = mask * whole
    signals = torch.istft(separated.flatten(0, -3), n_fft, hop, window=window, length=length)
    return signals.reshape(sources.shape)
