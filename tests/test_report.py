"""`unasdiff-teach report`: tables beside the paper's from stored results, what is missing, figures, one page without a
network.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from unasdiff_teach.cli import app
from unasdiff_teach.evaluation import (
    conflict,
    evidence,
    experiments,
    load_results,
    mean_interval,
    paper_table,
    rate_interval,
    summary,
)  # fmt: skip
from unasdiff_teach.evaluation import report as room
from unasdiff_teach.evaluation.run import COLUMNS


def scores(method, task="2 speech", si_sdr=(4.0, 6.0, -8.0), mode="wb", preset="authors", pesq=1.5, **changes):
    """Results of a method: of each mixture two sources, half a dB apart."""
    rows = []
    for i, value in enumerate(si_sdr):
        for k in range(2):
            kind = "speech" if "speech" in task.split(" + ")[min(k, task.count(" + "))] else "sound"
            rows.append({
                "task": task, "split": "test", "mixture": f"m{i}", "method": method, "preset": preset,
                "settings": f"of {method}", "seed": 0, "noise_seed": i, "source": k, "estimate": k, "kind": kind,
                "label": None, "voice": None, "heard": False, "si_sdr": value + 0.5 * k - 0.25,
                "si_sdr_unprocessed": 0.0, "pesq": pesq + i if kind == "speech" else np.nan,
                "pesq_mode": mode if kind == "speech" else None, "zero_mean": True, "permute": "kind",
                "mixture_db": -20.0, "seconds": 1.0, "batch": 1, "network_calls": 200, "device": "cpu", "machine": "M",
                "versions": "V",
            } | changes)  # fmt: skip
    return rows


def saved(path, *groups):
    frame = pd.DataFrame([row for rows in groups for row in rows], columns=list(COLUMNS)).astype(COLUMNS)
    frame.to_parquet(path, index=False)
    return path


def cell(made, **where):
    rows = made.cells
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, where
    return rows.iloc[0]


@pytest.fixture(scope="module")
def pictures():
    """Figures, as a report draws them."""
    return room.figures()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, pictures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "figures", lambda: pictures)
        return room.report([], tmp_path_factory.mktemp("report") / "out")


@pytest.fixture
def plain(monkeypatch):
    """Without figures, which have nothing to do with the tables."""
    monkeypatch.setattr(room, "figures", dict)


# ------------------------------------------------------------------------------------------------------ shipped results


def test_the_shipped_results_make_a_report_at_once(shipped):
    names = {"index.html", "report.md", "provenance.csv", *(f"table{n}.csv" for n in (2, 3, 4))}
    names |= {f"figure{name}.png" for name in ("2", "2_estimates", "3")}
    assert {path.name for path in shipped.folder.iterdir()} == names
    paper = pd.concat([paper_table(n) for n in (2, 3, 4)])
    beside = shipped.cells[shipped.cells["paper"].notna()].drop_duplicates(
        ["table", "length", "task", "method", "metric"]
    )
    assert sorted(beside["paper"]) == sorted(paper["value"]), "every number of the paper has its place"
    expected = summary(experiments.shipped("table-4")).loc["1 speech + 1 sound", "hybrid, t*=175", "short"]
    one = cell(shipped, table=4, method="hybrid, t*=175", metric="si_sdr")
    assert (
        one[["mean", "low", "high", "n"]].tolist() == expected[["mean", "low", "high", "n"]].tolist()
        and one["paper"] == 13.73
    )
    stored = pd.read_csv(shipped.folder / "table4.csv")
    assert np.allclose(stored["mean"], shipped.cells.loc[shipped.cells["table"] == 4, "mean"], equal_nan=True)


def test_tuned_rules_are_the_rules_in_the_short_preset(tmp_path, plain, monkeypatch):
    path = saved(
        tmp_path / "benchmark.parquet",
        scores("hybrid tuned", preset="short"),
        scores("hybrid", si_sdr=(1.0, 2.0)),
        scores("nmf", preset=""),
    )
    monkeypatch.setattr(
        room, "stored_part", lambda name: load_results(path) if name == "table-2" else load_results(path).iloc[:0]
    )
    made = room.report([], tmp_path / "out")
    rows = made.cells[
        (made.cells["table"] == 2) & (made.cells["method"] == "hybrid") & (made.cells["task"] == "2 speech")
    ]
    assert {(row.preset, row.metric): row.n for row in rows.itertuples() if row.metric != "pesq"} == {
        ("short", "si_sdr"): 3, ("short", "failure"): 3, ("authors", "si_sdr"): 2, ("authors", "failure"): 2,
    }  # fmt: skip
    assert np.isnan(cell(made, table=2, method="nmf", metric="si_sdr")["paper"])
    assert not [line for line in made.missing if "Table 2, nmf" in line]


def test_what_is_missing_is_named(shipped):
    absent = shipped.cells[shipped.cells["paper"].notna() & shipped.cells["mean"].isna()]
    named = {tuple(re.match(r"(\w+), Table (\d), (.*?): ", line).groups()) for line in shipped.missing}
    assert named == {(row.results, str(row.table), row.method) for row in absent.itertuples()}
    page, text = ((shipped.folder / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    for line in shipped.missing:
        assert line in text and line in page
    assert text.count("| missing |") == len(absent)


class Page(HTMLParser):
    """What a page shows, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.images, self.fetched, self.tables, self.open = [], [], 0, []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.fetched += [
            given[name] for name in ("src", "href") if name in given and not given[name].startswith("data:")
        ]
        self.images += [given] if tag == "img" else []
        self.tables += tag == "table"
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def test_the_page_stands_by_itself(shipped):
    page, text = Page(), (shipped.folder / "index.html").read_text(encoding="utf-8")
    page.feed(text.partition("<!doctype html>")[2])
    assert (
        page.open == [] and page.fetched == [] and page.tables == 5 and "http" not in re.sub(r"base64,[^\"]*", "", text)
    )
    assert len(page.images) == 3 and all(len(image["alt"]) > 100 for image in page.images)
    assert not re.search(r"\bnan\b|<NA>", re.sub(r"<[^>]*>", " ", text)) and "-0.00" not in text


def test_figures_show_what_is_stored(pictures):
    panels = pictures["2"][0].axes
    curves = conflict.curves()
    curves = curves[(curves["mixture"] == "figure-2") & (curves["rule"] == "dsg") & (curves["source"] == 1)]
    drawn = [line.get_ydata() for line in panels[4].lines]  # SI-SDR under DSG
    assert [panel.get_title("left") for panel in panels[:3]] == ["DPS", "DSG", "hybrid"] and np.array_equal(
        drawn[1], curves["si_sdr"]
    )
    share = 100 * (conflict.curves().query("mixture == 'figure-2' and rule == 'dps'")["bound"] > 0).mean()
    assert f"DPS {share:.0f} %" in pictures["2"][1] and f"DPS {share:.0f} %" in pictures["2"][2]
    assert len(pictures["2_estimates"][0].axes) == 36
    lines = {line.get_label(): line.get_ydata() for line in pictures["3"][0].axes[0].lines}
    assert set(lines) == {"DPS", "DSG", "Hybrid"} and lines["DSG"][-1] == pytest.approx(0.0127, abs=1e-4)
    assert "DSG 0.0127" in pictures["3"][2]


# ----------------------------------------------------------------------------------------------------------------- runs


def test_numbers_of_a_run_stand_beside_the_papers(tmp_path, plain):
    path = saved(
        tmp_path / "mine.parquet",
        scores("hybrid"),
        scores("recommended", preset="recommended"),
        scores("dps", si_sdr=(3.0,)),
    )
    made = room.report([path], tmp_path / "out", shipped=False)
    one = cell(made, table=2, task="2 speech", method="hybrid", metric="si_sdr")
    expected = mean_interval([4.0, 6.0, -8.0])
    assert (one["paper"], one["n"], one["preset"], one["results"]) == (6.11, 3, "authors", str(path))
    assert one[["mean", "low", "high"]].tolist() == pytest.approx(expected[:3])
    failed = cell(made, table=2, task="2 speech", method="hybrid", metric="failure")
    assert (failed["paper"], failed["mean"]) == (29.8, pytest.approx(100 / 3))
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    shown = f"{expected.mean:.2f} [{expected.low:.2f}, {expected.high:.2f}]"
    pesq, rate = mean_interval([1.5, 2.5, 3.5]), rate_interval([0.0, 0.0, 100.0])
    assert (
        f"| 2 speech | hybrid | {path} | authors | 6.11 | {shown} | 1.62 | 2.50 [{pesq.low:.2f}, {pesq.high:.2f}]"
        f" | 29.8 | 33.3 [{rate.low:.1f}, {rate.high:.1f}] | 3 |" in text
    ), "a rate has its own interval, within 0 and 100 %"
    assert f"| 2 speech | dps | {path} | authors | 1.87 | 3.00 | 1.43 | 1.50 | 46.5 | 0.0 | 1 |" in text, (
        "one mixture has no interval"
    )
    assert np.isnan(cell(made, table=2, method="recommended", metric="si_sdr")["paper"])
    (line,) = [line for line in made.missing if "Table 2, hybrid:" in line]
    assert "1 speech + 1 sound (SI-SDR, PESQ)" in line and "2 speech (" not in line
    used = pd.read_csv(tmp_path / "out" / "provenance.csv")
    assert set(used["settings"]) == {"of hybrid", "of recommended", "of dps"} and set(used["machine"]) == {"M"}
    assert set(used["scale"]) == {"16 kHz"} and set(used["mixtures"]) == {1, 3}


def test_methods_are_told_apart_by_their_differences_and_corrected_together(tmp_path, plain):
    """Two methods whose intervals overlap by far, one always 1 dB better; and one that is better by chance."""
    easy = np.array([9.0, -3.0, 4.0, 15.0])
    better, luck = easy + [1.0, 1.2, 0.8, 1.1], easy + [2.0, 0.1, 0.3, 0.2]
    groups = [scores(name, si_sdr=tuple(values)) for name, values in (("hybrid", easy), ("dps", better), ("dsg", luck))]
    path = saved(tmp_path / "mine.parquet", *groups, scores("oracle ratio", si_sdr=(20.0,) * 4, preset=""))
    made = room.report([path], tmp_path / "out", shipped=False)
    rows = made.comparisons[made.comparisons["table"] == 2].set_index("method")
    expected = evidence({"dps": better - easy, "dsg": luck - easy}, 0.5)
    assert list(rows.index) == ["dps", "dsg"] and set(rows["baseline"]) == {"authors"}
    for name in ("mean", "low", "high", "p_holm", "resolvable"):
        assert rows[name].tolist() == pytest.approx(expected[name].tolist()), name
    assert rows["p_holm"]["dps"] == pytest.approx(2 * rows["p"]["dps"]), "two comparisons"
    assert rows["verdict"].tolist() == ["higher", "no clear difference"]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    one, p = rows.loc["dps"], rows.loc["dps", "p_holm"]
    assert (
        f"| 2 | 2 speech | dps | {path} | authors | authors | {one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
        f" | 4 | {p:.2g} | {one['resolvable']:.2f} | higher |" in text
    )
    assert "Student's t" in text and "bootstrap" not in text


def test_a_method_is_compared_in_its_own_preset_where_there_is_one(shipped):
    two = shipped.comparisons[shipped.comparisons["table"] == 2]
    found = set(two[["method", "preset", "baseline"]].itertuples(index=False, name=None))
    assert {("dps", "authors", "authors"), ("dps", "short", "short"), ("nmf", "", "short")} <= found
    assert not {"hybrid", "unprocessed", "oracle ratio"} & set(two["method"])
    four = shipped.comparisons[shipped.comparisons["table"] == 4]
    assert "hybrid, t*=175" in set(four["method"]) and set(four["task"]) == {"1 speech + 1 sound"}


def test_table_3_knows_lengths_and_scales(tmp_path, plain):
    paper = saved(
        tmp_path / "paper.parquet", scores("hybrid", si_sdr=(1.0, 2.0)), scores("diffwave hybrid", "2 speech, 2 s",
        (3.0, -4.0)), scores("hybrid", "2 speech, 1 s", (9.0, 9.0)),
    )  # fmt: skip
    pocket = saved(
        tmp_path / "pocket.parquet", *(scores("analytical", f"2 speech, {n} s", (5.0 * n, 5.0), "nb") for n in (1, 2))
    )
    made = room.report([paper, pocket], tmp_path / "out", shipped=False)
    three = made.cells[(made.cells["table"] == 3) & made.cells["mean"].notna() & (made.cells["metric"] == "si_sdr")]
    found = {(row.method, row.length): row.mean for row in three.itertuples()}
    assert found == pytest.approx({
        ("hybrid", "4 s"): 1.5, ("diffwave hybrid", "2 s"): -0.5, ("analytical", "2 s"): 5.0, ("analytical",
        "4 s"): 7.5,
    })  # fmt: skip
    success = cell(made, table=3, method="diffwave hybrid", length="2 s", metric="si_sdr_success", results=str(paper))
    assert (success["mean"], success["n"], success["left_out"]) == (3.0, 1, 1)
    two = made.cells[(made.cells["table"] == 2) & made.cells["mean"].notna()]
    assert set(two["task"]) == {"2 speech"} and set(two["method"]) == {"hybrid"}, (
        "clips that were cut are for Table 3 alone"
    )


def test_table_4_of_a_run(tmp_path, plain):
    task = "1 speech + 1 sound"
    groups = [scores(name, task, (10.0, 12.0)) for name in ("hybrid", "hybrid, t*=175", "hybrid, new")]
    made = room.report([saved(tmp_path / "run.parquet", *groups)], tmp_path / "out", shipped=False)
    four = made.cells[(made.cells["table"] == 4) & made.cells["mean"].notna() & (made.cells["metric"] == "si_sdr")]
    assert dict(zip(four["method"], four["paper"].fillna(0))) == {
        "hybrid": 14.31,
        "hybrid, t*=175": 13.73,
        "hybrid, new": 0,
    }
    assert set(made.cells.loc[(made.cells["table"] == 2) & made.cells["mean"].notna(), "method"]) == {"hybrid"}
    (line,) = [line for line in made.missing if "Table 4, hybrid, time:" in line]
    assert line.endswith(f"hybrid, time: {task} (SI-SDR, PESQ)")


def test_a_run_that_goes_on_is_read(tmp_path, plain):
    shard = tmp_path / "run<1>" / "shards" / "0"
    shard.mkdir(parents=True)
    rows = scores("hybrid", si_sdr=(2.0, 4.0))
    lines = [json.dumps(rows[i : i + 2]) for i in (0, 2)]
    (shard / "results.jsonl").write_text("\n".join(lines) + '\n[{"torn')
    (tmp_path / "run<1>" / "run.json").write_text(
        json.dumps({"sample_rate": 16000, "mixtures": "/data/m", "placement": "authors"})
    )
    made = room.report([tmp_path / "run<1>"], tmp_path / "out", shipped=False)
    assert cell(made, table=2, task="2 speech", method="hybrid", metric="si_sdr")["mean"] == pytest.approx(3.0)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "run&lt;1&gt;: 16 kHz, mixtures /data/m, placement authors" in page and "run<1>" not in page


# ------------------------------------------------------------------------------------------------ wrong inputs, command


def test_wrong_inputs(tmp_path, plain):
    (tmp_path / "words.parquet").write_text("words")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    good = saved(tmp_path / "good.parquet", scores("hybrid"))
    for given, message in (
        (["nowhere"], "no results at nowhere"), (["words.parquet"], "is not a Parquet file"), (["other.parquet"],
        "holds no results"), ([good, good], "given twice"), ([], "no results are given"),
    ):  # fmt: skip
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            room.report(
                [path if path == "nowhere" else tmp_path / path for path in given], tmp_path / "out", shipped=False
            )
    with pytest.raises(ValueError, match="is a file"):
        room.report([good], good)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, plain):
    path = saved(tmp_path / "mine.parquet", scores("hybrid"))
    done = CliRunner().invoke(app, ["report", "--results", str(path), "--no-shipped", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"Table 2, {path}: 3 of 60 numbers of the paper have one beside them" in done.stdout
    assert (
        f"missing: {path}, Table 2, dps: " in done.stdout
        and done.stdout.splitlines()[-1] == f"written: {tmp_path / 'out' / 'index.html'}"
    )
    failed = CliRunner().invoke(app, ["report", "--results", str(tmp_path / "no"), "--out", str(tmp_path / "out")])
    assert (
        failed.exit_code == 1
        and failed.stderr == f"error: no results at {tmp_path / 'no'}; `unasdiff-teach evaluate` makes them\n"
    )
    assert (
        "unasdiff-teach report --results"
        in CliRunner().invoke(app, ["report", "--help"], env={"COLUMNS": "200"}).stdout
    )
