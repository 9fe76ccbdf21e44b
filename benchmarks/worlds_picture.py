"""The worlds as one picture: concordance of linear references, networks and dmml's models, with and without RNA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from dmml.evaluation.plots.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILLION

PATIENTS = 200
PANELS = {
    "With RNA and slides": {
        "best_reference": ("best linear reference", MUTED, "s"),
        "late_fusion": ("late fusion", ORANGE, "^"),
        "mcat_like": ("MCAT-like", PURPLE, "v"),
        "teacher": ("teacher", BLUE, "o"),
        "oracle_both": ("oracle", INK, "|"),
    },
    "Slides alone": {
        "ridge_tokens": ("ridge on mean tokens", MUTED, "s"),
        "histology_abmil": ("gated ABMIL", ORANGE, "^"),
        "transmil_like": ("TransMIL-like", PURPLE, "v"),
        "student_undistilled": ("student without a teacher", GREEN, "D"),
        "student": ("student", VERMILLION, "o"),
        "oracle_slide": ("oracle", INK, "|"),
    },
}
"""{panel: {model: (label, colour, marker)}}"""
_LANE = 0.13
"""Vertical distance between the models of one world, in rows"""


def draw(summary: dict[str, Any], path: Path) -> None:
    """Write the picture of the worlds with 200 patients; nothing if there are none.

    Args:
        summary: Result of `worlds_summary.summarise`.
        path: The PNG file.
    """
    blocks = [block for block in summary["blocks"] if block["patients"] == PATIENTS]
    if not blocks:
        return
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.4 + 0.85 * len(blocks)), sharey=True, layout="constrained")
    for ax, (title, models) in zip(axes, PANELS.items(), strict=True):
        _panel(ax, title, blocks, models)
    axes[0].set_yticks(range(len(blocks)), [block["world"].replace("_", " ") for block in blocks])
    axes[0].set_ylim(len(blocks) - 0.5, -0.5)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(ax: Axes, title: str, blocks: list[dict[str, Any]], models: dict[str, tuple[str, str, str]]) -> None:
    for lane, (name, (label, colour, marker)) in enumerate(models.items()):
        rows = [(i, _row(block, name)) for i, block in enumerate(blocks)]
        points = [(i + (lane - (len(models) - 1) / 2) * _LANE, row) for i, row in rows if row is not None]
        if not points:
            continue
        y, rows = [y_position for y_position, _ in points], [row for _, row in points]
        value = [row["value"] for row in rows]
        beyond = [
            [row["value"] - row["low"] for row in rows],
            [row["high"] - row["value"] for row in rows],
        ]
        style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 5, "elinewidth": 1.2}
        ax.errorbar(value, y, xerr=beyond, label=label, **style)
    ax.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=":")
    ax.set_title(title, loc="left", fontweight="bold", fontsize=10)
    ax.set_xlabel(f"concordance, {PATIENTS} patients, mean over seeds with 95 % interval")
    for i in range(1, len(blocks)):
        ax.axhline(i - 0.5, color=MUTED, linewidth=0.4, alpha=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.75 / len(blocks)), ncol=3)


def _row(block: dict[str, Any], name: str) -> dict[str, Any] | None:
    if name == "best_reference":
        name = block["best_reference"] or ""
    return block["models"].get(name)
