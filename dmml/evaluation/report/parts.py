"""Additional parts of a test's report: shift against training, recalibration, calibration and predicted programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmml.errors import InputError
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.programs import programs_part
from dmml.evaluation.report.calibration_table import HOW_TO_READ, calibration_table
from dmml.evaluation.report.formatting import horizon_name, number
from dmml.evaluation.report.tables import Cell, Table, estimate_cell, interval, value_cell
from dmml.evaluation.report.text.findings import metric_name
from dmml.evaluation.report.text.shift import NAMES
from dmml.evaluation.statistics import intervals
from dmml.evaluation.statistics.calibration import GROUP_SIZE

_CALIBRATION = {
    "predicted": "predicted event-free",
    "slope": "calibration slope",
    "intercept": "log observed / expected",
}


@dataclass(frozen=True)
class Part:
    """A section of the report with its title and content; `small` displays the sentences as a note."""

    title: str
    sentences: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    small: bool = False


def beside(test: Evaluation) -> list[Part]:
    """Build every part for which the test has data.

    Raises:
        InputError: A file is damaged.
    """
    parts = [calibration_part(test), shift_part(test.folder), recalibrated_part(test.folder)]
    title, sentences, plots, tables = programs_part(test)
    return [*(part for part in parts if part), *([Part(title, sentences, plots, tables)] if sentences else [])]


def shift_part(folder: Path) -> Part | None:
    """How far the cohort lies from the training patients, what was missing, and the metrics of its subgroups."""
    content = read_json(folder / "shift.json")
    if not content:
        return None
    from dmml.evaluation.plots.shift import shift_plots

    tables = [table for table in (_missing(content), _imputed(content), _subgroups(content)) if table]
    sentences = [str(sentence) for sentence in content.get("words") or []]
    return Part("How far from training", sentences, shift_plots(folder), tables)


def _missing(content: Mapping[str, Any]) -> Table | None:
    rows = [
        [Cell(str(what)), Cell(str(entry["n"]), order=entry["n"]), Cell(str(entry["of"]), order=entry["of"])]
        for what, entry in (content.get("missing") or {}).items()
    ]
    return Table("What was missing", ["what", "missing", "of"], rows, frozenset({1, 2}), wide=True) if rows else None


def _imputed(content: Mapping[str, Any]) -> Table | None:
    rows = [
        [
            Cell(NAMES.get(s, s)),
            Cell(str(len(entry["imputed"])), order=len(entry["imputed"])),
            Cell(", ".join(entry["imputed"])),
        ]
        for s, entry in (content.get("genes") or {}).items()
        if entry["imputed"]
    ]
    caption = "Genes that are not measured here and count as the training mean"
    return Table(caption, ["genes", "how many", "which"], rows, frozenset({1}), wide=True) if rows else None


def _subgroups(content: Mapping[str, Any]) -> Table | None:
    rows = [
        [
            Cell(f"{row['column']}: {row['level']}", str(row.get("reason") or "")),
            value_cell(row["value"], strong=True),
            Cell(interval(row), order=row["low"]),
            Cell(str(row["n"]), order=row["n"]),
            Cell("" if row.get("events") is None else str(row["events"]), order=row.get("events")),
        ]
        for row in content.get("subgroups") or []
    ]
    if not rows:
        return None
    name = metric_name(content["subgroups"][0]["metric"])[0]
    columns = ["group", name, f"{intervals.level_text()} interval", "patients", "events"]
    return Table("By site and within groups that the clinical table tells", columns, rows, frozenset({1, 2, 3, 4}))


def recalibrated_part(folder: Path) -> Part | None:
    """Metrics of predictions recalibrated on a share of the cohort, on its other patients; never the main result."""
    content = read_json(folder / "recalibrated.json")
    if not content:
        return None
    rows = []
    for name, both in (content.get("metrics") or {}).items():
        cells = [estimate_cell(both[when], digits=3) for when in ("before", "after")]
        rows.append([Cell(metric_name(name)[0], metric_name(name)[1], code=name), *cells])
    for day, both in (content.get("calibration") or {}).items():
        for key in ("predicted", "slope", "intercept"):
            label = f"{horizon_name(float(day))}: {_CALIBRATION[key]}"
            rows.append([Cell(label), *(value_cell(both[when].get(key)) for when in ("before", "after"))])
    tables = [Table("The same patients before and after", ["figure", "before", "after"], rows, frozenset({1, 2}))]
    sentences = [str(sentence) for sentence in content.get("words") or []]
    if content.get("method"):
        told = ", ".join(f"{name} {number(value)}" for name, value in (content.get("coefficients") or {}).items())
        share = f"{100 * content['share']:.0f} % of the cohort ({content['n_used']} patients)"
        sentences.append(f"Fitted on {share}: {content['method']}; {told}.")
    return Part("Recalibrated on a share of the cohort, apart from the headline", sentences, [], tables if rows else [])


def calibration_part(test: Evaluation) -> Part | None:
    """Calibration at the horizons in numbers with a formal test, and why it is missing at others; None without horizons."""
    if not test.horizons:
        return None
    table = calibration_table(test.calibrations)
    absent = [horizon_name(day) for day in test.horizons if day not in {told.day for told in test.calibrations}]
    few = len(test.with_outcome) < 2 * GROUP_SIZE
    why = f"{len(test.with_outcome)} patients of known outcome, of {2 * GROUP_SIZE} that two risk groups need" if few else (
        "the model predicts no survival there"
    )  # fmt: skip
    sentences = [HOW_TO_READ] if table else []
    sentences += [f"Not given at {', '.join(absent)}: {why}."] if absent else []
    return Part("Calibration in numbers", sentences, [], [table] if table else [], small=True) if sentences else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a test folder; empty if the file does not exist.

    Raises:
        InputError: The file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); run `dmml test` again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; run `dmml test` again")
    return content
