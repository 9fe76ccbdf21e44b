"""Plots of class predictions: confusion table and reliability."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, new_figure, style, zero_to_one
from dmml.evaluation.statistics import classification
from dmml.evaluation.statistics.calibration import reliability
from dmml.evaluation.statistics.weighted import divide

if TYPE_CHECKING:
    from matplotlib.patches import Rectangle


def confusion_plot(label: NDArray, probability: NDArray, classes: list[str]) -> Plot:
    """Plot counts of true against predicted classes, shaded by the share of the true class."""
    table = classification.confusion(label, probability)
    share = np.nan_to_num(divide(table, table.sum(1, keepdims=True)))
    with style():
        figure, axes = new_figure(height=3.9)
        # Cells are drawn with opacity instead of a colour map, so that they fit both a light and a dark page.
        for row in range(len(classes)):
            for column in range(len(classes)):
                axes.add_patch(_cell(column, row, share[row, column]))
                text = f"{table[row, column]}"
                axes.text(column, row, text, ha="center", va="center", fontsize=10)
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=30 if max(map(len, classes)) > 8 else 0)
        axes.set_yticks(ticks, classes)
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted", ylabel="true")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    caption = "Patients by true (row) and predicted (column) class; darker cells hold a larger share of the true class."
    alt = "; ".join(f"{name}: {table[i, i]} of {table[i].sum()} right" for i, name in enumerate(classes))
    return Plot("confusion", "Confusion", figure, caption, alt)


def _cell(column: int, row: int, share: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=BLUE, alpha=0.06 + 0.6 * share, linewidth=0)


def reliability_plot(label: NDArray, probability: NDArray) -> Plot:
    """Plot the share of right predictions against the confidence in them."""
    table = reliability(label, probability)
    with style():
        figure, axes = new_figure(height=3.9)
        zero_to_one(axes)
        axes.plot(table["confidence"], table["hit_rate"], "o-", color=BLUE, linewidth=1.2)
        for row in table.itertuples():
            at = (row.confidence, row.hit_rate)
            axes.annotate(str(row.n), at, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7.5)
        axes.set(xlabel="confidence", ylabel="share of right predictions")
    caption = (
        "Patients grouped by the probability of the predicted class, with the number of patients in each group. On the "
        "dashed line, confidence equals the share of right predictions."
    )
    return Plot("calibration", "Calibration", figure, caption, "Share of right predictions against confidence")
