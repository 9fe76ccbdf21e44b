"""Plot the `metrics.csv` of a run: losses, validation metrics, and the gradient coordination of the two subspaces."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from dmml.errors import InputError
from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.plots.readout import Line, Readout
from dmml.evaluation.plots.style import BLUE, PALETTE, SUBSPACE_COLOR, VERMILLION, small_figure, style
from dmml.evaluation.report.text.findings import metric_name

COORDINATION = ("conflict", "cosine", "confidence")
"""Words that mark a column as a diagnostic of gradient coordination."""
SHARES = ("deep_share",)
"""Quantities from 0 to 1, drawn over that whole range, so that a share that stays at 0 is visible as 0."""
_COLOR = {"train": BLUE, "val": VERMILLION, **SUBSPACE_COLOR}
_DASH = {"val": (0, (4, 1.5)), "tme": (0, (4, 1.5))}
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
            f"{path} cannot be read as a table ({error}); remove it to make the report without it"
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
    rest = re.sub(rf"^(train|coordination)/|{word}|rate", "", name, flags=re.IGNORECASE)
    return re.sub(r"[\s_/]+", " ", rest).strip() or word


def _panel(title: str, lines: dict[str, pd.Series]) -> Plot:
    with style():
        figure, axes = small_figure()
        for color, (name, values) in zip(PALETTE * 4, lines.items(), strict=False):
            marker = "o" if len(values) < 12 else None
            look = {
                "color": _COLOR.get(name, color),
                "linestyle": _DASH.get(name, "-"),
                "label": _LABEL.get(name, name),
            }
            axes.plot(values.index, values, marker=marker, markersize=3, **look)
        axes.set_title(metric_name(title)[0].replace("_", " "))
        axes.set_xlabel("epoch")
        if title in SHARES:
            axes.set_ylim(-0.04, 1.04)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            axes.legend()
    lines = {_LABEL.get(name, name): values for name, values in lines.items()}
    last = ", ".join(f"{name} {values.iloc[-1]:.3g}" for name, values in lines.items())
    alt = f"{title} by epoch; at the end: {last}"
    told = [Line(name, values.index.to_numpy(float), values.to_numpy(float)) for name, values in lines.items()]
    return Plot(file_name(f"training_{title}"), title, figure, alt=alt, readout=Readout(axes, "epoch {}", told))
