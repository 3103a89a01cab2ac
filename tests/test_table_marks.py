"""Tables in the pages: names of an index in the header, numbers flush right, the first column marked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import pandas
from bs4 import BeautifulSoup

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "book" / "_ext"))
from table_marks import improved


def table(frame: pandas.DataFrame):
    return BeautifulSoup(improved(frame.to_html()), "html.parser").table


def head(shown) -> list[list[str]]:
    return [[cell.get_text() for cell in row.find_all("th")] for row in shown.thead.find_all("tr")]


def marked(shown, name: str) -> list[str]:
    return [cell.get_text() for cell in shown.select(f".{name}")]


SCORES = {"SI-SDR": [3.2, -1.5], "verdict": ["holds", "not seen"], "interval": ["3.4 [2.4, 4.5]", "-2.1 [-2.6, -1.4]"]}


def test_the_name_of_an_index_joins_the_header():
    shown = table(pandas.DataFrame(SCORES, index=pandas.Index(["dps", "dsg"], name="method")))
    assert head(shown) == [["method", "SI-SDR", "verdict", "interval"]]
    frame = pandas.DataFrame(SCORES, index=pandas.Index(["dps", "dsg"], name="method")).rename_axis(columns="task")
    assert head(table(frame)) == [["method", "SI-SDR", "verdict", "interval"]]


def test_two_names_and_columns_in_two_levels():
    index = pandas.MultiIndex.from_tuples([("dps", "authors"), ("dsg", "authors")], names=["method", "preset"])
    assert head(table(pandas.DataFrame({"mean": [1.0, 2.0]}, index=index))) == [["method", "preset", "mean"]]
    columns = pandas.MultiIndex.from_product([["2 sounds", "3 sounds"], ["here", "paper"]], names=["task", None])
    shown = table(
        pandas.DataFrame(numpy.ones((2, 4)), index=pandas.Index(["dps", "dsg"], name="method"), columns=columns)
    )
    assert head(shown)[1] == ["method", "here", "paper", "here", "paper"] and len(head(shown)) == 2


def test_a_header_without_names_stays():
    assert head(table(pandas.DataFrame(SCORES, index=["dps", "dsg"]))) == [["", "SI-SDR", "verdict", "interval"]]


def test_columns_of_numbers_are_marked_with_their_titles():
    shown = table(pandas.DataFrame(SCORES, index=["dps", "dsg"]))
    assert marked(shown, "number") == ["SI-SDR", "interval", "3.2", "3.4 [2.4, 4.5]", "-1.5", "-2.1 [-2.6, -1.4]"]
    mixed = table(pandas.DataFrame({"value": ["512", "ema"], "blank": ["none", "1.8e+09"]}, index=["a", "b"]))
    assert marked(mixed, "number") == ["blank", "none", "1.8e+09"]


def test_sentences_may_wrap_and_intervals_may_not():
    sentence, interval = "one cosine over all steps, then the first rate", "-17.035 [-15.825, -18.315]   of 20"
    shown = table(pandas.DataFrame({"rate": [sentence, "none"], "score": ["3.2", interval]}, index=["a", "b"]))
    assert marked(shown, "sentence") == [sentence]


def test_the_start_of_each_row_is_marked():
    index = pandas.MultiIndex.from_product([["dps", "dsg"], ["1 s", "2 s"]], names=["method", "length"])
    shown = table(pandas.DataFrame({"mean": range(4), "low": range(4)}, index=index))
    assert marked(shown, "pinned") == ["method", "dps", "dsg"]
    assert marked(table(pandas.DataFrame(SCORES, index=["dps", "dsg"])), "pinned") == ["", "dps", "dsg"]


def test_a_table_without_body_stays_as_it_is():
    html = "<table><tr><td>1</td></tr></table>"
    assert improved(html) == html


def test_a_break_leaves_intervals_and_units_whole():
    shown = table(pandas.DataFrame({"score": ["-2.1 [-2.6, -1.4]", "equal within 0.5 dB"], "of": ["3 of 20", "a < b"]}))
    assert marked(shown, "keep-together") == ["[-2.6, -1.4]", "3 of 20", "0.5 dB"]
    assert shown.find_all("td")[-1].get_text() == "a < b"


def test_tables_of_many_columns_are_marked():
    few, many = (table(pandas.DataFrame({f"c{i}": [1] for i in range(count)})) for count in (6, 7))
    assert "many-columns" not in few["class"] and "many-columns" in many["class"]  # with the index
