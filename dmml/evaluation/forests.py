"""Forest plots: estimates with intervals, one row a model or a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmml.evaluation.plots import BLUE, INK, MUTED, PALETTE, Picture, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.36
"""Inches a row."""
WIDTH = 4.7
"""Inches: narrow enough to be read on a phone."""


@dataclass(frozen=True)
class Mark:
    """An estimate with its interval.

    Attributes:
        value: The estimate.
        low: Lower end; None where there is no interval.
        high: Upper end.
        words: What it says under the pointer.
        color: Of the mark.
        hollow: Drawn as a ring, not as a disc.
    """

    value: float
    low: float | None
    high: float | None
    words: str
    color: str = BLUE
    hollow: bool = False


def mark_of(entry: Mapping[str, Any], name: str, key: str = "value", **look: Any) -> Mark:
    """The mark of {value, low, high}, as `metrics.json` and `crossval.json` have it."""
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
) -> Picture:
    """Rows of marks.

    Args:
        name: Of the picture's files.
        rows: (label, marks from top to bottom).
        title: Of the picture.
        label: Of the axis.
        reference: Where a dashed line stands: chance, or no difference.
        caption: Below.
        legend: (name, colour, hollow).
        numbers: Write each value above its mark.
    """
    words: dict[str, str] = {}
    with style():
        height = 0.75 + ROW * len(rows) + (0.3 if legend else 0)
        figure, axes = new_figure(width=WIDTH, height=max(height, 1.6))
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for index, (_, marks) in enumerate(rows):
            for place, mark in enumerate(marks):
                y = -index - (0.22 * (place - (len(marks) - 1) / 2) if len(marks) > 1 else 0)
                gid = f"{name}-{index}-{place}"
                words[gid] = mark.words
                _draw(axes, mark, y, gid, numbers and len(marks) == 1)
        axes.set_yticks([-index for index in range(len(rows))], [text for text, _ in rows])
        axes.set(ylim=(-len(rows) + 0.4, 0.75), xlabel=label)
        axes.grid(axis="y", visible=False)
        axes.xaxis.get_major_locator().set_params(nbins=6)
        if legend:
            _explain(figure, legend)
    told = "; ".join(mark.words for _, marks in rows for mark in marks)
    return Picture(name, title, caption, f"{label}: {told}", figure, words)


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


def models_forest(rows: Sequence[tuple[str, dict]], title: str, label: str, chance: float | None) -> Picture | None:
    """Models by one metric with the best possible in grey; None where fewer than two have a value.

    Args:
        rows: (name, metric entry {value, low, high}).
        title: Of the picture.
        label: Of the axis.
        chance: Where a line is drawn.
    """
    rows = [(name, entry) for name, entry in rows if entry.get("value") is not None]
    if len(rows) < 2:
        return None
    marks = [
        (name, [mark_of(entry, name, color=MUTED if name.startswith("best possible") else PALETTE[i % len(PALETTE)])])
        for i, (name, entry) in enumerate(rows)
    ]
    dashed = "" if chance is None else f" Dashed: chance ({chance:g})."
    caption = f"{label[0].upper()}{label[1:]}, with 95 % patient-bootstrap intervals.{dashed}"
    return forest("models", marks, title, label, chance, caption)


def differences_forest(
    rows: Sequence[tuple[str, Mapping[str, Any]]], label: str, title: str = "Paired differences"
) -> Picture | None:
    """Comparisons around 0, in colour where they leave it after adjustment; None where none is defined.

    Args:
        rows: (name, {difference, low, high, p}, p being the adjusted one).
        label: Of the axis.
        title: Of the picture.
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
        "The first minus the second on the same patients, with 95 % intervals. Filled blue: the interval leaves 0 out and "
        "the adjusted p is below 0.05."
    )
    return forest("differences", marks, title, label, 0.0, caption, numbers=False)


def _told_apart(row: Mapping[str, Any]) -> bool:
    apart = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
    return bool(apart and (row["p"] is None or row["p"] < 0.05))
