"""Pictures of survival predictions: risk groups, calibration, models side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dmml.evaluation.calibration import Calibration
from dmml.evaluation.plots import (
    BLUE,
    INK,
    MUTED,
    PALETTE,
    VERMILLION,
    Picture,
    horizon_name,
    new_figure,
    style,
    time_axis,
    zero_to_one,
)
from dmml.evaluation.survival_curves import Curve, RiskGroups

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def kaplan_meier_picture(groups: RiskGroups) -> Picture:
    """Risk groups with bands, censoring ticks, numbers at risk and the log-rank p."""
    unit, unit_name = time_axis(max(curve.times.max() for curve in groups.curves))
    with style():
        figure, (axes, table) = new_figure(2, 1, height=4.1, sharex=True, height_ratios=[6, 1.1])
        for curve in groups.curves:
            _draw(axes, curve, unit)
        axes.set(ylim=(-0.02, 1.03), ylabel="event-free share")
        axes.set_xlim(left=0)
        axes.legend(loc="upper right")
        axes.annotate(f"log-rank p {p_words(groups.p)}", (0.02, 0.04), xycoords="axes fraction")
        _numbers_at_risk(table, axes, groups.curves, unit, unit_name)
    where = "the training patients' median risk" if groups.from_training else "the median risk of these patients"
    numbers = " and ".join(f"{curve.n} {curve.name} ({curve.events} events)" for curve in groups.curves)
    caption = (
        f"Kaplan–Meier curves with 95 % bands of {numbers}, cut at {where}. Ticks: censored. Below: numbers at risk."
    )
    alt = f"Survival curves of {numbers}; log-rank p {p_words(groups.p)}"
    return Picture("kaplan_meier", "Risk groups", caption, alt, figure)


def _draw(axes: Axes, curve: Curve, unit: float) -> None:
    color = VERMILLION if curve.name == "high risk" else BLUE
    axes.step(curve.time / unit, curve.survival, where="post", color=color, label=f"{curve.name} (n = {curve.n})")
    axes.fill_between(
        curve.time / unit, curve.low, curve.high, step="post", color=color, alpha=0.15, linewidth=0, zorder=1
    )
    index = np.searchsorted(curve.time, curve.censored, side="right") - 1
    axes.plot(curve.censored / unit, curve.survival[index], "|", color=color, markersize=5, markeredgewidth=1)


def _numbers_at_risk(table: Axes, axes: Axes, curves: list[Curve], unit: float, unit_name: str) -> None:
    right = axes.get_xlim()[1]
    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= right]
    for row, curve in enumerate(curves):
        color = VERMILLION if curve.name == "high risk" else BLUE
        for tick, number in zip(ticks, curve.at_risk(np.array(ticks) * unit), strict=True):
            table.text(tick, -row, str(number), ha="center", va="center", color=color, fontsize=8.5, clip_on=False)
    table.set(ylim=(-len(curves) + 0.4, 0.6), yticks=[], xlabel=unit_name)
    table.grid(False)
    table.spines[:].set_visible(False)
    table.tick_params(length=0)


def calibration_picture(calibrations: list[Calibration]) -> Picture:
    """Observed against predicted survival of risk groups, one colour a horizon."""
    with style():
        figure, axes = new_figure(height=4.1)
        zero_to_one(axes)
        for color, marker, calibration in zip(PALETTE, "osD^v*", calibrations, strict=False):
            groups = calibration.groups.dropna(subset=["observed"])
            span = np.abs(groups[["low", "high"]].to_numpy().T - groups["observed"].to_numpy())
            axes.errorbar(
                groups["predicted"], groups["observed"], yerr=span, fmt=marker + "-", color=color, markersize=5,
                linewidth=1.2, elinewidth=1, alpha=0.9, label=horizon_name(calibration.day),
            )  # fmt: skip
        axes.set(xlabel="predicted event-free share", ylabel="observed event-free share")
        axes.legend(loc="upper left")
    words = []
    for calibration in calibrations:
        name = horizon_name(calibration.day)
        if np.isfinite(calibration.observed):
            words.append(
                f"at {name} {calibration.predicted:.0%} were predicted and {calibration.observed:.0%} observed"
            )
        if np.isfinite(calibration.slope):
            interval = f"{calibration.slope_low:.2f} to {calibration.slope_high:.2f}"
            words.append(f"slope {calibration.slope:.2f} ({interval})")
    caption = (
        "Patients in groups of equal size by predicted survival; Kaplan–Meier in each group with 95 % interval. "
        "On the dashed line predictions are right; a slope below 1 means too extreme. "
        + ("Over all patients: " + "; ".join(words) + "." if words else "")
    )
    return Picture("calibration", "Calibration", caption, "Observed against predicted survival. " + caption, figure)


def forest_picture(rows: list[tuple[str, dict]], title: str, label: str, chance: float | None) -> Picture:
    """Estimates with intervals, one row a model, and a line at chance.

    Args:
        rows: (name, metric entry {value, low, high}).
        title: Of the picture.
        label: Of the axis.
        chance: Where a line is drawn.
    """
    rows = [(name, entry) for name, entry in rows if entry.get("value") is not None]
    with style():
        figure, axes = new_figure(width=5.6, height=0.95 + 0.42 * len(rows))
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for index, (name, entry) in enumerate(rows):
            color = MUTED if name.startswith("best possible") else PALETTE[index % len(PALETTE)]
            low, high = (entry["value"] if entry[end] is None else entry[end] for end in ("low", "high"))
            axes.plot([low, high], [-index, -index], color=color, linewidth=2.4, solid_capstyle="round")
            axes.plot(entry["value"], -index, "o", color=color, markersize=7)
            where = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{entry['value']:.2f}", (entry["value"], -index), color=INK, fontsize=8.5, **where)
        axes.set_yticks([-index for index in range(len(rows))], [name for name, _ in rows])
        axes.set(ylim=(-len(rows) + 0.4, 0.75), xlabel=label)
        axes.grid(axis="y", visible=False)
    chance_words = "" if chance is None else f" Dashed: chance ({chance:g})."
    words = "; ".join(f"{name} {entry['value']:.2f}" for name, entry in rows)
    return Picture(
        "models",
        title,
        f"{label[0].upper()}{label[1:]}, with 95 % patient-bootstrap intervals.{chance_words}",
        words,
        figure,
    )


def p_words(p: float | None) -> str:
    """P values as people write them: = 0.03, < 0.001, not defined."""
    if p is None or np.isnan(p):
        return "not defined"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
