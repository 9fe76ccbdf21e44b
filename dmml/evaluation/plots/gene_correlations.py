"""Plot of the genes of each subspace, ranked by their correlation with the prediction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
MAX_DOTS = 400
"""Number of genes above which they are a line through as many of them, so that pages stay small"""
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
    color, is_dense = SUBSPACE_COLOR.get(subspace, INK), len(rows) > MAX_DOTS
    step: Literal["mid"] | None = None if is_dense else "mid"
    drawn = rows.iloc[_drawn_rows(len(rows))]
    rank = drawn.index.to_numpy() + 1
    axes.axhline(0, color=MUTED, linewidth=0.8)
    for low, high, shade, alpha in (("low", "high", color, 0.18), ("null_low", "null_high", MUTED, 0.45)):
        axes.fill_between(rank, drawn[low], drawn[high], color=shade, alpha=alpha, linewidth=0, step=step)
    axes.plot(rank, drawn["r"], "-" if is_dense else "o", color=color, markersize=3, markeredgewidth=0)
    margin = max(1.0, 0.03 * len(rows))
    axes.set_xlim(1 - margin, len(rows) + margin)
    name = SUBSPACE_NAMES.get(subspace, subspace)
    axes.set(xlabel=f"rank among {len(rows)} genes", title=f"{name} genes")
    n_top, n_bottom = min(NAMED, (len(rows) + 1) // 2), min(NAMED, len(rows) // 2)
    _name_genes(axes, rows, range(n_top), tooltips, is_top=True)
    _name_genes(axes, rows, range(len(rows) - 1, len(rows) - 1 - n_bottom, -1), tooltips, is_top=False)


def _drawn_rows(n: int) -> NDArray[np.int64]:
    """All of n ranked rows, or `MAX_DOTS` of them, which lie closer together at both ends, where ranks fall steeply."""
    if n <= MAX_DOTS:
        return np.arange(n)
    return np.unique(np.rint((n - 1) * (1 - np.cos(np.linspace(0, np.pi, MAX_DOTS))) / 2).astype(int))


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
