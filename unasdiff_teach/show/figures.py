"""The figures of the book. Each function returns a matplotlib Figure and shows nothing by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy
import pandas
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..schedule import NoiseSchedule
from .sound import log_spectrograms
from .style import DASHES, GREY, INK, PALETTE, WIDTH, styled

STEP_LABEL = "diffusion step t"


class Strength(Protocol):
    """What `guidance_curves` asks of a rule."""

    def strength(self, schedule: NoiseSchedule) -> Tensor:
        """gamma(t) without sqrt(N) / norm, [T]."""
        ...


def _stacked(height: float, rows: int, columns: int = 1, **options):
    """Figure and axes [rows][columns] with room for labels; `height` in inches."""
    return pyplot.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **options)


def _as_rows(signals: Tensor | Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """Signals of one length as [S, N] on the CPU, one for each name."""
    rows = torch.stack([torch.as_tensor(signal).detach().cpu().double() for signal in signals])
    if rows.ndim != 2:
        raise ValueError(f"signals have shape {list(rows.shape)}; S signals [N] of one length are needed")
    if len(rows) != len(names):
        raise ValueError(
            f"{len(rows)} signals and {len(names)} names {list(names)}; one name for each signal is needed"
        )
    if not rows.isfinite().all():
        raise ValueError("signals hold NaN or infinite samples")
    return rows


@styled
def waveforms(signals: Tensor | Sequence[Tensor], names: Sequence[str], sample_rate: int) -> Figure:
    """Signals below each other, all on one scale.

    Args:
        signals: [S, N], or S tensors [N].
        names: S titles. What stands before a comma names the source, and a source has one colour: "speech, true",
            "speech, separated". "mixture" has that of the text.
        sample_rate: Hz.
    """
    rows = _as_rows(signals, names)
    seconds = torch.arange(rows.shape[1]) / sample_rate
    figure, axes = _stacked(0.8 + 1.15 * len(rows), len(rows), sharex=True, sharey=True)
    sources = [name.partition(",")[0] for name in names]
    others = list(dict.fromkeys(source for source in sources if source != "mixture"))
    colours = {"mixture": INK} | dict(zip(others, _cycle(PALETTE, len(others))))
    for axis, row, name, source in zip(axes[:, 0], rows, names, sources):
        axis.plot(seconds, row, color=colours[source], linewidth=0.7)
        axis.set_title(name)
        axis.margins(x=0)
    figure.supylabel("amplitude (full scale is 1)")
    axes[-1, 0].set_xlabel("time / s")
    return figure


@styled
def spectrograms(
    signals: Tensor | Sequence[Tensor],
    names: Sequence[str],
    sample_rate: int,
    n_fft: int = 256,
    hop: int = 64,
    floor_db: float = -80.0,
) -> Figure:
    """Spectrograms below each other with one scale in dB, 0 at the loudest bin of all signals.

    Args:
        signals: [S, N], or S tensors [N].
        names: S titles.
        sample_rate: Hz.
        n_fft, hop, floor_db: see `log_spectrograms`.
    """
    rows = _as_rows(signals, names)
    pictures = log_spectrograms(rows, n_fft, hop, floor_db).numpy()
    column, row = hop / sample_rate, sample_rate / n_fft / 1000  # s, kHz
    extent = (-column / 2, (pictures.shape[2] - 0.5) * column, -row / 2, (pictures.shape[1] - 0.5) * row)
    figure, axes = _stacked(0.8 + 1.45 * len(rows), len(rows), sharex=True, sharey=True)
    for axis, levels, name in zip(axes[:, 0], pictures, names):
        scale = {"vmin": floor_db, "vmax": 0, "cmap": "magma", "interpolation": "nearest"}
        picture = axis.imshow(levels, origin="lower", aspect="auto", extent=extent, **scale)
        axis.set(title=name, xlim=(0, rows.shape[1] / sample_rate), ylim=(0, sample_rate / 2000))
        axis.grid(False)
    figure.supylabel("frequency / kHz")
    axes[-1, 0].set_xlabel("time / s")
    figure.colorbar(picture, ax=axes[:, 0], label="power / dB (0 = loudest bin)", aspect=14 * len(rows), pad=0.02)
    return figure


@styled
def schedule_curves(schedule: NoiseSchedule) -> Figure:
    """beta, alpha_bar, log-SNR and sigma of a schedule over its steps, counted from 1."""
    curves = {
        r"$\beta(t)$: power replaced in a step": (schedule.beta, "share"),
        r"$\bar{\alpha}(t)$: power that is left": (schedule.alpha_bar, "share"),
        "log-SNR (signal of RMS 1)": (schedule.log_snr, "nat"),
        r"$\sigma(t)$: noise added in a step": (schedule.sigma, "amplitude"),
    }
    figure, axes = _stacked(4.6, 2, 2, sharex=True)
    for axis, colour, (title, (values, unit)) in zip(axes.flat, PALETTE, curves.items()):
        axis.plot(schedule.timesteps + 1, values, color=colour)
        axis.set(title=title, ylabel=unit)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes[0, 1].set_ylim(0, 1.02)
    for axis in axes[-1]:
        axis.set_xlabel(STEP_LABEL)
    return figure


@styled
def guidance_curves(rules: Sequence[Strength] | Mapping[str, Strength], schedule: NoiseSchedule) -> Figure:
    """The strengths of guidance rules without the normalisation by the gradient, Fig. 3, on a logarithmic scale.

    DPS's constant multiplies the gradient itself, the others a gradient of length sqrt(N): compare shapes across
    the two kinds and sizes within each. A strength of exactly 0 (DSG at its last step) cannot be drawn.

    Args:
        rules: named by their class, or under names of your own.
        schedule: the steps, drawn counted from 1.
    """
    if not isinstance(rules, Mapping):
        rules = {type(rule).__name__: rule for rule in rules}
    figure, axes = _stacked(3.6, 1)
    axis = axes[0, 0]
    for (name, rule), colour, dash in zip(rules.items(), _cycle(PALETTE, len(rules)), _cycle(DASHES, len(rules))):
        strength = rule.strength(schedule)
        axis.plot(
            schedule.timesteps + 1, strength.where(strength > 0, torch.nan), color=colour, linestyle=dash, label=name
        )
    axis.set(xlabel=STEP_LABEL, ylabel=r"strength, $\gamma(t)$ without $\sqrt{N} / \|g\|$", yscale="log")
    figure.legend(loc="outside upper center", ncols=min(len(rules), 4))
    return figure


@styled
def trajectories(
    t: Tensor | Sequence[int],
    rows: Mapping[str, Tensor],
    names: Sequence[str],
    dashed: Mapping[str, Tensor] | None = None,
) -> Figure:
    """Quantities of each source along a run, in the order of the reverse process: noisy at the left, clean at the
    right.

    Args:
        t: index that each step told the prior, [S]; drawn counted from 1.
        rows: axis label with unit -> values [S, K], one panel each (SI-SDR, g_bound).
        names: K sources.
        dashed: label of a panel -> values [S, K] to compare with (gamma over g_bound), dashed in the source's colour.
    """
    steps = torch.as_tensor(t) + 1
    dashed = dashed or {}
    figure, axes = _stacked(0.9 + 2.1 * len(rows), len(rows), sharex=True)
    for axis, (label, values) in zip(axes[:, 0], rows.items()):
        if values.shape != (len(steps), len(names)):
            raise ValueError(f"{label!r} has shape {list(values.shape)}; {[len(steps), len(names)]} is needed")
        for k, (name, colour) in enumerate(zip(names, _cycle(PALETTE, len(names)))):
            axis.plot(steps, values[:, k], color=colour, label=name)
            if label in dashed:
                axis.plot(steps, dashed[label][:, k], color=colour, linestyle="--", linewidth=1.2)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set_ylabel(label)
    axes[-1, 0].set_xlabel(STEP_LABEL + " (runs down to 1)")
    axes[-1, 0].invert_xaxis()
    axes[-1, 0].margins(x=0.01)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=min(len(names), 4))
    return figure


@styled
def bars_with_intervals(
    table: pandas.DataFrame, label: str, reference: float | None = None, reference_name: str = ""
) -> Figure:
    """One horizontal bar for each row of a result table, with its interval and its number.

    Args:
        table: with the columns mean, low and high; its index names the bars, from top to bottom.
        label: what the bars measure, with the unit.
        reference: draw a vertical line at this value (unprocessed, an oracle).
        reference_name: what the line is.
    """
    values, low, high = (table[name].to_numpy() for name in ("mean", "low", "high"))
    places = range(len(table))
    figure, axes = _stacked(0.9 + 0.42 * len(table), 1)
    axis = axes[0, 0]
    axis.barh(
        places,
        values,
        xerr=[values - low, high - values],
        color=PALETTE[0],
        height=0.62,
        alpha=0.75,
        error_kw={"ecolor": INK, "capsize": 3},
    )
    for place, number, right in zip(places, values, high):
        beside = numpy.fmax(right, max(number, 0)), place
        shown = f"{number:.1f}".replace("-", "\N{MINUS SIGN}")
        axis.annotate(shown, beside, xytext=(6, 0), textcoords="offset points", va="center")
    if reference is not None:
        axis.axvline(reference, color=PALETTE[1], linestyle="--", label=reference_name)
        figure.legend(loc="outside upper center")
    axis.set_yticks(places, [str(name) for name in table.index])
    axis.set_xlabel(label)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.margins(x=0.16)  # room for the numbers
    return figure


def _cycle(items: Sequence, n: int) -> list:
    """The first n of `items`, from the start again where they run out."""
    return [items[i % len(items)] for i in range(n)]
