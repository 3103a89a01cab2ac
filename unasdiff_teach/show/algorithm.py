"""A drawing of Algorithm 1: the way from a mixture to its sources as blocks, each with the chapter that explains it."""

from __future__ import annotations

from dataclasses import dataclass

from .style import INK, PALETTE
from .svg import Drawing, arrow, box, stroke, text

SOURCES, PRIOR, MIXTURE, LIT = PALETTE[:2], PALETTE[3], PALETTE[5], "#ffe08a"
"""Colours: the two sources; the prior's and the mixture's pull, as in `plane_of_sources`; a block that is lit."""
WIDTH, HEIGHT = 640, 390
LEFT, TOP, BOX = (4, 168, 332, 494), (8, 108, 208, 308), (142, 68)
"""Of the columns, of the rows, and width and height of a block, in pixels."""


@dataclass(frozen=True)
class Block:
    """One part of Algorithm 1.

    Attributes:
        chapter: that explains it.
        column, row: its place.
        title, formula: its two lines.
        each: whether there is one for each source; the others are for all sources together.
    """

    chapter: int
    column: int
    row: int
    title: str
    formula: str
    each: bool = True


BLOCKS = {
    "mixture": Block(1, 1, 0, "mixture", "y = x¹ + x²", each=False),
    "start": Block(8, 0, 0, "start", "y with noise"),
    "noised": Block(2, 0, 1, "noised", "xₜ"),
    "prior": Block(10, 1, 1, "prior", "noise in xₜ"),
    "estimate": Block(4, 2, 1, "best guess", "E[x₀ | xₜ]"),
    "loss": Block(9, 3, 1, "loss", "sum against y", each=False),
    "gradient": Block(5, 3, 2, "gradient", "g_cond"),
    "step": Block(3, 2, 2, "step back", "g_prior, noise"),
    "guidance": Block(7, 2, 3, "guidance", "γ(t) g_cond"),
    "meeting": Block(6, 1, 2, "conflict?", "both added"),
}
"""Name -> block, in the order in which a run meets them."""

ARROWS = (
    (INK, (168, 42), (148, 42)),  # mixture -> start
    (MIXTURE, (310, 42), (565, 42), (565, 106)),  # mixture -> loss
    (INK, (75, 76), (75, 106)),  # start -> noised
    (INK, (146, 142), (166, 142)),  # noised -> prior -> best guess -> loss
    (INK, (310, 142), (330, 142)),
    (INK, (474, 142), (492, 142)),
    (PRIOR, (403, 176), (403, 206)),  # best guess -> step back -> both added
    (PRIOR, (332, 242), (312, 242)),
    (MIXTURE, (565, 176), (565, 206)),  # loss -> gradient -> guidance -> both added
    (MIXTURE, (565, 276), (565, 342), (476, 342)),
    (MIXTURE, (332, 342), (239, 342), (239, 278)),
    (INK, (168, 242), (75, 242), (75, 178)),  # -> noised, one step later
    (INK, (75, 242), (75, 332)),  # -> sources, after the last
)
"""Colour and corners of the lines; each ends in a head."""


def algorithm_drawing(lit: str | None = None) -> Drawing:
    """Algorithm 1 as blocks (Fig. 1 and Alg. 1): a step runs once around, 200 times from `start` to the sources.

    Args:
        lit: name of the block that stands out, one of `BLOCKS`; None lights none.

    Raises:
        ValueError: no such block.
    """
    if lit is not None and lit not in BLOCKS:
        raise ValueError(f"there is no block {lit!r}; there are {', '.join(BLOCKS)}")
    parts = [arrow(*line) for line in ARROWS] + [_block(name, block, name == lit) for name, block in BLOCKS.items()]
    parts += [text(88, 228, "t − 1"), text(75, 354, "t = 0: sources", "middle", "bold")]
    parts += [stroke(f"M{30 + 50 * k} 368h40", colour, 5) for k, colour in enumerate(SOURCES)]
    described = [f"{block.title} ({block.formula}; chapter {block.chapter})" for block in BLOCKS.values()]
    shining = f" Lit: {BLOCKS[lit].title}." if lit else ""
    return Drawing(WIDTH, HEIGHT, "".join(parts), f"Algorithm 1 as a loop of blocks: {', '.join(described)}.{shining}")


def _block(name: str, block: Block, lit: bool) -> str:
    left, top, (width, height) = LEFT[block.column], TOP[block.row], BOX
    bars = [stroke(f"M{left + 4} {top + 6 + 29 * k}v27", colour, 4) for k, colour in enumerate(SOURCES) if block.each]
    shape = box((left, top, width, height), block.title, block.formula, str(block.chapter), LIT if lit else None)
    return f'<g data-block="{name}" data-lit="{lit:d}">{shape}{"".join(bars)}</g>'
