"""`unasdiff-teach bench`: speed and memory of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._console import errors
from .._machine import check_device

if TYPE_CHECKING:
    import pandas as pd


def bench(
    scale: Annotated[
        str, typer.Option(help="Network: paper (37 M parameters, 16 kHz) or pocket (2 M, 8 kHz).")
    ] = "paper",
    seconds: Annotated[float, typer.Option(help="Length of each signal.")] = 4.0,
    batch: Annotated[
        list[int] | None, typer.Option(help="Sources at once, repeated; default: 1 to 32, on a CPU 1 and 2.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="Kind of work, repeated: forward, guided or training; default: the first two."),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            help="Form of the network, repeated: plain, fast, checkpointed or compiled; default: the first three."
        ),
    ] = None,
    sources: Annotated[int, typer.Option(help="Sources of a mixture in guided steps.")] = 2,
    precision: Annotated[
        str | None, typer.Option(help="Precision: float32 or bfloat16; default: float32, on a GPU bfloat16.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device: cpu, cuda, cuda:1 or mps; default: cuda where there is one.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each process.")] = None,
    repeats: Annotated[int, typer.Option(help="Times that each measurement is made; the median counts.")] = 3,
    profile: Annotated[bool, typer.Option("--profile", help="Also list the kernels that take longest.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the results and the machine, .json or .parquet.")] = None,
) -> None:
    """Measure speed and memory of the network: forward and guided steps, beside the plain form of Algorithm 1, and
    training.

    Shows source-steps per second, the fraction of the device's peak matmul FLOP/s (MFU), and the peak memory. Then,
    for each mode, what its operations compute and move, how long that alone takes at the device's measured peak FLOP/s
    and copy bandwidth, and what fraction of this limit is reached.

    \b
    unasdiff-teach bench --device cuda --form plain --form fast --form compiled --out bench.parquet
    unasdiff-teach bench --device cuda --mode training --form fast --form checkpointed --batch 12
    unasdiff-teach bench --seconds 0.5 --batch 2 --mode guided       (a CPU: minutes instead of hours)
    unasdiff-teach bench --scale pocket --seconds 2 --threads 1 --out bench.json
    """
    import torch

    from .. import bench as room
    from ..cost import peak_matmul_flops
    from ..precision import PRECISIONS

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with errors("what was measured is above"):
        check_device(place)
        if out is not None and out.suffix not in (".json", ".parquet"):
            raise ValueError(f"out is {out}; it must end in .json or .parquet")
        config = room.BenchConfig(
            scale, seconds, tuple(batch or ((1, 2) if place == "cpu" else (1, 2, 4, 8, 16, 32))), sources,
            tuple(mode or room.MODES[:2]), tuple(form or room.FORMS[:3]),
            precision or ("bfloat16" if place == "cuda" else "float32"), repeats, profile,
        )  # fmt: skip
        if threads:
            torch.set_num_threads(threads)
        flops, total = peak_matmul_flops(place, PRECISIONS[config.precision], seconds=0.1), config.total_flops()
        typer.echo(
            f"{place}: {flops / 1e12:.3g} TFLOP/s of {config.precision} matrix products; {total / 1e12:.3g} TFLOP to"
            f" do, {total / flops:.0f} s at that rate, in truth a few times as long"
        )
        typer.echo(
            f"{'mode':8} {'batch':>5} {'form':12} {'source-steps/s':>14} {'MFU':>6} {'limit':>6} {'peak GB':>8}"
            f" {'speed':>6} {'memory':>6}  most of the limit"
        )
        table = room.measure(config, place, report=_print_row)
        _print_operations(table)
        if out is not None:
            room.write(table, out)
            typer.echo(f"written: {out}")


def _print_row(row: dict) -> None:
    typer.echo(
        f"{row['mode']:8} {row['batch']:5} {row['form']:12} {row['source_steps_per_second']:14.4g} {row['mfu']:6.1%} "
        f"{row['roofline']:6.1%} {row['peak_gb']:8.3f} {row['speedup']:6.2f} {row['memory']:6.2f}  {row['dominant']}"
    )


def _print_operations(table: pd.DataFrame) -> None:
    """For each mode, the fast form's largest batch (or the first form's): operations by kind, their limits, kernels."""
    from ..cost import KINDS, Cost, Roofline

    machine = table.attrs["facts"]
    roofline = Roofline(1e12 * machine["peak_tflops"], 1e9 * machine["copy_gb_per_second"])
    typer.echo(
        f"\nlimits: {machine['peak_tflops']:.3g} TFLOP/s of products, {machine['copy_gb_per_second']:.3g} GB/s of"
        " copies"
    )
    for mode, rows in table.groupby("mode", sort=False):
        row = rows.sort_values(
            ["batch", "form"], key=lambda column: column == "fast" if column.name == "form" else column
        ).iloc[-1]
        typer.echo(f"\na step of {row['form']}, {mode}, batch {row['batch']}:")
        typer.echo(f"{'':12} {'operations':>10} {'GFLOP':>9} {'GB':>8} {'FLOP alone':>11} {'bytes alone':>11}")
        for kind in KINDS:
            cost = Cost(1e9 * row[f"gflop_{kind}"], 1e9 * row[f"gb_{kind}"], row[f"operations_{kind}"])
            flop, moved = (f"{1e3 * seconds:.4g} ms" if seconds else "" for seconds in roofline.alone(cost))
            typer.echo(
                f"{kind:12} {cost.operations:10.0f} {cost.flop / 1e9:9.4g} {cost.bytes / 1e9:8.3f} {flop:>11}"
                f" {moved:>11}"
            )
        typer.echo(
            f"limit {1e3 * row['limit_seconds']:.4g} ms, most of it {row['dominant']}; reached: {row['roofline']:.0%}"
            " of it"
        )
        for kernel in row.get("kernels", []):
            typer.echo(
                f"{kernel['fraction']:6.1%} {1e3 * kernel['seconds']:9.3f} ms {kernel['calls']:6} x"
                f" {kernel['name'][:90]}"
            )
