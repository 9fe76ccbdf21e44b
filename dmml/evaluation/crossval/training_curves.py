"""Training curves of a cross-validation: each network in every fold, with the chosen epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dmml.evaluation.crossval.model_names import label
from dmml.evaluation.crossval.results import CrossvalResult
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, INK, VERMILLION, new_grid, style
from dmml.evaluation.plots.training import VALIDATION_DASHES, training_series
from dmml.evaluation.report.formatting import percent
from dmml.evaluation.report.text.metric_names import metric_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_PANELS = 10
COLUMNS = 2
"""Panels per row; more would be unreadable on a phone."""
_LOG_RATIO = 20.0
"""Ratio of largest to smallest loss above which the axis is logarithmic: a diverged fold must not flatten others."""


@dataclass(frozen=True)
class FoldCurve:
    """Training curve of one network in one fold.

    Attributes:
        name: Name of the fold.
        value: Primary metric on the test patients of the fold; None if undefined.
        is_outlier: Whether the fold is an outlier, see `outlying_folds`.
        training: Training loss, indexed by epoch, from 1.
        validation: Validation loss, with the same index.
        best_epoch: The chosen epoch, from 1; None if unknown.
        deep_share: Share of the deep part at that epoch; None if unknown or without a backbone.
    """

    name: str
    value: float | None
    is_outlier: bool
    training: pd.Series
    validation: pd.Series
    best_epoch: int | None
    deep_share: float | None = None

    def tooltip(self, metric: str) -> str:
        """Text of the tooltip."""
        parts = [self.name]
        if self.best_epoch is not None and self.best_epoch in self.validation:
            last, loss = int(max(self.validation.index)), self.validation[self.best_epoch]
            parts.append(f"epoch {self.best_epoch} of {last} chosen, validation loss {loss:.3f}")
        if self.deep_share is not None:
            parts.append(f"share of the deep part {percent(self.deep_share)}")
        value = "undefined" if self.value is None else f"{self.value:.3f}"
        return ", ".join([*parts, f"{metric} of the test patients {value}"])


def training_plots_by_model(result: CrossvalResult) -> dict[str, tuple[Plot, str]]:
    """{label of a network: (its plot, a note on fits that are not drawn)}, without networks that saved no curve."""
    plots = {}
    for model in result.models:
        curves = [curve for curve in fold_curves(result, model) if len(curve.validation)]
        if curves:
            drawn = curves
            if len(curves) > MAX_PANELS:
                drawn = sorted(curves, key=lambda curve: not curve.is_outlier)[:MAX_PANELS]
            n_left = len(curves) - len(drawn)
            note = f"{n_left} more fits are not drawn; their curves are in metrics.csv of their folders."
            plots[label(model)] = (
                _plot(model, drawn, metric_name(result.metric, result.endpoint)[0]),
                note if n_left else "",
            )
    return plots


def fold_curves(result: CrossvalResult, model: str) -> list[FoldCurve]:
    """Training curves of a model in the order of its folds; a fold without metrics.csv has empty curves."""
    keys = ("repeat", "fold", "seed")
    outliers = {tuple(row[key] for key in keys) for row in result.outlying_folds if row["model"] == model}
    curves = []
    for fit, value in zip(result.fits, result.models[model][result.metric]["folds"], strict=True):
        series = training_series(result.fit_folder(fit, model) / "metrics.csv")
        training, validation = _losses(series)
        epoch = result.context(fit, model).get("chosen_epoch")  # counted from 0
        best_epoch = epoch + 1 if isinstance(epoch, int) else None
        shares = series.get("val/deep_share", {})
        share = float(shares[best_epoch]) if best_epoch in shares else None
        is_outlier = tuple(fit[key] for key in keys) in outliers
        name = result.fit_name(fit)
        curves.append(FoldCurve(name, value, is_outlier, training, validation, best_epoch, share))
    return curves


def _losses(series: Mapping[str, pd.Series]) -> tuple[pd.Series, pd.Series]:
    """Training and validation loss by epoch; if logged, only the task term of the training loss, as in validation."""
    import pandas as pd

    absent = pd.Series(dtype=float)
    return series.get("train/task", series.get("train/loss", absent)), series.get("val/loss", absent)


def _plot(model: str, curves: list[FoldCurve], metric: str) -> Plot:
    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    tooltips: dict[str, str] = {}
    with style():
        width, height = 0.4 + 2.3 * columns, 0.55 + 1.35 * rows
        figure, grid = new_grid(rows, columns, width, height, sharex=True, sharey=True)
        for index, (axes, curve) in enumerate(zip(grid.flat, curves, strict=False)):
            gid = f"chosen-{model}-{index}"
            _draw(axes, curve, gid)
            tooltips[gid] = curve.tooltip(metric)
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        _set_scale(grid[0, 0], curves)
        for axes in grid[-1]:
            axes.set_xlabel("epoch")
        for axes in grid[:, 0]:
            axes.set_ylabel("loss")
        if len(curves) % columns and rows > 1:  # this panel is above the empty one and needs tick labels
            grid[-2, -1].tick_params(labelbottom=True)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), handletextpad=0.4)
    alt = f"{label(model)}: {'; '.join(tooltips.values())}."
    return Plot(f"training_{model}", f"Training: {label(model)}", figure, _caption(curves, metric), alt, tooltips)


def _caption(curves: list[FoldCurve], metric: str) -> str:
    caption = f"Above each panel: {metric[0].lower()}{metric[1:]} of the fold's test patients."
    if any(curve.is_outlier for curve in curves):
        caption += " In bold: an outlying fold."
    shares = [curve.deep_share for curve in curves if curve.deep_share is not None]
    if shares:
        n_deep = sum(share > 0 for share in shares)
        caption += (
            f" The deep part takes part in the predictions of {n_deep} of these {len(shares)} fits; in the others the "
            "backbone predicts alone."
        )
    return caption


def _draw(axes: Axes, curve: FoldCurve, gid: str) -> None:
    marker = "." if len(curve.validation) == 1 else None
    axes.plot(curve.training.index, curve.training, color=BLUE, marker=marker, label="training")
    validation = curve.validation
    axes.plot(
        validation.index, validation, color=VERMILLION, label="validation", linestyle=VALIDATION_DASHES, marker=marker
    )
    if curve.best_epoch is not None and curve.best_epoch in validation:
        loss = validation[curve.best_epoch]
        axes.plot(
            curve.best_epoch, loss, "o", color=INK, markersize=5.5, gid=gid, label="chosen epoch", linestyle="none"
        )
    value = "undefined" if curve.value is None else f"{curve.value:.3f}"
    if curve.is_outlier:
        axes.set_title(f"{curve.name}: {value}", color=VERMILLION)
    else:
        axes.set_title(f"{curve.name}: {value}", fontweight="normal")
    axes.locator_params(axis="x", integer=True)


def _set_scale(axes: Axes, curves: list[FoldCurve]) -> None:
    """Make the axis of the losses logarithmic if they differ by more than `_LOG_RATIO`."""
    losses = np.concatenate([part.to_numpy(float) for curve in curves for part in (curve.training, curve.validation)])
    losses = losses[np.isfinite(losses)]
    if len(losses) and losses.min() > 0 and losses.max() > _LOG_RATIO * losses.min():
        axes.set_yscale("log")
