"""Tables from stored results: means with intervals, by task, by class, for heard and unheard voices, beside the
paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .run import stored
from .statistics import Interval, Kind, mean_interval, rate_interval

if TYPE_CHECKING:
    import pandas as pd

PAPER_TABLES = Path(__file__).with_name("paper_tables.csv")
METHOD = ("method", "preset")
COLUMN_METRICS = ("si_sdr", "si_sdr_unprocessed", "pesq", "seconds", "network_calls")
METRICS = (*COLUMN_METRICS, "si_sdr_improvement", "si_sdr_success", "failure")


def load_results(*runs: str | Path) -> pd.DataFrame:
    """Results of one or more runs, finished or not, given by folder or by Parquet file; columns as in `run.COLUMNS`.

    Raises:
        FileNotFoundError: there are no results at one of them.
    """
    import pandas as pd

    frames = []
    for path in map(Path, runs):
        frame = pd.read_parquet(path) if path.is_file() else stored(path)
        if frame.empty:
            raise FileNotFoundError(f"no results at {path}")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def per_mixture(results: pd.DataFrame, metric: str = "si_sdr", by: Sequence[str] = ("task", *METHOD)) -> pd.DataFrame:
    """One value for each mixture: the mean over its sources (of the group) and seeds, which are not independent.

    Args:
        results: from `evaluate` or `load_results`.
        metric: "si_sdr", "si_sdr_unprocessed", "si_sdr_improvement" of one over the other, or "si_sdr_success", over
            those separations that did not fail (the paper, Table 3), all in dB; "failure", % of separations with a mean
            SI-SDR below 0 dB; "pesq", of speech; "seconds"; or "network_calls".
        by: columns of the results that make a group.

    Returns:
        Indexed by `by` and "mixture": value, and left_out, the scores that are missing in it: sources in which PESQ
        found no utterance, or separations that failed for "si_sdr_success".

    Raises:
        ValueError: `metric` or a column is unknown, or PESQ scores of two modes would be averaged.
    """
    by = list(by)
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; accepted are {', '.join(map(repr, METRICS))}")
    if unknown := [column for column in by if column not in results.columns]:
        raise ValueError(f"by has {', '.join(map(repr, unknown))}; accepted are columns of the results")
    rows = results
    if metric == "pesq":
        rows = rows[rows["kind"] == "speech"]
        if "pesq_mode" not in by and rows["pesq_mode"].nunique() > 1:
            raise ValueError("PESQ is narrow band in some results and wide band in others; put 'pesq_mode' into by")
    if metric == "si_sdr_improvement":
        rows = rows.assign(value=rows["si_sdr"] - rows["si_sdr_unprocessed"])
    elif metric in COLUMN_METRICS:
        rows = rows.assign(value=rows[metric])
    else:
        rows = rows.groupby([*by, "mixture", "seed"], dropna=False)["si_sdr"].mean().reset_index()
        failed = rows["si_sdr"] < 0
        rows = rows.assign(value=100.0 * failed if metric == "failure" else rows["si_sdr"].mask(failed))
    values = rows.groupby([*by, "mixture"], dropna=False)["value"].agg(["mean", "size", "count"])
    return values.assign(value=values["mean"], left_out=values["size"] - values["count"])[["value", "left_out"]]


def differences(results: pd.DataFrame, method: str, baseline: str, metric: str = "si_sdr") -> pd.Series:
    """`method` minus `baseline` on each mixture that both have separated, with the same noise.

    Args:
        results, metric: see `per_mixture`; the seeds that both have are averaged first, others are left out.
        method, baseline: names in the results.

    Returns:
        Indexed by task and mixture, in the unit of the metric.

    Raises:
        ValueError: one of them is not in the results, or is there with several presets: select one first.
    """
    sides = []
    for name in (method, baseline):
        rows = results[results["method"] == name]
        if rows["preset"].nunique() != 1:
            raise ValueError(f"{name!r} is in the results with {rows['preset'].nunique()} presets; exactly 1 is needed")
        sides.append(rows)
    key = ["task", "mixture", "seed"]
    shared = sides[0][key].merge(sides[1][key]).drop_duplicates()
    a, b = (per_mixture(rows.merge(shared), metric, ("task",))["value"] for rows in sides)
    return a - b


def summary(
    results: pd.DataFrame,
    metric: str = "si_sdr",
    by: Sequence[str] = ("task", *METHOD),
    seed: int = 0,
    kind: Kind = "t",
) -> pd.DataFrame:
    """Mean over mixtures and 95% interval of a metric for each group of results.

    Args:
        results, metric, by: see `per_mixture`.
        seed: of the bootstrap.
        kind: of the interval, see `mean_interval`; "failure" is a rate, and has that of `rate_interval`.

    Returns:
        Indexed by `by`: mean, low, high, n (mixtures) and left_out (see `per_mixture`).
    """
    import pandas as pd

    values = per_mixture(results, metric, by)
    interval = rate_interval if metric == "failure" else partial(mean_interval, kind=kind, seed=seed)
    intervals = {
        key: interval(group["value"])._replace(left_out=int(group["left_out"].sum()))
        for key, group in values.reset_index().groupby(list(by), dropna=False)
    }
    index = pd.MultiIndex.from_tuples(intervals, names=list(by))
    return pd.DataFrame(list(intervals.values()), index=index, columns=list(Interval._fields))


def by_class(results: pd.DataFrame, metric: str = "si_sdr", seed: int = 0) -> pd.DataFrame:
    """`summary` for each class of source; speech is one class."""
    classes = results["label"].fillna(results["kind"])
    return summary(results.assign(**{"class": classes}), metric, ("task", "class", *METHOD), seed)


def by_heard(results: pd.DataFrame, metric: str = "si_sdr", seed: int = 0) -> pd.DataFrame:
    """`summary` of the speech in the mixtures, for voices that the prior was trained on (heard) and others."""
    return summary(results[results["kind"] == "speech"], metric, ("task", "heard", *METHOD), seed)


def compare(
    results: pd.DataFrame, method: str, baseline: str, metric: str = "si_sdr", seed: int = 0, kind: Kind = "t"
) -> pd.DataFrame:
    """Mean of `differences`, `method` minus `baseline`, with its 95% interval, for each task.

    Args:
        results, method, baseline, metric: see `differences`.
        seed: of the bootstrap.
        kind: of the interval, see `mean_interval`.

    Raises:
        ValueError: as `differences`.
    """
    import pandas as pd

    by_task = differences(results, method, baseline, metric).groupby(level="task")
    found = {task: mean_interval(values, kind, seed=seed) for task, values in by_task}
    return pd.DataFrame.from_dict(found, orient="index", columns=list(Interval._fields)).rename_axis("task")


def paper_table(table: int = 2, length: str | None = None) -> pd.DataFrame:
    """The numbers that the paper prints, under the names of this project.

    A method of Table 4 is named by what differs from the full system, as "hybrid, t*=175".

    Args:
        table: 2, 3 or 4.
        length: "2 s" or "4 s", for Table 3; None gives both.

    Returns:
        Columns table, task, method, length, metric (as in `per_mixture`), value (dB, MOS or %). The paper does not say
        whether its PESQ is narrow or wide band.
    """
    import pandas as pd

    rows = pd.read_csv(PAPER_TABLES, keep_default_na=False)
    if table not in set(rows["table"]):
        raise ValueError(f"table is {table}; accepted are 2, 3 and 4")
    rows = rows[rows["table"] == table]
    if length is not None:
        rows = rows[rows["length"] == length]
        if rows.empty:
            raise ValueError(f"length is {length!r}; accepted are '2 s' and '4 s', for Table 3")
    return rows.reset_index(drop=True)


def beside_paper(
    results: pd.DataFrame, table: int = 2, length: str | None = None, seed: int = 0, kind: Kind = "t"
) -> pd.DataFrame:
    """Each number of a table of the paper beside this project's, joined by task, method and metric.

    The two were measured on different data, by different priors: what can be compared is the order of methods.

    Args:
        results: from `evaluate` or `load_results`; methods under the names of `paper_table`.
        table, length: see `paper_table`.
        seed: of the bootstrap.
        kind: of the intervals, see `mean_interval`.

    Returns:
        Indexed by task, metric and method: paper, preset, mean, low, high, n, left_out; NaN where there is no result.
    """
    import pandas as pd

    paper = paper_table(table, length).rename(columns={"value": "paper"})
    if paper["length"].nunique() > 1:
        raise ValueError("Table 3 holds clips of two lengths; length must be '2 s' or '4 s'")
    ours = pd.concat([
        summary(results, metric, seed=seed, kind=kind).reset_index().assign(metric=metric)
        for metric in paper["metric"].unique()
    ])  # fmt: skip
    joined = paper.merge(ours, how="left", on=["task", "method", "metric"])
    return joined.drop(columns=["table", "length"]).set_index(["task", "metric", "method"])


def as_text(table: pd.DataFrame, digits: int = 2) -> pd.Series:
    """Rows of a summary as "9.31 [8.85, 9.77]", for a page; `.unstack("task")` makes columns of them. One mixture has
    no interval, and of none there is "none"."""

    def one(row: pd.Series) -> str:
        mean, low, high = (f"{row[name]:.{digits}f}" for name in ("mean", "low", "high"))
        return "none" if mean == "nan" else mean if low == "nan" else f"{mean} [{low}, {high}]"

    return table.apply(one, axis=1)
