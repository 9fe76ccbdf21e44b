"""Common look of all plots: one palette, one style, and figures that need no display."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"
MUTED = "#8b949e"
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
"""Colours that are distinguishable under every common form of colour blindness (Okabe & Ito 2008)."""
SUBSPACE_COLOR = {"tumor": VERMILLION, "tme": BLUE}

_STYLE = {
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
    "svg.fonttype": "path",
    "svg.hashsalt": "dmml",
}


def style() -> AbstractContextManager:
    """Context for making and saving figures in the common style."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.7, height: float = 3.5, **options: Any) -> tuple:
    """Create a figure and its axes (an array if there are several) without pyplot's global state; sizes in inches."""
    figure = _figure(width, height, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def small_figure() -> tuple:
    """Create a small figure with fixed margins, which draws three times as fast as one with computed margins."""
    figure = _figure(3.1, 2.25, layout="none")
    figure.subplots_adjust(left=0.17, right=0.97, bottom=0.2, top=0.88)
    return figure, figure.subplots()


def _figure(width: float, height: float, layout: str) -> Figure:
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
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
