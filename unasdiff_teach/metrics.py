"""Scores of separated sources: SI-SDR, the choice among permutations, PESQ and the paper's failure criterion."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import permutations
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .task import exchanges

Permute = Literal["none", "kind", "all"]

PESQ_MODES = {8000: "nb", 16000: "wb"}
# of a piece: utterances and pauses of 0.2 s each, as short as PESQ knows them, then stay below its 50
PESQ_SECONDS = 20.0
PESQ_LOWEST = 1.0  # the "bad" end of the MOS scale; the mappings of P.862.1 and P.862.2 start at 0.999
SILENT = 1e-24  # energy: an amplitude of 1e-12, 100 dB below one step of 16 bits


def si_sdr(estimate: Tensor, reference: Tensor, zero_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Scale-invariant signal-to-distortion ratio over the last axis, in dB.

    The estimate is split into its projection on the reference and the rest; SI-SDR is the ratio of their energies. That
    ratio is held within [eps, 1 / eps], +-80 dB by default, so every result is finite. A silent reference or a silent
    estimate scores the lowest value: nothing of the source was recovered.

    Args:
        estimate, reference: [..., N], floating point, of one shape; half precision is scored in float32.
        zero_mean: remove both means first ("SI-SNR"; the released code does, difference 24).
        eps: lowest ratio of energies, in (0, 1).

    Returns:
        [...], dB, differentiable.

    Raises:
        ValueError: shapes differ, samples are not floating point, NaN or infinite, or N is 0.

    Source: Le Roux et al. 2019, "SDR - half-baked or well done?".
    """
    _check_pair(estimate, reference)
    return _si_sdr(estimate, reference, zero_mean, eps)


def _si_sdr(estimate: Tensor, reference: Tensor, zero_mean: bool, eps: float) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(estimate.dtype, reference.dtype), torch.float32)
    estimate, reference = estimate.to(dtype), reference.to(dtype)
    if zero_mean:
        estimate = estimate - estimate.mean(-1, keepdim=True)
        reference = reference - reference.mean(-1, keepdim=True)
    scale = (estimate * reference).sum(-1, keepdim=True) / reference.square().sum(-1, keepdim=True).clamp_min(SILENT)
    target = scale * reference
    energy = estimate.square().sum(-1)
    floor = eps * energy.clamp_min(SILENT)
    ratio = torch.maximum(target.square().sum(-1), floor) / torch.maximum((estimate - target).square().sum(-1), floor)
    return 10 * torch.log10(torch.where(energy < SILENT, eps, ratio))


def best_permutation(
    estimate: Tensor,
    reference: Tensor,
    permute: Permute = "all",
    kinds: Sequence[Hashable] | None = None,
    zero_mean: bool = True,
) -> tuple[Tensor, Tensor]:
    """Which estimate answers to which reference, by the highest mean SI-SDR over the allowed permutations.

    Args:
        estimate, reference: [..., K, N].
        permute: "none", the identities are known; "kind", sources of one kind may be swapped; "all", any source may be
            swapped, an oracle that flatters a task in which identities are known (the released code, difference 24).
        kinds: K entries for "kind"; sources with equal entries are those that a separator cannot tell apart, as two
            speakers are under an unconditional prior. Two sounds of different classes differ in their labels: give
            (kind, label).
        zero_mean: see `si_sdr`.

    Returns:
        index [..., K], reference k is answered by estimate index[..., k], and the SI-SDR of these pairs [..., K], dB.

    Raises:
        ValueError: as `si_sdr`; or `permute` is unknown, or `kinds` is missing or does not have K entries.
    """
    _check_pair(estimate, reference)
    if estimate.ndim < 2:
        raise ValueError(f"estimate has shape {list(estimate.shape)}; accepted is [..., K, N]")
    candidates = torch.tensor(_allowed(estimate.shape[-2], permute, kinds), device=estimate.device)
    # [..., K estimates, K references]
    scores = _si_sdr(estimate.unsqueeze(-2), reference.unsqueeze(-3), zero_mean, 1e-8)
    scores = scores[..., candidates, torch.arange(len(candidates[0]), device=estimate.device)]  # [..., permutations, K]
    best = scores.mean(-1).argmax(-1)
    return candidates[best], scores.take_along_dim(best[..., None, None], -2).squeeze(-2)


def _allowed(count: int, permute: Permute, kinds: Sequence[Hashable] | None) -> list[tuple[int, ...]]:
    """Permutations of `count` sources; the identity comes first, so that it wins a tie."""
    if permute == "none":
        return [tuple(range(count))]
    if permute == "all":
        return list(permutations(range(count)))
    if permute != "kind":
        raise ValueError(f"permute is {permute!r}; accepted are 'none', 'kind' and 'all'")
    if kinds is None or len(kinds) != count:
        raise ValueError(f"kinds is {kinds!r}; permute='kind' needs one entry for each of {count} sources")
    return exchanges(kinds)


class Pesq(NamedTuple):
    """A PESQ score (MOS-LQO, 1 to about 4.6; NaN where none is defined) and its mode, "nb" or "wb"."""

    score: float
    mode: str


def pesq_score(estimate: Tensor, reference: Tensor, sample_rate: int, mode: Literal["nb", "wb"] | None = None) -> Pesq:
    """Perceptual evaluation of speech quality, by the `pesq` package. Scores of different modes must not be compared.

    PESQ aligns levels itself: the score does not depend on the gain or the sign of either signal.

    The rule for clips that it cannot score: a reference in which it finds no utterance, or a clip shorter than a
    quarter of a second, gives NaN, and the tables leave such items out and count them. A silent estimate of a reference
    with speech scores 1.0, the end of the scale, since leaving it out would reward it.

    The rule for long clips: PESQ's code has room for 50 utterances, scores wrongly beyond, and then crashes. A clip of
    more than 20 s is cut into pieces of one length, 20 s at most, and its score is the mean of those pieces' that have
    one.

    Args:
        estimate, reference: [N].
        sample_rate: 8000 or 16000 Hz.
        mode: "nb", narrow band (ITU-T P.862.1), or "wb", wide band (P.862.2, at 16 kHz only); by default narrow band at
            8 kHz and wide band at 16 kHz.

    Raises:
        ValueError: as `si_sdr`; or the signals are not [N]; or the rate or the mode is none of the above.
    """
    _check_pair(estimate, reference)
    if estimate.ndim != 1:
        raise ValueError(f"estimate has shape {list(estimate.shape)}; accepted is [N]")
    if sample_rate not in PESQ_MODES:
        raise ValueError(f"sample_rate is {sample_rate}; PESQ is defined at 8000 and 16000 Hz: resample both signals")
    mode = mode or PESQ_MODES[sample_rate]
    if mode not in ("nb", "wb") or (mode == "wb" and sample_rate == 8000):
        raise ValueError(f"mode is {mode!r} at {sample_rate} Hz; accepted are 'nb', and 'wb' at 16000 Hz")
    count = math.ceil(estimate.shape[-1] / (PESQ_SECONDS * sample_rate))
    pieces = zip(estimate.tensor_split(count), reference.tensor_split(count), strict=True)
    scores = [score for piece in pieces if not math.isnan(score := _pesq_piece(*piece, sample_rate, mode))]
    return Pesq(sum(scores) / len(scores) if scores else math.nan, mode)


def _pesq_piece(estimate: Tensor, reference: Tensor, sample_rate: int, mode: str) -> float:
    """The score of a clip that PESQ has room for; NaN where it defines none."""
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    if not reference.any():
        return math.nan
    # The package stumbles over a silent estimate; one faint sample shows whether the reference can be scored.
    silent = not estimate.any()
    probe = torch.eye(1, estimate.shape[-1])[0] if silent else estimate
    try:
        score = pesq(sample_rate, _numpy(reference), _numpy(probe), mode)
    except (NoUtterancesError, BufferTooShortError):
        return math.nan
    return PESQ_LOWEST if silent else float(score)


def failure(si_sdr: Tensor) -> Tensor:
    """Whether a separation failed: its mean SI-SDR over the sources is below 0 dB (the paper, Table 2). [..., K] ->
    [...].
    """
    return si_sdr.mean(-1) < 0


def _numpy(signal: Tensor):
    return signal.detach().to("cpu", torch.float32).numpy()


def _check_pair(estimate: Tensor, reference: Tensor) -> None:
    if estimate.shape != reference.shape:
        raise ValueError(
            f"estimate is {list(estimate.shape)} and reference {list(reference.shape)}; they must have one shape"
        )
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not signal.is_floating_point():
            raise ValueError(f"{name} holds {signal.dtype} samples; accepted is floating point")
        if signal.ndim == 0 or signal.shape[-1] == 0:
            raise ValueError(f"{name} has shape {list(signal.shape)}; accepted is [..., N] with N > 0")
        if not torch.isfinite(signal).all():
            raise ValueError(f"{name} holds NaN or infinite samples")
