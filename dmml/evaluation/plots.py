"""How every picture looks: one palette, one style, and SVG that follows the page into dark mode."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.evaluation.interactive import Readout, with_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"
MUTED = "#8b949e"
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
"""Okabe & Ito 2008: told apart under every common form of colour blindness."""
SUBSPACE_COLOR = {"tumor": VERMILLION, "tme": BLUE}

PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
"""Of the page: no wider than DejaVu Sans, by which the figure was laid out."""
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
    "text.parse_math": False,  # names come from files: a dollar sign in one is a dollar sign
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
    """A drawn figure: `name` of its files, `title` and `caption` in words, what it shows to who cannot see (`alt`).

    Attributes:
        words: {gid of an artist: what it says under the pointer}.
        layers: {gid of an artist: the layer it belongs to}, of which a page shows one or all.
        readout: Curves whose values a page says under the pointer.
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
        """SVG for a page: ink and lines in the page's colours, ids made unique by `prefix`."""
        import matplotlib

        buffer = io.StringIO()
        # Text stays text: it can be searched and read aloud, and is a fifth of the size of its outlines.
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
        """Write `<name>.png` and `<name>.svg` on white."""
        with style():
            for suffix in ("png", "svg"):
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                self.figure.savefig(folder / f"{self.name}.{suffix}", dpi=160, facecolor="white", metadata=metadata)
                self._keep_layout()

    def _keep_layout(self) -> None:
        """What was laid out once is not laid out again: that is half of the time of drawing."""
        self.figure.set_layout_engine("none")


def style() -> AbstractContextManager:
    """Context in which figures are made and saved."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.7, height: float = 3.5, **options: Any) -> tuple:
    """A figure and its axes (an array when there are several), free of pyplot's global state. Inches."""
    figure = _figure(width, height, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def small_figure() -> tuple:
    """A small figure with fixed margins: drawn three times as fast as one whose margins are computed."""
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
    """Days a unit and the unit's name, so that an axis up to `longest` days reads well."""
    return (365.25, "years") if longest > 900 else (30.4375, "months") if longest > 120 else (1.0, "days")


def horizon_name(day: float) -> str:
    """365 → 1 year, 1095 → 3 years, 200 → 200 days."""
    years = day / 365
    if abs(years - round(years)) < 0.01 and round(years) > 0:
        return f"{round(years)} year{'s' if round(years) > 1 else ''}"
    return f"{day:g} days"


def file_name(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "picture"


def zero_to_one(axes: Axes) -> None:
    """Both axes from 0 to 1, square, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
