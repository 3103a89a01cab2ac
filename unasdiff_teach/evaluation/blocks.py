"""The command of measurements that come in blocks of methods: measure some, collect what is there."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from . import tables
from .methods import Method
from .run import Run, evaluate


def command(
    description: str,
    blocks: Sequence[str],
    methods: Callable[[str], list[Method]],
    mixtures: Callable[[int], list],
    folder: Path,
    count: int,
    table: Path,
) -> None:
    """`measure [BLOCK ...]` scores each block in a folder of its own; `collect` writes all that is stored to `table`.

    Args:
        description: of the command, shown by --help.
        blocks: names of all blocks.
        methods: the methods of a block.
        mixtures: the first so many mixtures of the list.
        folder, count: defaults of the options.
        table: Parquet file that is shipped.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "collect"))
    parser.add_argument("blocks", nargs="*", default=blocks, help=f"of {', '.join(blocks)}")
    parser.add_argument("--folder", type=Path, default=folder)
    parser.add_argument("--count", type=int, default=count, help="only the first mixtures of the list")
    args = parser.parse_args()
    if unknown := set(args.blocks) - set(blocks):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(blocks)}")
    if args.what == "measure":
        chosen = mixtures(args.count)
        for block in args.blocks:
            evaluate(methods(block), chosen, Run(args.folder / block), progress=True)
    else:
        tables.collect([args.folder / block for block in blocks], table)
