"""Recalibration on a share of a test cohort, evaluated on its other patients, apart from the main results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.predictions import curve_at, known_labels, survival_days
from dmml.evaluation.report.formatting import horizon_name, percent
from dmml.evaluation.statistics.calibration import Calibration
from dmml.evaluation.values.column import PREDICTED_VALUE

MIN_EVENTS = 10
"""Minimum number of events, or of patients in the rarest class that occurs.

With fewer, two coefficients are too uncertain to be used.
"""
PENALTY = 0.5
"""Weight of the penalty that pulls each coefficient towards no recalibration, as strongly as a few patients would."""
CHANGED = (
    "ibs",
    "accuracy",
    "balanced_accuracy",
    "specificity_macro",
    "sensitivity",
    "specificity",
    "f1_macro",
    "kappa_quadratic",
    "ece",
    "r2",
    "mae",
    "mean_error",
    "calibration_slope",
)
"""Metrics that recalibration may change; it does not change the order of patients by risk."""


def recalibrate(evaluation: Evaluation, share: float, seed: int = 0) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Recalibrate on `share` of the patients with a known outcome, and evaluate the others before and after.

    Survival: H'(t) = e^a H(t)^b of the cumulative hazard H = −log S, by the likelihood of the share's follow-up.
    Classes: log p' = c_k + b log p_k up to a constant, by the share's cross-entropy. Values: p' = a + b p, by least
    squares. A weak penalty pulls all of them towards a, c = 0 and b = 1.

    Args:
        evaluation: The evaluation of the whole cohort.
        share: Share of the patients to recalibrate on, drawn within events or classes.
        seed: Seed of the draw.

    Returns:
        Content of `recalibrated.json`, and the recalibrated predictions of the evaluated patients. The predictions are
        None if there were too few patients to recalibrate on, and `reason` says so.
    """
    patients, survival = evaluation.with_outcome, evaluation.risk_groups is not None
    values = PREDICTED_VALUE in patients
    content: dict[str, Any]
    if len(patients) and not survival and not values and not evaluation.classes:
        reason = "only survival, class probabilities and predicted values can be recalibrated"
        content = {"share": share, "seed": seed, "n_used": 0, "n": 0, "reason": reason}
        return content | {"words": [f"Not recalibrated: {reason}."]}, None
    column = "event" if survival else "label"
    strata = np.zeros(len(patients))
    if len(patients) and not values:
        strata = patients[column].to_numpy(float if survival else object)
    is_used = draw_share(strata, share, seed)
    used, others = patients[is_used], patients[~is_used].reset_index(drop=True)
    content = {"share": share, "seed": seed, "n_used": len(used), "n": len(others)}
    rarest = int((strata[is_used] > 0).sum()) if survival else _size_of_rarest(strata[is_used])
    if rarest < MIN_EVENTS:
        counted = "events" if survival else "patients" if values else "patients of the rarest class"
        content["reason"] = f"{rarest} {counted} among the {len(used)} patients of the share, of {MIN_EVENTS} needed"
        return content | {"words": [f"Not recalibrated: {content['reason']}."]}, None
    if survival:
        content |= {"events_used": rarest, "events": int(others["event"].sum())}
        a, b = fit_survival(used)
        content["method"] = "H'(t) = exp(intercept) * H(t) ** slope of the cumulative hazard"
        content["coefficients"] = {"intercept": a, "slope": b}
        recalibrated = _apply_survival(others, a, b)
    elif values:
        a, b = fit_values(used["value"].to_numpy(float), used[PREDICTED_VALUE].to_numpy(float))
        content["method"] = "intercept + slope * predicted value"
        content["coefficients"] = {"intercept": a, "slope": b}
        recalibrated = others.assign(**{PREDICTED_VALUE: a + b * others[PREDICTED_VALUE]})
    else:
        classes = evaluation.classes
        offsets, b = fit_classes(*known_labels(used, classes))
        content["method"] = "log p' = offset of the class + slope * log p, normalised"
        content["coefficients"] = {"slope": b, **{f"offset of {c}": v for c, v in zip(classes, offsets, strict=True)}}
        recalibrated = others.assign(**_apply_classes(others, classes, offsets, b))
    before, after = evaluation.with_predictions(others), evaluation.with_predictions(recalibrated)
    return content | _before_and_after(before, after), recalibrated


def draw_share(strata: ArrayLike, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """(n,) bool: draw the same share of every stratum at random.

    Args:
        strata: (n,) labels.
        share: Share of each stratum to draw.
        seed: Seed of the draw.
    """
    labels = np.asarray(strata)
    generator = np.random.default_rng(seed)
    is_drawn = np.zeros(len(labels), bool)
    for value in sorted(set(labels.tolist()), key=str):
        members = generator.permutation(np.flatnonzero(labels == value))
        is_drawn[members[: round(share * len(members))]] = True
    return is_drawn


def fit_survival(patients: pd.DataFrame) -> tuple[float, float]:
    """(a, b) of H' = e^a H^b: maximises Σ event · (a + log b + (b − 1) log H) − e^a H^b − penalty, H = H(t_i).

    Follow-up is cut off at the last predicted day. The likelihood's term of the uncalibrated hazard is omitted, because
    it does not depend on a and b.

    Args:
        patients: Table with `time`, `event` and `survival_<days>`.
    """
    from scipy.optimize import minimize

    last = survival_days(patients)[-1]
    time = patients["time"].to_numpy(float)
    event = (patients["event"].to_numpy(float) > 0) & (time <= last)
    days, day_of = np.unique(np.minimum(time, last), return_inverse=True)
    survival = curve_at(patients, days)[np.arange(len(patients)), day_of]
    log_hazard = np.log(np.clip(-np.log(np.clip(survival, 1e-12, 1)), 1e-6, None))

    def objective(values: NDArray) -> float:
        a, log_b = values
        b = np.exp(log_b)
        log_likelihood = event * (a + log_b + (b - 1) * log_hazard) - np.exp(np.clip(a + b * log_hazard, -50, 50))
        return float(-log_likelihood.sum() + PENALTY * (values**2).sum())

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
        log_likelihood = log_softmax(offsets + np.exp(log_b) * logs, axis=1)[rows, label].sum()
        return float(-log_likelihood + PENALTY * (values**2).sum())

    *offsets, log_b = minimize(objective, np.zeros(logs.shape[1] + 1), method="L-BFGS-B").x
    return [float(value) for value in offsets], float(np.exp(log_b))


def fit_values(value: NDArray, predicted: NDArray) -> tuple[float, float]:
    """(a, b) of p' = a + b p that minimise the squared error with the penalty, in standard deviations of the values.

    Args:
        value: (n,) measured values.
        predicted: (n,) predicted values.
    """
    sd, centre = float(value.std()) or 1.0, float(predicted.mean())
    x = np.column_stack([np.ones(len(value)), (predicted - centre) / sd])
    prior = 2 * PENALTY * np.eye(2)  # minimises half the squared error + PENALTY · (offset² + change²)
    offset, change = np.linalg.solve(x.T @ x + prior, x.T @ ((value - predicted) / sd))
    slope = 1 + change
    return float(centre + offset * sd - slope * centre), float(slope)


def _apply_survival(table: pd.DataFrame, a: float, b: float) -> pd.DataFrame:
    """Recalibrate the curves; the risk, which orders the patients, stays unchanged."""
    columns = [name for name in table if name.startswith("survival_")]
    hazard = -np.log(np.clip(table[columns].to_numpy(float), 1e-12, 1))
    survival = np.exp(-np.exp(a) * hazard**b)
    return table.assign(**dict(zip(columns, survival.T, strict=True)))


def _apply_classes(table: pd.DataFrame, classes: list[str], offsets: list[float], b: float) -> Mapping[str, NDArray]:
    from scipy.special import softmax

    columns = [f"prob_{name}" for name in classes]
    probability = softmax(np.array(offsets) + b * np.log(np.clip(table[columns].to_numpy(float), 1e-6, 1)), axis=1)
    return dict(zip(columns, probability.T, strict=True))


def _before_and_after(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Metrics and calibration of the same patients before and after recalibration."""
    names = [name for name in before.metrics if name in CHANGED]
    content: dict[str, Any] = {
        "metrics": {name: {"before": before.metrics[name], "after": after.metrics[name]} for name in names}
    }
    if before.risk_groups is not None:
        content["calibration"] = {}
        for day, calibration in before.calibration_by_day.items():
            recalibrated = after.calibration_by_day[day]
            if calibration is not None and recalibrated is not None:
                content["calibration"][f"{day:g}"] = {
                    "before": _calibration_summary(calibration),
                    "after": _calibration_summary(recalibrated),
                }
    return content | {"words": _words(content, len(before.predictions))}


def _calibration_summary(calibration: Calibration) -> dict[str, Any]:
    plain = calibration.plain()
    return {key: plain[key] for key in ("predicted", "observed", "slope", "intercept", "p")}


def _words(content: dict[str, Any], n: int) -> list[str]:
    sentences = [
        f"Evaluated on the {n} patients who were not used for the recalibration, which does not change the results above."
    ]
    for day, both in content.get("calibration", {}).items():
        before, after = both["before"], both["after"]
        if before["observed"] is not None:
            sentences.append(
                f"At {horizon_name(float(day))}, {percent(before['observed'])} were event-free; "
                f"{percent(before['predicted'])} were predicted before and {percent(after['predicted'])} after recalibration."
            )
    names = {"ibs": "integrated Brier score", "mae": "mean absolute error", "ece": "expected calibration error"}
    name = next((name for name in names if name in content["metrics"]), "ece")
    entries = content["metrics"].get(name)
    if entries and None not in (entries["before"]["value"], entries["after"]["value"]):
        sentences.append(
            f"The {names[name]} goes from {entries['before']['value']:.3f} to {entries['after']['value']:.3f} (lower is better)."
        )
    return sentences


def _size_of_rarest(labels: NDArray) -> int:
    return min(np.unique(labels.astype(str), return_counts=True)[1], default=0)
