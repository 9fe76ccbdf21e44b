"""Flow diagram of patients, from the clinical table to the parts of a fold, with those left out at each step.

The form is that of the STARD 2015 and TRIPOD diagrams: a box per step, and beside each arrow those who leave there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dmml.evaluation.plots.plot import Plot, file_name
from dmml.evaluation.plots.style import BLUE, INK, MUTED, blank_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 300.0
"""Width in points; narrow, so that the text stays legible where a phone scales the diagram down."""
_LINE, _PADDING, _GAP = 12.0, 7.0, 20.0
"""Height of a line, space around the text of a box, and length of an arrow, in points."""
_MAIN, _SIDE = 0.5, 0.44
"""Widths of the boxes of steps, and of those left out, as shares of the diagram's width."""
_TRUNK = 1 + _MAIN * WIDTH / 2
"""Horizontal position of the line that leads from step to step."""
_SIZE = 8.5
_POINTS_PER_CHARACTER = 5.1


def flow_plot(flow: Mapping[str, Any], name: str, title: str) -> Plot:
    """Draw the flow of patients.

    Args:
        flow: Content of `flow` in `context.json` or in a run's `provenance.json`: {cohort, fold, steps, parts}.
        name: Name of the plot's files.
        title: Title of the plot.

    Raises:
        KeyError: The flow lacks a key.
        TypeError: A part of it has another form.
    """
    steps = [(_step_text(step, flow), _left_out_text(step)) for step in flow["steps"]]
    parts = [_part_text(part, len(flow["parts"])) for part in flow["parts"]]
    heights = [_step_height(*texts) for texts in steps]
    bottom = max(map(_box_height, parts))
    total = sum(heights) + _GAP + bottom + 4
    with style():
        figure, axes = blank_figure(WIDTH / 72, total / 72)
        axes.set(xlim=(0, WIDTH), ylim=(0, total))
        top = total - 2
        for (text, left_out), height in zip(steps, heights, strict=True):
            _draw_step(axes, text, left_out, top, height)
            top -= height
            if top > bottom + _GAP + 3:  # another step follows
                _arrow(axes, (_TRUNK, top + 1), (_TRUNK, top))
        _draw_parts(axes, parts, top)
    return Plot(file_name(name), title, figure, "", f"{title}. {_sentence(flow)}")


def _step_text(step: Mapping[str, Any], flow: Mapping[str, Any]) -> list[str]:
    cohort = f" of {flow['cohort']}" if step is flow["steps"][0] else ""
    return [f"{step['n']} patients", *_wrapped(f"{step['name']}{cohort}", _MAIN * WIDTH)]


def _left_out_text(step: Mapping[str, Any]) -> list[str]:
    return [line for each in step["left_out"] for line in _wrapped(f"{each['n']} {each['reason']}", _SIDE * WIDTH)]


def _part_text(part: Mapping[str, Any], n_parts: int) -> list[str]:
    counts = [f"{n} {name}" for name, n in part["counts"].items()]
    width = WIDTH / n_parts - 8
    return [str(part["name"]), f"{part['n']} patients", *(line for count in counts for line in _wrapped(count, width))]


def _wrapped(text: str, width: float) -> list[str]:
    characters = int((width - 2 * _PADDING) / _POINTS_PER_CHARACTER)
    return textwrap.wrap(text, max(characters, 8)) or [""]


def _box_height(lines: Sequence[str]) -> float:
    return len(lines) * _LINE + 2 * _PADDING


def _step_height(text: Sequence[str], left_out: Sequence[str]) -> float:
    """Height of a box and of the arrow below it, which is long enough for the box of those left out."""
    return _box_height(text) + (_box_height(left_out) + _GAP if left_out else _GAP)


def _draw_step(axes: Axes, text: Sequence[str], left_out: Sequence[str], top: float, height: float) -> None:
    _box(axes, 1, top, _MAIN * WIDTH, text)
    box_bottom = top - _box_height(text)
    axes.plot([_TRUNK, _TRUNK], [box_bottom, top - height], color=MUTED, linewidth=1)
    if left_out:
        middle = (box_bottom + top - height) / 2
        left = (1 - _SIDE) * WIDTH - 1
        _arrow(axes, (_TRUNK, middle), (left, middle))
        _box(axes, left, middle + _box_height(left_out) / 2, _SIDE * WIDTH, left_out, is_step=False)


def _draw_parts(axes: Axes, parts: Sequence[Sequence[str]], top: float) -> None:
    """Draw the boxes of the parts in a row, below a line from which an arrow leads to each of them."""
    width = WIDTH / len(parts) - (8 if len(parts) > 1 else WIDTH - _MAIN * WIDTH)
    lefts = [1 + index * (WIDTH - 2) / len(parts) + (4 if len(parts) > 1 else 0) for index in range(len(parts))]
    centres = [left + width / 2 for left in lefts]
    ends = [*centres, _TRUNK]
    axes.plot([min(ends), max(ends)], [top, top], color=MUTED, linewidth=1)
    height = max(map(_box_height, parts))
    for left, centre, text in zip(lefts, centres, parts, strict=True):
        _arrow(axes, (centre, top), (centre, top - _GAP))
        _box(axes, left, top - _GAP, width, text, height=height)


def _box(
    axes: Axes,
    left: float,
    top: float,
    width: float,
    text: Sequence[str],
    is_step: bool = True,
    height: float | None = None,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    height = _box_height(text) if height is None else height
    shape = FancyBboxPatch((left, top - height), width, height, boxstyle="round,pad=0,rounding_size=4")
    shape.set(facecolor=BLUE if is_step else "none", edgecolor="none", alpha=0.1)
    border = FancyBboxPatch((left, top - height), width, height, boxstyle="round,pad=0,rounding_size=4")
    border.set(facecolor="none", edgecolor=BLUE if is_step else MUTED, linewidth=1)
    axes.add_patch(shape)
    axes.add_patch(border)
    for index, line in enumerate(text):
        y = top - _PADDING - (index + 0.5) * _LINE
        weight = "bold" if is_step and index == 0 else "normal"
        axes.text(left + _PADDING, y, line, va="center", fontsize=_SIZE, color=INK, weight=weight)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": MUTED, "shrinkA": 0, "shrinkB": 0, "linewidth": 1})  # fmt: skip


def _sentence(flow: Mapping[str, Any]) -> str:
    """The diagram in words, for readers who cannot see it."""
    texts = []
    for step in flow["steps"]:
        left_out = "".join(f"; left out: {each['n']} {each['reason']}" for each in step["left_out"])
        texts.append(f"{step['n']} patients {step['name']}{left_out}")
    for part in flow["parts"]:
        counts = ", ".join(f"{n} {name}" for name, n in part["counts"].items())
        texts.append(f"{part['name']}: {part['n']} patients, {counts}")
    return ". ".join(texts)
