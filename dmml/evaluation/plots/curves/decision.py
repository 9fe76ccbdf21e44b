"""Decision curves: net benefit over thresholds, beside treating every patient and nobody."""

from __future__ import annotations

import numpy as np

from dmml.evaluation import interval_settings
from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.plots.readout import Line, Readout
from dmml.evaluation.plots.style import BLUE, DASHED, INK, VERMILLION, new_figure, style
from dmml.evaluation.report.formatting import number
from dmml.evaluation.statistics.curves.decision import DecisionCurve
from dmml.evaluation.statistics.curves.net_benefit import THRESHOLDS

MARGIN = 0.05
"""Net benefit below 0 that the plot shows, so that its useful part fills it."""


def decision_plot(curve: DecisionCurve) -> Plot:
    """Plot the net benefit of a model, of treating every patient, and of treating nobody.

    The plot ends where neither the model nor treating every patient has a benefit.
    """
    percent = 100 * THRESHOLDS
    with style():
        figure, axes = new_figure(height=3.6)
        axes.axhline(0, color=INK, linewidth=1.2, linestyle=(0, (1, 1)), label="treat nobody")
        for band, color, dashes, label in (
            (curve.treat_all, VERMILLION, DASHED, "treat every patient"),
            (curve.model, BLUE, "-", "treat by the model"),
        ):
            axes.plot(percent, band.value, color=color, linestyle=dashes, label=label)
            axes.fill_between(percent, band.low, band.high, color=color, alpha=0.14, linewidth=0, zorder=1)
        top = np.nanmax([curve.model.high, curve.treat_all.high])
        axes.set(xlim=(0, _last_threshold(curve)), ylim=(-MARGIN, max(top, MARGIN) * 1.05))
        axes.set(xlabel="threshold in %", ylabel="net benefit")
        axes.legend(loc="upper right")
    caption = f"{curve.outcome[0].upper()}{curve.outcome[1:]}, with {interval_settings.level_text()} bands."
    at = int(np.searchsorted(THRESHOLDS, 0.2 - 1e-9))
    values = f"{number(curve.model.value[at], 3)} by the model, {number(curve.treat_all.value[at], 3)} treating all"
    alt = f"Decision curve, {curve.outcome}. Net benefit at 20 %: {values}"
    lines = [
        Line("by the model", percent, curve.model.value),
        Line("every patient", percent, curve.treat_all.value),
    ]
    return Plot(
        file_name(f"decision_{curve.outcome}"),
        f"Decision curve: {curve.outcome}",
        figure,
        caption,
        alt,
        readout=Readout(axes, "threshold {} %", lines),
    )


def _last_threshold(curve: DecisionCurve) -> float:
    """Threshold in %, at least 30, shortly after the last one at which treating somebody has a benefit."""
    useful = np.flatnonzero(np.fmax(curve.model.value, curve.treat_all.value) > 0)
    last = THRESHOLDS[useful[-1]] if len(useful) else 0
    return float(np.clip(100 * last + 4, 30, 100))
