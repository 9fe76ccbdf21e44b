"""Render the pages of reports, and save the plots that they show."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dmml._version import __version__
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.report.section import Section
from dmml.html_pages import render_page

TEMPLATES = Path(__file__).parent / "templates"


def report_page(template: str, title: str, **content: object) -> str:
    """Render a report as a single file that needs no others: style and script are embedded.

    Args:
        template: File name of a template that extends `base.html`.
        title: Title of the page.
        content: Variables of the template.
    """
    css, script = ((TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return render_page(
        TEMPLATES / template, title=title, css=css, script=script, version=__version__, written=written, **content
    )


def save_plots(plots: list[Plot], folder: Path, more: dict[str, bytes] | None = None) -> None:
    """Replace a folder of plots by `plots`, each as PNG and SVG, and by `more` {file name: content}."""
    import shutil
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".plots-", dir=folder.parent))
    try:
        for plot in plots:
            plot.save(partial)
        for name, content in (more or {}).items():
            (partial / name).write_bytes(content)
        partial.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class PlotInliner:
    """Converts plots to template variables, with ids that are unique on the page."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, plot: Plot) -> dict[str, Any]:
        """Variables for the macro `plot`."""
        from markupsafe import Markup

        self._count += 1
        layers = list(dict.fromkeys(plot.layers.values()))
        return {
            # Markup is safe here: `inline_svg` writes XML in which every text is escaped.
            "svg": Markup(plot.inline_svg(f"f{self._count}")),
            "title": plot.title,
            "caption": plot.caption,
            "alt": plot.description,
            "layers": layers if len(layers) > 1 else [],
            "readout": plot.readout.to_json() if plot.readout else "",
        }

    def optional(self, plot: Plot | None) -> dict[str, Any] | None:
        """Variables for the macro `plot`; None without a plot."""
        return None if plot is None else self(plot)

    def section(self, section: Section) -> dict[str, Any]:
        """Variables of a section, with its plots inlined."""
        return {**vars(section), "plots": [self(plot) for plot in section.plots]}
