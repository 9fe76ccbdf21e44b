"""Plots of how far a test cohort lies from the training patients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
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


def shift_plots(folder: Path) -> list[Plot]:
    """Draw one plot with a panel for each kind of input that was compared; empty if `shift.json` has no comparison.

    Args:
        folder: The test folder `test/<cohort>`.

    Raises:
        InputError: `shift.json` is damaged.
    """
    path = folder / "shift.json"
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        comparisons = {name: entry for name, entry in compared(content).items() if "map" in entry}
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); run `dmml test` again") from None
    return [_maps(comparisons)] if comparisons else []


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
