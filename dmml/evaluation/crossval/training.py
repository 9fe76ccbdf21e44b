"""Training curves of a cross-validation: each network in every fold, with the chosen epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dmml.evaluation.crossval.results import CrossvalResult
from dmml.evaluation.crossval.text import label, unit_words
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, INK, VERMILLION, new_figure, style
from dmml.evaluation.plots.training import training_series
from dmml.evaluation.report.formatting import percent
from dmml.evaluation.report.text.findings import metric_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_PANELS = 10
COLUMNS = 2
"""Panels per row; more would be unreadable on a phone."""
_LOG_FROM = 20.0
"""Ratio of largest to smallest loss above which the axis is logarithmic: a diverged fold must not flatten others."""


@dataclass(frozen=True)
class FoldCurve:
    """Training curve of one network in one fold.

    Attributes:
        name: Name of the fold.
        value: Primary metric on the test patients of the fold; None if undefined.
        apart: Whether the fold is an outlier, see `outlying_folds`.
        training: Training loss, indexed by epoch, from 1.
        validation: Validation loss, with the same index.
        chosen: The chosen epoch, from 1; None if unknown.
        deep_share: Share of the deep part at that epoch; None if unknown or without a backbone.
    """

    name: str
    value: float | None
    apart: bool
    training: pd.Series
    validation: pd.Series
    chosen: int | None
    deep_share: float | None = None

    def tooltip(self, metric: str) -> str:
        """Text of the tooltip."""
        found = [self.name]
        if self.chosen is not None and self.chosen in self.validation:
            last = int(max(self.validation.index))
            found.append(f"epoch {self.chosen} of {last} chosen, validation loss {self.validation[self.chosen]:.3f}")
        if self.deep_share is not None:
            found.append(f"the deep part counts {percent(self.deep_share)}")
        found.append(f"{metric} of the test patients {'undefined' if self.value is None else f'{self.value:.3f}'}")
        return ", ".join(found)


def training_by_model(result: CrossvalResult) -> dict[str, tuple[Plot, str]]:
    """{label of a network: (its plot, a note on fits that are not drawn)}, without networks that saved no curve."""
    found = {}
    for model in result.models:
        curves = [curve for curve in fold_curves(result, model) if len(curve.validation)]
        if curves:
            shown = curves if len(curves) <= MAX_PANELS else sorted(curves, key=lambda c: not c.apart)[:MAX_PANELS]
            left = len(curves) - len(shown)
            note = f"{left} more fits are not drawn; their curves are in metrics.csv of their folders." if left else ""
            found[label(model)] = _plot(model, shown, metric_name(result.metric)[0]), note
    return found


def fold_curves(result: CrossvalResult, model: str) -> list[FoldCurve]:
    """Training curves of a model in the order of its folds; a fold without metrics.csv has empty curves."""
    apart = {tuple(row[key] for key in ("repeat", "fold", "seed")) for row in result.outlying if row["model"] == model}
    found = []
    for unit, value in zip(result.content["units"], result.models[model][result.metric]["folds"], strict=True):
        place = result.place(unit, model)
        series = training_series(place / "metrics.csv")
        training, validation = _losses(series)
        chosen = result.context(unit, model).get("chosen_epoch")
        is_apart = (unit["repeat"], unit["fold"], unit["seed"]) in apart
        chosen = chosen + 1 if isinstance(chosen, int) else None
        shares = series.get("val/deep_share", {})
        share = float(shares[chosen]) if chosen in shares else None
        found.append(FoldCurve(unit_words(result, unit), value, is_apart, training, validation, chosen, share))
    return found


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
        size = {"width": 0.4 + 2.3 * columns, "height": 0.55 + 1.35 * rows}
        figure, axes = new_figure(rows, columns, squeeze=False, sharex=True, sharey=True, **size)
        for i, (place, curve) in enumerate(zip(axes.flat, curves, strict=False)):
            gid = f"chosen-{model}-{i}"
            _draw(place, curve, gid)
            tooltips[gid] = curve.tooltip(metric)
        for place in axes.flat[len(curves) :]:
            place.set_visible(False)
        _scale(axes.flat[0], curves)
        for place in axes[-1]:
            place.set_xlabel("epoch")
        for place in axes[:, 0]:
            place.set_ylabel("loss")
        if len(curves) % columns and rows > 1:  # this panel is above the empty one and needs tick labels
            axes[-2, -1].tick_params(labelbottom=True)
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), handletextpad=0.4)
    caption = f"Above each panel, {metric[0].lower()}{metric[1:]} of the fold's test patients."
    if any(curve.apart for curve in curves):
        caption += " In bold: an outlying fold."
    shares = [curve.deep_share for curve in curves if curve.deep_share is not None]
    if shares:
        counts = sum(share > 0 for share in shares)
        caption += (
            f" The deep part counts in {counts} of these {len(shares)} fits; in the others the backbone decides alone."
        )
    alt = "; ".join(tooltips.values())
    return Plot(f"training_{model}", f"Training: {label(model)}", figure, caption, f"{label(model)}: {alt}.", tooltips)


def _draw(axes: Axes, curve: FoldCurve, gid: str) -> None:
    single = len(curve.validation) == 1
    axes.plot(curve.training.index, curve.training, color=BLUE, marker="." if single else None, label="training")
    dashes = {"linestyle": (0, (4, 1.5)), "marker": "." if single else None}
    axes.plot(curve.validation.index, curve.validation, color=VERMILLION, label="validation", **dashes)
    if curve.chosen is not None and curve.chosen in curve.validation:
        at = curve.chosen, curve.validation[curve.chosen]
        axes.plot(*at, "o", color=INK, markersize=5.5, gid=gid, label="epoch that was chosen", linestyle="none")
    value = "undefined" if curve.value is None else f"{curve.value:.3f}"
    look = {"color": VERMILLION} if curve.apart else {"fontweight": "normal"}
    axes.set_title(f"{curve.name}: {value}", **look)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _scale(axes: Axes, curves: list[FoldCurve]) -> None:
    values = np.concatenate([part.to_numpy(float) for curve in curves for part in (curve.training, curve.validation)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > _LOG_FROM * values.min():
        axes.set_yscale("log")
