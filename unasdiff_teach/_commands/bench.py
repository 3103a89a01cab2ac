"""`unasdiff-teach bench`: speed and memory of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._console import errors


def bench(
    scale: Annotated[str, typer.Option(help="Network: paper (37 M parameters, 16 kHz) or pocket (2 M, 8 kHz).")] = "paper",
    seconds: Annotated[float, typer.Option(help="Length of each signal.")] = 4.0,
    batch: Annotated[list[int] | None, typer.Option(help="Sources at once, repeated; default: 1 to 32, on a CPU 1 and 2.")] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="forward, guided or training, repeated; default: the first two.")
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option(help="plain, fast, checkpointed or compiled, repeated; default: the first three.")
    ] = None,
    sources: Annotated[int, typer.Option(help="Sources of a mixture in guided steps.")] = 2,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16; default: float32, on a GPU bfloat16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of the processor.")] = None,
    repeats: Annotated[int, typer.Option(help="Of each measurement; the median counts.")] = 3,
    out: Annotated[Path | None, typer.Option(help="File for the results and the machine, .json or .parquet.")] = None,
) -> None:
    """Measure speed and memory of the network: forward and guided steps, beside the plain form of Algorithm 1, and training.

    Shows source-steps per second, the share of the rate at which the device multiplies matrices, and the peak memory.

    \b
    unasdiff-teach bench --device cuda --form plain --form fast --form compiled --out bench.parquet
    unasdiff-teach bench --device cuda --mode training --form fast --form checkpointed --batch 12
    unasdiff-teach bench --seconds 0.5 --batch 2 --mode guided       (a CPU: minutes instead of hours)
    unasdiff-teach bench --scale pocket --seconds 2 --threads 1 --out bench.json
    """
    import torch

    from .. import bench as room

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with errors("what was measured is above"):
        if out is not None and out.suffix not in (".json", ".parquet"):
            raise ValueError(f"out is {out}; it must end in .json or .parquet")
        config = room.BenchConfig(
            scale, seconds, tuple(batch or ((1, 2) if place == "cpu" else (1, 2, 4, 8, 16, 32))), sources, tuple(mode or room.MODES[:2]),
            tuple(form or room.FORMS[:3]), precision or ("bfloat16" if place == "cuda" else "float32"), repeats,
        )  # fmt: skip
        if threads:
            torch.set_num_threads(threads)
        rate = room.matrix_rate(place, room.PRECISIONS[config.precision])
        total = config.total_flops()
        typer.echo(f"{place}: {rate / 1e12:.3g} TFLOP/s of {config.precision} matrix products; {total / 1e12:.3g} TFLOP to do, "
                   f"{total / rate:.0f} s at that rate, in truth a few times as long")
        typer.echo(f"{'mode':8} {'batch':>5} {'form':12} {'source-steps/s':>14} {'share':>6} {'peak GB':>8} {'speed':>6} {'memory':>6}")
        table = room.measure(config, place, report=_print_row)
        if out is not None:
            room.write(table, out)
            typer.echo(f"written: {out}")


def _print_row(row: dict) -> None:
    typer.echo(f"{row['mode']:8} {row['batch']:5} {row['form']:12} {row['source_steps_per_second']:14.4g} {row['share']:6.1%} "
               f"{row['peak_gb']:8.3f} {row['speedup']:6.2f} {row['memory']:6.2f}")
