"""Plot of the genes of each subspace, ranked by their correlation with the prediction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dmml.evaluation import interval_settings
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.programs import SUBSPACE_NAMES
from dmml.evaluation.plots.style import INK, MUTED, SUBSPACE_COLOR, new_grid, style
from dmml.evaluation.report.formatting import number
from dmml.evaluation.statistics.correlation import PERMUTATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 4
"""Number of genes that are named at each end of a subspace"""
LINE_HEIGHT = 0.07
"""Height of a name, as a share of the height of the axes"""


def gene_correlations_plot(table: pd.DataFrame, score: str, name: str = "gene_correlations") -> Plot:
    """Plot the ranked correlations of each subspace with their intervals, and the ranks without any association.

    Args:
        table: Rows of `gene_correlations.csv` of one score, of which at least one correlation is defined.
        score: Name of the score.
        name: Name of the plot's files.
    """
    defined = table.dropna(subset=["r"])
    subspaces = list(dict.fromkeys(defined["subspace"]))
    largest = float(np.abs(defined[["low", "high"]].to_numpy()).max())
    tooltips: dict[str, str] = {}
    with style():
        figure, grid = new_grid(len(subspaces), 1, height=2.9 * len(subspaces), sharey=True)
        for axes, subspace in zip(grid[:, 0], subspaces, strict=True):
            rows = defined[defined["subspace"] == subspace].sort_values("r", ascending=False, kind="stable")
            axes.set_ylim(-1.08 * largest, 1.08 * largest)
            _draw_subspace(axes, rows.reset_index(drop=True), subspace, tooltips)
        figure.supylabel(f"correlation with the {_phrase(score)}", fontsize=9)
    caption = (
        f"Genes of each subspace by rank, with {interval_settings.level_text()} intervals in light colour. Grey: where the "
        f"ranks lie in {interval_settings.level_text()} of {PERMUTATIONS} random assignments of the predictions to the "
        "patients, so without any association; genes that vary together make this range wide."
    )
    title = f"Genes and the {_phrase(score)}"
    return Plot(name, title, figure, caption, "; ".join(tooltips.values()), tooltips)


def _phrase(score: str) -> str:
    """Name of a score in a sentence: 'predicted risk', 'log odds of G4'."""
    return "predicted risk" if score == "risk" else score


def _draw_subspace(axes: Axes, rows: pd.DataFrame, subspace: str, tooltips: dict[str, str]) -> None:
    """Draw the rows of one subspace, highest correlation first; the tooltips of its named genes are added."""
    rank, r = np.arange(1, len(rows) + 1), rows["r"].to_numpy(float)
    color = SUBSPACE_COLOR.get(subspace, INK)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.fill_between(rank, rows["low"], rows["high"], color=color, alpha=0.18, linewidth=0, step="mid")
    axes.fill_between(rank, rows["null_low"], rows["null_high"], color=MUTED, alpha=0.45, linewidth=0, step="mid")
    axes.plot(rank, r, "o", color=color, markersize=3 if len(rows) < 300 else 2, markeredgewidth=0)
    margin = max(1.0, 0.03 * len(rows))
    axes.set_xlim(1 - margin, len(rows) + margin)
    name = SUBSPACE_NAMES.get(subspace, subspace)
    axes.set(xlabel=f"rank among {len(rows)} genes", title=f"{name} genes")
    n_top, n_bottom = min(NAMED, (len(rows) + 1) // 2), min(NAMED, len(rows) // 2)
    _name_genes(axes, rows, range(n_top), tooltips, is_top=True)
    _name_genes(axes, rows, range(len(rows) - 1, len(rows) - 1 - n_bottom, -1), tooltips, is_top=False)


def _name_genes(axes: Axes, rows: pd.DataFrame, index: Iterable[int], tooltips: dict[str, str], is_top: bool) -> None:
    """Name the genes of one end, outermost first, in the corner that the falling ranks leave free."""
    low, high = axes.get_ylim()
    x = 1 + (0.28 if is_top else 0.72) * (len(rows) - 1)
    for line, i in enumerate(index):
        gene, subspace, r = str(rows.loc[i, "gene"]), str(rows.loc[i, "subspace"]), float(rows.loc[i, "r"])
        from_edge = (line + 0.6) * LINE_HEIGHT * (high - low)
        axes.annotate(
            gene, (i + 1, r), (x, high - from_edge if is_top else low + from_edge), ha="left" if is_top else "right",
            va="center", fontsize=8, arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 0},
        )  # fmt: skip
        gid = f"gene-{subspace}-{i}"
        limits = f"{number(rows.loc[i, 'low'])} to {number(rows.loc[i, 'high'])}"
        tooltips[gid] = f"{gene} ({SUBSPACE_NAMES.get(subspace, subspace)}): {number(r)} ({limits})"
        axes.plot(i + 1, r, "o", color=SUBSPACE_COLOR.get(subspace, INK), markersize=4.5, gid=gid)
