"""Curves whose values a page displays at the pointer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
        heading: Text before the values, in which {} is the horizontal position: "{} years", "epoch {}".
        lines: The curves.
    """

    axes: Axes
    heading: str
    lines: Sequence[Line]

    def to_json(self) -> str:
        """Describe the curves for the page's script: box of the axes in shares of the plot (top left is 0), their range, and the points.

        The figure must have been drawn before, because a constrained layout is known only then.
        """
        box = self.axes.get_position()
        return json.dumps(
            {
                "box": [round(float(value), 4) for value in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
                "range": [float(value) for value in self.axes.get_xlim()],
                "heading": self.heading,
                "lines": [
                    {"name": line.name, "step": line.step, "x": _rounded(line.x), "y": _rounded(line.y)}
                    for line in self.lines
                ],
            }
        )


def _rounded(values: NDArray) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in np.asarray(values, float)]
