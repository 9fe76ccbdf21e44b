"""A plot: a drawn figure with its title and caption, saved as files or put into a page."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.evaluation.plots.inline_svg import inline_svg, svg_on_white
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
        return inline_svg(self._svg, prefix, _PAGE_STYLE, self.tooltips, self.layers)

    def save(self, folder: Path, suffixes: tuple[str, ...] = ("png", "svg")) -> None:
        """Write `<name>.<suffix>` on a white background."""
        if "svg" in suffixes:
            (folder / f"{self.name}.svg").write_text(svg_on_white(self._svg), encoding="utf-8")
        if "png" in suffixes:
            self._lay_out()
            with style():
                self.figure.savefig(
                    folder / f"{self.name}.png", dpi=160, facecolor="white", metadata={"Software": None}
                )

    @cached_property
    def _svg(self) -> str:
        """The figure as an SVG file without background. Drawing takes most of the time of a report, so it is done once."""
        self._lay_out()
        buffer = io.StringIO()
        with style():
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return buffer.getvalue()

    def _lay_out(self) -> None:
        """Compute the layout once; matplotlib would draw the figure twice each time to do so."""
        if engine := self.figure.get_layout_engine():
            with style():
                engine.execute(self.figure)
            self.figure.set_layout_engine(None)  # "none" would leave a placeholder, for which it is drawn twice as well


def file_name(text: str) -> str:
    """Convert a text to a valid part of a file name."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "plot"
