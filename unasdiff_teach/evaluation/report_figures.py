"""Figures 2 and 3 of the paper from stored curves and from the schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..guidance import DPS, DSG, Hybrid
from ..schedule import NoiseSchedule
from . import conflict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FIGURE_2 = {"dps": "DPS", "dsg": "DSG", "hybrid": "hybrid"}


def figures() -> dict[str, tuple[Figure, str, str]]:
    """Figures 2 and 3: name -> figure, caption, alternative text."""
    from ..show.figures import guidance_curves

    schedule, rules = NoiseSchedule.linear(), {"DPS": DPS(), "DSG": DSG(), "Hybrid": Hybrid()}
    last = {name: float(rule.strength(schedule)[-1]) for name, rule in rules.items()}
    curves = conflict.curves()
    curves = curves[curves["mixture"] == conflict.figure_mixture().id]
    share = {rule: 100 * float((rows["bound"] > 0).mean()) for rule, rows in curves.groupby("rule")}
    shares = ", ".join(f"{FIGURE_2[rule]} {share[rule]:.0f} %" for rule in FIGURE_2)
    return {
        "2": (
            _conflict_curves(curves),
            (
                "Figure 2, rows 1 and 2, at pocket scale: a fiddle and a chime under three guidance rules. Above zero,"
                " a solid line is a conflict of prior and guidance; above its dashed line, a lost one. Steps of a"
                f" source in conflict: {shares}."
            ),
            (
                "Two rows of three panels for DPS, DSG and hybrid over the diffusion step from 200 down to 1: above,"
                " the guidance bound of fiddle and chime as solid lines and the strength used as dashed lines; below,"
                f" the SI-SDR of the two estimates. Steps in conflict: {shares}."
            ),
        ),
        "2_estimates": (
            _conflict_estimates(),
            (
                "Figure 2, row 3: the clean estimates on their way, 0 to 2 s from left to right, 0 to 4 kHz upwards, "
                "70 dB; and the true sources."
            ),
            (
                "Thirty-six small spectrograms: fiddle and chime under each of the three rules in rows; five steps from"
                " t = 200 to t = 1 and the true source in columns."
            ),
        ),
        "3": (
            guidance_curves(rules, schedule),
            (
                "Figure 3: guidance strengths over the diffusion step, with the released code's constants. DPS's"
                " constant multiplies the gradient itself, so that its height cannot be compared with the others."
            ),
            "Three curves on a logarithmic axis over the diffusion step from 1 to 200. DPS is constant; DSG rises from"
            " zero at the first step; hybrid lies on DSG but for the first steps, where a floor holds it. At the last"
            " step: " + ", ".join(f"{name} {value:.3g}" for name, value in last.items()) + ".",
        ),
    }


def _conflict_curves(curves: pd.DataFrame) -> Figure:
    from matplotlib import pyplot

    from ..show.style import GREY, PALETTE, WIDTH, styled

    @styled
    def draw() -> Figure:
        figure, axes = pyplot.subplots(2, 3, figsize=(WIDTH, 5.0), layout="constrained", sharex=True, sharey="row")
        for (top, bottom), (rule, title) in zip(axes.T, FIGURE_2.items()):
            for (_, run), colour, label in zip(
                curves[curves["rule"] == rule].groupby("source"), PALETTE, ("fiddle", "chime")
            ):
                t = run["t"] + 1
                smooth = run[["bound", "gamma"]].rolling(15, center=True, min_periods=1).median()
                top.plot(t, run["bound"], color=colour, linewidth=0.6, alpha=0.35)
                top.plot(t, smooth["bound"], color=colour, linewidth=1.6, label=label)
                top.plot(t, smooth["gamma"], "--", color=colour, linewidth=1.2)
                bottom.plot(t, run["si_sdr"], color=colour, linewidth=1.2)
            top.axhline(0, color=GREY, linewidth=0.8)
            top.set(title=title)
            top.set_yscale("symlog", linthresh=0.1)
            bottom.set_xlabel("step t")
        axes[0, 0].invert_xaxis()
        axes[0, 0].set_ylabel(r"$g_{\mathrm{bound}}$ (solid), $\gamma$ (dashed)")
        axes[1, 0].set_ylabel(r"SI-SDR of $\hat{x}_0$ / dB")
        axes[1, 0].set_ylim(bottom=-45)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return figure

    return draw()


def _conflict_estimates() -> Figure:
    from matplotlib import pyplot

    from ..show.figures import log_spectrograms
    from ..show.style import WIDTH, styled

    shown = (0, 3, 5, 7, 11)  # of the estimates that are kept
    found, true, steps = conflict.estimates(), conflict.figure_mixture().sources, conflict.kept_steps(200)
    rows = [(rule, k) for rule in FIGURE_2 for k in range(2)]
    signals = torch.stack([signal for rule, k in rows for signal in (*(found[rule][i, k] for i in shown), true[k])])
    pictures = log_spectrograms(signals, hop=128, floor_db=-70).unflatten(0, (len(rows), -1))

    @styled
    def draw() -> Figure:
        columns = pictures.shape[1]
        figure, axes = pyplot.subplots(len(rows), columns, figsize=(WIDTH, 6.6), layout="constrained")
        for axis, picture in zip(axes.flat, pictures.flatten(0, 1)):
            axis.imshow(picture, vmin=-70, vmax=0, origin="lower", aspect="auto", cmap="magma")
            axis.set(xticks=[], yticks=[])
        for axis, title in zip(axes[0], [*(f"t = {200 - steps[i]}" for i in shown), "true"]):
            axis.set_title(title, fontsize=10)
        for axis, (rule, k) in zip(axes[:, 0], rows):
            axis.set_ylabel(f"{FIGURE_2[rule]}\n{('fiddle', 'chime')[k]}", fontsize=10)
        return figure

    return draw()
