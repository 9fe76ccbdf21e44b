"""Sections of a test's report. To add one, write a function of the evaluation and list it in `SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.evaluation import interval_settings
from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.endpoints.regression import value_name
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.genes.correlations import read_gene_correlations
from dmml.evaluation.genes.programs import Program, read_programs
from dmml.evaluation.plots.curves.decision import decision_plot
from dmml.evaluation.plots.gene_correlations import gene_correlations_plot
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.programs import SUBSPACE_NAMES, programs_plot
from dmml.evaluation.plots.shift import shift_plot
from dmml.evaluation.report.calibration_table import HOW_TO_READ, calibration_table
from dmml.evaluation.report.decision_table import HOW_TO_READ as NET_BENEFIT
from dmml.evaluation.report.decision_table import decision_table
from dmml.evaluation.report.flow_section import flow_section
from dmml.evaluation.report.formatting import event_by, horizon_name, joined, number, p_text
from dmml.evaluation.report.gene_tables import gene_sentences, strongest_genes_table
from dmml.evaluation.report.section import Section
from dmml.evaluation.report.tables import Cell, Table, defined, estimate_cell, interval, value_cell
from dmml.evaluation.report.text.metric_names import metric_name
from dmml.evaluation.report.text.shift import GENE_NAMES
from dmml.evaluation.result_folders import read_json
from dmml.evaluation.statistics.calibration import MIN_GROUP_SIZE
from dmml.evaluation.values.plots import group_errors_plot

MAX_PROGRAMS = 60
"""Maximum number of programs in the table."""
MAX_SCORES = 4
"""Maximum number of scores, such as classes, whose correlations with genes are drawn; the file has all of them."""
_CALIBRATION = {
    "predicted": "predicted event-free",
    "slope": "calibration slope",
    "intercept": "log observed / expected",
}


def calibration_section(evaluation: Evaluation) -> Section | None:
    """Calibration at the horizons with a formal test, and why it is missing at others; None without horizons."""
    if not evaluation.horizons:
        return None
    table = calibration_table(evaluation.calibrations)
    sentences = [HOW_TO_READ] if table else []
    missing = [horizon_name(day) for day, each in evaluation.calibration_by_day.items() if each is None]
    if missing:
        n, required = len(evaluation.with_outcome), 2 * MIN_GROUP_SIZE
        reason = "the model predicts no survival there"
        if n < required:
            reason = f"{n} patients with known outcome are too few for two risk groups, which need {required}"
        sentences.append(f"Not available at {', '.join(missing)}: {reason}.")
    return (
        Section("Calibration in numbers", sentences, [], [table] if table else [], is_note=True) if sentences else None
    )


def decision_section(evaluation: Evaluation) -> Section | None:
    """Net benefit of acting on the predictions, for each class or at the horizons; None without probabilities."""
    if evaluation.with_outcome.empty:
        return None
    curves = evaluation.endpoint.decision_curves(evaluation.with_outcome, evaluation.context)
    if not curves:
        return None
    plots = [decision_plot(curve) for curve in curves if curve.is_defined]
    sentences = [NET_BENEFIT]
    if undefined := [curve.outcome for curve in curves if not curve.is_defined]:
        sentences.append(f"No curve for {joined(undefined)}: nobody is followed that long.")
    outcomes = {curve.outcome for curve in curves}
    if unpredicted := [name for day in evaluation.horizons if event_by(name := horizon_name(day)) not in outcomes]:
        sentences.append(f"No curve at {joined(unpredicted)}: the model predicts no survival there.")
    return Section("Decision curves", sentences, plots, [decision_table(curves)], is_note=True)


def shift_section(evaluation: Evaluation) -> Section | None:
    """How far the cohort lies from the training patients, what was missing, and the metrics of its subgroups."""
    path = evaluation.folder / "shift.json"
    content = read_json(path)
    if not content:
        return None
    try:
        plot = shift_plot(content)
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); run `dmml test` again") from None
    tables = [
        table for table in (_missing(content), _imputed(content), _subgroups(content, evaluation.endpoint)) if table
    ]
    sentences = [str(sentence) for sentence in content.get("words") or []]
    plots = [each for each in (plot, _errors_by_site(content, evaluation.context)) if each]
    return Section("Shift against the training patients", sentences, plots, tables)


def _missing(content: Mapping[str, Any]) -> Table | None:
    rows = [
        [Cell(str(name)), Cell(str(entry["n"]), order=entry["n"]), Cell(str(entry["of"]), order=entry["of"])]
        for name, entry in (content.get("missing") or {}).items()
    ]
    return Table("Missing data", ["data", "missing", "of"], rows, frozenset({1, 2}), wide=True) if rows else None


def _imputed(content: Mapping[str, Any]) -> Table | None:
    rows = []
    for subspace, entry in (content.get("genes") or {}).items():
        if entry["imputed"]:
            n = len(entry["imputed"])
            name = GENE_NAMES.get(subspace, subspace)
            rows.append([Cell(name), Cell(str(n), order=n), Cell(", ".join(entry["imputed"]))])
    caption = "Genes that were not measured in this cohort and are replaced by the training mean"
    return Table(caption, ["genes", "number", "names"], rows, frozenset({1}), wide=True) if rows else None


def _subgroups(content: Mapping[str, Any], endpoint: Endpoint) -> Table | None:
    subgroups = content.get("subgroups") or []
    with_gaps = any("gap" in row for row in subgroups)  # results of an earlier dmml have none
    second = next((row["second"]["metric"] for row in subgroups if "second" in row), None)
    rows = [
        [
            Cell(f"{row['column']}: {row['level']}", str(row.get("reason") or "")),
            value_cell(row["value"], strong=True),
            Cell(interval(row), order=row["low"]),
            Cell(str(row["n"]), order=row["n"]),
            Cell("" if row.get("events") is None else str(row["events"]), order=row.get("events")),
            *(_gap_cells(row.get("gap")) if with_gaps else ()),
            *([estimate_cell(row["second"], digits=3)] if second else ()),
        ]
        for row in subgroups
    ]
    if not rows:
        return None
    name = metric_name(subgroups[0]["metric"], endpoint)[0]
    level = f"{interval_settings.level_text()} interval"
    columns = ["group", name, level, "patients", "events"] + ["minus the others", "p, Holm"] * with_gaps
    columns += [metric_name(second, endpoint)[0]] if second else []
    return Table("By site, and by groups of the clinical table", columns, rows, frozenset(range(1, len(columns))))


def _errors_by_site(content: Mapping[str, Any], context: Mapping[str, Any]) -> Plot | None:
    """Plot the mean error of each site; None if the outcome is no value, or fewer than two sites have enough patients."""
    rows = [row for row in content.get("subgroups") or [] if (row.get("second") or {}).get("metric") == "mean_error"]
    return group_errors_plot(rows, "site", value_name(context), str(context.get("unit") or ""))


def _gap_cells(gap: Mapping[str, Any] | None) -> list[Cell]:
    """Cells of a group's difference to the others, and of its p; empty ones for the second of two groups."""
    if gap is None:
        return [Cell(""), Cell("")]
    p = gap.get("p_holm")
    p_cell = Cell("" if p is None else p_text(p).removeprefix("= "), order=p)
    return [value_cell(gap["value"], hint=interval(gap) or str(gap.get("reason") or "")), p_cell]


def recalibration_section(evaluation: Evaluation) -> Section | None:
    """Metrics of predictions recalibrated on a share of the cohort, on its other patients; never the main result."""
    content = read_json(evaluation.folder / "recalibrated.json")
    if not content:
        return None
    rows = []
    for name, both in (content.get("metrics") or {}).items():
        cells = [estimate_cell(both[when], digits=3) for when in ("before", "after")]
        rows.append([Cell(*metric_name(name, evaluation.endpoint), code=name), *cells])
    for day, both in (content.get("calibration") or {}).items():
        for key, text in _CALIBRATION.items():
            cells = [value_cell(both[when].get(key)) for when in ("before", "after")]
            rows.append([Cell(f"{horizon_name(float(day))}: {text}"), *cells])
    sentences = [str(sentence) for sentence in content.get("words") or []]
    if content.get("method"):
        values = ", ".join(f"{name} {number(value)}" for name, value in (content.get("coefficients") or {}).items())
        share = f"{100 * content['share']:.0f} % of the cohort ({content['n_used']} patients)"
        sentences.append(f"Fitted on {share}: {content['method']}; {values}.")
    caption = "The same patients before and after recalibration"
    tables = [Table(caption, ["metric", "before", "after"], rows, frozenset({1, 2}))] if rows else []
    return Section("Recalibrated on a share of the cohort, apart from the main result", sentences, [], tables)


def program_section(evaluation: Evaluation) -> Section | None:
    """Predicted programs, and how they correlate with measured RNA and with the prediction; None without programs."""
    programs = read_programs(evaluation)
    if not programs:
        return None
    prediction, _ = evaluation.endpoint.score(evaluation.predictions, evaluation.context)
    sentences = [
        f"The model predicts {len(programs)} expression programs from the tissue alone. They describe a region of the "
        "slide in terms of genes.",
        _agreement_sentence(programs),
    ]
    plot = programs_plot(programs, prediction)
    return Section("Predicted programs", sentences, [plot] if plot else [], [_program_table(programs, prediction)])


def _agreement_sentence(programs: list[Program]) -> str:
    compared = [program for program in programs if np.isfinite(program.agreement)]
    if not compared:
        return "Too few of the tested patients have RNA for a comparison."
    median = float(np.median([program.agreement for program in compared]))
    best = max(compared, key=lambda program: program.agreement)
    return (
        f"For the {best.measured} patients with RNA, the median rank correlation of predicted and measured scores is "
        f"{number(median)}; {best.name} ({SUBSPACE_NAMES.get(best.subspace, best.subspace)}) is predicted best, with "
        f"{number(best.agreement)}."
    )


def _program_table(programs: list[Program], prediction: str) -> Table:
    rows = [
        [
            Cell(program.name),
            Cell(SUBSPACE_NAMES.get(program.subspace, program.subspace)),
            value_cell(defined(program.with_answer), 2),
            value_cell(defined(program.agreement), 2),
            Cell(str(program.measured), order=program.measured),
        ]
        for program in programs[:MAX_PROGRAMS]
    ]
    more = f", the first {MAX_PROGRAMS} of {len(programs)}" if len(programs) > MAX_PROGRAMS else ""
    columns = ["program", "subspace", f"with {prediction}", "with measured RNA", "patients with RNA"]
    return Table(f"Programs and their rank correlations{more}", columns, rows, frozenset({2, 3, 4}), wide=True)


def gene_section(evaluation: Evaluation) -> Section | None:
    """Correlation of each gene with the prediction; None without RNA, and for tests of an earlier dmml."""
    table = read_gene_correlations(evaluation.folder)
    if table is None:
        return None
    scores = list(dict.fromkeys(table["score"]))[:MAX_SCORES]
    plots, tables = [], []
    for number_of_score, score in enumerate(scores, start=1):
        rows = table[(table["score"] == score) & table["r"].notna()]
        if len(rows):
            name = f"gene_correlations_{number_of_score}" if len(scores) > 1 else "gene_correlations"
            plots.append(gene_correlations_plot(rows, score, name))
            tables.append(strongest_genes_table(rows, score))
    return Section("Genes and the prediction", gene_sentences(table, evaluation), plots, tables)


SECTIONS: tuple[Callable[[Evaluation], Section | None], ...] = (
    calibration_section,
    decision_section,
    shift_section,
    recalibration_section,
    program_section,
    gene_section,
    flow_section,
)
"""Sections of every test, in their order. A function returns None where it has nothing to show."""


def sections_of(evaluation: Evaluation) -> list[Section]:
    """Make every section for which the test has data.

    Raises:
        InputError: A file is damaged.
    """
    return [section for make in SECTIONS if (section := make(evaluation)) is not None]
