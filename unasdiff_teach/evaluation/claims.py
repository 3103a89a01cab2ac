"""Claims: sentences about differences, and what the differences that were measured say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from .statistics import (
    Interval,
    holm,
    mean_interval,
    mixtures_needed,
    p_value,
    resolvable_difference,
    verdict,
)


class Claim(NamedTuple):
    """A sentence about a difference, and the differences that test it.

    Attributes:
        differences: one for each mixture, positive where it goes the way the sentence says; of several tasks with the
            level "task" in the index, as from `tables.differences`; none where nothing was measured.
        matters: the smallest difference that would matter, in `unit`.
        unit: of both.
        equal: the sentence says that there is no difference, not that it is positive.
        everywhere: it says so of every task, and one task can refute it.
    """

    differences: pd.Series
    matters: float = 0.5
    unit: str = "dB"
    equal: bool = False
    everywhere: bool = False


def judge(interval: Interval, claim: Claim, p: float = 0.0) -> str:
    """What a difference says of a claim.

    Args:
        interval, p: see `verdict`.

    Returns:
        "held", "the opposite", "no clear difference", "equal within x dB" (of a claimed difference only) or "not
        measured". A claim of equality held if the interval lies within what matters, and the opposite did if the
        difference is clear and the interval lies wholly beyond it.

    Raises:
        ValueError: as `verdict`.
    """
    words = verdict(interval, claim.matters, p, claim.unit)
    if words in ("nothing", "one mixture"):
        return "not measured"
    if not claim.equal:
        return {"higher": "held", "lower": "the opposite"}.get(words, words)
    if interval.within(claim.matters):
        return "held"
    beyond = interval.low >= claim.matters or interval.high <= -claim.matters
    return "the opposite" if beyond and words in ("higher", "lower") else "no clear difference"


def judged(claims: Mapping[str, Claim]) -> pd.DataFrame:
    """The table of a page of claims; the p of its rows are corrected by `holm` over all of them.

    Returns:
        Indexed by claim: mean, low, high (t interval), n (differences), p_holm, resolvable, needed (see
        `mixtures_needed`, for what matters), tasks (the words of `judge` for each task, corrected among the tasks of
        this claim), unit, matters, small (whether the interval lies within what matters; true of some clear
        differences as well) and verdict. A claim about every task whose opposite is clear in one of them is "the
        opposite".

    Raises:
        ValueError: as `verdict`.
    """
    rows = []
    corrected = holm([p_value(claim.differences) for claim in claims.values()])
    for p, claim in zip(corrected, claims.values()):
        interval, spread = mean_interval(claim.differences), float(claim.differences.std())
        words, parts = judge(interval, claim, p), _each_task(claim)
        if claim.everywhere and "the opposite" in parts:
            words = "the opposite"
        row = interval._asdict() | {"p_holm": p, "resolvable": math.nan, "needed": math.nan}
        if spread > 0:
            row["resolvable"] = resolvable_difference(spread, interval.n)
            row["needed"] = mixtures_needed(spread, claim.matters)
        counts = ", ".join(f"{parts.count(one)} {one}" for one in dict.fromkeys(sorted(parts)))
        about = {"unit": claim.unit, "matters": claim.matters, "small": interval.within(claim.matters)}
        rows.append(row | {"tasks": counts} | about | {"verdict": words})
    return pd.DataFrame(rows, index=list(claims)).drop(columns="left_out")


def _each_task(claim: Claim) -> list[str]:
    """The words of `judge` for each task of a claim about several; none for a claim about one."""
    if "task" not in claim.differences.index.names:
        return []
    tasks = [values for _, values in claim.differences.groupby(level="task")]
    if len(tasks) < 2:
        return []
    return [judge(mean_interval(x), claim, p) for x, p in zip(tasks, holm([p_value(x) for x in tasks]))]
