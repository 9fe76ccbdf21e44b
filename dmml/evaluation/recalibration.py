"""Recalibration on a share of a test cohort, evaluated on its other patients, apart from the main results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.evaluate import evaluate, horizons
from dmml.evaluation.predictions import class_names, curve_at, known_labels, known_outcome, survival_days
from dmml.evaluation.report.formatting import horizon_name, percent
from dmml.evaluation.statistics.calibration import calibration_at

LEAST_EVENTS = 10
"""Minimum number of events, or of patients in the rarest class that occurs.

With fewer, two coefficients are too uncertain to be used.
"""
PENALTY = 0.5
"""Weight of the penalty that pulls each coefficient towards no recalibration, as strongly as a few patients would."""
CHANGED = ("ibs", "accuracy", "balanced_accuracy", "f1_macro", "kappa_quadratic", "ece")
"""Metrics that recalibration may change; it does not change the order of patients by risk."""


def recalibrated(predictions: pd.DataFrame, context: dict, share: float, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """Recalibrate on `share` of the patients with a known outcome, and evaluate the others before and after.

    Survival: H'(t) = e^a H(t)^b of the cumulative hazard H = −log S, by the likelihood of the share's follow-up.
    Classes: log p' = c_k + b log p_k up to a constant, by the share's cross-entropy. A weak penalty pulls both towards
    a, c = 0 and b = 1.

    Args:
        predictions: As for `evaluate`.
        context: As for `evaluate`.
        share: Share of the patients to recalibrate on, drawn within events or classes.
        seed: Seed of the draw.

    Returns:
        Content of `recalibrated.json`, and the recalibrated predictions of the evaluated patients. The predictions are
        None if there were too few patients to recalibrate on, and `reason` says so.
    """
    survival = "risk" in predictions
    if survival:
        known = known_outcome(predictions)
        stratum = known["event"].to_numpy(float)
    else:
        known = predictions[predictions["label"].notna()] if "label" in predictions else predictions.iloc[:0]
        known = known.reset_index(drop=True)
        stratum = known["label"].to_numpy(object) if len(known) else np.zeros(0, object)
    chosen = draw_share(stratum, share, seed)
    used, judged = known[chosen], known[~chosen].reset_index(drop=True)
    content: dict[str, Any] = {"share": share, "seed": seed, "n_used": len(used), "n": len(judged)}
    rarest = int((stratum[chosen] > 0).sum()) if survival else _rarest(stratum[chosen])
    if rarest < LEAST_EVENTS:
        what = "events" if survival else "patients of the rarest class"
        content["reason"] = f"{rarest} {what} among the {len(used)} patients of the share, of {LEAST_EVENTS} needed"
        return content | {"words": [f"Not recalibrated: {content['reason']}."]}, None
    if survival:
        content |= {"events_used": rarest, "events": int(judged["event"].sum())}
        a, b = fit_survival(used)
        content["method"] = "H'(t) = exp(intercept) * H(t) ** slope of the cumulative hazard"
        content["coefficients"] = {"intercept": a, "slope": b}
        changed = _apply_survival(judged, a, b)
    else:
        classes = class_names(predictions, context)
        offsets, b = fit_classes(*known_labels(used, classes))
        content["method"] = "log p' = offset of the class + slope * log p, normalised"
        content["coefficients"] = {"slope": b, **{f"offset of {c}": v for c, v in zip(classes, offsets, strict=True)}}
        changed = judged.assign(**_apply_classes(judged, classes, offsets, b))
    return content | _judged(judged, changed, context, survival), changed


def draw_share(stratum: ArrayLike, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """(n,) bool: draw the same share of every stratum at random."""
    stratum = np.asarray(stratum)
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(stratum), bool)
    for value in sorted(set(stratum.tolist()), key=str):
        members = generator.permutation(np.flatnonzero(stratum == value))
        chosen[members[: round(share * len(members))]] = True
    return chosen


def fit_survival(known: pd.DataFrame) -> tuple[float, float]:
    """(a, b) of H' = e^a H^b: maximises Σ event · (a + log b + (b − 1) log H) − e^a H^b − penalty, H = H(t_i).

    Follow-up is cut off at the last predicted day. The likelihood's term of the uncalibrated hazard is omitted, because
    it does not depend on a and b.

    Args:
        known: Table with `time`, `event` and `survival_<days>`.
    """
    from scipy.optimize import minimize

    last = survival_days(known)[-1]
    time = known["time"].to_numpy(float)
    event = (known["event"].to_numpy(float) > 0) & (time <= last)
    days, where = np.unique(np.minimum(time, last), return_inverse=True)
    survival = curve_at(known, days)[np.arange(len(known)), where]
    log_hazard = np.log(np.clip(-np.log(np.clip(survival, 1e-12, 1)), 1e-6, None))

    def objective(values: NDArray) -> float:
        a, log_b = values
        b = np.exp(log_b)
        told = event * (a + log_b + (b - 1) * log_hazard) - np.exp(np.clip(a + b * log_hazard, -50, 50))
        return float(-told.sum() + PENALTY * (values**2).sum())

    a, log_b = minimize(objective, np.zeros(2), method="L-BFGS-B", bounds=[(-5, 5), (-2, 2)]).x
    return float(a), float(np.exp(log_b))


def fit_classes(label: NDArray[np.int64], probability: NDArray[np.float64]) -> tuple[list[float], float]:
    """(offsets (C,), b) of log p' = c + b log p that minimise the cross-entropy with the penalty.

    The offset of a class without patients in the share stays near 0.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    logs = np.log(np.clip(probability, 1e-6, 1))
    rows = np.arange(len(label))

    def objective(values: NDArray) -> float:
        offsets, log_b = values[:-1], values[-1]
        told = log_softmax(offsets + np.exp(log_b) * logs, axis=1)[rows, label].sum()
        return float(-told + PENALTY * (values**2).sum())

    found = minimize(objective, np.zeros(logs.shape[1] + 1), method="L-BFGS-B").x
    return [float(value) for value in found[:-1]], float(np.exp(found[-1]))


def _apply_survival(table: pd.DataFrame, a: float, b: float) -> pd.DataFrame:
    """Recalibrate the curves; the risk, which orders the patients, stays unchanged."""
    columns = [name for name in table if name.startswith("survival_")]
    hazard = -np.log(np.clip(table[columns].to_numpy(float), 1e-12, 1))
    changed = np.exp(-np.exp(a) * hazard**b)
    return table.assign(**dict(zip(columns, changed.T, strict=True)))


def _apply_classes(table: pd.DataFrame, classes: list[str], offsets: list[float], b: float) -> Mapping[str, NDArray]:
    from scipy.special import softmax

    columns = [f"prob_{name}" for name in classes]
    changed = softmax(np.array(offsets) + b * np.log(np.clip(table[columns].to_numpy(float), 1e-6, 1)), axis=1)
    return dict(zip(columns, changed.T, strict=True))


def _judged(before: pd.DataFrame, after: pd.DataFrame, context: dict, survival: bool) -> dict[str, Any]:
    """Metrics and calibration of the same patients before and after recalibration."""
    results = [evaluate(table, context) for table in (before, after)]
    names = [name for name in results[0] if name in CHANGED]
    content: dict[str, Any] = {
        "metrics": {name: {"before": results[0][name], "after": results[1][name]} for name in names}
    }
    if survival:
        content["calibration"] = {}
        for day in horizons(context, before["time"].to_numpy(float)):
            told = [calibration_at(table, day) for table in (before, after)]
            if None not in told:
                keys = ("predicted", "observed", "slope", "intercept", "p")
                plain = [{key: one.plain()[key] for key in keys} for one in told]
                content["calibration"][f"{day:g}"] = dict(zip(("before", "after"), plain, strict=True))
    return content | {"words": _words(content, len(before))}


def _words(content: dict[str, Any], n: int) -> list[str]:
    sentences = [
        f"Judged on the {n} patients who took no part in the recalibration; the figures above are not touched by it."
    ]
    for day, told in content.get("calibration", {}).items():
        before, after = told["before"], told["after"]
        if before["observed"] is not None:
            sentences.append(
                f"At {horizon_name(float(day))}, {percent(before['observed'])} were event-free; "
                f"{percent(before['predicted'])} had been predicted, {percent(after['predicted'])} after recalibration."
            )
    name = "ibs" if "ibs" in content["metrics"] else "ece"
    entries = content["metrics"].get(name)
    if entries and None not in (entries["before"]["value"], entries["after"]["value"]):
        label = "integrated Brier score" if name == "ibs" else "expected calibration error"
        sentences.append(
            f"The {label} goes from {entries['before']['value']:.3f} to {entries['after']['value']:.3f} (lower is better)."
        )
    return sentences


def _rarest(labels: NDArray) -> int:
    return min(np.unique(labels.astype(str), return_counts=True)[1], default=0)
