"""Lists of mixtures: those of the package by name, others by the folder that `unasdiff-teach data mixtures` wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

from .. import data
from ..data import full_mixtures
from ..data.mixing import TASKS, Mixture

POCKET = "pocket"
RECORDED = ("recorded", "recorded validation")


def _real(task: str) -> list[Mixture]:
    return [mixture for mixture in data.real_mixtures() if mixture.task == task]


NAMED: Mapping[str, Callable[[str], list[Mixture]]] = {
    POCKET: partial(data.mixtures, split="test"),
    f"{POCKET} validation": partial(data.mixtures, split="validation"),
    RECORDED[0]: partial(data.mixtures, split="test", corpus="recorded"),
    RECORDED[1]: partial(data.mixtures, split="validation", corpus="recorded"),
    "real": _real,
}
"""Name -> the mixtures of a task. Those of "real" are in the folder `UNASDIFF_REAL_AUDIO`, and not in the package."""


@cache
def _named(name: str, task: str) -> list[Mixture]:
    return NAMED[name](task)


def corpus(where: str) -> str:
    """Which of `data.CORPORA` the mixtures of a list, or sounds of its classes, come from; "rendered" of a folder."""
    return "recorded" if where in RECORDED else "rendered"


def load(
    where: str, task: str, placement: str = "paper", count: int | None = None, part: tuple[int, int] = (0, 1),
    seconds: float | None = None
) -> list[Mixture]:  # fmt: skip
    """Mixtures of a task: of the first `count`, every part[1]-th from the part[0]-th on, cut to `seconds` around their
    middle.
    """
    if where in NAMED:
        found = _named(where, task)[:count][part[0] :: part[1]]
    else:
        found = full_mixtures.load(where, task, placement, count, part)
    return found if seconds is None else [middle(mixture, seconds) for mixture in found]


def sizes(where: str, placement: str = "paper") -> dict[str, int]:
    """Task -> how many mixtures of it a list has.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: it has none of this placement.
    """
    if where in NAMED:
        if placement != "paper":
            raise ValueError(f"placement is {placement!r}; the list {where!r} has the paper's alone")
        return {task: n for task in TASKS if (n := len(_named(where, task)))}
    rows = full_mixtures.table(where)
    rows = rows[rows["placement"] == placement]
    there = {task: n for task in TASKS if (n := rows.loc[rows["task"] == task, "id"].nunique())}
    if not there:
        raise ValueError(f"{where} has no mixtures of placement {placement!r}")
    return there


def fingerprint(where: str) -> str:
    """What tells the mixtures of two lists apart."""
    if where not in NAMED:
        return full_mixtures.fingerprint(where)
    made = data.pocket_hash(corpus(where))[:8]
    return made if where == POCKET else f"{made} {where}"


def middle(mixture: Mixture, seconds: float) -> Mixture:
    """A mixture cut around its middle, under a name and a task of its own ("2 speech, 2 s").

    Raises:
        ValueError: it does not last so long.
    """
    length = round(seconds * mixture.sample_rate)
    start = (len(mixture.mixture) - length) // 2
    if start < 0 or length < 1:
        raise ValueError(f"seconds is {seconds:g}; {mixture.id} lasts {len(mixture.mixture) / mixture.sample_rate:g} s")
    cut = slice(start, start + length)
    return replace(
        mixture, mixture=mixture.mixture[cut], sources=mixture.sources[:, cut], id=f"{mixture.id}_{seconds:g}s",
        task=f"{mixture.task}, {seconds:g} s",
    )  # fmt: skip
