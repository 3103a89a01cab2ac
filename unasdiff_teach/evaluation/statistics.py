"""Rules of evidence: what the mean over some mixtures says about the mean over all such mixtures.

The unit is the mixture: sources and seeds of one mixture are averaged first (`tables.per_mixture`,
`tables.differences`). Two methods are compared by their differences on the same mixtures with the same noise, a table
of comparisons is corrected as a whole, and "no clear difference" comes with the difference that the experiment could
have seen. `book/appendix_evidence.ipynb` shows each rule at work.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["t", "bca", "percentile"]
KINDS: tuple[Kind, ...] = ("t", "bca", "percentile")


class Interval(NamedTuple):
    """A mean and its interval, in the unit of the values; `n` values used, `left_out` that were NaN."""

    mean: float
    low: float
    high: float
    n: int
    left_out: int = 0

    def within(self, matters: float) -> bool:
        """Whether it lies between -`matters` and `matters`."""
        return -matters < self.low and self.high < matters


def mean_interval(
    values: Sequence[float], kind: Kind = "t", confidence: float = 0.95, resamples: int = 5000, seed: int = 0
) -> Interval:
    """Mean and interval of independent values; the default kind holds for as few as 12 of this project's scores.

    An interval of 95 % should hold the true mean in 95 % of all experiments. `coverage`, tried on the shipped scores
    and differences, finds 94 to 96 % for "t" and 85 to 94 % for the two bootstrap kinds
    (`book/appendix_evidence.ipynb`). None holds where a few mixtures fail by 20 dB, and a sample may miss them all.

    Args:
        values: [n], one for each mixture, never one for each source; NaN is left out and counted.
        kind: "t", Student's; "bca", the bootstrap interval corrected for bias and skewness (Efron and Tibshirani 1993,
            chapter 14); or "percentile", the plain bootstrap interval (chapter 13).
        confidence: in (0, 1).
        resamples: number of bootstrap means; "t" needs none.
        seed: of the bootstrap: the same seed and values give the same interval.

    Returns:
        An `Interval`; low and high are NaN for fewer than 2 values, the mean too for none.

    Raises:
        ValueError: `values` is not one-dimensional or holds infinities, `kind` is unknown, `confidence` is out of
            range, or `resamples` < 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"values has shape {list(values.shape)}; accepted is [n]")
    if np.isinf(values).any():
        raise ValueError("values holds infinities; its mean is not defined")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; accepted are {', '.join(map(repr, KINDS))}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; accepted is a number between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed")
    kept = values[~np.isnan(values)]
    n, left_out = len(kept), int(np.isnan(values).sum())
    if n < 2:
        return Interval(float(kept[0]) if n else np.nan, np.nan, np.nan, n, left_out)
    low, high = _bounds(kept, kind, confidence, resamples, np.random.default_rng(seed))
    return Interval(float(kept.mean()), float(low), float(high), n, left_out)


def _bounds(
    values: np.ndarray, kind: Kind, confidence: float, resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the mean of [..., n], n > 1."""
    from scipy import stats

    n, mean, tail = values.shape[-1], values.mean(-1), (1 - confidence) / 2
    if kind == "t":
        half = stats.t.ppf(1 - tail, n - 1) * values.std(-1, ddof=1) / math.sqrt(n)
        return mean - half, mean + half
    if kind == "percentile":
        draws = rng.integers(n, size=(resamples, n))
        return tuple(np.quantile(values[..., draws].mean(-1), [tail, 1 - tail], axis=-1))
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # Of values that are all alike, which leave nothing to correct: their interval is a point.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        bounds = stats.bootstrap(
            (values,), np.mean, axis=-1, n_resamples=resamples, confidence_level=confidence, method="BCa", rng=rng
        ).confidence_interval
    alike = np.ptp(values, -1) == 0
    return np.where(alike, mean, bounds.low), np.where(alike, mean, bounds.high)


def rate_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """A rate in % and Wilson's score interval for it (Wilson 1927), which stays within 0 and 100 %.

    Student's interval of a few noughts and hundreds does not, and is a point where all failed.

    Args:
        values: [n], one for each mixture, 0 to 100: failed or not, or in how many of its seeds; NaN is left out and
            counted.
        confidence: in (0, 1).

    Raises:
        ValueError: a value is no percentage, or as `mean_interval`.
    """
    from scipy import stats

    mean, _, _, n, left_out = mean_interval(values, confidence=confidence)
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0, left_out)
    if np.nanmin(values) < 0 or np.nanmax(values) > 100:
        raise ValueError(f"values lie between {np.nanmin(values):g} and {np.nanmax(values):g}; a rate has 0 to 100 %")
    p, z2 = mean / 100, float(stats.norm.ppf((1 + confidence) / 2)) ** 2
    middle, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n)
    low, high = (100 * (middle + sign * half) / (1 + z2 / n) for sign in (-1, 1))
    return Interval(mean, max(0.0, low), min(100.0, high), n, left_out)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
    kind: Kind = "t",
) -> Interval:
    """Mean and interval of a - b, two methods on the same mixtures; the spread that both share cancels.

    Args:
        a, b: [n]; entry i of both belongs to mixture i. A pair with a NaN is left out and counted.
        confidence, resamples, seed, kind: see `mean_interval`.

    Raises:
        ValueError: a and b differ in shape, or as `mean_interval`.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a has shape {list(a.shape)} and b {list(b.shape)}; pairs need one shape")
    return mean_interval(a - b, kind, confidence, resamples, seed)


# ------------------------------------------------------------------------------------------------- what can be seen


def p_value(values: Sequence[float]) -> float:
    """Two-sided p of Student's t test that the mean of independent values [n] is zero; NaN is left out.

    Returns:
        p in [0, 1]; 0 if all values are one number other than 0, 1 if all are 0, NaN for fewer than 2 values.
    """
    from scipy import stats

    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if len(kept) < 2:
        return math.nan
    if np.ptp(kept) == 0:
        return float(kept[0] == 0)
    return float(stats.ttest_1samp(kept, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Correct the p of several comparisons, so that all that are called clear are so at once (Holm 1979).

    The smallest of m is multiplied by m, the next one by m - 1 and so on, and none may fall below one before it. A
    comparison is clear if its corrected p is at most 0.05: the chance that any of those without a difference is called
    clear is then 5 % at most, however the comparisons depend on each other.

    Args:
        p_values: [m], in [0, 1]; NaN stays NaN and is not counted.

    Returns:
        [m], in the order given.

    Raises:
        ValueError: a p is outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p_values holds {p[(p < 0) | (p > 1)][0]}; accepted are numbers from 0 to 1")
    order = np.argsort(p, kind="stable")  # NaN last
    order = order[: np.count_nonzero(~np.isnan(p))]
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected


def power(difference: float, spread: float, n: int, confidence: float = 0.95) -> float:
    """The chance that the two-sided t test on n pairs sees a true difference.

    Args:
        difference: true mean of the differences, in the unit of `spread`.
        spread: standard deviation of the differences over mixtures, > 0.
        n: mixtures, at least 2.
        confidence: 1 minus the level of the test.

    Returns:
        In (0, 1), by the noncentral t distribution (Cohen 1988, chapter 2); 1 - confidence for no difference.

    Raises:
        ValueError: spread or n is out of range.
    """
    from scipy import stats

    if not spread > 0 or n < 2:
        raise ValueError(f"spread is {spread} and n is {n}; needed are spread > 0 and n > 1")
    shift, critical = abs(difference) / spread * math.sqrt(n), stats.t.ppf((1 + confidence) / 2, n - 1)
    near, far = stats.nct.sf(critical, n - 1, shift), stats.nct.cdf(-critical, n - 1, shift)
    return float(near + np.nan_to_num(far))  # scipy has NaN for some tails that are next to nothing


def resolvable_difference(spread: float, n: int, confidence: float = 0.95, chance: float = 0.8) -> float:
    """The smallest true difference that n pairs show with a chance of 80 %; smaller ones may well go unseen.

    Args:
        spread, n, confidence: see `power`.
        chance: wanted power, above 1 - confidence.

    Returns:
        In the unit of `spread`; about 2.8 spread / sqrt(n) for many mixtures.

    Raises:
        ValueError: as `power`.
    """
    from scipy.optimize import brentq

    # In units of the mean's standard error: 80 % need about 2.8 of them, and 16 even if there are only two pairs.
    error = spread / math.sqrt(n)
    return error * brentq(lambda shift: power(shift * error, spread, n, confidence) - chance, 0.0, 100.0)


def mixtures_needed(spread: float, difference: float, confidence: float = 0.95, chance: float = 0.8) -> int:
    """How many pairs resolve a difference: the smallest n whose `resolvable_difference` is at most as large.

    Args:
        spread, confidence, chance: see `resolvable_difference`.
        difference: > 0, in the unit of `spread`.

    Raises:
        ValueError: difference is not positive, or as `power`.
    """
    if not difference > 0:
        raise ValueError(f"difference is {difference}; a positive number is needed")
    from scipy import stats

    n = max(2, int(((stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(chance)) * spread / difference) ** 2))
    while resolvable_difference(spread, n, confidence, chance) > difference:  # the t test needs a few more
        n += 1
    return n


# ---------------------------------------------------------------------------------------------------------- verdicts


def verdict(interval: Interval, matters: float, p: float = 0.0, unit: str = "dB") -> str:
    """What a difference shows, in the words that the book uses.

    Args:
        interval: of the difference, at 95 %.
        matters: the smallest difference that would matter, > 0, in the unit of the interval.
        p: of the comparison, corrected by `holm` where it is one of several; for one alone the interval says it all.
        unit: of `matters`.

    Returns:
        "higher" or "lower": the interval leaves out zero, and p is at most 0.05. "equal within x dB": the interval lies
        within +-x, what matters. "no clear difference": neither; the difference may or may not be one that matters, and
        `resolvable_difference` says how large one would have been seen. "one mixture" where there is no interval.

    Raises:
        ValueError: matters is not positive.
    """
    if not matters > 0:
        raise ValueError(f"matters is {matters}; a positive number is needed")
    if math.isnan(interval.low):
        return "one mixture" if interval.n else "nothing"
    if p <= 0.05 and interval.low > 0:
        return "higher"
    if p <= 0.05 and interval.high < 0:
        return "lower"
    if interval.within(matters):
        return f"equal within {matters:g} {unit}"
    return "no clear difference"


def evidence(
    differences: Mapping[str, Sequence[float]], matters: float, kind: Kind = "t", unit: str = "dB"
) -> pd.DataFrame:
    """The table of several comparisons, corrected as a whole.

    Args:
        differences: for each comparison its differences, one for each mixture [n], as from `tables.differences`.
        matters, unit: see `verdict`.
        kind: of the intervals, see `mean_interval`.

    Returns:
        Indexed by comparison: mean, low, high, n, p (t test), p_holm, resolvable (`resolvable_difference`) and verdict.

    Raises:
        ValueError: as `mean_interval` and `verdict`.
    """
    import pandas as pd

    rows = []
    for values in differences.values():
        interval = mean_interval(values, kind)
        spread = float(pd.Series(values, dtype=np.float64).std())  # of one value NaN, which is not above 0
        resolvable = resolvable_difference(spread, interval.n) if spread > 0 else math.nan
        rows.append((interval, p_value(values), resolvable))
    intervals, p, resolvable = zip(*rows)
    corrected = holm(p)
    table = pd.DataFrame(intervals, index=list(differences)).drop(columns="left_out")
    words = [verdict(interval, matters, one, unit) for interval, one in zip(intervals, corrected)]
    return table.assign(p=p, p_holm=corrected, resolvable=resolvable, verdict=words)


# ---------------------------------------------------------------------------------------------------------- coverage


class Coverage(NamedTuple):
    """How one kind of interval fares: the fraction of trials in which it holds the true mean, and its mean width."""

    kind: Kind
    n: int
    coverage: float
    width: float
    trials: int


def coverage(
    population: Sequence[float],
    n: int,
    kinds: Sequence[Kind] = KINDS,
    confidence: float = 0.95,
    trials: int = 2000,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Coverage]:
    """Try intervals where the truth is known: how often do they hold the mean of the population that n values are from?

    Args:
        population: [M], values as real as possible, such as the scores of all mixtures that were measured; they are
            drawn with replacement, so that the population may be as small as a sample. NaN is left out.
        n: values in a sample, at least 2.
        kinds: of intervals, all on the same samples.
        confidence: nominal coverage.
        trials: samples; the coverage found is then known to about sqrt(0.05 / trials), 0.5 % for 2000.
        resamples: see `mean_interval`.
        seed: of the samples and the bootstrap.

    Returns:
        For each kind its `Coverage`; the width is in the unit of the population.

    Raises:
        ValueError: n < 2 or trials < 1.
    """
    if n < 2 or trials < 1:
        raise ValueError(f"n is {n} and trials is {trials}; needed are n > 1 and trials > 0")
    rng, population = np.random.default_rng(seed), np.asarray(population, dtype=np.float64)
    population = population[~np.isnan(population)]
    samples, found = rng.choice(population, (trials, n)), []
    for kind in kinds:
        # In parts of 100 samples: their resamples are 32 MB at n = 40.
        parts = [_bounds(part, kind, confidence, resamples, rng) for part in np.array_split(samples, -(-trials // 100))]
        low, high = (np.concatenate(bounds) for bounds in zip(*parts))
        held = (low <= population.mean()) & (population.mean() <= high)
        found.append(Coverage(kind, n, float(held.mean()), float((high - low).mean()), trials))
    return found
