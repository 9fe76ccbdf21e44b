"""ROC and precision–recall curves with bands, of classes and of survival up to the horizons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation import interval_settings
from dmml.evaluation.bootstrap import Band, Interval, weighted_band, weighted_interval
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import DASHED, PALETTE, new_figure, style, zero_to_one
from dmml.evaluation.report.formatting import number
from dmml.evaluation.statistics.curves.separation import GRID, Separation
from dmml.evaluation.statistics.weighted import pair_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import LineStyleType

_DASHES: Sequence[LineStyleType] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
"""Line styles, so that the curves are distinguishable without their colours, too."""
_Points = Callable[[Separation], tuple[NDArray, NDArray]]


def roc_plot(separations: Mapping[str, Separation], weights: NDArray, caption: str) -> Plot | None:
    """Plot ROC curves with bands, and the areas under them; None if no curve is defined.

    Args:
        separations: {name: how the score separates its cases from its controls}.
        weights: (R, n) bootstrap resamples.
        caption: Text about cases and controls, put before the text about bands.
    """
    return _plot("roc", "ROC curves", separations, weights, caption)


def precision_plot(separations: Mapping[str, Separation], weights: NDArray, caption: str) -> Plot | None:
    """Plot precision against recall with bands, and the average precision; None if no curve is defined.

    Args:
        separations: See `roc_plot`.
        weights: See `roc_plot`.
        caption: See `roc_plot`.
    """
    return _plot("precision_recall", "Precision and recall", separations, weights, caption)


def _plot(kind: str, title: str, separations: Mapping[str, Separation], weights: NDArray, caption: str) -> Plot | None:
    defined = {name: separation for name, separation in separations.items() if separation.is_defined}
    if not defined:
        return None
    layers: dict[str, str] = {}
    areas = []
    with style():
        figure, axes = new_figure(height=4.3)
        zero_to_one(axes)
        for index, (name, separation) in enumerate(defined.items()):
            curve = separation.roc if kind == "roc" else separation.precision
            area = pair_share([separation.pairs]) if kind == "roc" else separation.average_precision
            areas.append(f"{name}: {_with_limits(weighted_interval(area, weights))}")
            points = _roc_points if kind == "roc" else _precision_points
            _draw(axes, f"{kind}-{index}", index, separation, points, weighted_band(curve, weights), areas[-1])
            layers |= {f"{kind}-{index}-{part}": name for part in ("curve", "band", "chance")}
            if kind != "roc":
                _draw_prevalence(axes, f"{kind}-{index}-chance", index, separation)
        if kind == "roc":
            axes.set(xlabel="false positive rate", ylabel="true positive rate")
        else:
            axes.lines[0].remove()  # the diagonal, which means nothing here
            axes.set(xlabel="recall", ylabel="precision")
        legend_title = "AUC" if kind == "roc" else "average precision"
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), title=legend_title, fontsize=8)
    undefined = [name for name in separations if name not in defined]
    chance = "Dashed: chance." if kind == "roc" else "Thin lines: chance, the share of cases."
    bands = f"Bands and intervals: {interval_settings.level_text()}, pointwise."
    absent = f" No curve for {', '.join(undefined)}, without cases or without controls." if undefined else ""
    alt = f"{title}. {legend_title}: {'; '.join(areas)}"
    return Plot(kind, title, figure, f"{caption} {chance} {bands}{absent}", alt, layers=layers)


def _draw(axes: Axes, gid: str, index: int, separation: Separation, points: _Points, band: Band, label: str) -> None:
    color, dashes = PALETTE[index % len(PALETTE)], _DASHES[index % len(_DASHES)]
    x, y = points(separation)
    axes.plot(x, y, color=color, linestyle=dashes, label=label, gid=f"{gid}-curve")
    area = axes.fill_between(GRID, band.low, band.high, color=color, alpha=0.13, linewidth=0, zorder=1)
    area.set_gid(f"{gid}-band")


def _roc_points(separation: Separation) -> tuple[NDArray, NDArray]:
    return separation.roc_points()


def _precision_points(separation: Separation) -> tuple[NDArray, NDArray]:
    """Corners of the steps of precision over recall, from the first case on."""
    recall, precision = separation.precision_points()
    recall, precision = recall[recall > 0], precision[recall > 0]
    # A recall is reached at several thresholds; the highest of them has the best precision.
    first = np.append(True, np.diff(recall) > 0)
    recall, precision = recall[first], precision[first]
    return np.append(0, np.repeat(recall, 2)[:-1]), np.repeat(precision, 2)


def _draw_prevalence(axes: Axes, gid: str, index: int, separation: Separation) -> None:
    share = separation.case_weight.sum() / (separation.case_weight.sum() + separation.is_control.sum())
    color = PALETTE[index % len(PALETTE)]
    axes.axhline(share, color=color, linewidth=0.8, linestyle=DASHED, gid=gid, zorder=1)


def _with_limits(area: Interval) -> str:
    limits = "" if np.isnan(area.low) else f" ({number(area.low)}–{number(area.high)})"
    return f"{number(area.value)}{limits}"
