"""Masks that know the sources: what weighing the mixture's time-frequency bins can reach."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

N_FFT, HOP = 512, 128
SILENT_BIN = 1e-20  # so that a bin without any source is shared equally


def oracle_mask(
    mixture: Tensor,
    sources: Tensor,
    kind: Literal["ratio", "binary", "wiener", "phase-sensitive"] = "ratio",
    n_fft: int = N_FFT,
    hop: int = HOP,
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
    parts = spectrum(sources, n_fft, hop)  # [..., K, F, frames]
    whole = spectrum(mixture, n_fft, hop).unsqueeze(-3)  # [..., 1, F, frames]
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
    return waveform(mask * whole, length, n_fft, hop)


def spectrum(signals: Tensor, n_fft: int = N_FFT, hop: int = HOP) -> Tensor:
    """STFT with a periodic Hann window, [..., N] -> [..., n_fft / 2 + 1, frames]."""
    window = torch.hann_window(n_fft, dtype=signals.dtype, device=signals.device)
    flat = torch.stft(signals.reshape(-1, signals.shape[-1]), n_fft, hop, window=window, return_complex=True)
    return flat.reshape(*signals.shape[:-1], *flat.shape[-2:])


def waveform(spectra: Tensor, length: int, n_fft: int = N_FFT, hop: int = HOP) -> Tensor:
    """What `spectrum` came from, [..., n_fft / 2 + 1, frames] -> [..., length]."""
    window = torch.hann_window(n_fft, dtype=spectra.real.dtype, device=spectra.device)
    flat = torch.istft(spectra.reshape(-1, *spectra.shape[-2:]), n_fft, hop, window=window, length=length)
    return flat.reshape(*spectra.shape[:-2], length)
