"""The page that sums up a campaign on a GPU: `campaign_summary.py WORK OUT`, called by gpu_campaign.sh; needs Python
alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

LINES = 12  # of a curve
JOIN = """```sh
cd OUT && sha256sum -c weights.sha256 && cat weights.tar.* | tar -xf -      # gives the folder training/
```"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; numbers with four digits."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in line) + " |" for line in lines
    )


def bench(folder: Path) -> tuple[list[dict], dict]:
    """All measured rows, each with its precision, and the facts of the machine."""
    rows, facts = [], {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        facts = content["facts"]
        rows += [row | {"precision": facts["precision"]} for row in content["rows"]]
    return rows, facts


def kernels(rows: Sequence[dict]) -> str:
    """What takes longest in the largest measured batch of each form, precision and mode."""
    largest = {
        (row["form"], row["precision"], row["mode"]): row
        for row in sorted(rows, key=lambda row: row["batch"])
        if row.get("kernels")
    }
    return "\n\n".join(
        f"{', '.join(case)}, batch {row['batch']}\n\n"
        + table(
            list(row["kernels"][0]),
            [[v[:80] if isinstance(v, str) else v for v in kernel.values()] for kernel in row["kernels"]],
        )
        for case, row in largest.items()
    )


def curve(log: Path) -> str:
    """About a dozen lines of a training's log, first and last among them."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    chosen = lines[:: max(1, len(lines) // LINES)]
    chosen += lines[-1:] if lines and lines[-1] not in chosen else []
    return table(["step", "loss", "seconds"], [[line["step"], line["loss"], line["seconds"]] for line in chosen])


def summary(work: Path, out: Path) -> str:
    """The page, from what the parts have left; what is missing there is missing here."""
    parts = [line.split("\t") for line in (work / "parts.tsv").read_text().splitlines()]
    page = ["# Campaign", table(["part", "seconds", "outcome"], parts)]
    rows, facts = bench(work / "bench")
    if rows:
        columns = ["form", "precision", "mode", "batch", "source_steps_per_second", "peak_gb"]
        page += [f"## Speed on {facts['device']}", table(columns, [[row.get(c, "") for c in columns] for row in rows])]
        page += ["### Kernels that take longest", found] if (found := kernels(rows)) else []
    for log in sorted((work / "training").rglob("log.jsonl")):
        page += [f"## Training: {log.parent.name}", curve(log)]
    if (scores := work / "training" / "validation.json").is_file():
        page += ["## Validation mixtures", f"```json\n{scores.read_text().strip()}\n```"]
    if (out / "weights.sha256").is_file():
        page += [
            "## Weights and state",
            "The training goes on from these parts where FROM names their folder. To join them:",
            JOIN,
        ]
    return "\n\n".join(page) + "\n"


def main() -> None:
    work, out = map(Path, sys.argv[1:])
    rows, facts = bench(work / "bench")
    if rows:
        (out / "bench.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    (out / "summary.md").write_text(summary(work, out))


if __name__ == "__main__":
    main()
