"""`unasdiff-teach report`: the paper's Tables 2 to 4 and Figures 2 and 3 from stored results, beside the paper's
numbers.

Nothing is separated here. What is there is shown with its interval, the number of mixtures and where it comes from;
what is not there is named. How methods differ is told by their differences on the same mixtures, all of a table
corrected together, and never by two intervals that overlap or do not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._files import read_json, replacing
from ..data.mixing import SPEECH_SOUND, TASKS
from . import report_pages
from .experiments import shipped as stored_part
from .job import FACTS
from .report_figures import figures
from .run import COLUMNS, stored
from .statistics import evidence
from .tables import as_text, beside_paper, differences, paper_table, summary

if TYPE_CHECKING:
    import pandas as pd

TITLES = {
    2: "Table 2: all methods, five tasks",
    3: "Table 3: two priors, two samplers, two lengths, 2 speech",
    4: f"Table 4: start, loss and floor, {SPEECH_SOUND}",
}
METRICS = {2: ("si_sdr", "pesq", "failure"), 3: ("si_sdr_success", "failure", "si_sdr"), 4: ("si_sdr", "pesq")}
WORDS = {"si_sdr": "SI-SDR / dB", "pesq": "PESQ", "failure": "failed / %", "si_sdr_success": "SI-SDR of successes / dB"}
DIGITS = {"si_sdr": 2, "pesq": 2, "failure": 1, "si_sdr_success": 2}
TUNED = " tuned"  # of the pocket benchmark: a rule in the preset "short", with the best constants of its grid
BASELINE = "hybrid"  # the paper's rule, which all other methods are compared with
KNOWING = ("oracle", "unprocessed")  # beginnings of the names of rows that are no separation
MATTERS = 0.5  # dB, the smallest difference that would matter
PROVENANCE = "method preset seed network_calls device machine versions zero_mean permute settings".split()
CELLS = "table length task method results preset metric paper mean low high n left_out".split()


@dataclass(frozen=True)
class Origin:
    """Results of one place.

    Attributes:
        name: shown in the tables.
        results: table -> rows as in `run.COLUMNS`, for the tables that it may fill.
        scale: in words.
    """

    name: str
    results: Mapping[int, pd.DataFrame]
    scale: str


@dataclass(frozen=True)
class Report:
    """What was drawn.

    Attributes:
        folder: with index.html, report.md, tableN.csv, provenance.csv and the figures.
        cells: one row for each number of the paper and each origin, and for what the paper does not have: table,
            length, task, method, results, preset, metric, paper, mean, low, high (95 %: Student's t, of "failure"
            Wilson's), n, left_out; NaN where something is missing.
        comparisons: see `comparisons`.
        missing: lines that name the cells of the paper for which there is no result.
    """

    folder: Path
    cells: pd.DataFrame
    comparisons: pd.DataFrame
    missing: list[str]


def report(results: Sequence[str | Path], out: str | Path, shipped: bool = True) -> Report:
    """Draw the tables and figures.

    Args:
        results: folders of `unasdiff-teach evaluate`, or Parquet files of results.
        out: folder to write; files of an earlier report are replaced.
        shipped: also the results that come with the package.

    Raises:
        FileNotFoundError: there are no results at one of the places.
        ValueError: something else is there; no results are asked for; or `out` is a file.
    """
    import pandas as pd

    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; a folder is needed")
    origins = [shipped_origin()] * shipped + [origin(Path(path)) for path in results]
    if not origins:
        raise ValueError("no results are given; name a folder, or take those that are shipped")
    if twice := sorted({o.name for o in origins if [p.name for p in origins].count(o.name) > 1}):
        raise ValueError(f"results are given twice: {', '.join(twice)}")
    table = pd.concat([cells(o, number) for number in TITLES for o in origins], ignore_index=True)
    compared = pd.concat([comparisons(o, number) for number in TITLES for o in origins], ignore_index=True)
    used = pd.concat([provenance(o) for o in origins], ignore_index=True)
    lines = missing(table)
    out.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, (figure, caption, alt) in figures().items():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
        _write(out / f"figure{name}.png", file.getvalue())
        pictures[f"figure{name}"] = (file.getvalue(), caption, alt)
    for number in TITLES:
        _write(out / f"table{number}.csv", table[table["table"] == number].to_csv(index=False).encode())
    _write(out / "provenance.csv", used.to_csv(index=False).encode())
    shown = {title: layout(table[table["table"] == number], METRICS[number]) for number, title in TITLES.items()}
    if len(compared):
        shown[f"SI-SDR: which differences from {BASELINE} are clear"] = as_shown(compared)
    contents = report_pages.Contents(shown, pictures, {o.name: o.scale for o in origins}, used, lines)
    _write(out / "report.md", report_pages.markdown(contents).encode())
    _write(out / "index.html", report_pages.html(contents).encode())
    return Report(out, table, compared, lines)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


# ------------------------------------------------------------------------------------------------------------ origins


def shipped_origin() -> Origin:
    """The pocket forms of the three tables, as far as they are measured."""
    return Origin(
        "shipped",
        {number: stored_part(f"table-{number}") for number in TITLES},
        "pocket scale: 8 kHz, 2 s, priors of about 2 million parameters",
    )


def origin(path: Path) -> Origin:
    """The results of a run's folder, finished or not, or of a Parquet file.

    Raises:
        FileNotFoundError, ValueError: see `report`.
    """
    import pandas as pd
    import pyarrow

    facts: dict = {}
    if path.is_file():
        try:
            frame = pd.read_parquet(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path} is not a Parquet file: {error}") from error
        if strange := sorted(set(COLUMNS) - set(frame.columns)):
            raise ValueError(f"{path} holds no results of this package: {', '.join(strange[:3])} missing")
        facts = frame.attrs
    else:
        frame = stored(path)
        if (path / FACTS).is_file():
            facts = read_json(path / FACTS)
    if frame.empty:
        raise FileNotFoundError(f"no results at {path}; `unasdiff-teach evaluate` makes them")
    rate = facts.get("sample_rate") or {"nb": 8000, "wb": 16_000}.get(next(iter(frame["pesq_mode"].dropna()), ""))
    words = [
        f"{rate / 1000:g} kHz" if rate else "unknown rate",
        *(f"{key} {facts[key]}" for key in ("mixtures", "placement") if key in facts),
    ]
    whole = 2 if rate == 8000 else 4  # seconds of mixtures that are not cut
    speech = frame[frame["task"].str.startswith("2 speech")].copy()
    speech["task"] = speech["task"].where(speech["task"] != "2 speech", f"2 speech, {whole:g} s")
    return Origin(
        str(path),
        {2: frame[frame["task"].isin(TASKS)], 3: speech, 4: frame[frame["task"] == SPEECH_SOUND]},
        ", ".join(words),
    )


def provenance(origin: Origin) -> pd.DataFrame:
    """How each method of an origin was measured: `PROVENANCE`, and tasks, mixtures and seconds for a mixture."""
    import pandas as pd

    rows = pd.concat([part for part in origin.results.values() if len(part)] or [next(iter(origin.results.values()))])
    grouped = rows.groupby(PROVENANCE, dropna=False, sort=True)
    found = grouped.agg(
        tasks=("task", "nunique"), mixtures=("mixture", "nunique"), seconds=("seconds", "mean")
    ).reset_index()
    return found.assign(results=origin.name, scale=origin.scale)[
        ["results", "scale", *PROVENANCE[:-1], "tasks", "mixtures", "seconds", "settings"]
    ]


# -------------------------------------------------------------------------------------------------------------- cells


def cells(origin: Origin, table: int) -> pd.DataFrame:
    """The numbers of one table of the paper beside those of an origin, columns as in `Report.cells`."""
    import pandas as pd

    results = origin.results[table]
    results = results.assign(method=results["method"].str.removesuffix(TUNED))
    parts = []
    for length in ("2 s", "4 s") if table == 3 else (None,):
        rows = (
            results
            if length is None
            else results[results["task"].isin(_tasks_of(results, length))].assign(task="2 speech")
        )
        paper = paper_table(table, length)
        if rows.empty:
            beside = paper.rename(columns={"value": "paper"}).drop(columns=["table", "length"])
        else:
            beside = beside_paper(rows, table, length).reset_index()
            beside = pd.concat([beside, _beyond(rows, table, set(paper["method"]))], ignore_index=True)
        parts.append(beside.assign(table=table, length=length or "", results=origin.name))
    return pd.concat(parts, ignore_index=True).reindex(columns=CELLS)


def _tasks_of(results: pd.DataFrame, length: str) -> list[str]:
    """The tasks that answer to a length of Table 3: at pocket scale all is half as long."""
    modes = results["pesq_mode"].dropna().unique()
    seconds = float(length.split()[0]) / (2 if list(modes) == ["nb"] else 1)
    return [f"2 speech, {seconds:g} s"]


def _beyond(rows: pd.DataFrame, table: int, known: set[str]) -> pd.DataFrame:
    """Methods that the paper's table does not have."""
    import pandas as pd

    rows = rows[rows["method"].map(lambda name: name not in known and _fits(name, table)).astype(bool)]
    found = [summary(rows, m).reset_index().assign(metric=m) for m in METRICS[table]] if len(rows) else []
    if not found:
        return pd.DataFrame()
    whole = pd.concat(found, ignore_index=True)
    return whole[(whole["n"] > 0) & ((whole["metric"] != "failure") | (whole["task"] == "2 speech"))]


def _fits(method: str, table: int) -> bool:
    """Whether a table is the place of a method: variants belong to Table 4, priors to Table 3."""
    if table == 2:
        return ", " not in method and not method.startswith("diffwave ")
    return table == 3 or ", " in method


def comparisons(origin: Origin, table: int) -> pd.DataFrame:
    """How the SI-SDR of each method of a table differs from that of `BASELINE`, on the same mixtures.

    Returns:
        One row for each task and method: task, method, preset, baseline (its preset: the method's own where it was
        measured, else the last one by name), the columns of `evidence` in dB, corrected over all rows, table and
        results (the origin's name). Nothing where the baseline is missing.
    """
    import pandas as pd

    rows = origin.results[table]
    rows = rows.assign(method=rows["method"].str.removesuffix(TUNED))
    rows = rows[rows["method"].map(lambda name: name == BASELINE or _fits(name, table)).astype(bool)]
    presets = sorted(rows.loc[rows["method"] == BASELINE, "preset"].unique())
    found, key = {}, ["task", "method", "preset", "baseline"]
    for (method, preset), own in rows.groupby(["method", "preset"], sort=False):
        if method == BASELINE or method.startswith(KNOWING) or not presets:
            continue
        baseline = preset if preset in presets else presets[-1]
        both = pd.concat([own, rows[(rows["method"] == BASELINE) & (rows["preset"] == baseline)]])
        by_task = differences(both, method, BASELINE).groupby(level="task")
        found |= {(task, method, preset, baseline): values for task, values in by_task}
    if not found:
        return pd.DataFrame()
    compared = evidence(found, MATTERS)
    compared = compared.set_index(pd.MultiIndex.from_tuples(found, names=key)).reset_index()
    return compared.assign(table=table, results=origin.name)


def as_shown(compared: pd.DataFrame) -> pd.DataFrame:
    """`comparisons` as they stand on the page."""
    shown = compared[["table", "task", "method", "results", "preset", "baseline"]].copy()
    numbers = compared[["mean", "low", "high"]].round(2) + 0.0  # no minus before a zero
    shown["difference / dB"] = as_text(numbers)
    shown["n"] = compared["n"]
    shown["p (Holm)"] = compared["p_holm"].map(lambda p: "" if math.isnan(p) else f"{p:.2g}")
    shown["resolvable / dB"] = compared["resolvable"].map(lambda r: "" if math.isnan(r) else f"{r:.2f}")
    return shown.assign(verdict=compared["verdict"])


def missing(table: pd.DataFrame) -> list[str]:
    """One line for each origin, table and method whose numbers are not all there."""
    absent = table[table["paper"].notna() & table["mean"].isna()]
    lines = []
    for (name, number, method), rows in absent.groupby(["results", "table", "method"], sort=False):
        places = {}
        for row in rows.itertuples():
            places.setdefault(", ".join(filter(None, (row.task, row.length))), []).append(
                WORDS[row.metric].split(" /")[0]
            )
        lines.append(
            f"{name}, Table {number}, {method}: "
            + "; ".join(f"{place} ({', '.join(what)})" for place, what in places.items())
        )
    return lines


def layout(part: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """A table as it is shown: a row for each task, length, method, origin and preset; for each metric the paper's and
    ours.
    """
    import pandas as pd

    methods = {name: i for i, name in enumerate(dict.fromkeys(part["method"]))}
    part = part.assign(
        preset=part["preset"].fillna(""),
        task_order=part["task"].map(list(TASKS).index),
        order=part["method"].map(methods),
    )
    part = part.sort_values(["task_order", "length", "order"], kind="stable")
    rows = []
    for (task, length, method, results, preset), group in part.groupby(
        ["task", "length", "method", "results", "preset"], sort=False
    ):
        by = group.set_index("metric")
        row = {"task": f"{task}, {length}" if length else task, "method": method, "results": results, "preset": preset}
        for metric in metrics:
            row[f"{WORDS[metric]}, paper"] = row[WORDS[metric]] = ""
            if metric in by.index:
                one = by.loc[metric]
                row[f"{WORDS[metric]}, paper"] = (
                    "" if math.isnan(one["paper"]) else f"{one['paper']:.{DIGITS[metric]}f}"
                )
                row[WORDS[metric]] = _text(by.loc[[metric]], DIGITS[metric])
        n = by["n"].max()
        rows.append(row | {"n": "" if math.isnan(n) else f"{n:.0f}"})
    return pd.DataFrame(rows)


def _text(cell: pd.DataFrame, digits: int) -> str:
    """One cell in words; one mixture has no interval."""
    cell = cell[["mean", "low", "high", "n"]].astype(float).round(digits) + 0.0  # no minus before a zero
    one = cell.iloc[0]
    if math.isnan(one["mean"]):
        return "missing"
    return as_text(cell, digits).iloc[0] if one["n"] > 1 else f"{one['mean']:.{digits}f}"
