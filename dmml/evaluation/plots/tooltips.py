"""Interaction of plots on a page: tooltips of marks, values along a curve, and layers to choose from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Line:
    """A curve whose values can be read off; `x` and `y` (K,) are in the axes' units.

    Attributes:
        name: Name of the curve.
        x: Positions, increasing.
        y: Values.
        step: Whether a value holds until the next `x`, as in Kaplan–Meier curves; otherwise the nearest point is read.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    step: bool = False


@dataclass(frozen=True)
class Readout:
    """The curves of one pair of axes, whose values a page displays at the pointer.

    Attributes:
        axes: Axes that the curves are drawn on.
        at: Text before the values, in which {} is the horizontal position: "{} years", "epoch {}".
        lines: The curves.
    """

    axes: Axes
    at: str
    lines: Sequence[Line]

    def told(self) -> str:
        """JSON for the page: box of the axes in shares of the plot (top left is 0), their range, and the points.

        The figure must have been drawn before, because a constrained layout is known only then.
        """
        box = self.axes.get_position()
        return json.dumps(
            {
                "box": [round(float(value), 4) for value in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
                "range": [float(value) for value in self.axes.get_xlim()],
                "at": self.at,
                "lines": [
                    {"name": line.name, "step": line.step, "x": _short(line.x), "y": _short(line.y)}
                    for line in self.lines
                ],
            }
        )


def with_words(svg: str, words: Mapping[str, str], layers: Mapping[str, str]) -> str:
    """Add tooltips to the marks of an SVG, and assign marks to layers that can be switched.

    Args:
        svg: SVG written by matplotlib.
        words: {id of an artist: text of its tooltip}.
        layers: {id of an artist: name of its layer}.
    """

    def opened(match: re.Match[str]) -> str:
        name = match[1]
        layer = f' data-layer="{escape(layers[name])}"' if name in layers else ""
        title = f"<title>{escape(words[name])}</title>" if name in words else ""
        return f'<g id="{name}"{layer}>{title}' if layer or title else match[0]

    return re.sub(r'<g id="([^"]+)">', opened, svg)


def _short(values: NDArray) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in np.asarray(values, float)]
