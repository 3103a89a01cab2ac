"""The page that `unasdiff-teach separate` writes: to listen to the sources, and to read how they were made."""

from __future__ import annotations

from html import escape
from pathlib import Path

from .._console import duration
from ..data.audio import SILENCE_DB

TOOLS = tuple(Path(__file__).parent / "static" / name for name in ("tools.css", "tools.js"))
"""Style and script of the players, which belong into `_static` beside the page; the book takes the same files."""


def result_page(report: dict, player: str, result: str) -> str:
    """A page to listen to, which asks nothing from the network; `player` is HTML, `result` the report's file."""
    kinds = {".css": '<link rel="stylesheet" href="_static/{}">', ".js": '<script src="_static/{}" defer></script>'}
    head = "\n".join(kinds[path.suffix].format(path.name) for path in TOOLS)
    name, half = escape(report["file"]), report["priors_rate"] / 2000

    def row(title: str, track: dict) -> str:
        level = (
            "silent"
            if track["level_db"] <= SILENCE_DB
            else f"{track['level_db']:.1f} dB".replace("-", "\N{MINUS SIGN}")
        )
        file = escape(track["file"])
        return f'<tr><th scope="row">{escape(title)}</th><td><a href="{file}">{file}</a></td><td>{level}</td></tr>'

    rows = "".join(row(s["source"], s) for s in report["sources"]) + row("residual", report["residual"])
    expected = "".join(f"<p>{escape(text[:1].upper() + text[1:])}.</p>" for text in report["expected"])
    warnings = "".join(f'<p class="warning">Warning: {escape(text)}.</p>' for text in report["warnings"])
    above = ""
    if report["sample_rate"] > report["priors_rate"]:
        above = (
            f" The recording has {report['sample_rate'] / 1000:g} kHz and the priors {report['priors_rate'] / 1000:g}"
            f" kHz: what lies above {half:g} kHz is in no source, but in the residual's file. What plays here is cut at"
            f" {half:g} kHz."
        )
    what = {"mid": "the mean of its channels", "each": "each of its channels (the mean of the results plays here)"}[
        report["separated"]
    ]
    separated = f" Separated was {what}." if report["channels"] > 1 else ""
    facts = {
        "preset": report["preset"], "seed": report["seed"],
        "windows": f"{report['windows']['count']} of {report['windows']['seconds']:g} s",
        "network calls": report["network_calls"], "time": duration(report["seconds"]), "device": report["device"],
        "precision": report["precision"],
        "priors": ", ".join(f"{s['prior']} {s['prior_sha256'][:8]}".strip() for s in report["sources"]),
        "versions": ", ".join(f"{package} {number}" for package, number in report["versions"].items()),
    }  # fmt: skip
    details = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(str(value))}</td></tr>' for key, value in facts.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}, separated</title>
<link rel="icon" href="data:,">
{head}
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }}
table.facts {{ border-collapse: collapse; width: 100%; }}
table.facts :is(th, td) {{ padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top; }}
table.facts td {{ overflow-wrap: anywhere; }}
.warning {{ border-left: 0.25rem solid #d55e00; padding-left: 0.7rem; }}
</style>
</head>
<body>
<h1>{name}, separated</h1>
<p>{report["seconds_of_sound"]:.1f} s.{separated} The residual is the recording less the sum of the sources.{above}</p>
{expected}
{warnings}
{player}
<h2>Files</h2>
<table class="facts">
<thead><tr><th scope="col">source</th><th scope="col">file</th><th scope="col">level (RMS)</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>How it was made</h2>
<table class="facts"><tbody>{details}</tbody></table>
<p>All of it is in <a href="{result}">{result}</a>.</p>
</body>
</html>
"""
