"""The pages of a report: Markdown, and HTML that stands by itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

INTRODUCTION = (
    "Numbers of the paper beside those of this package: the mean over mixtures and its 95 % interval (Student's t; of"
    " failure rates Wilson's); n is the number of mixtures. The two were measured on different data, by different"
    " priors and, at pocket scale, at half the rate and length (PESQ is narrow band at 8 kHz): what can be compared is"
    " the order of methods. Two"
    " methods are told apart by their differences on the same mixtures, in the last table, and not by whether their"
    " intervals overlap: its p are corrected over all rows of one table and one place (Holm), and where no difference"
    " is clear, it says how large one would have been seen four times in five (resolvable)."
)
FACT_COLUMNS = "results method preset seed tasks mixtures network_calls seconds device machine versions".split()


@dataclass(frozen=True)
class Contents:
    """What the pages of a report show.

    Attributes:
        shown: tables by title.
        pictures: name -> (PNG, caption, text in its place).
        scales: of the results, by name.
        used: what they were measured with.
        lines: what is missing.
    """

    shown: Mapping[str, pd.DataFrame]
    pictures: Mapping[str, tuple[bytes, str, str]]
    scales: Mapping[str, str]
    used: pd.DataFrame
    lines: list[str]

    @property
    def facts(self) -> pd.DataFrame:
        """Of `used` what a page has room for."""
        return self.used[FACT_COLUMNS].assign(seconds=self.used["seconds"].map("{:.3g}".format))


def markdown(report: Contents) -> str:
    """The report as Markdown, with the pictures beside it."""

    def grid(frame: pd.DataFrame) -> str:
        head = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
        return "\n".join([head, *("| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False))])

    parts = [
        "# Tables 2 to 4 and Figures 2 and 3",
        INTRODUCTION,
        *(f"- {name}: {scale}" for name, scale in report.scales.items()),
    ]
    parts += [f"## {title}\n\n{grid(frame)}" for title, frame in report.shown.items()]
    parts += [f"![{alt}]({name}.png)\n\n{caption}" for name, (_, caption, alt) in report.pictures.items()]
    parts += ["## What is missing", "\n".join(f"- {line}" for line in report.lines) or "Nothing."]
    parts += [
        "## How it was measured",
        grid(report.facts),
        "Settings and checksums of the priors are in provenance.csv.",
    ]
    return "\n\n".join(parts) + "\n"


def html(report: Contents) -> str:
    """The report as a page that needs no other file."""

    def section(title: str, frame: pd.DataFrame, note: str = "") -> str:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in frame.columns)
        body = "".join(
            "<tr>"
            + "".join(f"<td{' class=missing' if v == 'missing' else ''}>{escape(str(v))}</td>" for v in row)
            + "</tr>\n"
            for row in frame.itertuples(index=False)
        )
        return (
            f'<h2>{escape(title)}</h2>\n{note}<div class="wide" tabindex="0" role="region"'
            f' aria-label="{escape(title)}"><table'
            f' aria-label="{escape(title)}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'
        )

    images = "".join(
        f'<figure><img alt="{escape(alt)}"'
        f' src="data:image/png;base64,{base64.b64encode(png).decode()}"><figcaption>{escape(caption)}'
        "</figcaption></figure>\n"
        for png, caption, alt in report.pictures.values()
    )
    names = "".join(f"<li>{escape(name)}: {escape(scale)}</li>" for name, scale in report.scales.items())
    points = "".join(f"<li>{escape(line)}</li>" for line in report.lines)
    absent = f"<ul>{points}</ul>" if points else "<p>Nothing.</p>"
    tables = "\n".join(section(title, frame) for title, frame in report.shown.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tables 2 to 4 and Figures 2 and 3</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 72rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .6rem; text-align: left; white-space: nowrap; }}
th, td {{ border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }}
.missing {{ font-style: italic; opacity: .75; }}
figure {{ margin: 2rem 0; }}
img {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>Tables 2 to 4 and Figures 2 and 3</h1>
<p>{escape(INTRODUCTION)}</p>
<ul>{names}</ul>
{tables}
<h2>Figures 2 and 3</h2>
{images}
<h2>What is missing</h2>
{absent}
{section("How it was measured", report.facts, "<p>Settings and checksums of the priors are in provenance.csv.</p>")}
</body>
</html>
"""
