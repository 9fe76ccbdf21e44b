"""Sections of a report about one test and about one run, as template variables."""

from __future__ import annotations

from typing import Any

from dmml.evaluation.caveats import OVERLAP, overlap_entry
from dmml.evaluation.comparison import Pair
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.attention import AttentionSlide
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.training import training_plots
from dmml.evaluation.report.background import attention_facts, configuration, patient_counts, provenance
from dmml.evaluation.report.formatting import p_text
from dmml.evaluation.report.pages import PlotInliner
from dmml.evaluation.report.parts import Part
from dmml.evaluation.report.tables import Cell, Table, estimate_cell, interval, value_cell
from dmml.evaluation.report.text import findings as words
from dmml.evaluation.report.text.coordination import coordination_words
from dmml.evaluation.report.text.deep_part import maps_title, maps_words, parts_words
from dmml.evaluation.runs import is_run_of
from dmml.evaluation.statistics import intervals
from dmml.html_pages import data_uri

MAX_SLIDES, FEWER_SLIDES, FEW_TESTS = 4, 2, 3
"""Maximum number of slides with attention maps per test, and the one on pages of more than `FEW_TESTS` tests.

A few slides are enough to see a pattern, and a page of more than a few tests stays below 2 MB.
"""


def test_section(
    test: Evaluation,
    name: str,
    drawn: list[Plot],
    parts: list[Part],
    slides: list[AttentionSlide],
    svg: PlotInliner,
    most: int,
) -> dict[str, Any]:
    """Section about one model on one cohort.

    Args:
        test: The test.
        name: HTML id of the section.
        drawn: Plots of the test.
        parts: Additional parts of the report.
        slides: Attention maps of the test.
        svg: PlotInliner of the page.
        most: Maximum number of slides with attention maps.
    """
    found = [slide for slide in slides if slide.panels]
    shown = found[:most]
    chosen = next((str(slide.facts["chosen"]) for slide in shown if slide.facts.get("chosen")), "")
    if len(shown) < min(len(found), MAX_SLIDES):
        chosen += f" {len(shown)} of {len(found)} slides are shown here; the others stand in the test's own report."
    return {
        "id": name,
        "run": test.label,
        "model": words.model_words(test),
        "parts": parts_words(test.context),
        "metrics": metrics_table(test),
        "plots": [svg(plot) for plot in drawn],
        "classes": class_table(test),
        "beside": [{**vars(part), "plots": [svg(plot) for plot in part.plots]} for part in parts],
        "slides": [_slide(slide) for slide in shown],
        "slides_title": maps_title(test.context.get("deep_share")),
        "slides_words": f"{maps_words(test.endpoint.tile_effects, test.context.get('deep_share'))} {chosen}".strip(),
        "counts": patient_counts(test),
    }


def metrics_table(test: Evaluation) -> Table:
    """Table of every metric with its interval and the numbers of patients and events that it rests on."""
    columns = [
        "metric",
        "value",
        f"{intervals.level_text()} interval",
        "patients",
        *(["events"] if test.endpoint.counts_events else []),
    ]
    rows = []
    overlap = {OVERLAP: overlap_entry(test.overlap)} if test.overlap else {}
    for name, entry in (overlap | test.metrics).items():
        label, hint = words.metric_name(name, test.endpoint)
        notes = [entry.get("reason"), entry.get("note"), f"up to day {entry['tau']:.0f}" if "tau" in entry else None]
        told = "; ".join([hint] * (entry["value"] is not None) + [note for note in notes if note])
        ends = interval(entry) or ("—" if entry["value"] is not None else "")
        row = [
            Cell(label, told, code=name),
            value_cell(entry["value"], 0 if name == OVERLAP else 3, strong=True),
            Cell(ends, order=entry["low"]),
            Cell(str(entry["n"]), order=entry["n"]),
        ]
        events = entry["events"]
        rows.append(
            row + ([Cell("" if events is None else str(events), order=events)] if test.endpoint.counts_events else [])
        )
    return Table(f"Metrics with {intervals.level_text()} intervals", columns, rows, frozenset({1, 2, 3, 4}))


def class_table(test: Evaluation) -> Table | None:
    """Table of the metrics of each class; None without classes or without labels."""
    if not test.classes or test.with_outcome.empty:
        return None
    from dmml.evaluation.statistics.classification import per_class

    label, probability = test.labels
    rows = [
        [Cell(row["class"])]
        + [Cell(str(row[name]), order=row[name]) for name in ("patients", "predicted")]
        + [value_cell(row[name], 2) for name in ("precision", "recall", "f1", "auc")]
        for row in per_class(label, probability, test.classes).to_dict("records")
    ]
    columns = ["class", "patients", "predicted", "precision", "recall", "F1", "AUC"]
    return Table("Class by class", columns, rows, frozenset(range(1, 7)))


def models_table(group: list[Evaluation]) -> Table | None:
    """Table that compares the models of one cohort; None for a single model."""
    if len(group) < 2:
        return None
    names = [name for name in group[0].metrics if all(name in test.metrics for test in group)]
    rows = [[Cell(test.label, test.model), *(estimate_cell(test.metrics[name]) for name in names)] for test in group]
    columns = ["model", *(words.metric_name(name, group[0].endpoint)[0] for name in names)]
    return Table(
        f"Models on {group[0].cohort}, with {intervals.level_text()} intervals",
        columns,
        rows,
        frozenset(range(1, len(columns))),
    )


def differences_table(pairs: list[Pair]) -> Table:
    """Table of every paired difference of a report."""
    rows = []
    for pair in pairs:
        difference = pair.difference
        ends = {"low": None if pair.refused else difference.low, "high": difference.high}
        rows.append(
            [
                Cell(pair.name, pair.refused or ("primary comparison" if pair.primary else "")),
                Cell(pair.where),
                Cell(words.metric_name(pair.a.primary, pair.a.endpoint)[0]),
                value_cell(difference.estimate, strong=True),
                Cell(interval(ends), order=_known(difference.low)),
                Cell(p_text(pair.p_holm).removeprefix("= "), order=_known(pair.p_holm)),
                Cell(str(pair.n), order=pair.n),
            ]
        )
    columns = [
        "first − second",
        "cohort",
        "metric",
        "difference",
        f"{intervals.level_text()} interval",
        "p",
        "patients",
    ]
    return Table("Differences on the same patients", columns, rows, frozenset({3, 4, 5, 6}))


def _known(value: float) -> float | None:
    return value if value == value else None


def run_section(test: Evaluation, svg: PlotInliner) -> tuple[dict[str, Any], list[Plot]]:
    """Training and provenance of one run, and its training curves; no curves if the run was refitted after the test."""
    table = test.run_folder / "metrics.csv"
    same = is_run_of(test.run_folder, test.context)
    curves, coordination = training_plots(table) if same else ([], [])
    section = {
        "name": test.run,
        "no_curves": _no_curves(test, same) if not curves and not coordination else "",
        "curves": [svg(plot) for plot in curves],
        "coordination": [svg(plot) for plot in coordination],
        "coordination_words": coordination_words(table) if same else "",
        "provenance": provenance(test),
        "config": configuration(test) if same else "",
    }
    return section, [*curves, *coordination]


def _no_curves(test: Evaluation, same: bool) -> str:
    """Explain why a run has no training curves."""
    if same:
        return "The run folder holds no metrics.csv."
    return (
        f"The checkpoint that was tested is no longer in {test.run_folder}, which was fitted again since; its curves "
        "belong to another model. Test it again."
    )


def _slide(slide: AttentionSlide) -> dict[str, Any]:
    panels = [
        {
            "title": panel.title,
            "caption": panel.caption,
            "uri": data_uri(panel.jpeg(), "jpeg"),
            "height": panel.pixels.shape[0],
            "width": panel.pixels.shape[1],
        }
        for panel in slide.panels
    ]
    verdict = str(slide.facts.get("verdict") or "")
    kind = "right" if verdict.startswith("right") else "wrong"
    return {"facts": attention_facts(slide.facts), "verdict": verdict, "kind": kind, "panels": panels}
