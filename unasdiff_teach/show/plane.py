"""The book's one picture: a plane of two sources, the line on which they sum to the mixture, and a separation that
moves there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from html import escape

import numpy as np
from ipywidgets import HTML, Dropdown, HBox, Layout, SelectionSlider, VBox

from .explorer import RULE_LOOKS
from .style import GREY, INK, PALETTE
from .svg import Line, Panel, canvas, stroke, text
from .two_sources import (
    CHANCE,
    CONTROLS,
    DENSITY,
    EXACT_LEFT,
    KNOTS,
    LINE,
    MEANS,
    QUANTILES,
    STD,
    WEIGHTS,
    N,
    T,
    Y,
    plane_numbers,
    settings,
)

# A picture is drawn once. What moves are the paths of `_paths`; in a page, static/plane.js computes these same paths.

FRAME = {
    "LEFT": 34,
    "TOP": 34,
    "SIDE": 376,
    "REACH": 2.6,
    "EVERY": 6,
    "LAND": (462, 34, 162, 150),
    "SIZE": (462, 260, 162, 150),
}
"""The plane is a square of SIDE pixels from -REACH to REACH, with arrows at EVERY sixth point; the boxes of the two
panels.
"""
LEFT, TOP, SIDE, REACH, EVERY, LAND, SIZE = FRAME.values()
SCALE = SIDE / (2 * REACH)
NEAR = np.abs(LINE) <= 2
PANELS = (
    Panel(LAND, "samples land", {"_exact": Line(LINE[NEAR], DENSITY[NEAR], INK)}, (-2, 2), (0, 3)),
    Panel(SIZE, "RMS of γ g_cond", {}, (1, T), (1e-4, 1), log=True),
)
COLOURS = {name: colour for name, (colour, _) in RULE_LOOKS.items()} | {"drawn": PALETTE[4]}
ARROWS = {
    "to_guess": ("to the best guess", PALETTE[3], 1),
    "g_prior": ("g_prior × 8", PALETTE[3], 8),
    "g_cond": ("γ g_cond × 8", PALETTE[5], 8),
}
SHOWN = {"forward": [], "tweedie": ["to_guess"], "reverse": ["g_prior"], "run": ["g_prior", "g_cond"]}
FACTS = {
    "forward": "Step {t}: for {own} % of the points, the best bet on the hill they came from is right.",
    "tweedie": "Step {t}: the best guesses have an RMS error of {error}. {lost} % of them lie in no hill.",
    "reverse": "Landed in the hills lower left, upper left, lower right, upper right: {shares} % (prior: "
    + " / ".join(f"{100 * a * b:.1f}" for a in WEIGHTS[0] for b in WEIGHTS[1]) + " %).",
    "run": f"Landed: {{left}} % in the left hill (exact: {100 * EXACT_LEFT:.1f} %), {{off}} off the line (RMS). "
    f"Wasserstein-1 distance to the exact posterior {{w1}} ({N} exact draws: {CHANCE:.2f}).",
    "step": " Step {t}: the arrows pull against each other at {against} % of the points; γ = {gamma} and "
    "g_bound = {bound} for the two sources.",
}  # fmt: skip
FORMATS = {
    "own": (100, 1),
    "error": (1, 2),
    "lost": (100, 1),
    "shares": (100, 1),
    "left": (100, 1),
    "off": (1, 3),
    "w1": (1, 2),
}
FORMATS |= {"against": (100, 1), "gamma": (1, 3), "bound": (1, 3)}
"""Factor and digits of the numbers in `FACTS`."""
DESCRIPTION = f"The plane of two sources with {N} points and four discs, two widths around each hill of the priors"
DESCRIPTIONS = {
    "forward": f"{DESCRIPTION}.",
    "tweedie": f"{DESCRIPTION}; arrows lead from some points to their best guesses.",
    "reverse": f"{DESCRIPTION}; arrows show the prior's pull on some points.",
    "run": (
        f"{DESCRIPTION}, the line x1 + x2 = {Y} with the exact posterior above it, and arrows of the prior's and of the"
        " mixture's pull; beside it where the points land on the line, and the size of the mixture's pull over the"
        " steps."
    ),
}


def _place(x: np.ndarray) -> np.ndarray:
    """Where points [2, n] lie in the picture; those outside lie on the plane's edge."""
    a, b = SCALE * np.clip(x, -REACH, REACH)
    return np.stack([LEFT + SIDE / 2 + a, TOP + SIDE / 2 - b], -1)


def _dots(x: np.ndarray) -> str:
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in _place(x))


def _arrows(start: np.ndarray, move: np.ndarray) -> str:
    """Lines from some of the points [2, n], with heads of 6 pixels at most."""
    parts = []
    for (a, b), (c, d) in zip(_place(start[:, ::EVERY]), _place((start + move)[:, ::EVERY])):
        length = math.hypot(c - a, d - b)
        if length >= 1:
            u, v = min(6, length / 2) * np.array([c - a, d - b]) / length
            head = f"m{-u - v / 2:.1f} {u / 2 - v:.1f}L{c:.1f} {d:.1f}l{v / 2 - u:.1f} {-v - u / 2:.1f}"
            parts.append(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}{head}")
    return "".join(parts)


def _paths(values: Mapping, numbers: Mapping) -> dict[str, str]:
    """The moving parts of the picture, by name: the d of each path."""
    paths = {"hills": _dots(numbers["hills"]), "dots": _dots(numbers["x"])}
    paths |= {name: _arrows(numbers["x"], ARROWS[name][2] * numbers[name]) for name in SHOWN[values["view"]]}
    if values["view"] == "run":
        left, top, width, height = LAND
        density = np.histogram(numbers["on_line"], np.linspace(-2, 2, 41))[0] / N / 0.1
        bars = [(left + width * i / 40, height * min(d / 3, 1)) for i, d in enumerate(density) if d]
        paths["bars"] = "".join(f"M{a:.1f} {top + height}v{-b:.1f}h{width / 40:.1f}v{b:.1f}z" for a, b in bars)
        left, top, width, height = SIZE
        along = left + width * np.arange(T) / (T - 1)
        up = top - height / 4 * np.log10(np.clip(numbers["size"], 1e-4, 1))
        paths["size"] = "M" + " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(along, up))
        paths["mark"] = f"M{along[max(values['t'], 1) - 1]:.1f} {top}v{height}"
    return paths


def _facts(values: Mapping, numbers: Mapping) -> str:
    """What to read off the picture, in words."""
    words = FACTS[values["view"]] + (FACTS["step"] if values["view"] == "run" and values["t"] else "")
    told = {
        name: " / ".join(
            f"{factor * value:.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in np.atleast_1d(numbers[name])
        )
        for name, (factor, digits) in FORMATS.items()
        if name in numbers
    }
    return words.format(t=values["t"], **told)


def _draw(values: Mapping) -> str:
    """The picture, and the facts below it."""
    numbers, view, colour = plane_numbers(**values), values["view"], COLOURS[values["rule"]]
    parts = []
    for tick in (-2, -1, 0, 1, 2):
        ((a, b),) = _place(np.array([[tick], [tick]]))
        label = f"{tick}".replace("-", "\N{MINUS SIGN}")
        parts += [stroke(f"M{a:g} {TOP}v{SIDE}M{LEFT} {b:g}h{SIDE}", "#dcdfe2")]
        parts += [text(a, TOP + SIDE + 20, label, "middle"), text(LEFT - 5, b + 6, label, "end")]
    parts += [text(LEFT + SIDE / 2, TOP + SIDE + 44, "source x¹", "middle"), text(4, TOP - 10, "source x²")]
    if view == "run":
        # the density, drawn at right angles to the line
        ridge = np.stack([LINE, Y - LINE])[:, NEAR] + 0.65 * DENSITY[NEAR]
        outline = " ".join(f"{a:.1f} {b:.1f}" for a, b in _place(ridge[:, ::10]))
        (a, b), (c, d) = _place(np.array([[Y - REACH, REACH], [REACH, Y - REACH]]))
        parts += [
            f'<path d="M{outline}" fill="{GREY}" fill-opacity="0.35"/>',
            stroke(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}", INK, 1.5),
        ]
        parts += [panel.svg() for panel in PANELS] + [
            text(543, 226, "x¹ on the line", "middle"),
            text(543, 452, "step t", "middle"),
        ]
    for at, name in zip((115, 260), SHOWN[view]):
        parts += [stroke(f"M{at} {TOP - 16}h22", ARROWS[name][1], 2.5), text(at + 27, TOP - 10, ARROWS[name][0])]
    looks = {name: f'fill="none" stroke="{colour}" stroke-width="2"' for name, (_, colour, _) in ARROWS.items()} | {
        "hills": (
            f'stroke="{GREY}" stroke-opacity="0.16" stroke-linecap="round"'
            f' stroke-width="{4 * SCALE * numbers["spread"]:.1f}"'
        ),
        "dots": f'stroke="{INK}" stroke-opacity="0.5" stroke-linecap="round" stroke-width="5"',
        "bars": f'fill="{colour}" fill-opacity="0.6"',
        "size": f'fill="none" stroke="{colour}" stroke-width="2.5"',
        "mark": f'stroke="{INK}"',
    }
    parts += [f'<path data-part="{name}" d="{path}" {looks[name]}/>' for name, path in _paths(values, numbers).items()]
    facts = _facts(values, numbers)
    return (
        canvas(640 if view == "run" else 430, 470, "".join(parts), f"{DESCRIPTIONS[view]} {facts}") + f"<p>{facts}</p>"
    )


class Plane(VBox):
    """Controls above a picture that follows them; `plane_of_sources` makes one.

    Attributes:
        controls: name -> widget, those that were asked for.
        picture: the widget whose `value` is the picture, an SVG, and a line of facts below it.
    """

    def __init__(self, names: tuple[str, ...], start: Mapping):
        self.start = dict(start)
        self.options = {name: _options(name, "at_1" in names) for name in names}
        self.controls = {name: _control(name, self.options[name], start[name]) for name in names}
        self.picture = HTML(layout=Layout(width="100%", max_width="640px"))
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        self._redraw()
        super().__init__([HBox(list(self.controls.values()), layout=Layout(flex_flow="row wrap")), self.picture])

    @property
    def values(self) -> dict:
        """The settings that are drawn; `plane_numbers(**values)` has the picture's numbers."""
        return self.start | {name: control.value for name, control in self.controls.items()}

    def _redraw(self, change: dict | None = None) -> None:
        self.picture.value = _draw(self.values)

    def _repr_html_(self) -> str:
        # Without a kernel the page computes: static/plane.js puts controls of its own above this picture.
        view = self.start["view"]
        setting = {
            "start": self.start,
            "controls": {name: [CONTROLS[name][1], options] for name, options in self.options.items()},
            "world": (
                {"y": Y, "std": STD, "N": N, "T": T, "knots": KNOTS}
                | {"weights": WEIGHTS.tolist(), "means": MEANS.tolist(), "quantiles": QUANTILES.tolist()}
            ),
            "frame": FRAME | {"arrows": {name: ARROWS[name][2] for name in SHOWN[view]}, "colours": COLOURS},
            "words": {
                "facts": FACTS[view],
                "step": FACTS["step"],
                "formats": FORMATS,
                "description": DESCRIPTIONS[view],
            },
        }
        return f'<div data-plane="{escape(json.dumps(setting))}">{self.picture.value}</div>'


def plane_of_sources(*controls: str, **values) -> Plane:
    """The plane of two sources and one sum, with the controls that a question needs.

    Args:
        controls: names of `CONTROLS`; "drawn" stands for the strengths of the rule that is drawn by hand.
        values: where they, and what has no control, stand; `DEFAULTS` says what there is. `view` is "forward" (noised
            sources), "tweedie" (and their estimates), "reverse" (sampling without a mixture) or "run" (a separation).

    Raises:
        ValueError: no such control, setting or value.
    """
    names = tuple(name for asked in controls for name in ([f"at_{t}" for t in KNOTS] if asked == "drawn" else [asked]))
    for name in names:
        if name not in CONTROLS:
            raise ValueError(
                f"there is no control {name!r}; there are {', '.join(CONTROLS)}, and drawn for the last {len(KNOTS)}"
            )
    return Plane(names, settings(values))


def _options(name: str, drawn: bool) -> list[tuple]:
    """Labels and values of a control; the rule that is drawn is offered where it can be `drawn`."""
    accepted = CONTROLS[name][0]
    if isinstance(accepted, dict):
        return [(label, value) for value, label in accepted.items() if drawn or value != "drawn"]
    return [(f"{value:g}", value) for value in accepted]


def _control(name: str, options: list[tuple], value: object) -> SelectionSlider | Dropdown:
    look = {"description": CONTROLS[name][1], "layout": Layout(width="100%", max_width="310px")}
    look |= {"style": {"description_width": "6.5em"}, "options": options, "value": value}
    if isinstance(CONTROLS[name][0], dict):
        return Dropdown(**look)
    # a new run takes half a second; its steps are then at hand
    return SelectionSlider(continuous_update=name == "t", **look)
