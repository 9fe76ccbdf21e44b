"""A section of a report: title, sentences, plots and tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        title: Its heading.
        sentences: Its text.
        plots: Its plots.
        tables: Its tables.
        is_note: Whether the sentences are displayed as a note, in small print.
    """

    title: str
    sentences: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    is_note: bool = False
