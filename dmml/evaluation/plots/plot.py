"""A plot: a drawn figure with its title and caption, saved as files or put into a page."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.evaluation.plots.inline_svg import inline_svg
from dmml.evaluation.plots.readout import Readout
from dmml.evaluation.plots.style import BLUE, INK, MUTED, VERMILLION, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
"""Font of the page; it is no wider than DejaVu Sans, which the layout of the figure is based on."""
_PAGE_STYLE = {
    "'DejaVu Sans'": _PAGE_FONT,
    INK: "currentColor",
    MUTED: "var(--muted)",
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
}
"""The page's font and colours, which follow it into dark mode."""


@dataclass(frozen=True)
class Plot:
    """A drawn figure with what a report writes around it.

    Attributes:
        name: Name of the plot's files, without suffix.
        title: Title of the plot.
        figure: The matplotlib figure. `style.new_figure` makes one that needs no display.
        caption: Text below the plot.
        alt: Text for readers who cannot see the plot; if empty, they get title and caption.
        tooltips: {gid of an artist: text of its tooltip}.
        layers: {gid of an artist: layer that it belongs to}; a page displays one layer or all.
        readout: Curves whose values a page displays at the pointer.
    """

    name: str
    title: str
    figure: Figure
    caption: str = ""
    alt: str = ""
    tooltips: dict[str, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    readout: Readout | None = None

    @property
    def description(self) -> str:
        """Text for readers who cannot see the plot."""
        return self.alt or f"{self.title}. {self.caption}".strip()

    def inline_svg(self, prefix: str) -> str:
        """SVG element for a page, in the page's colours, with ids made unique by `prefix`."""
        import matplotlib

        buffer = io.StringIO()
        # Text stays text: it can be searched and read aloud, and takes a fifth of the size of its outlines.
        with style(), matplotlib.rc_context({"svg.fonttype": "none"}):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        self._keep_layout()
        return inline_svg(buffer.getvalue(), prefix, _PAGE_STYLE, self.tooltips, self.layers)

    def save(self, folder: Path, suffixes: tuple[str, ...] = ("png", "svg")) -> None:
        """Write `<name>.<suffix>` on a white background."""
        with style():
            for suffix in suffixes:
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                self.figure.savefig(folder / f"{self.name}.{suffix}", dpi=160, facecolor="white", metadata=metadata)
                self._keep_layout()

    def _keep_layout(self) -> None:
        """Keep the computed layout instead of computing it again, which would double the drawing time."""
        self.figure.set_layout_engine("none")


def file_name(text: str) -> str:
    """Convert a text to a valid part of a file name."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "plot"
