"""Sections of a cross-validation's report. To add one, write a function of the result and list it in `SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dmml.evaluation.crossval.model_names import label
from dmml.evaluation.crossval.plots import calibration_plot_of, calibrations_of, models_with_curves, risk_group_plot
from dmml.evaluation.crossval.results import CrossvalResult
from dmml.evaluation.crossval.tables import hazard_ratio_table
from dmml.evaluation.endpoints.regression import value_name
from dmml.evaluation.plots.curves.decision import decision_plot
from dmml.evaluation.plots.plot import file_name
from dmml.evaluation.predictions import known_labels
from dmml.evaluation.report.calibration_table import HOW_TO_READ, calibration_table
from dmml.evaluation.report.decision_table import HOW_TO_READ as NET_BENEFIT
from dmml.evaluation.report.decision_table import decision_table
from dmml.evaluation.report.flow_section import CAPTION, checked_flow_plot
from dmml.evaluation.report.section import Section
from dmml.evaluation.values.column import PREDICTED_VALUE

N_CALIBRATED = 2
"""Number of models whose calibration is shown."""


def risk_group_section(result: CrossvalResult) -> Section | None:
    """Kaplan–Meier curves of some models' risk groups, and the hazard ratio of every model; None for classes."""
    plots = [plot for name in models_with_curves(result) if (plot := risk_group_plot(result, name))]
    table = hazard_ratio_table(result)
    return Section("Risk groups", plots=plots, tables=[table] if table else []) if plots or table else None


def calibration_section(result: CrossvalResult) -> Section | None:
    """Calibration of the first models at each horizon, or why it is absent; None for classes."""
    plots, tables, sentences = [], [], []
    for model in models_with_curves(result)[:N_CALIBRATED]:
        calibrations, absent = calibrations_of(result, model)
        sentences += absent
        if plot := calibration_plot_of(calibrations, model):
            plots.append(plot)
        if table := calibration_table(calibrations, f": {label(model)}"):
            tables.append(table)
    if not plots and not sentences:
        return None
    return Section("Calibration", ([HOW_TO_READ] if plots else []) + sentences, plots, tables)


def decision_section(result: CrossvalResult) -> Section | None:
    """Net benefit of the out-of-fold predictions of the first models, all folds taken together.

    Probabilities mean the same in each fold, unlike risks, so patients of several folds can be counted together.
    """
    plots, tables = [], []
    for model in models_with_curves(result)[:N_CALIBRATED]:
        rows = result.endpoint.with_outcome(result.predictions_of(model))
        curves = result.endpoint.decision_curves(rows, decision_context(result, model)) if len(rows) else []
        for plot in (decision_plot(curve) for curve in curves if curve.is_defined):
            title = f"{plot.title}, {label(model)}"
            plots.append(replace(plot, name=f"{plot.name}_{file_name(model)}", title=title))
        tables += [decision_table(curves, f": {label(model)}")] if curves else []
    return Section("Decision curves", [NET_BENEFIT], plots, tables) if plots else None


def decision_context(result: CrossvalResult, model: str) -> dict[str, Any]:
    """Horizons that all folds evaluate; no entry for classes."""
    by_fold = list(result.context_by_fold(model, "horizons").values())
    return {"horizons": [day for day in by_fold[0] if all(day in days for days in by_fold)]} if by_fold else {}


def flow_section(result: CrossvalResult) -> Section | None:
    """Flow of patients into the first fold; None for results of an earlier dmml."""
    model = next(iter(result.models))
    first = result.fits[0]
    flow = result.context(first, model).get("flow")
    if not flow:
        return None
    path = result.fit_folder(first, model) / "context.json"
    plot = checked_flow_plot(flow, "flow", f"Patients of {result.fit_name(first)}", path)
    sentence = f"{CAPTION} In each of the {result.n_folds} folds, other patients are tested."
    return Section("Flow of patients", [sentence], [plot])


def class_section(result: CrossvalResult) -> Section | None:
    """Confusion table and reliability of the best model; None for survival."""
    from dmml.evaluation.plots.classification import confusion_plot, reliability_plot

    model = models_with_curves(result)[0]
    rows = result.predictions_of(model)
    classes = [name.removeprefix("prob_") for name in rows if name.startswith("prob_")]
    if not classes:
        return None
    labels, probability = known_labels(rows, classes)
    if not len(labels):
        return None
    plots = [confusion_plot(labels, probability, classes), reliability_plot(labels, probability)]
    return Section("Classes", plots=[replace(plot, title=f"{plot.title}: {label(model)}") for plot in plots])


def value_section(result: CrossvalResult) -> Section | None:
    """Measured against out-of-fold predicted values of the best model; None for other endpoints."""
    from dmml.evaluation.values.plots import agreement_plot

    model = models_with_curves(result)[0]
    rows = result.predictions_of(model)
    if PREDICTED_VALUE not in rows:
        return None
    rows = rows.dropna(subset=["value", PREDICTED_VALUE])
    if rows.empty:
        return None
    context = result.context(result.fits[0], model)
    name, unit = value_name(context), str(context.get("unit") or "")
    plot = agreement_plot(rows["value"].to_numpy(float), rows[PREDICTED_VALUE].to_numpy(float), name, unit)
    return Section("Values", plots=[replace(plot, title=f"{plot.title}: {label(model)}")])


SECTIONS: tuple[Callable[[CrossvalResult], Section | None], ...] = (
    risk_group_section,
    calibration_section,
    class_section,
    value_section,
    decision_section,
    flow_section,
)
"""Sections between the training curves and the origin of the results. A function returns None where it has nothing to
show."""
