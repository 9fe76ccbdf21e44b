"""Plots of how far a test cohort lies from the training patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, MUTED, VERMILLION, new_figure, style
from dmml.evaluation.report.text.shift import compared

NAMES = {"training": "training patients", "cohort": "this cohort"}
COLUMNS = 2
"""Panels per row; more would be unreadable on a phone."""


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
        shown = {name: found for name, found in compared(content).items() if "map" in found}
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); run `dmml test` again") from None
    return [_maps(shown)] if shown else []


def _maps(shown: dict[str, Any]) -> Plot:
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    with style():
        figure, axes = new_figure(rows, columns, width=0.4 + 2.3 * columns, height=0.7 + 2.4 * rows, squeeze=False)
        for place, (name, found) in zip(axes.flat, shown.items(), strict=False):
            for side, color, marker in (("training", MUTED, "o"), ("cohort", VERMILLION, "^")):
                points = np.array(found["map"][side])
                place.scatter(*points.T, s=14, color=color, marker=marker, alpha=0.75, linewidths=0, label=NAMES[side])
                place.scatter(*points.mean(0), s=90, color=BLUE if side == "training" else VERMILLION, marker="+")
            place.set_title(f"{name}\nAUC {found['auc']:.2f}")
            place.set(xlabel="training  ←  score  →  cohort", ylabel="principal axis")
        for place in axes.flat[len(shown) :]:
            place.set_visible(False)
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, handletextpad=0.2)
    caption = (
        "A mark is a patient: grey discs, training patients that were not used to find the axes; orange triangles, this cohort; "
        "crosses, their means. To the right: "
        "the score of a classifier between the two that was not fitted to the patient; an AUC of 0.5 or less means that it "
        "does not separate them. Upwards: the axis along which training patients differ most."
    )
    alt = "; ".join(f"{name}: AUC {found['auc']:.2f}" for name, found in shown.items())
    return Plot("shift", "Shift against the training patients", figure, caption, f"{caption} {alt}.")
