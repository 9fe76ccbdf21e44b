"""Plots of survival predictions: risk groups and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.evaluation import interval_settings
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.readout import Line, Readout
from dmml.evaluation.plots.style import (
    BLUE,
    MUTED,
    PALETTE,
    VERMILLION,
    new_figure,
    new_grid,
    style,
    time_axis,
    zero_to_one,
)
from dmml.evaluation.report.formatting import horizon_name, joined, number, p_text, percent
from dmml.evaluation.statistics.calibration import Calibration
from dmml.evaluation.statistics.survival_curves import Curve, RiskGroups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import LineStyleType


_COLOR = {"low risk": BLUE, "middle": MUTED, "high risk": VERMILLION}
_DASHES: dict[str, LineStyleType] = {"low risk": "-", "middle": (0, (1, 1)), "high risk": (0, (5, 1.5))}
"""Line styles, so that the lines are distinguishable without their colours, too."""
_RISK_NAME = {"middle": "intermediate risk"}
"""Names of groups in sentences, where they differ from those in the legend."""
_MARKERS = "osD^v*"
"""Marker of each horizon."""


def kaplan_meier_plot(
    groups: RiskGroups, division: str | None = None, hazard_ratio: Mapping[str, Any] | None = None
) -> Plot:
    """Plot risk groups with bands, censoring ticks, numbers at risk, the log-rank p and the hazard ratio.

    Args:
        groups: The curves.
        division: How the patients were divided into groups; None derives it from `groups`.
        hazard_ratio: Entry of `metrics.json` or `crossval.json`; None for groups without one.
    """
    unit, unit_name = time_axis(max(curve.times.max() for curve in groups.curves))
    with style():
        figure, grid = new_grid(2, 1, height=4.1, sharex=True, height_ratios=[6, 0.55 * len(groups.curves)])
        axes, table = grid[:, 0]
        for curve in groups.curves:
            _draw_curve(axes, curve, unit)
        axes.set(ylim=(-0.02, 1.03), ylabel="event-free share")
        axes.set_xlim(left=0)
        axes.legend(loc="upper right")
        log_rank = f"log-rank p {p_text(groups.p)}"
        if hazard_ratio and hazard_ratio["value"] is not None:
            log_rank += f", hazard ratio {_ratio(hazard_ratio['value'])} ({_ratio_limits(hazard_ratio)})"
        axes.annotate(log_rank, (0.5, 1.01), xycoords="axes fraction", ha="center", va="bottom")
        _numbers_at_risk(table, axes, groups.curves, unit, unit_name)
    if division is None:
        patients = "the training patients" if groups.from_training else "these patients"
        division = f"divided at the median risk of {patients}"
    counts = [
        f"{curve.n} patients at {_RISK_NAME.get(curve.name, curve.name)} ({curve.events} events)"
        for curve in groups.curves
    ]
    numbers = joined(counts)
    caption = (
        f"Kaplan–Meier curves of {numbers}, {division}, with {interval_settings.level_text()} bands. Ticks: censored patients. "
        f"Below: numbers at risk.{_hazard_ratio_sentence(hazard_ratio)}"
    )
    alt = f"Survival curves of {numbers}; {log_rank}"
    lines = [Line(curve.name, curve.time / unit, curve.survival, step=True) for curve in groups.curves]
    readout = Readout(axes, f"{{}} {unit_name}", lines)
    return Plot("kaplan_meier", "Risk groups", figure, caption, alt, readout=readout)


def _hazard_ratio_sentence(hazard_ratio: Mapping[str, Any] | None) -> str:
    """Sentence about a hazard ratio, or about why it is undefined, after a space; empty without one."""
    if hazard_ratio is None:
        return ""
    if hazard_ratio["value"] is None:
        return f" No hazard ratio is given: {hazard_ratio['reason']}."
    value, limits, p = _ratio(hazard_ratio["value"]), _ratio_limits(hazard_ratio), p_text(hazard_ratio["p"])
    return (
        f" Hazard ratio of high against low risk by Cox regression: {value} ({interval_settings.level_text()} interval "
        f"{limits}, p {p})."
    )


def _ratio_limits(hazard_ratio: Mapping[str, Any]) -> str:
    return f"{_ratio(hazard_ratio['low'])} to {_ratio(hazard_ratio['high'])}"


def _ratio(value: float) -> str:
    """Format a ratio: 0.712 → 0.71, 53.21 → 53; the limits of few events may be very large."""
    return number(value) if value < 10 else f"{value:.3g}" if value < 1000 else f"{value:.0e}"


def _draw_curve(axes: Axes, curve: Curve, unit: float) -> None:
    color, time = _COLOR[curve.name], curve.time / unit
    label = f"{curve.name} (n = {curve.n})"
    axes.step(time, curve.survival, where="post", color=color, linestyle=_DASHES[curve.name], label=label)
    axes.fill_between(time, curve.low, curve.high, step="post", color=color, alpha=0.15, linewidth=0, zorder=1)
    index = np.searchsorted(curve.time, curve.censored, side="right") - 1
    axes.plot(curve.censored / unit, curve.survival[index], "|", color=color, markersize=5, markeredgewidth=1)


def _numbers_at_risk(table: Axes, axes: Axes, curves: list[Curve], unit: float, unit_name: str) -> None:
    right = axes.get_xlim()[1]
    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= right]
    for row, curve in enumerate(curves):
        color = _COLOR[curve.name]
        for tick, count in zip(ticks, curve.at_risk(np.array(ticks) * unit), strict=True):
            table.text(tick, -row, str(count), ha="center", va="center", color=color, fontsize=8.5, clip_on=False)
    # The names take the place of the axis numbers, so that rows are not distinguished by colour alone.
    names = [curve.name.removesuffix(" risk") for curve in curves]
    table.set(ylim=(-len(curves) + 0.4, 0.6), xlabel=unit_name)
    table.set_yticks([-row for row in range(len(curves))], names, fontsize=8.5)
    table.grid(False)
    table.spines[:].set_visible(False)
    table.tick_params(length=0)
    table.tick_params(axis="y", pad=14)  # the first numbers are on the axis itself


def calibration_plot(calibrations: list[Calibration]) -> Plot:
    """Plot observed against predicted survival of risk groups, with one colour per horizon."""
    tooltips: dict[str, str] = {}
    layers: dict[str, str] = {}
    with style():
        figure, axes = new_figure(height=4.1)
        zero_to_one(axes)
        for color, marker, calibration in zip(PALETTE, _MARKERS, calibrations, strict=False):
            _draw_calibration(axes, calibration, color, marker, tooltips, layers)
        axes.set(xlabel="predicted event-free share", ylabel="observed event-free share")
        axes.legend(loc="lower right")
    overall = [text for calibration in calibrations for text in _overall(calibration)]
    caption = (
        f"Groups of equal size by predicted survival, and Kaplan–Meier estimates in each group with {interval_settings.level_text()} "
        "intervals. Predictions on the dashed line are right; a slope below 1 means that they are too extreme. "
        + (f"Over all patients: {'; '.join(overall)}." if overall else "")
    )
    alt = f"Observed against predicted survival. {caption}"
    return Plot("calibration", "Calibration", figure, caption, alt, tooltips, layers)


def _draw_calibration(
    axes: Axes, calibration: Calibration, color: str, marker: str, tooltips: dict[str, str], layers: dict[str, str]
) -> None:
    """Draw the risk groups of one horizon; their tooltips and their layer are added to the dictionaries."""
    name = horizon_name(calibration.day)
    groups = calibration.groups.dropna(subset=["observed"])
    span = np.abs(groups[["low", "high"]].to_numpy().T - groups["observed"].to_numpy())
    bars = axes.errorbar(
        groups["predicted"], groups["observed"], yerr=span, fmt=marker + "-", color=color, markersize=5,
        linewidth=1.2, elinewidth=1, alpha=0.9, label=name,
    )  # fmt: skip
    line, caps, spans = bars.lines
    for part, artist in enumerate((line, *caps, *spans)):
        gid = f"calibration-{calibration.day:g}-{part}"
        artist.set_gid(gid)
        layers[gid] = name
    for row, group in enumerate(groups.itertuples()):
        gid = f"calibration-{calibration.day:g}-at-{row}"
        layers[gid] = name
        predicted, observed = percent(group.predicted), percent(group.observed)
        tooltips[gid] = f"{name}, {group.n} patients: {predicted} predicted, {observed} observed"
        # An invisible mark of each group, so that it reacts to the pointer.
        axes.plot(group.predicted, group.observed, "o", color=color, alpha=0, markersize=11, gid=gid)


def _overall(calibration: Calibration) -> list[str]:
    """Predicted and observed survival over all patients, and the slope, as far as they are defined."""
    texts = []
    if np.isfinite(calibration.observed):
        predicted, observed = percent(calibration.predicted), percent(calibration.observed)
        texts.append(f"at {horizon_name(calibration.day)} {predicted} were predicted and {observed} observed")
    if np.isfinite(calibration.slope):
        low, high = number(calibration.slope_low), number(calibration.slope_high)
        texts.append(f"slope {number(calibration.slope)} ({low} to {high})")
    return texts
