"""Sliders for the noise schedule and the guidance strength gamma(t): live curves, in a notebook and in its page (Fig.
3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
import torch
from ipywidgets import HTML, HBox, IntSlider, Layout, SelectionSlider, VBox

from ..guidance import DPS, DSG, Hybrid
from ..schedule import NoiseSchedule
from .style import GREY, PALETTE
from .svg import Line, Panel, picture

CONTROLS = {
    "T": (10, 1000, "steps T"),
    "beta_min": (1e-5, 5e-3, "β min"),
    "beta_max": (5e-3, 1e-1, "β max"),
    "sigma_scale": (1e-2, 1.0, "scale of σ"),
    "s_floor": (1e-4, 1e-1, "floor s"),
    "sharpness": (1e1, 1e5, "sharpness c"),
    "t_star": (1, 1000, "start step t*"),
}
"""Name -> lowest value, highest value, label of the slider. Ranges of whole numbers take whole numbers."""

MANTISSAS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
"""Where the other sliders stop in each decade. (A FloatLogSlider stops at powers of its step and moves 0.09 to
0.0891.)
"""

CURVED = tuple(name for name, (low, _, _) in CONTROLS.items() if isinstance(low, float))
"""The sliders that move in decades."""

DEFAULTS = {
    "T": 200, "beta_min": 1e-4, "beta_max": 2e-2, "sigma_scale": 0.09, "s_floor": 0.002, "sharpness": 1000.0,
    "t_star": 150,
}  # fmt: skip
"""The paper's settings, and the released code's scale of sigma."""

RULE_LOOKS = {"DPS": (PALETTE[0], "12 4 3 4"), "DSG": (PALETTE[1], "9 4"), "Hybrid": (PALETTE[2], "none")}


def curves(values: Mapping[str, float]) -> dict[str, np.ndarray]:
    """What the explorer draws at the settings `values` (the names of `CONTROLS`), computed by the library.

    Returns:
        "t" (1..T), "beta", "alpha_bar", "log_snr" (nat), "sigma", and the strengths "DPS", "DSG", "Hybrid"; each [T].
    """
    schedule = NoiseSchedule.linear(values["T"], values["beta_min"], values["beta_max"])
    rules = DPS(), DSG(values["sigma_scale"]), Hybrid(values["s_floor"], values["sharpness"], values["sigma_scale"])
    tensors = {
        "t": schedule.timesteps + 1,
        "beta": schedule.beta,
        "alpha_bar": schedule.alpha_bar,
        "log_snr": schedule.log_snr,
        "sigma": schedule.sigma,
        **{type(rule).__name__: rule.strength(schedule) for rule in rules},
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()}


class GammaExplorer(HBox):
    """Sliders beside a picture that follows them; `gamma_explorer` makes one.

    Attributes:
        sliders: name -> slider, in the order of `CONTROLS`.
        picture: the widget whose `value` is the picture, an SVG, and a line of facts below it.
    """

    def __init__(self, start: Mapping[str, float]):
        self.start = dict(start)
        self.sliders = {name: _slider(name, value) for name, value in start.items()}
        self.sliders["t_star"].max = start["T"]
        self.picture = HTML(layout=Layout(flex="1 1 22rem", max_width="640px", min_width="0"))
        for slider in self.sliders.values():
            slider.observe(self._redraw, "value")
        self._redraw()
        controls = VBox(list(self.sliders.values()), layout=Layout(flex="1 1 18rem", max_width="22rem"))
        super().__init__([controls, self.picture], layout=Layout(flex_flow="row wrap", align_items="flex-start"))

    @property
    def values(self) -> dict[str, float]:
        """Where the sliders stand."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def update(self, **values: float) -> None:
        """Move sliders, as a reader would: `update(s_floor=0.005)`.

        Raises:
            ValueError: no such slider, or a value outside its range (`CONTROLS`; t_star at most T). None has moved
                then.
        """
        _check(values, T=values.get("T", self.sliders["T"].value))
        for name in CONTROLS:  # T first: it is the limit of t_star
            if name in values:
                _move(self.sliders[name], values[name])

    def _redraw(self, change: dict | None = None) -> None:
        self.sliders["t_star"].max = self.sliders["T"].value
        self.picture.value = _draw(self.values, self.start)

    def _repr_html_(self) -> str:
        # Without a kernel the page computes: static/explorer.js puts sliders of its own in this place.
        setting = {
            "start": self.start,
            "controls": CONTROLS,
            "stops": {
                name: [value for _, value in _options(name, at)] for name, at in self.start.items() if name in CURVED
            },
            "dps": DPS().scale,
        }
        text = "In the book's pages and in a running notebook, seven sliders redraw these curves."
        return f'<div data-explorer="{escape(json.dumps(setting))}">{self.picture.value}<p>{text}</p></div>'


def gamma_explorer(schedule: NoiseSchedule | None = None) -> GammaExplorer:
    """Sliders that redraw beta, alpha_bar, log-SNR, sigma and the guidance strengths of DPS, DSG and Hybrid.

    The starting curves stay in the picture, dotted and grey.

    Args:
        schedule: where T and the betas start; a linear one. By default the paper's.

    Raises:
        ValueError: the schedule is not linear, or lies outside the sliders' ranges.
    """
    start = dict(DEFAULTS)
    if schedule is not None:
        T, beta_min, beta_max = len(schedule), float(schedule.beta[0]), float(schedule.beta[-1])
        linear = torch.linspace(beta_min, beta_max, T, dtype=torch.float64)
        if not torch.allclose(schedule.beta, linear):
            raise ValueError("schedule is not linear in beta; the sliders can only follow NoiseSchedule.linear(...)")
        start |= {"T": T, "beta_min": beta_min, "beta_max": beta_max, "t_star": round(0.75 * T)}
    _check(start, T=start["T"])
    return GammaExplorer(start)


def _slider(name: str, value: float) -> IntSlider | SelectionSlider:
    low, high, label = CONTROLS[name]
    look = {
        "description": label,
        "layout": Layout(width="100%", max_width="480px"),
        "style": {"description_width": "7em"},
    }
    if name not in CURVED:
        return IntSlider(value, low, high, **look)
    return SelectionSlider(options=_options(name, value), value=value, **look)


def _options(name: str, value: float) -> list[tuple[str, float]]:
    """Labels and values of a SelectionSlider that also stops at `value`."""
    low, high, _ = CONTROLS[name]
    stops = [float(f"{mantissa}e{power}") for power in range(-6, 6) for mantissa in MANTISSAS]
    return _stops([*(x for x in stops if low <= x <= high), value])


def _stops(values: Iterable[float]) -> list[tuple[str, float]]:
    """Labels and values of a SelectionSlider."""
    return [(f"{value:g}", value) for value in sorted(set(values))]


def _move(slider: IntSlider | SelectionSlider, value: float) -> None:
    """Set a slider, giving it a new stop where it has none at `value`."""
    if isinstance(slider, SelectionSlider) and value not in (stops := [stop for _, stop in slider.options]):
        slider.options = _stops([*stops, value])
    slider.value = value


def _check(values: Mapping[str, float], T: int) -> None:
    for name, value in values.items():
        if name not in CONTROLS:
            raise ValueError(f"there is no slider {name!r}; the sliders are {', '.join(CONTROLS)}")
        low, high, _ = CONTROLS[name]
        if name == "t_star":
            high = T
        if not low <= value <= high:
            raise ValueError(f"{name} is {value:g}; its slider goes from {low:g} to {high:g}")


def _draw(values: Mapping[str, float], start: Mapping[str, float]) -> str:
    now, then = curves(values), curves(start)
    x_range = (1, max(values["T"], start["T"]))

    def panel(box: tuple[float, float, float, float], title: str, names: list[str], **options) -> Panel:
        lines = {f"_{name} at the start": Line(then["t"], then[name], GREY, "2 4") for name in names}
        for name in names:
            lines[name] = Line(now["t"], now[name], *RULE_LOOKS.get(name, (PALETTE[0], "none")))
        return Panel(box, title, lines, x_range, mark=values["t_star"], **options)

    panels = [
        panel(
            (65, 35, 550, 230), "γ(t) without √N / ‖g‖", list(RULE_LOOKS), y_range=(1e-4, 1e1), log=True, legend=True
        ),
        panel((65, 345, 225, 120), "σ(t), noise added", ["sigma"]),
        panel((390, 345, 225, 120), "β(t), power replaced", ["beta"]),
        panel((65, 535, 225, 120), "log-SNR / nat", ["log_snr"]),
        panel((390, 535, 225, 120), "ᾱ(t), power left", ["alpha_bar"], y_range=(0, 1)),
    ]
    settings = ", ".join(f"{label} {values[name]:.3g}" for name, (_, _, label) in CONTROLS.items())
    description = f"Curves of the noise schedule and the guidance strength over the diffusion step t, for {settings}."
    return picture(640, 720, panels, description, x_label="diffusion step t") + f"<p>{_facts(values, now)}</p>"


def _facts(values: Mapping[str, float], now: Mapping[str, np.ndarray]) -> str:
    """What to read off the curves, in words."""
    snr_db = 10 / np.log(10) * now["log_snr"]
    above = now["t"][values["sigma_scale"] * now["sigma"] > values["s_floor"]]
    floor = f"The floor rules below step {above[0]}." if len(above) else "The floor rules at all steps."
    return (
        f"Signal-to-noise ratio of a signal of RMS 1: {snr_db[values['t_star'] - 1]:.1f} dB at t* = {values['t_star']} "
        f"(vertical line), {snr_db[-1]:.1f} dB at T = {values['T']}. {floor} Dotted grey: where the sliders started."
    ).replace(" -", " \N{MINUS SIGN}")
