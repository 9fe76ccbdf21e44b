"""Plots of a cross-validation: models, differences, folds, risk groups and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dmml.cohort.clinical.follow_up import HORIZONS
from dmml.evaluation import interval_settings
from dmml.evaluation.crossval.model_names import inputs_of, label
from dmml.evaluation.crossval.results import JOINED, CrossvalResult
from dmml.evaluation.plots.forest import ROW_HEIGHT, WIDTH, LegendEntry, Mark, differences_forest, forest_plot
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, DASHED, GREEN, INK, MUTED, ORANGE, VERMILLION, new_figure, style
from dmml.evaluation.plots.survival import calibration_plot, kaplan_meier_plot
from dmml.evaluation.predictions import known_outcome
from dmml.evaluation.report.formatting import horizon_name
from dmml.evaluation.report.text.metric_names import metric_name
from dmml.evaluation.statistics.calibration import Calibration, calibration_at
from dmml.evaluation.statistics.log_rank import stratified_log_rank
from dmml.evaluation.statistics.survival_curves import RiskGroups, kaplan_meier

COLOR = {"slides and RNA": VERMILLION, "slides": BLUE, "RNA": GREEN, "clinical": ORANGE}
"""Colour by the model's inputs."""
MIN_THIRD = 5
"""Minimum number of patients in each third; curves of smaller groups are uninformative."""


def models_by_metric(result: CrossvalResult, metric: str) -> Plot | None:
    """Plot every model's metric, alone and joined with the clinical covariates; None if no model has the metric."""
    plain = [name for name in result.models if not name.endswith(JOINED)]
    rows: list[tuple[str, list[Mark]]] = []
    for name in plain:
        color = COLOR[inputs_of(name, result.inputs, result.added_baselines)]
        marks = []
        for model in (name, f"{name}{JOINED}"):
            pooled = result.models.get(model, {}).get(metric, {}).get("pooled")
            if pooled and pooled["value"] is not None:
                marks.append(Mark.of(pooled, label(model), color=color, hollow=model.endswith(JOINED)))
        if marks:
            rows.append((label(name), marks))
    if not rows:
        return None
    inputs = dict.fromkeys(inputs_of(name, result.inputs, result.added_baselines) for name in plain)
    legend = [LegendEntry(name, COLOR[name]) for name in inputs if name != "clinical"]
    if any(name.endswith(JOINED) for name in result.models):
        legend.append(LegendEntry("with clinical covariates", INK, hollow=True))
    title, hint = metric_name(metric, result.endpoint)
    chance = (
        0.5 if metric in ("c_index", "c_index_antolini", "c_index_ipcw", "auc") or metric.startswith("auc_") else None
    )
    caption = f"Pooled over folds, with {interval_settings.level_text()} patient-bootstrap intervals; {hint}."
    shown_legend = legend if len(legend) > 1 else ()
    return forest_plot(f"models_{metric}", rows, title, title, chance, caption, shown_legend, show_values=False)


def differences_plot(result: CrossvalResult) -> Plot | None:
    """Plot every comparison by the primary metric."""
    rows = []
    for row in result.comparisons:
        star = " *" if row.get("primary") else ""
        name = f"{label(row['a'])}\n− {label(row['b'])}{star}"
        rows.append((name, row | {"p": row.get("p_holm", row["p"])}))
    plot = differences_forest(rows, f"difference of {result.endpoint.axis_name}")
    if plot is None or result.primary_comparison is None:
        return plot
    return replace(plot, caption=f"{plot.caption} * the primary comparison, which is not adjusted.")


def fold_plot(result: CrossvalResult) -> Plot | None:
    """Plot every fold of every model by the primary metric, with the mean; None if no fold has a value."""
    metric, chance, tooltips = result.metric, result.endpoint.chance, {}
    names = [name for name in result.models if any(v is not None for v in result.models[name][metric]["folds"])]
    if not names:
        return None
    with style():
        figure, axes = new_figure(width=WIDTH, height=0.75 + ROW_HEIGHT * 0.8 * len(names))
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=1, linestyle=DASHED)
        for index, name in enumerate(names):
            entry, color = result.models[name][metric], COLOR[inputs_of(name, result.inputs, result.added_baselines)]
            for fit, value in zip(result.fits, entry["folds"], strict=True):
                if value is not None:
                    gid = f"fold-{index}-{fit['repeat']}-{fit['fold']}-{fit['seed']}"
                    tooltips[gid] = f"{label(name)}, {result.fit_name(fit)}: {value:.3f}"
                    axes.plot(value, -index, "o", color=color, markersize=5, alpha=0.65, markeredgewidth=0, gid=gid)
            tooltips[f"mean-{index}"] = f"{label(name)}, mean of folds: {entry['mean']:.3f}"
            axes.plot(entry["mean"], -index, "|", color=INK, markersize=11, markeredgewidth=1.6, gid=f"mean-{index}")
        axes.set_yticks([-index for index in range(len(names))], [label(name) for name in names])
        axes.set(ylim=(-len(names) + 0.4, 0.6), xlabel=metric_name(metric, result.endpoint)[0])
        axes.grid(axis="y", visible=False)
    alt = "; ".join(tooltips[f"mean-{index}"] for index in range(len(names)))
    dashed = "" if chance is None else f" Dashed: chance ({chance:g})."
    caption = f"One dot per fold (and repeat, and seed); the tick is their mean.{dashed}"
    return Plot("folds", "Fold by fold", figure, caption, alt, tooltips)


def risk_group_plot(result: CrossvalResult, model: str) -> Plot | None:
    """Plot Kaplan–Meier curves of patients above and below their fold's training cut.

    The risks of two folds' models are on different scales, so each fold has its own cut: the median risk of its
    training patients, which does not depend on test patients. Folds fitted by an earlier dmml have no cut. Then,
    patients are divided into thirds by their rank within the fold, and the caption says so. None for classes or if
    there are too few patients.
    """
    rows = known_outcome(result.predictions_of(model))
    if "risk" not in rows or len(rows) < 3 * MIN_THIRD or not rows["event"].sum():
        return None
    cuts = rows["fold"].map(result.context_by_fold(model, "median_risk"))
    if cuts.notna().all():
        group = (rows["risk"] > cuts).astype(int)
        names, kind, title = ["low risk", "high risk"], "risk_groups", "Risk groups"
        patients = "training patients" + (" that the join was fitted to" if model.endswith(JOINED) else "")
        division = f"divided within each fold at the median risk of its {patients}, all folds taken together"
    else:
        group = _thirds_by_risk(rows)
        names, kind, title = ["low risk", "middle", "high risk"], "thirds", "Thirds by risk"
        division = (
            "divided into thirds of the tested patients' risk within each fold, because the folders of the fits keep no "
            "training median"
        )
    groups = [(name, rows[group == index]) for index, name in enumerate(names)]
    curves = [kaplan_meier(members["time"], members["event"], name) for name, members in groups if len(members)]
    p = stratified_log_rank(rows["time"], rows["event"], group, rows["fold"])
    ratio = result.hazard_ratios.get(model) if kind == "risk_groups" else None
    plot = kaplan_meier_plot(RiskGroups(curves, float("nan"), kind == "risk_groups", p), division, ratio)
    alt = f"{label(model)}: {plot.alt}"
    caption = f"{plot.caption} The log-rank test compares the patients of a fold with each other: a stratum per fold."
    return replace(plot, name=f"{kind}_{model}", title=f"{title}: {label(model)}", caption=caption, alt=alt)


def _thirds_by_risk(rows: pd.DataFrame) -> pd.Series:
    """Third of each patient by the rank of their risk within the fold: 0, 1 or 2."""
    risk = rows.groupby("fold")["risk"]
    return (3 * (risk.rank(method="first") - 1) // risk.transform("size")).astype(int)


def calibrations_of(result: CrossvalResult, model: str) -> tuple[list[Calibration], list[str]]:
    """Calibration of the out-of-fold predictions, and a sentence for every horizon that has none.

    Calibration is given at the days at which all folds are evaluated.

    Args:
        result: The cross-validation.
        model: Name of one of its models. Both lists are empty for classes.
    """
    if "risk" not in result.predictions:
        return [], []
    rows = known_outcome(result.predictions_of(model))
    horizons = result.context_by_fold(model, "horizons")
    calibrations, sentences = [], []
    for day in HORIZONS:
        column = f"survival_{day:g}"
        short_folds = [str(fold) for fold, days in horizons.items() if day not in days]
        if short_folds:
            folds = f"fold{'s' if len(short_folds) > 1 else ''} {', '.join(short_folds)}"
            reason = f"fewer than 10 % of the training patients of {folds} are at risk at that time"
        elif column not in rows or not np.isfinite(rows[column]).all():
            reason = "the model of at least one fold does not predict survival that far"
        elif (calibration := calibration_at(rows, day)) is None:
            reason = f"{len(rows)} patients are too few for two risk groups"
        else:
            calibrations.append(calibration)
            continue
        sentences.append(f"{label(model)}, {horizon_name(day)}: not evaluated, because {reason}.")
    return calibrations, sentences


def calibration_plot_of(calibrations: list[Calibration], model: str) -> Plot | None:
    """Plot observed against predicted survival; None without any calibration."""
    if not calibrations:
        return None
    plot = calibration_plot(calibrations)
    return replace(plot, name=f"calibration_{model}", title=f"Calibration: {label(model)}")


def models_with_curves(result: CrossvalResult, limit: int = 4) -> list[str]:
    """Models with drawn curves: the best, those of the primary comparison, student, teacher, then the next best."""
    primary = result.primary_comparison
    preferred: list[str] = [primary["a"], primary["b"]] if primary else []
    preferred += [name for name in ("student", "teacher") if name in result.models]
    ranked: Sequence[str] = sorted(result.models, key=lambda name: -(result.pooled(name)["value"] or 0))
    return list(dict.fromkeys([*ranked[:1], *preferred, *ranked]))[:limit]
