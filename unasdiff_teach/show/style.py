"""The one look of all figures: solid light paper, colours that colour-blind readers can tell apart, phone-size text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps

import matplotlib
import seaborn
from matplotlib import pyplot
from matplotlib.figure import Figure

PAPER, INK, GREY = "#fcfcfa", "#22262b", "#71777e"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#a06a00")
"""Okabe and Ito's colours, with a yellow dark enough for lines."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""A second cue beside colour, in the order of the palette."""
WIDTH = 6.4
"""Width of every figure in inches: scaled to 350 CSS pixels, its 11-point text is still 8 pixels high."""


def use_style() -> None:
    """Make the look of the library's figures that of all later figures, a reader's own among them. In a notebook they
    get twice the pixels, so that they are sharp on dense screens.
    """
    _set_theme()
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) and hasattr(shell, "kernel"):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


def _set_theme() -> None:
    seaborn.set_theme(
        context="notebook",
        style="whitegrid",
        palette=PALETTE,
        font="DejaVu Sans",  # comes with matplotlib, so that figures are the same everywhere
        rc={
            "figure.dpi": 110,
            "figure.facecolor": PAPER,
            "figure.labelsize": 11,
            "axes.facecolor": PAPER,
            "axes.edgecolor": GREY,
            "axes.labelcolor": INK,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.titlelocation": "left",
            "axes.formatter.useoffset": False,
            "axes.formatter.limits": (-3, 4),
            "grid.color": "#dcdfe2",
            "legend.fontsize": 10,
            "legend.framealpha": 0.9,
            "lines.linewidth": 1.8,
            "savefig.facecolor": PAPER,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        },
    )


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a function that draws a figure: it draws in this style and leaves pyplot and its settings as they were.

    The figure is laid out in here, since ticks take their look when they are first drawn. It is closed for pyplot,
    so that a notebook shows it once: where the cell returns it.
    """

    @wraps(draw)
    def draw_in_style(*args, **kwargs):
        with matplotlib.rc_context():
            _set_theme()
            figure = draw(*args, **kwargs)
            pyplot.close(figure)
            figure.draw_without_rendering()
            # A notebook turns this on at its first figure; if that one is drawn in here, it must outlive the context.
            interactive = matplotlib.is_interactive()
        matplotlib.interactive(interactive)
        return figure

    return draw_in_style
