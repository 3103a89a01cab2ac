"""Bootstrap intervals: how far a mean over some mixtures may lie from the mean over all such mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and its interval, in the unit of the values; `n` values used, `left_out` that were NaN."""

    mean: float
    low: float
    high: float
    n: int
    left_out: int = 0


def bootstrap_mean(values: Sequence[float], confidence: float = 0.95, resamples: int = 5000, seed: int = 0) -> Interval:
    """Mean and percentile bootstrap interval of independent values (Efron and Tibshirani 1993, chapter 13).

    The values must be independent: for separated sources that is one value for each mixture, never one for each source.
    With fewer than about 20 values the interval is somewhat too narrow.

    Args:
        values: [n]; NaN is left out and counted.
        confidence: in (0, 1).
        resamples: number of bootstrap means.
        seed: the same seed and values give the same interval.

    Returns:
        An `Interval`; low and high are NaN for fewer than 2 values, the mean too for none.

    Raises:
        ValueError: `values` is not one-dimensional or holds infinities, `confidence` is out of range, or `resamples` < 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values has shape {list(values.shape)}; accepted is [n]")
    if np.isinf(values).any():
        raise ValueError("values holds infinities; its mean is not defined")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; accepted is a number between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed")
    kept = values[~np.isnan(values)]
    n, left_out = len(kept), int(np.isnan(values).sum())
    if n < 2:
        return Interval(float(kept[0]) if n else np.nan, np.nan, np.nan, n, left_out)
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept[draws].mean(1), [tail, 1 - tail])
    return Interval(float(kept.mean()), float(low), float(high), n, left_out)


def paired_difference(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95, resamples: int = 5000, seed: int = 0
) -> Interval:
    """Mean and interval of a - b, two methods on the same mixtures; the spread that both share cancels.

    Args:
        a, b: [n]; entry i of both belongs to mixture i. A pair with a NaN is left out and counted.
        confidence, resamples, seed: see `bootstrap_mean`.

    Raises:
        ValueError: a and b differ in shape, or as `bootstrap_mean`.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a has shape {list(a.shape)} and b {list(b.shape)}; pairs need one shape")
    return bootstrap_mean(a - b, confidence, resamples, seed)
