"""Forest plots: estimates with intervals, one row per model or comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, INK, MUTED, PALETTE, new_figure, style
from dmml.evaluation.statistics import intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.36
"""Height of a row in inches."""
WIDTH = 4.7
"""Width in inches, narrow enough to be legible on a phone."""


@dataclass(frozen=True)
class Mark:
    """An estimate with its interval.

    Attributes:
        value: The estimate.
        low: Lower limit; None without an interval.
        high: Upper limit.
        tooltip: Text of the tooltip.
        color: Colour of the mark.
        hollow: Whether the mark is drawn as a ring instead of a disc.
    """

    value: float
    low: float | None
    high: float | None
    tooltip: str
    color: str = BLUE
    hollow: bool = False


def mark_of(entry: Mapping[str, Any], name: str, key: str = "value", **look: Any) -> Mark:
    """Build a mark from {value, low, high}, the form of `metrics.json` and `crossval.json`."""
    interval = "" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})"
    return Mark(
        entry[key], entry["low"], entry["high"], f"{name}: {entry[key]:.3f}{interval}".replace("-", "−"), **look
    )


def forest(
    name: str,
    rows: Sequence[tuple[str, Sequence[Mark]]],
    title: str,
    label: str,
    reference: float | None,
    caption: str,
    legend: Sequence[tuple[str, str, bool]] = (),
    numbers: bool = True,
) -> Plot:
    """Draw a forest plot.

    Args:
        name: Name of the plot's files.
        rows: (label, marks from top to bottom) of each row.
        title: Title of the plot.
        label: Label of the axis.
        reference: Position of the dashed line, which marks chance or no difference; None draws none.
        caption: Text below the plot.
        legend: (name, colour, hollow) of each entry.
        numbers: Whether to write each value above its mark.
    """
    tooltips: dict[str, str] = {}
    with style():
        height = 0.75 + ROW * len(rows) + (0.3 if legend else 0)
        figure, axes = new_figure(width=WIDTH, height=max(height, 1.6))
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for index, (_, marks) in enumerate(rows):
            for place, mark in enumerate(marks):
                y = -index - (0.22 * (place - (len(marks) - 1) / 2) if len(marks) > 1 else 0)
                gid = f"{name}-{index}-{place}"
                tooltips[gid] = mark.tooltip
                _draw(axes, mark, y, gid, numbers and len(marks) == 1)
        axes.set_yticks([-index for index in range(len(rows))], [text for text, _ in rows])
        axes.set(ylim=(-len(rows) + 0.4, 0.75), xlabel=label)
        axes.grid(axis="y", visible=False)
        axes.xaxis.get_major_locator().set_params(nbins=6)
        if legend:
            _explain(figure, legend)
    told = "; ".join(mark.tooltip for _, marks in rows for mark in marks)
    return Plot(name, title, figure, caption, f"{label}: {told}", tooltips)


def _draw(axes: Axes, mark: Mark, y: float, gid: str, number: bool) -> None:
    face = "none" if mark.hollow else mark.color
    if mark.low is not None:
        ends = {"color": mark.color, "linewidth": 1.4 if mark.hollow else 2.2, "solid_capstyle": "round"}
        axes.plot([mark.low, mark.high], [y, y], gid=f"{gid}-interval", **ends)
    axes.plot(mark.value, y, "o", color=mark.color, markerfacecolor=face, markersize=6, gid=gid)
    if number:
        where = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{mark.value:.2f}".replace("-", "−"), (mark.value, y), color=INK, fontsize=8, **where)


def _explain(figure: Any, legend: Sequence[tuple[str, str, bool]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], marker="o", linestyle="none", color=color, markerfacecolor="none" if hollow else color, label=name
        )
        for name, color, hollow in legend
    ]
    columns = len(handles) if len(handles) < 4 else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.2)


def models_forest(rows: Sequence[tuple[str, dict]], title: str, label: str, chance: float | None) -> Plot | None:
    """Plot models by one metric, with the best possible in grey; None if fewer than two have a value.

    Args:
        rows: (name, metric entry {value, low, high}).
        title: Title of the plot.
        label: Label of the axis.
        chance: Value of the metric by chance, marked by a line; None draws none.
    """
    rows = [(name, entry) for name, entry in rows if entry.get("value") is not None]
    if len(rows) < 2:
        return None
    marks = [
        (name, [mark_of(entry, name, color=MUTED if name.startswith("best possible") else PALETTE[i % len(PALETTE)])])
        for i, (name, entry) in enumerate(rows)
    ]
    dashed = "" if chance is None else f" Dashed: chance ({chance:g})."
    caption = f"{label[0].upper()}{label[1:]}, with {intervals.level_text()} patient-bootstrap intervals.{dashed}"
    return forest("models", marks, title, label, chance, caption)


def differences_forest(
    rows: Sequence[tuple[str, Mapping[str, Any]]], label: str, title: str = "Paired differences"
) -> Plot | None:
    """Plot comparisons around 0, coloured if they exclude it after adjustment; None if no difference is defined.

    Args:
        rows: (name, {difference, low, high, p}), with p adjusted.
        label: Label of the axis.
        title: Title of the plot.
    """
    rows = [(name, row) for name, row in rows if row["difference"] is not None]
    if not rows:
        return None
    marks = [
        (
            name,
            [mark_of(row, name, "difference", color=BLUE if _told_apart(row) else MUTED, hollow=not _told_apart(row))],
        )
        for name, row in rows
    ]
    caption = (
        f"The first minus the second on the same patients, with {intervals.level_text()} intervals. Filled blue: the interval leaves 0 out and "
        "the adjusted p is below 0.05."
    )
    return forest("differences", marks, title, label, 0.0, caption, numbers=False)


def _told_apart(row: Mapping[str, Any]) -> bool:
    apart = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
    return bool(apart and (row["p"] is None or row["p"] < 0.05))
