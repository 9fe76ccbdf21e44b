"""Plots of predicted values: measured against predicted, and the mean error of groups of patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation import interval_settings
from dmml.evaluation.bootstrap import resamples, weighted_band
from dmml.evaluation.plots.forest import Mark, forest_plot
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, DASHED, MUTED, VERMILLION, new_figure, style
from dmml.evaluation.report.formatting import axis_label

LINE_POINTS = 41
MIN_PATIENTS = 5
"""Minimum number of patients for the line of calibration"""


def agreement_plot(value: NDArray, predicted: NDArray, name: str, unit: str = "") -> Plot:
    """Plot measured against predicted values, with the line of identity and the least-squares line.

    Args:
        value: (n,) measured values.
        predicted: (n,) predicted values.
        name: Name of the value.
        unit: Unit of the value.
    """
    both = np.concatenate([value, predicted])
    margin = 0.04 * (np.ptp(both) or 1.0)
    ends = [both.min() - margin, both.max() + margin]
    with style():
        figure, axes = new_figure(height=4.3)
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=DASHED, zorder=1)
        axes.plot(predicted, value, "o", color=BLUE, alpha=0.6, markersize=4.5, markeredgewidth=0)
        caption = "One dot per patient. Dashed: predicted = measured."
        if len(value) >= MIN_PATIENTS and np.ptp(predicted) > 0:
            at = np.linspace(predicted.min(), predicted.max(), LINE_POINTS)
            line = weighted_band(lambda weights: _lines(weights, predicted, value, at), resamples(len(value)))
            axes.fill_between(at, line.low, line.high, color=VERMILLION, alpha=0.15, linewidth=0)
            axes.plot(at, line.value, color=VERMILLION, linewidth=1.6)
            caption += (
                f" Red: the least-squares line, with {interval_settings.level_text()} patient-bootstrap intervals at each "
                "point; its slope is the calibration slope."
            )
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set(xlabel=f"predicted {axis_label(name, unit)}", ylabel=f"measured {axis_label(name, unit)}")
    alt = f"Measured against predicted {name} of {len(value)} patients"
    return Plot("agreement", "Measured and predicted", figure, caption, alt)


def _lines(weights: NDArray, x: NDArray, y: NDArray, at: NDArray) -> NDArray[np.float64]:
    """Least-squares lines of y on x at K positions, one per row of weights. (R, n) → (R, K)."""
    weights = np.asarray(weights, np.float64)
    total = weights.sum(1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ x**2 / total - mean_x**2
    slope = (weights @ (x * y) / total - mean_x * mean_y) / np.where(spread > 0, spread, np.nan)
    return mean_y[:, None] + slope[:, None] * (at - mean_x[:, None])


def group_errors_plot(rows: Sequence[Mapping[str, Any]], column: str, name: str, unit: str = "") -> Plot | None:
    """Plot the mean error of each group of a column, such as the sites; None if fewer than two groups have one.

    Args:
        rows: Subgroups of `shift.json`.
        column: Name of the column.
        name: Name of the value.
        unit: Unit of the value.
    """
    members = [row for row in rows if row["column"] == column and (row.get("second") or {}).get("value") is not None]
    if len(members) < 2:
        return None
    marks = []
    for row in members:
        text = f"{row['level']} ({row['n']})"
        marks.append((text, [Mark.of(row["second"], text)]))
    caption = (
        f"Mean of predicted minus measured values of each group, with its number of patients and a "
        f"{interval_settings.level_text()} interval. Dashed: no error on average."
    )
    label = axis_label(f"error of the {name}", unit)
    return forest_plot(f"errors_by_{column}", marks, f"Errors by {column}", label, 0.0, caption)
