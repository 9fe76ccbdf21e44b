"""Plots of a cross-validation: models, differences, folds, risk groups and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dmml.evaluation.crossval.results import JOINED, CrossvalResult
from dmml.evaluation.crossval.text import label, unit_words
from dmml.evaluation.evaluate import HORIZONS
from dmml.evaluation.plots.forest import ROW, WIDTH, Mark, differences_forest, forest, mark_of
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, GREEN, INK, MUTED, ORANGE, VERMILLION, new_figure, style
from dmml.evaluation.plots.survival import calibration_plot, kaplan_meier_plot
from dmml.evaluation.predictions import known_outcome
from dmml.evaluation.report.formatting import horizon_name
from dmml.evaluation.report.text.findings import metric_name
from dmml.evaluation.statistics import intervals
from dmml.evaluation.statistics.calibration import Calibration, calibration_at
from dmml.evaluation.statistics.survival_curves import RiskGroups, kaplan_meier

COLOR = {"slides and RNA": VERMILLION, "slides": BLUE, "RNA": GREEN, "clinical": ORANGE}
"""Colour by the model's inputs."""
LEAST_GROUP = 5
"""Minimum number of patients in each third; curves of smaller groups are uninformative."""


def sees(model: str, reads: set[str]) -> str:
    """Inputs of a model at prediction, as a key of `COLOR`."""
    plain = model.removesuffix(JOINED)
    if plain == "clinical":
        return "clinical"
    if plain == "teacher" and len(reads) == 1:
        return min(reads)
    if plain.startswith("rna_"):
        return "RNA"
    return "slides" if plain.startswith(("student", "histology")) else "slides and RNA"


def models_by(result: CrossvalResult, metric: str) -> Plot | None:
    """Plot every model's metric, alone and joined with the clinical covariates; None if no model has the metric."""
    plain = [name for name in result.models if not name.endswith(JOINED)]
    rows: list[tuple[str, list[Mark]]] = []
    for name in plain:
        marks = [
            mark_of(pooled, label(own), color=COLOR[sees(name, result.reads)], hollow=own.endswith(JOINED))
            for own in (name, f"{name}{JOINED}")
            if (pooled := result.models.get(own, {}).get(metric, {}).get("pooled")) and pooled["value"] is not None
        ]
        if marks:
            rows.append((label(name), marks))
    if not rows:
        return None
    seen = dict.fromkeys(sees(name, result.reads) for name in plain)
    legend = [(name, COLOR[name], False) for name in seen if name != "clinical"]
    joined = any(name.endswith(JOINED) for name in result.models)
    legend += [("with clinical covariates", INK, True)] if joined else []
    name, hint = metric_name(metric)
    chance = 0.5 if metric in ("c_index", "c_index_ipcw", "auc") or metric.startswith("auc_") else None
    caption = f"Pooled over folds, with {intervals.level_text()} patient-bootstrap intervals; {hint}."
    return forest(f"models_{metric}", rows, name, name, chance, caption, legend if len(legend) > 1 else (), False)


def differences(result: CrossvalResult) -> Plot | None:
    """Plot every comparison by the primary metric."""
    rows = [
        (
            f"{label(row['a'])}\n− {label(row['b'])}{' *' if row.get('primary') else ''}",
            row | {"p": row.get("p_holm", row["p"])},
        )
        for row in result.content["paired"]
    ]
    plot = differences_forest(rows, f"difference of {result.endpoint.axis_name}")
    if plot is None or not any(row.get("primary") for row in result.content["paired"]):
        return plot
    star = " * the primary comparison, outside the adjustment."
    return replace(plot, caption=plot.caption + star)


def fold_dots(result: CrossvalResult) -> Plot | None:
    """Plot every fold of every model by the primary metric, with the mean; None if no fold has a value."""
    metric, tooltips = result.metric, {}
    names = [name for name in result.models if any(v is not None for v in result.models[name][metric]["folds"])]
    if not names:
        return None
    with style():
        figure, axes = new_figure(width=WIDTH, height=0.75 + ROW * 0.8 * len(names))
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for index, name in enumerate(names):
            entry, color = result.models[name][metric], COLOR[sees(name, result.reads)]
            for unit, value in zip(result.content["units"], entry["folds"], strict=True):
                if value is not None:
                    gid = f"fold-{index}-{unit['repeat']}-{unit['fold']}-{unit['seed']}"
                    tooltips[gid] = f"{label(name)}, {unit_words(result, unit)}: {value:.3f}"
                    axes.plot(value, -index, "o", color=color, markersize=5, alpha=0.65, markeredgewidth=0, gid=gid)
            tooltips[f"mean-{index}"] = f"{label(name)}, mean of folds: {entry['mean']:.3f}"
            axes.plot(entry["mean"], -index, "|", color=INK, markersize=11, markeredgewidth=1.6, gid=f"mean-{index}")
        axes.set_yticks([-index for index in range(len(names))], [label(name) for name in names])
        axes.set(ylim=(-len(names) + 0.4, 0.6), xlabel=metric_name(metric)[0])
        axes.grid(axis="y", visible=False)
    alt = "; ".join(tooltips[f"mean-{index}"] for index in range(len(names)))
    caption = "One dot a fold (and repeat, and seed); the tick is their mean. Dashed: chance (0.5)."
    return Plot("folds", "Fold by fold", figure, caption, alt, tooltips)


def risk_group_plot(result: CrossvalResult, model: str) -> Plot | None:
    """Plot Kaplan–Meier curves of patients above and below their fold's training cut.

    The risks of two folds' models are on different scales, so each fold has its own cut: the median risk of its
    training patients, which does not depend on test patients. Folds fitted by an earlier dmml have no cut. Then,
    patients are divided into thirds by their rank within the fold, and the caption says so. None for classes or if
    there are too few patients.
    """
    rows = known_outcome(result.once(model))
    if "risk" not in rows or len(rows) < 3 * LEAST_GROUP or not rows["event"].sum():
        return None
    cuts = rows["fold"].map(result.fitted(model, "median_risk"))
    if cuts.notna().all():
        group = (rows["risk"] > cuts).to_numpy(int)
        names, kind, title = ("low risk", "high risk"), "risk_groups", "Risk groups"
        whose = "training patients" + (" that the join was fitted to" if model.endswith(JOINED) else "")
        where = f"cut within each fold at the median risk of its {whose}, all folds taken together"
    else:
        rank = rows.groupby("fold")["risk"].rank(method="first") - 1
        group = (3 * rank // rows.groupby("fold")["risk"].transform("size")).astype(int).to_numpy()
        names, kind, title = ("low risk", "middle", "high risk"), "thirds", "Thirds by risk"
        where = "cut at the thirds of the tested patients' risk within each fold, as no training cut is kept there"
    parts = [(name, rows[group == index]) for index, name in enumerate(names)]
    curves = [kaplan_meier(part["time"], part["event"], name) for name, part in parts if len(part)]
    from lifelines.statistics import multivariate_logrank_test

    several = len(curves) > 1
    p = float(multivariate_logrank_test(rows["time"], group, rows["event"]).p_value) if several else float("nan")
    drawn = kaplan_meier_plot(RiskGroups(curves, float("nan"), kind == "risk_groups", p), where)
    alt = f"{label(model)}: {drawn.alt}"
    return replace(drawn, name=f"{kind}_{model}", title=f"{title}: {label(model)}", alt=alt)


def calibrations_of(result: CrossvalResult, model: str) -> tuple[list[Calibration], list[str]]:
    """Calibration of the out-of-fold predictions, and a sentence for every horizon that has none.

    Calibration is given at the days at which all folds are evaluated.

    Args:
        result: The cross-validation.
        model: Name of one of its models. Both lists are empty for classes.
    """
    if "risk" not in result.predictions:
        return [], []
    rows, found, absent = known_outcome(result.once(model)), [], []
    judged = result.fitted(model, "horizons")
    for day in HORIZONS:
        column = f"survival_{day:g}"
        late = [str(fold) for fold, days in judged.items() if day not in days]
        if late:
            folds = f"fold{'s' if len(late) > 1 else ''} {', '.join(late)}"
            reason = f"fewer than 10 % of the training patients of {folds} are at risk that late"
        elif column not in rows or not np.isfinite(rows[column]).all():
            reason = "not every fold's model tells survival that late"
        elif (told := calibration_at(rows, day)) is None:
            reason = f"{len(rows)} patients are too few for two risk groups"
        else:
            found.append(told)
            continue
        absent.append(f"{label(model)}, {horizon_name(day)}: not judged, {reason}.")
    return found, absent


def calibration_of(found: list[Calibration], model: str) -> Plot | None:
    """Plot observed against predicted survival; None without any calibration."""
    if not found:
        return None
    drawn = calibration_plot(found)
    return replace(drawn, name=f"calibration_{model}", title=f"Calibration: {label(model)}")


def shown_models(result: CrossvalResult, most: int = 4) -> list[str]:
    """Models with drawn curves: the best, those of the primary comparison, student, teacher, then the next best."""
    primary = next((row for row in result.content["paired"] if row.get("primary")), None)
    wanted: list[str] = [primary["a"], primary["b"]] if primary else []
    wanted += [name for name in ("student", "teacher") if name in result.models]
    ranked: Sequence[str] = sorted(result.models, key=lambda name: -(result.pooled(name)["value"] or 0))
    return list(dict.fromkeys([*ranked[:1], *wanted, *ranked]))[:most]
