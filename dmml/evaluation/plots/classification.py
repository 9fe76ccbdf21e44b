"""Plots of class predictions: confusion table, ROC curves and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, PALETTE, new_figure, style, zero_to_one
from dmml.evaluation.statistics import classification
from dmml.evaluation.statistics.calibration import reliability
from dmml.evaluation.statistics.weighted import divide, estimate

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


def roc_plot(label: NDArray, probability: NDArray, classes: list[str]) -> Plot:
    """Plot one-against-rest ROC curves; a single curve for two classes."""
    indices: Sequence[int] = [1] if len(classes) == 2 else range(len(classes))
    areas = []
    with style():
        figure, axes = new_figure(height=3.9)
        zero_to_one(axes)
        for color, index in zip(PALETTE * 3, indices, strict=False):
            auc = estimate(classification.class_auc(label, probability, index), len(label))
            if np.isnan(auc):
                continue
            false, true = _roc(label == index, probability[:, index])
            axes.plot(false, true, color=color, label=f"{classes[index]}: {auc:.2f}")
            areas.append(f"{classes[index]} {auc:.2f}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        if areas:
            axes.legend(loc="lower right", title="AUC")
    caption = "Each class against all others. Dashed: chance."
    return Plot("roc", "ROC curves", figure, caption, f"Areas under the curves: {', '.join(areas)}")


def _roc(positive: NDArray[np.bool_], score: NDArray) -> tuple[NDArray, NDArray]:
    """False and true positive rates at every threshold, (K,) each."""
    order = np.argsort(-score, kind="stable")
    hits, misses = np.cumsum(positive[order]), np.cumsum(~positive[order])
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # tied scores make one step
    return np.append(0, misses[last] / misses[-1]), np.append(0, hits[last] / hits[-1])


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
