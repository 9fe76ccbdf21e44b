"""Common look of all plots: one palette, one style, and figures that need no display."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

INK = "#24292f"
MUTED = "#8b949e"
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
"""Colours that are distinguishable under every common form of colour blindness (Okabe & Ito 2008)."""
SUBSPACE_COLOR = {"tumor": VERMILLION, "tme": BLUE}

DASHED = (0, (4, 3))
"""Line style of reference lines."""
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # names come from files: a dollar sign in one is just a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # text stays text: searchable, editable, read aloud, and a fifth of the size of outlines
    "svg.hashsalt": "dmml",
}
"""Settings of Matplotlib; a notebook applies them to its own plots with `plt.rcParams.update(STYLE)`"""


def style() -> AbstractContextManager:
    """Context for making and saving figures in the common style."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(width: float = 4.7, height: float = 3.5) -> tuple[Figure, Axes]:
    """Create a figure with one pair of axes, without pyplot's global state; sizes in inches."""
    figure = _figure(width, height, "constrained")
    return figure, figure.subplots()


def new_grid(
    rows: int,
    columns: int,
    width: float = 4.7,
    height: float = 3.5,
    sharex: bool = False,
    sharey: bool = False,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, NDArray[Any]]:
    """Create a figure and a (rows, columns) array of its axes, without pyplot's global state; sizes in inches."""
    figure = _figure(width, height, "constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey, height_ratios=height_ratios)
    return figure, axes


def small_figure() -> tuple[Figure, Axes]:
    """Create a small figure with fixed margins, which draws three times as fast as one with computed margins."""
    figure = _figure(3.1, 2.25, None)
    figure.subplots_adjust(left=0.17, right=0.97, bottom=0.2, top=0.88)
    return figure, figure.subplots()


def blank_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Create a figure filled by a pair of axes without frame and ticks, for diagrams; sizes in inches."""
    figure = _figure(width, height, None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def _figure(width: float, height: float, layout: Literal["constrained"] | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def time_axis(longest: float) -> tuple[float, str]:
    """(days per unit, name of the unit) for a legible axis up to `longest` days."""
    return (365.25, "years") if longest > 900 else (30.4375, "months") if longest > 120 else (1.0, "days")


def zero_to_one(axes: Axes) -> None:
    """Set both axes from 0 to 1, square, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHED, zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
