"""What a picture on a page answers to the pointer: words over a mark, values along a curve, layers to choose from."""

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
    """A curve whose values are read off: `x` and `y` (K,) in the axes' units.

    Attributes:
        name: Of the curve.
        x: Increasing.
        y: Values.
        step: Holds its value until the next `x`, as Kaplan–Meier curves do; else the nearest point is read.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    step: bool = False


@dataclass(frozen=True)
class Readout:
    """The curves of one pair of axes, so that a page can say their values under the pointer.

    Attributes:
        axes: Where they are drawn.
        at: What stands before the values, {} being the place on the horizontal axis: "{} years", "epoch {}".
        lines: The curves.
    """

    axes: Axes
    at: str
    lines: Sequence[Line]

    def told(self) -> str:
        """JSON for the page: the axes' box in shares of the picture (top left is 0), their range, and the points.

        The figure must have been drawn before: a constrained layout is known only then.
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
    """SVG whose marks say something under the pointer, and belong to layers that can be switched.

    Args:
        svg: As matplotlib writes it.
        words: {id given to an artist: text}.
        layers: {id given to an artist: name of its layer}.
    """

    def opened(match: re.Match[str]) -> str:
        name = match[1]
        layer = f' data-layer="{escape(layers[name])}"' if name in layers else ""
        title = f"<title>{escape(words[name])}</title>" if name in words else ""
        return f'<g id="{name}"{layer}>{title}' if layer or title else match[0]

    return re.sub(r'<g id="([^"]+)">', opened, svg)


def _short(values: NDArray) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in np.asarray(values, float)]
