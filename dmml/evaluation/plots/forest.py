"""Forest plots: estimates with intervals, one row per model or comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dmml.evaluation import interval_settings
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, DASHED, INK, MUTED, PALETTE, new_figure, style
from dmml.evaluation.report.formatting import minus_signs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_HEIGHT = 0.36
"""Height of a row in inches."""
WIDTH = 4.7
"""Width in inches, narrow enough to be legible on a phone."""
BEST_POSSIBLE = "best possible"
"""Row of the true risk of a simulated cohort, which is drawn in grey."""
_MARK_DISTANCE = 0.22
"""Vertical distance between marks of one row, in rows."""


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

    @classmethod
    def of(
        cls, entry: Mapping[str, Any], name: str, key: str = "value", color: str = BLUE, hollow: bool = False
    ) -> Mark:
        """Make a mark of {value, low, high}, the form of `metrics.json` and `crossval.json`."""
        interval = "" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})"
        tooltip = minus_signs(f"{name}: {entry[key]:.3f}{interval}")
        return cls(entry[key], entry["low"], entry["high"], tooltip, color, hollow)


class LegendEntry(NamedTuple):
    """An entry of a forest plot's legend."""

    name: str
    color: str
    hollow: bool = False


def forest_plot(
    name: str,
    rows: Sequence[tuple[str, Sequence[Mark]]],
    title: str,
    label: str,
    reference: float | None,
    caption: str,
    legend: Sequence[LegendEntry] = (),
    show_values: bool = True,
) -> Plot:
    """Draw a forest plot.

    Args:
        name: Name of the plot's files.
        rows: (label, marks from top to bottom) of each row.
        title: Title of the plot.
        label: Label of the axis.
        reference: Position of the dashed line, which marks chance or no difference; None draws none.
        caption: Text below the plot.
        legend: Entries of the legend; none draws no legend.
        show_values: Whether to write each value above its mark, in rows of one mark.
    """
    tooltips: dict[str, str] = {}
    with style():
        height = 0.75 + ROW_HEIGHT * len(rows) + (0.3 if legend else 0)
        figure, axes = new_figure(width=WIDTH, height=max(height, 1.6))
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=1, linestyle=DASHED)
        for index, (_, marks) in enumerate(rows):
            for position, mark in enumerate(marks):
                offset = _MARK_DISTANCE * (position - (len(marks) - 1) / 2) if len(marks) > 1 else 0
                gid = f"{name}-{index}-{position}"
                tooltips[gid] = mark.tooltip
                _draw_mark(axes, mark, -index - offset, gid)
                if show_values and len(marks) == 1:
                    _write_value(axes, mark, -index)
        axes.set_yticks([-index for index in range(len(rows))], [text for text, _ in rows])
        axes.set(ylim=(-len(rows) + 0.4, 0.75), xlabel=label)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=6)
        if legend:
            _add_legend(figure, legend)
    values = "; ".join(mark.tooltip for _, marks in rows for mark in marks)
    return Plot(name, title, figure, caption, f"{label}: {values}", tooltips)


def _draw_mark(axes: Axes, mark: Mark, y: float, gid: str) -> None:
    if mark.low is not None and mark.high is not None:
        width = 1.4 if mark.hollow else 2.2
        ends = [mark.low, mark.high]
        axes.plot(ends, [y, y], gid=f"{gid}-interval", color=mark.color, linewidth=width, solid_capstyle="round")
    face = "none" if mark.hollow else mark.color
    axes.plot(mark.value, y, "o", color=mark.color, markerfacecolor=face, markersize=6, gid=gid)


def _write_value(axes: Axes, mark: Mark, y: float) -> None:
    text = minus_signs(f"{mark.value:.2f}")
    axes.annotate(text, (mark.value, y), xytext=(0, 5), textcoords="offset points", ha="center", color=INK, fontsize=8)


def _add_legend(figure: Figure, legend: Sequence[LegendEntry]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for name, color, hollow in legend:
        face = "none" if hollow else color
        handles.append(Line2D([], [], marker="o", linestyle="none", color=color, markerfacecolor=face, label=name))
    columns = len(handles) if len(handles) < 4 else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.2)


def models_forest(
    rows: Sequence[tuple[str, Mapping[str, Any]]], title: str, label: str, chance: float | None
) -> Plot | None:
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
    marks = []
    for index, (name, entry) in enumerate(rows):
        color = MUTED if name.startswith(BEST_POSSIBLE) else PALETTE[index % len(PALETTE)]
        marks.append((name, [Mark.of(entry, name, color=color)]))
    dashed = "" if chance is None else f" Dashed: chance ({chance:g})."
    caption = (
        f"{label[0].upper()}{label[1:]}, with {interval_settings.level_text()} patient-bootstrap intervals.{dashed}"
    )
    return forest_plot("models", marks, title, label, chance, caption)


def differences_forest(
    rows: Sequence[tuple[str, Mapping[str, Any]]], label: str, title: str = "Paired differences"
) -> Plot | None:
    """Plot comparisons around 0, coloured if they exclude it after adjustment; None if no difference is defined.

    Args:
        rows: (name, {difference, low, high, p}), with p adjusted.
        label: Label of the axis.
        title: Title of the plot.
    """
    marks = []
    for name, row in rows:
        if row["difference"] is not None:
            clear = _is_clear(row)
            mark = Mark.of(row, name, "difference", color=BLUE if clear else MUTED, hollow=not clear)
            marks.append((name, [mark]))
    if not marks:
        return None
    caption = (
        f"The first minus the second on the same patients, with {interval_settings.level_text()} intervals. Filled blue: the "
        f"interval excludes 0 and the adjusted p is below {interval_settings.alpha():g}."
    )
    return forest_plot("differences", marks, title, label, 0.0, caption, show_values=False)


def _is_clear(row: Mapping[str, Any]) -> bool:
    """Whether a difference excludes 0 after adjustment."""
    excludes_zero = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
    return bool(excludes_zero and (row["p"] is None or row["p"] < interval_settings.alpha()))
