"""The ablation as one picture: what each part adds in each scene, as a heat map for each family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ablation_networks import FAMILIES
from ablation_summary import comparison_in, contributes, harms, scene_name
from ablation_variants import CONTROL, SCENES
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dmml.evaluation.plots.style import INK, MUTED

LARGEST = 0.05
"""Difference of concordance at which the colours end"""
_DARK = 0.6 * LARGEST
"""Difference from which a purple cell is too dark for dark text"""
_ROW, _COLUMN, _LABELS = 0.27, 0.85, 4.4
"""Inches of a row, a column, and the labels of the rows"""


def draw(summary: dict[str, Any], path: Path) -> None:
    """Write the picture; nothing if there are no comparisons.

    Args:
        summary: Result of `ablation_summary.summarise`.
        path: The PNG file.
    """
    families = summary["families"]
    if not families:
        return
    heights = [len(rows) for rows in families.values()]
    scenes = [
        scene
        for scene in SCENES
        if any(comparison_in(row, scene) for rows in families.values() for row in rows.values())
    ]
    size = _LABELS + _COLUMN * len(scenes), _ROW * (sum(heights) + 2.2 * len(heights)) + 1.6
    figure, axes = plt.subplots(
        len(families), 1, figsize=size, squeeze=False, layout="constrained", height_ratios=[n + 1 for n in heights]
    )
    for ax, (name, rows) in zip(axes[:, 0], families.items(), strict=True):
        _panel(ax, FAMILIES[name], rows, scenes)
    axes[0, 0].xaxis.tick_top()
    names = [scene_name({"world": world, "patients": patients}).replace("_", "\n") for world, patients in scenes]
    axes[0, 0].set_xticks(range(len(scenes)), names, fontsize=7)
    figure.supxlabel(
        "concordance with the part minus without it · frame: named in advance · bold: interval leaves out 0 · "
        "★: contributes · ▼: harms",
        fontsize=7,
        color=MUTED,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(ax: Axes, title: str, rows: dict[str, dict[str, Any]], scenes: list[tuple[str, int]]) -> None:
    values = np.full((len(rows), len(scenes)), np.nan)
    for i, row in enumerate(rows.values()):
        for j, scene in enumerate(scenes):
            if (comparison := comparison_in(row, scene)) is None:
                continue
            values[i, j] = comparison["estimate"]
            clear = comparison["low"] > 0 or harms(comparison)
            mark = ""
            if row["kind"] != CONTROL:
                mark = " ★" if contributes(comparison) else " ▼" if harms(comparison) else ""
            weight = "bold" if clear else "normal"
            colour = "white" if comparison["estimate"] > _DARK else INK
            text = f"{comparison['estimate']:+.3f}{mark}"
            ax.text(j, i, text, ha="center", va="center", fontsize=7, color=colour, fontweight=weight)
            if comparison["named"]:
                ax.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, edgecolor=INK, linewidth=0.8))
    ax.imshow(values, cmap="PuOr", vmin=-LARGEST, vmax=LARGEST, aspect="auto", alpha=0.75)
    labels = [f"{row['of']}: {row['part'].replace('`', '')}" for row in rows.values()]
    ax.set_yticks(range(len(rows)), [label if len(label) < 72 else label[:70] + " …" for label in labels], fontsize=7)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize=9, fontweight="bold")
