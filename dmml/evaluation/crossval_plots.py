"""Pictures of a cross-validation: models, differences, folds, and how the out-of-fold risk thirds fared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmml.evaluation.calibration import Calibration, calibration_at
from dmml.evaluation.crossval_results import JOINED, CrossvalResult
from dmml.evaluation.crossval_words import label
from dmml.evaluation.evaluate import HORIZONS
from dmml.evaluation.forests import ROW, WIDTH, Mark, differences_forest, forest, mark_of
from dmml.evaluation.plots import BLUE, GREEN, INK, MUTED, ORANGE, VERMILLION, Picture, new_figure, style
from dmml.evaluation.predictions import known_outcome
from dmml.evaluation.survival_curves import RiskGroups, kaplan_meier
from dmml.evaluation.survival_plots import calibration_picture, kaplan_meier_picture
from dmml.evaluation.words import metric_name

COLOR = {"slides and RNA": VERMILLION, "slides": BLUE, "RNA": GREEN, "clinical": ORANGE}
"""By what a model sees."""
LEAST_THIRD = 5
"""Patients a third of a fold at least, on average; below that thirds say nothing."""


def sees(model: str, reads: set[str]) -> str:
    """What a model is given at prediction: a key of `COLOR`."""
    plain = model.removesuffix(JOINED)
    if plain == "clinical":
        return "clinical"
    if plain == "teacher" and len(reads) == 1:
        return min(reads)
    if plain.startswith("rna_"):
        return "RNA"
    return "slides" if plain.startswith(("student", "histology")) else "slides and RNA"


def models_by(result: CrossvalResult, metric: str) -> Picture | None:
    """Every model by a metric, alone and joined with the clinical covariates; None where none has it."""
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
    caption = f"Pooled over folds, with 95 % patient-bootstrap intervals; {hint}."
    return forest(f"models_{metric}", rows, name, name, chance, caption, legend if len(legend) > 1 else (), False)


def differences(result: CrossvalResult) -> Picture | None:
    """Every comparison of the primary metric."""
    rows = [
        (
            f"{label(row['a'])}\n− {label(row['b'])}{' *' if row.get('primary') else ''}",
            row | {"p": row.get("p_holm", row["p"])},
        )
        for row in result.content["paired"]
    ]
    picture = differences_forest(rows, f"difference of {'concordance' if result.survival else 'macro AUC'}")
    if picture is None or not any(row.get("primary") for row in result.content["paired"]):
        return picture
    star = " * the primary comparison, outside the adjustment."
    return Picture(picture.name, picture.title, picture.caption + star, picture.alt, picture.figure, picture.words)


def fold_dots(result: CrossvalResult) -> Picture | None:
    """Every fold of every model by the primary metric, with their mean; None where no fold has a value."""
    metric, words = result.metric, {}
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
                    words[gid] = f"{label(name)}, {_unit(result, unit)}: {value:.3f}"
                    axes.plot(value, -index, "o", color=color, markersize=5, alpha=0.65, markeredgewidth=0, gid=gid)
            words[f"mean-{index}"] = f"{label(name)}, mean of folds: {entry['mean']:.3f}"
            axes.plot(entry["mean"], -index, "|", color=INK, markersize=11, markeredgewidth=1.6, gid=f"mean-{index}")
        axes.set_yticks([-index for index in range(len(names))], [label(name) for name in names])
        axes.set(ylim=(-len(names) + 0.4, 0.6), xlabel=metric_name(metric)[0])
        axes.grid(axis="y", visible=False)
    told = "; ".join(words[f"mean-{index}"] for index in range(len(names)))
    caption = "One dot a fold (and repeat, and seed); the tick is their mean. Dashed: chance (0.5)."
    return Picture("folds", "Fold by fold", caption, told, figure, words)


def _unit(result: CrossvalResult, unit: dict[str, int]) -> str:
    more = [f"{what} {unit[what]}" for what in ("repeat", "seed") if result.several(what) > 1]
    return ", ".join([f"fold {unit['fold']}", *more])


def thirds_picture(result: CrossvalResult, model: str) -> Picture | None:
    """Kaplan–Meier curves of the thirds by out-of-fold risk, cut within each fold; None for classes or too few patients.

    Risks of two folds' models are on scales of their own, so a patient's third is told by the rank within the fold.
    """
    rows = known_outcome(result.once(model)) if result.survival else pd.DataFrame()
    if len(rows) < 3 * LEAST_THIRD or not rows["event"].sum():
        return None
    rank = rows.groupby("fold")["risk"].rank(method="first") - 1
    third = (3 * rank // rows.groupby("fold")["risk"].transform("size")).astype(int).to_numpy()
    parts = [rows[third == index] for index in range(3)]
    curves = [
        kaplan_meier(part["time"], part["event"], name)
        for name, part in zip(("low risk", "middle", "high risk"), parts, strict=True)
        if len(part)
    ]
    from lifelines.statistics import multivariate_logrank_test

    p = float(multivariate_logrank_test(rows["time"], third, rows["event"]).p_value)
    groups = RiskGroups(curves, float("nan"), False, p)
    where = "cut at the thirds of the out-of-fold risk within each fold, all folds taken together"
    drawn = kaplan_meier_picture(groups, where)
    title = f"Thirds by risk: {label(model)}"
    alt = f"{label(model)}: {drawn.alt}"
    return Picture(f"thirds_{model}", title, drawn.caption, alt, drawn.figure, drawn.words, drawn.layers, drawn.readout)


def calibrations_of(result: CrossvalResult, model: str) -> list[Calibration]:
    """Of the out-of-fold predictions at the horizons at which every fold's model tells survival; none for classes."""
    rows = known_outcome(result.once(model)) if result.survival else pd.DataFrame()
    days = [day for day in HORIZONS if f"survival_{day:g}" in rows and np.isfinite(rows[f"survival_{day:g}"]).all()]
    return [told for day in days if (told := calibration_at(rows, day)) is not None]


def calibration_of(found: list[Calibration], model: str) -> Picture | None:
    """Observed against predicted survival; None where nothing was found."""
    if not found:
        return None
    drawn = calibration_picture(found)
    title = f"Calibration: {label(model)}"
    return Picture(f"calibration_{model}", title, drawn.caption, drawn.alt, drawn.figure, drawn.words, drawn.layers)


def shown_models(result: CrossvalResult, most: int = 4) -> list[str]:
    """Models whose curves are drawn: those of the primary comparison, the student and the teacher, then the best ones."""
    primary = next((row for row in result.content["paired"] if row.get("primary")), None)
    wanted: list[str] = [primary["a"], primary["b"]] if primary else []
    wanted += [name for name in ("student", "teacher") if name in result.models]
    ranked: Sequence[str] = sorted(result.models, key=lambda name: -(result.pooled(name)["value"] or 0))
    return list(dict.fromkeys([*ranked[:1], *wanted, *ranked]))[:most]
