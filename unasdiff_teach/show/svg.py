"""Line plots and schematics as short SVG strings; a slider can redraw a plot many times in a second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator

from .style import GREY, INK, PAPER

MAX_POINTS = 200
"""Points drawn of a longer curve."""


@dataclass(frozen=True)
class Line:
    """A curve: x and y [n], its colour, and its pattern as in SVG's stroke-dasharray."""

    x: np.ndarray
    y: np.ndarray
    colour: str
    dash: str = "none"


@dataclass(frozen=True)
class Panel:
    """One plot of a figure.

    Attributes:
        box: left, top, width and height of the plotting area.
        title: shown above it.
        lines: name -> curve; names that do not start with "_" are listed in a legend if `legend` is set.
        x_range: ends of the horizontal axis.
        y_range: ends of the vertical axis; None takes those of the curves.
        log: logarithmic vertical axis; it needs a `y_range`, and what lies outside is drawn on the edge.
        mark: x of a vertical line, or None.
    """

    box: tuple[float, float, float, float]
    title: str
    lines: Mapping[str, Line]
    x_range: tuple[float, float]
    y_range: tuple[float, float] | None = None
    log: bool = False
    mark: float | None = None
    legend: bool = False

    def _y_ticks(self) -> np.ndarray:
        if self.log:
            return 10.0 ** np.arange(*np.rint(np.log10(self.y_range)) + (0, 1))
        values = np.concatenate([line.y for line in self.lines.values()])
        low, high = self.y_range or (values.min(), values.max())
        return MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)

    def svg(self) -> str:
        left, top, width, height = self.box
        bottom = top + height
        y_ticks = self._y_ticks()
        scale = np.log10 if self.log else np.asarray
        low, high = scale(y_ticks[0]), scale(y_ticks[-1])

        def across(x: float | np.ndarray) -> np.ndarray:
            return left + width * (np.asarray(x) - self.x_range[0]) / (self.x_range[1] - self.x_range[0])

        def up(y: float | np.ndarray) -> np.ndarray:
            inside = np.clip(y, y_ticks[0], y_ticks[-1])
            return bottom - height * (scale(inside) - low) / (high - low)

        parts = [text(left, top - 9, self.title, weight="bold")]
        for tick in y_ticks:
            parts.append(stroke(f"M{left:g} {up(tick):.1f}h{width:g}", "#dcdfe2"))
            parts.append(text(left - 6, up(tick) + 6, _number(tick, self.log), anchor="end"))
        x_ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=True).tick_values(*self.x_range)
        for tick in x_ticks[(x_ticks >= self.x_range[0]) & (x_ticks <= self.x_range[1])]:
            parts.append(stroke(f"M{across(tick):.1f} {bottom:g}v5", GREY))
            parts.append(text(across(tick), bottom + 22, _number(tick, log=False), anchor="middle"))
        if self.mark is not None:
            parts.append(stroke(f"M{across(self.mark):.1f} {top:g}v{height:g}", INK, width=1.5, dash="2 3"))
        for line in self.lines.values():
            keep = np.unique(np.linspace(0, len(line.x) - 1, MAX_POINTS).round().astype(int))
            points = " ".join(f"{x:.1f} {y:.1f}" for x, y in zip(across(line.x[keep]), up(line.y[keep])))
            parts.append(stroke(f"M{points}", line.colour, width=2.5, dash=line.dash))
        parts.append(stroke(f"M{left:g} {top:g}v{height:g}h{width:g}", GREY))
        if self.legend:
            named = {name: line for name, line in self.lines.items() if not name.startswith("_")}
            for place, (name, line) in enumerate(named.items()):
                start = left + width - 108 * (len(named) - place)
                parts.append(stroke(f"M{start:g} {top - 15:g}h32", line.colour, width=2.5, dash=line.dash))
                parts.append(text(start + 38, top - 9, name))
        return "".join(parts)


def picture(width: int, height: int, panels: Sequence[Panel], description: str, x_label: str) -> str:
    """An SVG element that is as wide as its place allows, `width` pixels at most.

    Args:
        width, height: of the drawing, in pixels.
        panels: what it shows.
        description: its alternative text.
        x_label: label of the lowest horizontal axis.
    """
    label = text(width / 2, height - 10, x_label, anchor="middle")
    return canvas(width, height, label + "".join(panel.svg() for panel in panels), description)


def canvas(width: int, height: int, content: str, description: str, fixed: bool = False) -> str:
    """An SVG element with paper behind its `content`, as wide as its place allows, `width` pixels at most; of that
    width if `fixed`, as a file of its own has to be.
    """
    size = (
        f'width="{width}" height="{height}" style="' if fixed else f'style="width:100%;max-width:{width}px;height:auto;'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(description)}" {size}background:{PAPER};'
        f'font:17px \'DejaVu Sans\',Verdana,sans-serif" fill="{INK}">'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>{content}</svg>'
    )


def stroke(path: str, colour: str, width: float = 1, dash: str = "none") -> str:
    dashes = "" if dash == "none" else f' stroke-dasharray="{dash}"'
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def text(x: float, y: float, content: str, anchor: str = "start", weight: str = "normal") -> str:
    bold = "" if weight == "normal" else f' font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{bold}>{escape(content)}</text>'


def box(
    place: tuple[float, float, float, float], title: str, line: str, corner: str = "", fill: str | None = None
) -> str:
    """A block of a schematic: its title, a line below it, and something short in its upper corner.

    Args:
        place: left, top, width and height.
        fill: colour of a block that stands out.
    """
    left, top, width, height = place
    look = f'fill="{fill}" stroke="{INK}" stroke-width="3"' if fill else f'fill="#ffffff" stroke="{GREY}"'
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" {look}/>'
        f"{text(left + 12, top + 28, title, weight='bold')}{text(left + 12, top + height - 14, line)}"
        f"{text(left + width - 6, top + 20, corner, 'end') if corner else ''}"
    )


def arrow(colour: str, *corners: tuple[float, float], dash: str = "none") -> str:
    """A line through `corners`, with a head at its end."""
    (a, b), (c, d) = corners[-2:]
    u, v = (6 * (end - start) / math.hypot(c - a, d - b) for start, end in ((a, c), (b, d)))
    line = "L".join(f"{x:g} {y:g}" for x, y in corners)
    return stroke(f"M{line}m{-u - v:g} {u - v:g}L{c:g} {d:g}l{v - u:g} {-v - u:g}", colour, 2.5, dash)


class Drawing:
    """An SVG that a notebook shows as a picture.

    Attributes:
        svg: a document of its own.
        description: its alternative text.
    """

    def __init__(self, width: int, height: int, content: str, description: str):
        self.svg, self.description = canvas(width, height, content, description, fixed=True), description

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Drawing({self.description})"


def _number(value: float, log: bool) -> str:
    """A tick's label; powers of ten on logarithmic axes."""
    if log:
        return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value + 0:g}".replace("-", "\N{MINUS SIGN}")
