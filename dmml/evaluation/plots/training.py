"""Plot the `metrics.csv` of a run: losses, validation metrics, and the gradient coordination of the two subspaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dmml.errors import InputError
from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.plots.readout import Line, Readout
from dmml.evaluation.plots.style import BLUE, PALETTE, SUBSPACE_COLOR, VERMILLION, small_figure, style
from dmml.evaluation.report.text.metric_names import metric_name

COORDINATION = ("conflict", "cosine", "confidence")
"""Words that mark a column as a diagnostic of gradient coordination."""
SHARES = ("deep_share",)
"""Quantities from 0 to 1, drawn over that whole range, so that a share that stays at 0 is visible as 0."""
VALIDATION_DASHES = (0, (4, 1.5))
"""Line style of validation curves, so that they are distinguishable from training curves without colour, too."""
_COLOR = {"train": BLUE, "val": VERMILLION, **SUBSPACE_COLOR}
_DASHES = {"val": VALIDATION_DASHES, "tme": VALIDATION_DASHES}
_LABEL = {"train": "training", "val": "validation", "tme": "TME"}


def training_series(path: Path) -> dict[str, pd.Series]:
    """{column: values by epoch} from the sparse rows of Lightning's CSVLogger, averaged over the steps of an epoch.

    Epochs count from 1, as in the lines that training prints; the file counts from 0. Columns logged per step and per
    epoch keep the value of the epoch; the columns `epoch` and `step` are left out.

    Raises:
        InputError: The file is damaged.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return {}
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read as a table ({error}); remove it to make the report without training curves"
        ) from None
    if "epoch" not in table:
        return {}
    table["epoch"] = pd.to_numeric(table["epoch"], errors="coerce")
    series = {}
    for column in table.columns.drop(["epoch", "step"], errors="ignore"):
        if column.endswith("_step") and f"{column.removesuffix('_step')}_epoch" in table:
            continue
        values = pd.to_numeric(table[column], errors="coerce")
        by_epoch = values.groupby(table["epoch"]).mean().dropna()
        if len(by_epoch):
            series[column.removesuffix("_epoch")] = by_epoch.set_axis(by_epoch.index.astype(int) + 1)
    return series


def training_plots(path: Path) -> tuple[list[Plot], list[Plot]]:
    """Small plots with one quantity each: (training and validation, gradient coordination)."""
    series = {name: values for name, values in training_series(path).items() if not name.startswith("test")}
    coordination = {name for name in series if any(word in name.lower() for word in COORDINATION)}
    panels: dict[str, dict[str, pd.Series]] = {}
    for name in series:
        if name not in coordination:
            stage, _, quantity = name.partition("/") if "/" in name else ("", "", name)
            panels.setdefault(quantity, {})[stage or name] = series[name]
    shared: dict[str, dict[str, pd.Series]] = {}
    for name in sorted(coordination):
        word = next(word for word in COORDINATION if word in name.lower())
        shared.setdefault(word, {})[_short(name, word)] = series[name]
    # Quantities with a validation curve come first, because they show how good the training is.
    ordered = sorted(panels.items(), key=lambda item: (item[0] != "loss", "val" not in item[1]))
    return (
        [_panel(quantity, lines) for quantity, lines in ordered],
        [_panel(word, lines) for word, lines in shared.items()],
    )


def _short(name: str, word: str) -> str:
    """Name of a line in the panel of `word`: coordination/conflict_rate_10 → 10."""
    rest = re.sub(rf"^(train|coordination)/|{word}|rate", "", name, flags=re.IGNORECASE)
    return re.sub(r"[\s_/]+", " ", rest).strip() or word


def _panel(quantity: str, lines: Mapping[str, pd.Series]) -> Plot:
    """Plot one quantity by epoch, with a line per stage or subspace."""
    with style():
        figure, axes = small_figure()
        for color, (name, values) in zip(PALETTE * 4, lines.items(), strict=False):
            axes.plot(
                values.index,
                values,
                marker="o" if len(values) < 12 else None,
                markersize=3,
                color=_COLOR.get(name, color),
                linestyle=_DASHES.get(name, "-"),
                label=_LABEL.get(name, name),
            )
        axes.set_title(metric_name(quantity)[0].replace("_", " "))
        axes.set_xlabel("epoch")
        if quantity in SHARES:
            axes.set_ylim(-0.04, 1.04)
        axes.locator_params(axis="x", integer=True)
        if len(lines) > 1:
            axes.legend()
    curves = [
        Line(_LABEL.get(name, name), values.index.to_numpy(float), values.to_numpy(float))
        for name, values in lines.items()
    ]
    last = ", ".join(f"{curve.name} {curve.y[-1]:.3g}" for curve in curves)
    alt = f"{quantity} by epoch; at the end: {last}"
    return Plot(file_name(f"training_{quantity}"), quantity, figure, alt=alt, readout=Readout(axes, "epoch {}", curves))
