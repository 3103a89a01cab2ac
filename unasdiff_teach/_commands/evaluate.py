"""`unasdiff-teach evaluate` and `report`: numbers of any method on any list of mixtures, and the paper's tables of
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._console import errors
from .._machine import use_threads
from . import Compile, Precision, Threads, say

# What an experiment of the book has of its own.
FIXED = ("mixtures", "task", "preset", "prior", "separator", "seconds", "placement", "scoring", "seed", "compile")


def refuse_what_is_fixed(context: typer.Context, experiment: str) -> None:
    """An option that the experiment would ignore is an error."""
    fixed = FIXED
    if experiment == "conflict":
        fixed += ("batch", "processes", "device", "precision", "trained")
    given = [name for name in fixed if context.get_parameter_source(name).name == "COMMANDLINE"]
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise ValueError(f"the experiment {experiment!r} has its own {names}: leave that out, or name methods instead")


def evaluate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of this run: one list of mixtures, placement and scoring.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Method to score, repeated: unprocessed, dps, dsg, hybrid, cqt, analytical, dirac, recommended,"
                " oracle binary, oracle ratio, oracle wiener, nmf, conv-tasnet or tf-locoformer; or a row of Table 4,"
                " as 'hybrid, t*=175'. With --experiment: only these of its methods."
            )
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            help=(
                "Experiment of the book, in place of methods and mixtures: table-2, table-3, table-4, tuning, beyond,"
                " real, two-voices, recorded-tuning, recorded-validation, recorded-test, rendered-control, unseen or"
                " conflict."
            )
        ),
    ] = None,
    mixtures: Annotated[
        str,
        typer.Option(
            help=(
                "Mixtures: a folder that `unasdiff-teach data mixtures` wrote, or a list of the package: pocket,"
                " recorded, 'recorded validation'."
            )
        ),
    ] = "pocket",
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given several times.")] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="Settings of the guidance rules: authors, paper or short; recommended: of methods without gradients."
        ),
    ] = "authors",
    prior: Annotated[
        list[str],
        typer.Option(
            help=(
                "Prior, repeated, as [KIND=]WHERE: as in `separate`. KIND is speech or sound; default: sound for a"
                " prior with classes."
            )
        ),
    ] = ["pocket-speech", "pocket-sound"],
    separator: Annotated[
        list[str] | None,
        typer.Option(
            help="Supervised expert, repeated, one for each task: shipped name or file. Default: the shipped."
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Only the first mixtures of each task.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Cut mixtures to this length around their middle (Table 3).")
    ] = None,
    placement: Annotated[
        str, typer.Option(help="Placement of the sources, of a written list: paper or authors.")
    ] = "paper",
    scoring: Annotated[
        str,
        typer.Option(
            help="Rules of scoring: recommended, paper, or authors (the best of all permutations in every task)."
        ),
    ] = "recommended",
    seed: Annotated[int, typer.Option(help="Random seed for the noise, together with each mixture's identifier.")] = 0,
    batch: Annotated[int, typer.Option(help="Mixtures separated at once.")] = 8,
    processes: Annotated[
        int,
        typer.Option(
            help="Processes on this machine, on cuda each with a GPU in turn; torchrun's count where it is used."
        ),
    ] = 1,
    device: Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1 or mps.")] = "cpu",
    precision: Precision = "auto",
    compile: Compile = None,
    threads: Threads = None,
    trained: Annotated[
        Path | None,
        typer.Option(
            help="With --experiment: folder that chapter 12 has trained into, in place of the shipped weights."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the cost, but do not start.")
    ] = False,
) -> None:
    """Separate and score mixtures with any methods: SI-SDR, PESQ, network calls and times, in OUT/results.parquet.

    The same command goes on where it stopped, with any number of processes; methods, tasks and seeds may be added
    later.

    \b
    unasdiff-teach evaluate --method unprocessed --method recommended --count 4 --out runs/try
    unasdiff-teach evaluate --mixtures data/mixtures --method hybrid --prior runs/speech --prior runs/sound \\
        --device cuda --out runs/table2 --dry-run
    unasdiff-teach evaluate --mixtures data/mixtures --method tf-locoformer --separator expert.safetensors \\
        --task "2 speech" --out runs/table2
    unasdiff-teach evaluate --mixtures data/mixtures --method hybrid --task "2 speech" --seconds 2 \\
        --prior runs/speech --out runs/table3
    torchrun --nproc-per-node 8 -m unasdiff_teach.cli evaluate --mixtures data/mixtures --method hybrid \\
        --device cuda --out runs/table2
    unasdiff-teach evaluate --experiment table-4 --processes 2 --out runs/table-4
    unasdiff-teach report --results runs/table2 --out report
    """
    from ..evaluation import conflict, experiments, jobs

    with errors("what is finished is kept, and the same command goes on from there"):
        first = jobs.ranks()[0] == 0
        line = use_threads(threads, device) if processes == 1 or threads else ""
        say(line if first else "")
        tell = typer.echo if first else None
        if experiment:
            refuse_what_is_fixed(context, experiment)
        elif trained:
            raise ValueError("--trained goes with an experiment; otherwise name each --prior and --separator")
        if experiment == "conflict":
            if dry_run:
                raise ValueError("conflict has no dry run: 200 guided steps for each mixture and rule")
            conflict.measure(out, method or (), count or conflict.COUNT)
            return
        if experiment:
            how = {
                "processes": processes,
                "device": device,
                "batch": batch,
                "precision": "float32" if precision == "auto" else precision,
            }
            which = (experiment, out, trained and experiments.Trained.folder(trained), method or (), count)
            if dry_run:
                for job in experiments.plans(*which, **how):
                    for line in jobs.check(job) if first else ():
                        typer.echo(line)
                return
            table = experiments.measure(*which, say=tell, **how)
        else:
            job = jobs.Job(
                mixtures, out, tuple(method or ()), preset, tuple(prior), tuple(separator or ()), tuple(task or ()),
                count, seed, scoring, batch, processes, device, seconds, placement, precision, compile,
            )  # fmt: skip
            plan = jobs.plan(job)
            for line in plan.lines if first else ():
                typer.echo(line)
            if dry_run:
                return
            table = plan.run()
        if first:
            typer.echo(f"{len(table.drop_duplicates(jobs.ITEM))} separations are in {out / jobs.TABLE}")


def report(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier report in it is replaced.")] = Path("report"),
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of `evaluate`, finished or not, or a Parquet file; repeated.")
    ] = None,
    shipped: Annotated[bool, typer.Option(help="Also show the results that come with the package.")] = True,
) -> None:
    """Draw Tables 2, 3 and 4 and Figures 2 and 3 from stored results, beside the paper's numbers. Takes seconds.

    Writes OUT/index.html (one file, no network), report.md, table2.csv to table4.csv, provenance.csv and the figures,
    and names the cells that no result fills. Intervals are Student's t, 95 %; methods are told apart by their
    differences on the same mixtures, corrected together (Holm).

    \b
    unasdiff-teach report --out report
    unasdiff-teach report --results runs/table2 --results runs/table3 --no-shipped --out report
    """
    from ..evaluation.report import report as draw

    with errors("what is written stays, and the same command writes all again"):
        made = draw(results or [], out, shipped)
        own = made.cells[made.cells["paper"].notna()]
        for (number, name), rows in own.groupby(["table", "results"], sort=False):
            cells = rows.drop_duplicates(["task", "length", "method", "metric"])
            typer.echo(
                f"Table {number}, {name}: {int(cells['mean'].notna().sum())} of {len(cells)} numbers of the paper have"
                " one beside them"
            )
        for line in made.missing:
            typer.echo(f"missing: {line}")
        typer.echo(f"written: {made.folder / 'index.html'}")
