"""Tables of a report on tests: metrics, classes, models and differences."""

from __future__ import annotations

from dmml.evaluation import interval_settings
from dmml.evaluation.caveats import OVERLAP, overlap_entry
from dmml.evaluation.comparison import Pair
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.report.formatting import p_text
from dmml.evaluation.report.tables import Cell, Table, defined, estimate_cell, interval, value_cell
from dmml.evaluation.report.text.metric_names import metric_name


def metrics_table(test: Evaluation) -> Table:
    """Table of every metric with its interval and the numbers of patients and events that it rests on."""
    counts_events = test.endpoint.counts_events
    columns = ["metric", "value", f"{interval_settings.level_text()} interval", "patients"] + ["events"] * counts_events
    overlap = {OVERLAP: overlap_entry(test.overlap)} if test.overlap else {}
    rows = []
    for name, entry in (overlap | test.metrics).items():
        label, hint = metric_name(name, test.endpoint)
        is_defined = entry["value"] is not None
        last_day = f"up to day {entry['tau']:.0f}" if "tau" in entry else None
        p = f"p {p_text(entry['p'])}" if "p" in entry else None
        notes = [hint if is_defined else None, entry.get("reason"), entry.get("note"), last_day, p]
        row = [
            Cell(label, "; ".join(note for note in notes if note), code=name),
            value_cell(entry["value"], 0 if name == OVERLAP else 3, strong=True),
            Cell(interval(entry) or ("—" if is_defined else ""), order=entry["low"]),
            Cell(str(entry["n"]), order=entry["n"]),
        ]
        if counts_events:
            events = entry["events"]
            row.append(Cell("" if events is None else str(events), order=events))
        rows.append(row)
    return Table(f"Metrics with {interval_settings.level_text()} intervals", columns, rows, frozenset({1, 2, 3, 4}))


def class_table(test: Evaluation) -> Table | None:
    """Table of the metrics of each class; None without classes or without labels."""
    if not test.classes or test.with_outcome.empty:
        return None
    from dmml.evaluation.statistics.classification import per_class

    labels, probability = test.labels
    rows = [
        [Cell(row["class"])]
        + [Cell(str(row[name]), order=row[name]) for name in ("patients", "predicted")]
        + [value_cell(row[name], 2) for name in ("precision", "recall", "specificity", "f1", "auc")]
        for row in per_class(labels, probability, test.classes).to_dict("records")
    ]
    columns = ["class", "patients", "predicted", "precision", "recall", "specificity", "F1", "AUC"]
    return Table("Metrics of each class", columns, rows, frozenset(range(1, len(columns))))


def models_table(tests: list[Evaluation]) -> Table | None:
    """Table that compares the models of one cohort; None for a single model."""
    if len(tests) < 2:
        return None
    names = [name for name in tests[0].metrics if all(name in test.metrics for test in tests)]
    rows = [[Cell(test.label, test.model), *(estimate_cell(test.metrics[name]) for name in names)] for test in tests]
    columns = ["model", *(metric_name(name, tests[0].endpoint)[0] for name in names)]
    caption = f"Models on {tests[0].cohort}, with {interval_settings.level_text()} intervals"
    return Table(caption, columns, rows, frozenset(range(1, len(columns))))


def differences_table(pairs: list[Pair]) -> Table:
    """Table of every paired difference of a report."""
    rows = []
    for pair in pairs:
        difference = pair.difference
        limits = {"low": None if pair.refused else difference.low, "high": difference.high}
        rows.append(
            [
                Cell(pair.name, pair.refused or ("primary comparison" if pair.primary else "")),
                Cell(pair.where),
                Cell(metric_name(pair.a.primary, pair.a.endpoint)[0]),
                value_cell(difference.estimate, strong=True),
                Cell(interval(limits), order=defined(difference.low)),
                Cell(p_text(pair.p_holm).removeprefix("= "), order=defined(pair.p_holm)),
                Cell(str(pair.n), order=pair.n),
            ]
        )
    level = f"{interval_settings.level_text()} interval"
    columns = ["first − second", "cohort", "metric", "difference", level, "p", "patients"]
    return Table("Differences on the same patients", columns, rows, frozenset({3, 4, 5, 6}))
