"""Tables of a cross-validation's report."""

from __future__ import annotations

from dmml.evaluation import interval_settings
from dmml.evaluation.crossval.model_names import label
from dmml.evaluation.crossval.results import CrossvalResult
from dmml.evaluation.report.formatting import number, p_text
from dmml.evaluation.report.tables import Cell, Table, estimate_cell, interval, value_cell
from dmml.evaluation.report.text.metric_names import metric_name


def models_table(result: CrossvalResult, metrics: list[str]) -> Table:
    """Table of every model's pooled metrics, starting with the primary metric and its mean over folds."""
    rows = []
    for model, entries in result.models.items():
        primary = entries[result.metric]
        spread = "" if primary["sd"] is None else f"± {number(primary['sd'], 3)}"
        cells = [estimate_cell(entries[name]["pooled"]) if name in entries else Cell("—") for name in metrics]
        rows.append([Cell(label(model)), cells[0], value_cell(primary["mean"], hint=spread), *cells[1:]])
    names = [metric_name(name, result.endpoint)[0] for name in metrics]
    columns = ["model", names[0], "mean of folds", *names[1:]]
    caption = (
        f"Out-of-fold metrics of every model, pooled within folds, with {interval_settings.level_text()} intervals"
    )
    return Table(caption, columns, rows, frozenset(range(1, len(columns))))


def fold_table(result: CrossvalResult) -> Table:
    """Table of the primary metric of every model in every fold."""
    names = [result.fit_name(fit) for fit in result.fits]
    rows = [
        [Cell(label(model)), *(value_cell(value) for value in entries[result.metric]["folds"])]
        for model, entries in result.models.items()
    ]
    caption = f"{metric_name(result.metric, result.endpoint)[0]} in every fold"
    return Table(caption, ["model", *names], rows, frozenset(range(1, len(names) + 1)), wide=True)


def differences_table(result: CrossvalResult) -> Table:
    """Table of every paired comparison."""
    rows = [
        [
            Cell(f"{label(row['a'])} − {label(row['b'])}", "primary comparison" if row.get("primary") else ""),
            value_cell(row["difference"], strong=True),
            Cell(interval(row), order=row["low"]),
            _p_cell(row["p"]),
            _p_cell(row.get("p_holm")),
            _p_cell(row.get("p_resampled")),
            _p_cell(row.get("p_resampled_holm")),
        ]
        for row in result.comparisons
    ]
    level = f"{interval_settings.level_text()} interval"
    columns = ["first − second", "difference", level, "p", "p, Holm", "p, resampled t", "p, resampled t, Holm"]
    caption = f"Differences of {metric_name(result.metric, result.endpoint)[0]}, pooled, on the same resampled patients"
    return Table(caption, columns, rows, frozenset(range(1, 7)))


def likelihood_ratio_table(result: CrossvalResult) -> Table | None:
    """Table of likelihood-ratio tests of the gain over the clinical covariates; None without such tests."""
    rows = [
        [
            Cell(label(model)),
            value_cell(test["chi2"], 2),
            _p_cell(test["p"]),
            _p_cell(test.get("p_holm")),
            value_cell(test["coefficient"], 2),
            Cell(str(test["n"]), order=test["n"]),
        ]
        for model, test in (result.content.get("added_to_clinical") or {}).items()
    ]
    if not rows:
        return None
    columns = ["model", "χ², 1 degree of freedom", "p", "p, Holm", "coefficient per SD", "patients"]
    caption = "What a model's out-of-fold score adds to that of the clinical covariates: likelihood-ratio tests"
    return Table(caption, columns, rows, frozenset(range(1, 6)))


def hazard_ratio_table(result: CrossvalResult) -> Table | None:
    """Table of every model's hazard ratio of high against low risk; None for results without one."""
    rows = [
        [
            Cell(label(model), entry.get("reason", "")),
            value_cell(entry["value"], 2, strong=True),
            Cell(interval(entry, 2), order=entry["low"]),
            Cell("" if entry["value"] is None else p_text(entry["p"]).removeprefix("= "), order=entry.get("p")),
            Cell(str(entry["n"]), order=entry["n"]),
            Cell(str(entry["events"]), order=entry["events"]),
        ]
        for model, entry in result.hazard_ratios.items()
    ]
    if not rows:
        return None
    columns = ["model", "hazard ratio", f"{interval_settings.level_text()} interval", "p", "patients", "events"]
    caption = (
        "Hazard ratio of high against low risk, each fold divided at the median risk of its training patients: Cox "
        "regression with a stratum per fold"
    )
    return Table(caption, columns, rows, frozenset(range(1, 6)))


def _p_cell(value: float | None) -> Cell:
    return Cell("" if value is None else p_text(value).removeprefix("= "), order=value)
