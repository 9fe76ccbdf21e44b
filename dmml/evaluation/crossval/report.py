"""Write the report of a cross-validation: `report.html` in its folder, with the plots in `plots/`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmml.atomic_files import write_text
from dmml.evaluation.crossval.plots import (
    calibration_of,
    calibrations_of,
    differences,
    fold_dots,
    models_by,
    risk_group_plot,
    shown_models,
)
from dmml.evaluation.crossval.results import JOINED, CrossvalResult, read_crossval
from dmml.evaluation.crossval.text import label, summary, unit_words
from dmml.evaluation.crossval.training import training_by_model
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.user_plots import UserPlot, draw_user_plots
from dmml.evaluation.predictions import known_labels
from dmml.evaluation.report.background import flat
from dmml.evaluation.report.calibration_table import HOW_TO_READ, calibration_table
from dmml.evaluation.report.formatting import number, p_words
from dmml.evaluation.report.pages import Inliner, report_page, save_plots
from dmml.evaluation.report.tables import Cell, Table, estimate_cell, interval, value_cell
from dmml.evaluation.report.text import findings as words
from dmml.evaluation.statistics import intervals


def write_crossval_report(
    folder: str | Path, out: str | Path | None = None, user_plots: Sequence[UserPlot] = ()
) -> Path:
    """Write the page of a collected cross-validation, with its plots in `plots/` (or `<name of out>_plots`) next to it.

    Args:
        folder: Folder with `crossval.json` and `oof_predictions.csv`.
        out: Path of the page; default: `report.html` in the folder.
        user_plots: Plots of the user's own.

    Returns:
        Path of the page.

    Raises:
        InputError: The cross-validation was not collected yet, a file is damaged, or one of the user's plots failed.
    """
    folder = Path(folder)
    result = read_crossval(folder)
    page, plots = _page(result, user_plots)
    path = folder / "report.html" if out is None else Path(out)
    save_plots(plots, folder / "plots" if out is None else path.with_name(f"{path.stem}_plots"))
    write_text(path, page)
    return path


def _page(result: CrossvalResult, user_plots: Sequence[UserPlot]) -> tuple[str, list[Plot]]:
    svg = Inliner()
    metrics = list(dict.fromkeys(metric for own in result.models.values() for metric in own))
    metrics.sort(key=lambda metric: metric != result.metric)
    by_metric = {metric: plot for metric in metrics if (plot := models_by(result, metric))}
    shown = shown_models(result)
    calibrated = {name: calibrations_of(result, name) for name in shown[:2]}
    drawn = {
        "differences": [plot for plot in [differences(result)] if plot],
        "folds": [plot for plot in [fold_dots(result)] if plot],
        "groups": [plot for name in shown if (plot := risk_group_plot(result, name))],
        "calibration": [plot for name, (own, _) in calibrated.items() if (plot := calibration_of(own, name))],
        "classes": _class_plots(result, shown[0]),
    }
    training = training_by_model(result)
    lead = by_metric.get(result.metric)
    curves = [plot for plot, _ in training.values()]
    all_plots = [*by_metric.values(), *(plot for plots in drawn.values() for plot in plots), *curves]
    own = draw_user_plots(user_plots, result, [plot.name for plot in all_plots])
    inlined = {name: [svg(plot) for plot in plots] for name, plots in drawn.items()}
    report = ["dmml", "report", str(result.folder), *(word for one in user_plots for word in ("--plot", one.name))]
    page = report_page(
        "crossval.html",
        f"Cross-validation on {result.cohort}",
        cohort=result.cohort,
        sentences=summary(result),
        lead_plot=svg(lead) if lead else None,
        models=models_table(result, metrics),
        by_metric=[(words.metric_name(m)[0], svg(p)) for m, p in by_metric.items() if m != result.metric],
        undefined=_undefined(result),
        differences=_differences(result, inlined["differences"]),
        added=added_table(result),
        training=[(name, svg(plot), note) for name, (plot, note) in training.items()],
        folds=next(iter(inlined["folds"]), None),
        fold_table=fold_table(result),
        groups=inlined["groups"],
        calibration=inlined["calibration"],
        calibration_tables=[
            t for name, (own, _) in calibrated.items() if (t := calibration_table(own, f": {label(name)}"))
        ],
        calibration_note=HOW_TO_READ if any(own for own, _ in calibrated.values()) else "",
        calibration_absent=[sentence for _, absent in calibrated.values() for sentence in absent],
        classes=inlined["classes"],
        user_plots=[svg(plot) for plot in own],
        origin=_origin(result),
        config=_configuration(result),
        commands=[_command(result), shlex.join(report)],
        note=_note(),
    )
    return page, [*all_plots, *own]


def _note() -> str:
    return (
        f"Intervals: {intervals.level_text()}, {intervals.RESAMPLES} patient-bootstrap resamples, a patient drawn as a whole over folds, "
        "repeats and seeds; bias-corrected and accelerated, fixed seed. Inner validation patients chose a network's epoch, "
        "and cross-validation among all training patients chose a regression's penalty; the patients of a fold were tested "
        "once."
    )


def models_table(result: CrossvalResult, metrics: list[str]) -> Table:
    """Table of every model's pooled metrics, starting with the primary metric and its mean over folds."""
    first = words.metric_name(result.metric)[0]
    rows = []
    for name, own in result.models.items():
        entry = own[result.metric]
        spread = "" if entry["sd"] is None else f"± {number(entry['sd'], 3)}"
        cells = [estimate_cell(own[m]["pooled"]) if m in own else Cell("—") for m in metrics]
        rows.append([Cell(label(name)), cells[0], value_cell(entry["mean"], hint=spread), *cells[1:]])
    columns = ["model", first, "mean of folds", *(words.metric_name(m)[0] for m in metrics[1:])]
    caption = f"Out-of-fold figures of every model, pooled within folds, with {intervals.level_text()} intervals"
    return Table(caption, columns, rows, frozenset(range(1, len(columns))))


def fold_table(result: CrossvalResult) -> Table:
    """Table of the primary metric of every model in every fold."""
    names = [unit_words(result, unit) for unit in result.content["units"]]
    rows = [
        [Cell(label(name)), *(value_cell(value) for value in own[result.metric]["folds"])]
        for name, own in result.models.items()
    ]
    caption = f"{words.metric_name(result.metric)[0]} in every fold"
    return Table(caption, ["model", *names], rows, frozenset(range(1, len(names) + 1)), wide=True)


def _differences(result: CrossvalResult, drawn: list[dict[str, Any]]) -> dict[str, Any] | None:
    rows = result.content["paired"]
    if not rows:
        return None
    cells = [
        [
            Cell(f"{label(row['a'])} − {label(row['b'])}", "primary comparison" if row.get("primary") else ""),
            value_cell(row["difference"], strong=True),
            Cell(interval(row), order=row["low"]),
            _p(row["p"]),
            _p(row.get("p_holm")),
            _p(row.get("p_resampled")),
            _p(row.get("p_resampled_holm")),
        ]
        for row in rows
    ]
    columns = [
        "first − second",
        "difference",
        f"{intervals.level_text()} interval",
        "p",
        "p, Holm",
        "p, resampled t",
        "the same, Holm",
    ]
    caption = f"Differences of {words.metric_name(result.metric)[0]}, pooled, on the same resampled patients"
    note = (
        "p: patient bootstrap, which takes the fitted models as they are. Holm: adjusted over all comparisons but the "
        "primary one. Resampled t: over folds and repeats, so that other training patients count too; corrected for those "
        "that the folds share (Nadeau and Bengio 2003)."
    )
    table = Table(caption, columns, cells, frozenset(range(1, 7)))
    return {"table": table, "plot": next(iter(drawn), None), "note": note}


def added_table(result: CrossvalResult) -> Table | None:
    """Table of likelihood-ratio tests of the gain over the clinical covariates; None without such tests."""
    added = result.content.get("added_to_clinical") or {}
    rows = [
        [
            Cell(label(name)),
            value_cell(found["chi2"], 2),
            _p(found["p"]),
            _p(found.get("p_holm")),
            value_cell(found["coefficient"], 2),
            Cell(str(found["n"]), order=found["n"]),
        ]
        for name, found in added.items()
    ]
    if not rows:
        return None
    columns = ["model", "χ², 1 degree of freedom", "p", "p, Holm", "coefficient per SD", "patients"]
    caption = "What a model's out-of-fold score adds to that of the clinical covariates: likelihood-ratio tests"
    return Table(caption, columns, rows, frozenset(range(1, 6)))


def _p(value: float | None) -> Cell:
    return Cell("" if value is None else p_words(value).removeprefix("= "), order=value)


def _class_plots(result: CrossvalResult, model: str) -> list[Plot]:
    """Confusion table and reliability of one model; empty without classes."""
    from dataclasses import replace

    from dmml.evaluation.plots.classification import confusion_plot, reliability_plot

    rows = result.once(model)
    classes = [name.removeprefix("prob_") for name in rows if name.startswith("prob_")]
    if not classes:
        return []
    known, probability = known_labels(rows, classes)
    if not len(known):
        return []
    found = [confusion_plot(known, probability, classes), reliability_plot(known, probability)]
    return [replace(plot, title=f"{plot.title}: {label(model)}") for plot in found]


def _undefined(result: CrossvalResult) -> list[str]:
    """Sentences that say what is left out or undefined, with each reason once."""
    told: dict[str, list[str]] = {}
    for name, own in result.models.items():
        for unit, reason in (own[result.metric].get("undefined") or {}).items():
            told.setdefault(f"undefined in {unit}: {reason}", []).append(label(name))
    missing = result.content.get("missing") or {}
    return [f"{words.metric_name(result.metric)[0]} {text} ({', '.join(names)})." for text, names in told.items()] + [
        f"{label(name)} is left out: not finished in {', '.join(units[:5])}." for name, units in missing.items()
    ]


def _origin(result: CrossvalResult) -> list[tuple[str, str]]:
    rows = [("folder", str(result.folder)), ("patients with known outcome", str(result.content["patients"]))]
    if result.content.get("events") is not None:
        rows.append(("events", str(result.content["events"])))
    several = {what: result.several(what) for what in ("repeat", "seed")}
    rows += [("folds, over all repeats", str(result.folds)), *((f"{what}s", str(n)) for what, n in several.items())]
    kept = {key: result.plan[key] for key in ("dmml", "seed_everything") if key in result.plan}
    hashes = {f"hash of {option}": value for option, value in (result.plan.get("file") or {}).items()}
    rows += flat(kept, "") + flat(hashes, "")
    record = {key: value for key, value in result.record.items() if key not in ("command", "digest")}
    return rows + flat(record, "")


def _configuration(result: CrossvalResult) -> str:
    """The sections of the config that was run, as YAML for `--config`; empty if the plan is lost."""
    if "data" not in result.plan:
        return ""
    import yaml

    sections = {
        key: result.plan[key]
        for key in ("model", "student", "data", "trainer", "student trainer")
        if result.plan.get(key)
    }
    return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)


def _command(result: CrossvalResult) -> str:
    if result.record.get("command"):
        return str(result.record["command"])
    student = " --student STUDENT.yaml" if result.plan.get("student") else ""
    numbers = "".join(
        f" --{what}s {result.several(what)}" for what in ("seed", "repeat") if result.several(what) > 1
    )  # fmt: skip
    numbers += " --cross-fit" if result.plan.get("cross_fit") else ""
    plain = [name for name in result.models if not name.endswith(JOINED)]
    return f"dmml crossval --config CONFIG.yaml{student}{numbers} --models {','.join(plain)} --out {result.folder}"
