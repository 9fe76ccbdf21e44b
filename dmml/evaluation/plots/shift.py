"""Plots of how far a test cohort lies from the training patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, MUTED, VERMILLION, new_grid, style
from dmml.evaluation.report.text.shift import compared

NAMES = {"training": "training patients", "cohort": "this cohort"}
COLUMNS = 2
"""Panels per row; more would be unreadable on a phone."""
_CAPTION = (
    "Each mark is a patient. Grey discs: training patients that were not used to find the axes; orange triangles: this "
    "cohort; crosses: the means of both. The horizontal axis is the score of a classifier that tells this cohort from the "
    "training patients and was not fitted to the patient in question; an AUC of 0.5 or less means that it cannot tell "
    "them apart. The vertical axis is the direction in which training patients differ most."
)


def shift_plot(content: Mapping[str, Any]) -> Plot | None:
    """Draw a panel for each kind of input that was compared; None without a comparison.

    Args:
        content: Content of `shift.json`.

    Raises:
        KeyError: The content is damaged.
        ValueError: The content is damaged.
    """
    comparisons = {name: entry for name, entry in compared(content).items() if "map" in entry}
    return _maps(comparisons) if comparisons else None


def _maps(comparisons: Mapping[str, Mapping[str, Any]]) -> Plot:
    columns = min(COLUMNS, len(comparisons))
    rows = -(-len(comparisons) // columns)
    with style():
        figure, grid = new_grid(rows, columns, width=0.4 + 2.3 * columns, height=0.7 + 2.4 * rows)
        for axes, (name, entry) in zip(grid.flat, comparisons.items(), strict=False):
            for side, color, marker in (("training", MUTED, "o"), ("cohort", VERMILLION, "^")):
                points = np.array(entry["map"][side])
                axes.scatter(*points.T, s=14, color=color, marker=marker, alpha=0.75, linewidths=0, label=NAMES[side])
                axes.scatter(*points.mean(0), s=90, color=BLUE if side == "training" else VERMILLION, marker="+")
            axes.set_title(f"{name}\nAUC {entry['auc']:.2f}")
            axes.set(xlabel="training  ←  score  →  cohort", ylabel="principal axis")
        for axes in grid.flat[len(comparisons) :]:
            axes.set_visible(False)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, handletextpad=0.2)
    values = "; ".join(f"{name}: AUC {entry['auc']:.2f}" for name, entry in comparisons.items())
    return Plot("shift", "Shift against the training patients", figure, _CAPTION, f"{_CAPTION} {values}.")
