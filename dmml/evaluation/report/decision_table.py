"""Table of the net benefit at a few thresholds for a report page."""

from __future__ import annotations

from collections.abc import Sequence

from dmml.evaluation import interval_settings
from dmml.evaluation.bootstrap import Band
from dmml.evaluation.report.tables import Cell, Table, defined, estimate_cell
from dmml.evaluation.statistics.curves.decision import LISTED, DecisionCurve

HOW_TO_READ = (
    "Net benefit of treating the patients whose predicted risk reaches the threshold: true positives per patient, minus "
    "false positives per patient times the odds of the threshold (Vickers and Elkin 2006), so that at 20 %, treating one "
    "patient in vain costs a quarter of what treating a case gains; the highest line is best. Survival at a horizon is "
    "that of Kaplan–Meier among the treated (Vickers 2008); where their follow-up ends before it, there is no value."
)


def decision_table(curves: Sequence[DecisionCurve], suffix: str = "") -> Table:
    """Build a table with a row per outcome and threshold: the model, treating every patient, and their difference.

    Args:
        curves: At least one decision curve.
        suffix: Text inserted after the first words of the caption, for pages with several such tables.
    """
    rows = []
    for curve in curves:
        bands = (curve.listed(curve.model), curve.listed(curve.treat_all), curve.gain)
        for k, threshold in enumerate(LISTED):
            name = f"{curve.outcome}, threshold {100 * threshold:.0f} %"
            rows.append([Cell(name), *(_cell(band, k) for band in bands), Cell(str(curve.n), order=curve.n)])
    columns = ["outcome and threshold", "by the model", "treat every patient", "difference", "patients"]
    caption = f"Net benefit{suffix}, with {interval_settings.level_text()} intervals"
    return Table(caption, columns, rows, frozenset(range(1, 5)), wide=True)


def _cell(band: Band, k: int) -> Cell:
    value, low, high = (defined(float(values[k])) for values in band)
    return estimate_cell({"value": value, "low": low, "high": high}, digits=3)
