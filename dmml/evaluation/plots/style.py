"""Common look of all plots: one palette, one style, and SVG that follows the page into dark mode."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.evaluation.plots.tooltips import Readout, with_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"
MUTED = "#8b949e"
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
"""Colours that are distinguishable under every common form of colour blindness (Okabe & Ito 2008)."""
SUBSPACE_COLOR = {"tumor": VERMILLION, "tme": BLUE}

PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
"""Font of the page; it is no wider than DejaVu Sans, which the layout of the figure is based on."""
_THEMED = {INK: "currentColor", MUTED: "var(--muted)", BLUE: "var(--blue)", VERMILLION: "var(--vermillion)"}
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


@dataclass(frozen=True)
class Picture:
    """A drawn figure: `name` of its files, `title`, `caption`, and `alt`, the text for readers who cannot see it.

    Attributes:
        words: {gid of an artist: text of its tooltip}.
        layers: {gid of an artist: layer that it belongs to}; a page displays one layer or all.
        readout: Curves whose values a page displays at the pointer.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    words: dict[str, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    readout: Readout | None = None

    def inline_svg(self, prefix: str) -> str:
        """SVG for a page, with ink and lines in the page's colours, and ids made unique by `prefix`."""
        import matplotlib

        buffer = io.StringIO()
        # Text stays text: it can be searched and read aloud, and takes a fifth of the size of its outlines.
        with style(), matplotlib.rc_context({"svg.fonttype": "none"}):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        self._keep_layout()
        svg = buffer.getvalue()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = svg.replace("'DejaVu Sans'", PAGE_FONT)
        svg = with_words(svg, self.words, self.layers)
        svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
        svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}-", svg)
        for color, themed in _THEMED.items():
            svg = svg.replace(color, themed)
        svg = re.sub(r'<svg (.*?)width="[\d.]+pt" height="[\d.]+pt"', r"<svg \1", svg, count=1, flags=re.DOTALL)
        return re.sub(r"\n\s*", "\n", svg).replace("<svg ", '<svg aria-hidden="true" ', 1)

    def save(self, folder: Path) -> None:
        """Write `<name>.png` and `<name>.svg` on a white background."""
        with style():
            for suffix in ("png", "svg"):
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                self.figure.savefig(folder / f"{self.name}.{suffix}", dpi=160, facecolor="white", metadata=metadata)
                self._keep_layout()

    def _keep_layout(self) -> None:
        """Keep the computed layout instead of computing it again, which would double the drawing time."""
        self.figure.set_layout_engine("none")


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


def horizon_name(day: float) -> str:
    """Name of a day: 365 → 1 year, 1095 → 3 years, 200 → 200 days."""
    years = day / 365
    if abs(years - round(years)) < 0.01 and round(years) > 0:
        return f"{round(years)} year{'s' if round(years) > 1 else ''}"
    return f"{day:g} days"


def file_name(text: str) -> str:
    """Convert a text to a valid part of a file name."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "picture"


def zero_to_one(axes: Axes) -> None:
    """Set both axes from 0 to 1, square, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
