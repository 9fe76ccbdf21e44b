"""Metrics of the out-of-fold predictions of a kind of model that is fitted once per fold.

The risks of two folds' models are on different scales, so patients of different folds are never compared: concordance
and AUC count pairs within a fold, and the Brier score, a sum over patients, uses the censoring distribution of each
fold. Every metric takes weights of the N patients, so that a patient who is tested several times (with another seed or
repeat) is drawn only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.evaluate import BRIER_STEPS
from dmml.evaluation.predictions import curve_at, survival_days
from dmml.evaluation.statistics import classification, weighted
from dmml.evaluation.statistics.censoring import CensoringCurve
from dmml.evaluation.statistics.weighted import ROWS, Rows, Weighted, divide


@dataclass(frozen=True)
class Part:
    """Predictions of one fold's model for the patients with a known outcome.

    Attributes:
        index: (n,) index of each row among the N patients.
        known: `time`, `event`, `risk` and `survival_<days>`; empty for classes.
        censoring: Censoring distribution of the fold's training patients; None for classes.
        tau: {metric: last day that it takes into account}.
        label: (n,) class indices; empty for survival.
        probability: (n, C) probabilities of the classes.
        context: Content of the fold's `context.json`; used by a user's own endpoint.
    """

    index: NDArray[np.int64]
    known: pd.DataFrame = field(default_factory=pd.DataFrame)
    censoring: CensoringCurve | None = None
    tau: dict[str, float] = field(default_factory=dict)
    label: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, int))
    probability: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    context: Mapping[str, Any] = field(default_factory=dict)

    def column(self, name: str) -> NDArray[np.float64]:
        """A column of `known`."""
        return self.known[name].to_numpy(float)


def pooled_metric(name: str, parts: Sequence[Part]) -> Weighted:
    """A metric of `crossval.json` over the parts, without those in which it is undefined.

    Args:
        name: `c_index`, `c_index_ipcw`, `ibs`, `auc_<days>`, or a classification metric.
        parts: Predictions of at least one fold.

    Returns:
        Metric that maps weights (R, N) to (R,) values, NaN where undefined.
    """
    if name in CLASS_METRICS:
        label, probability = np.concatenate([p.label for p in parts]), np.concatenate([p.probability for p in parts])
        metric, index = CLASS_METRICS[name](label, probability), np.concatenate([p.index for p in parts])
        return lambda weights: metric(weights[:, index])
    if name == "auc":
        return _macro_auc(parts)
    if name == "ibs":
        return _patient_mean([(part.index, _brier(part)) for part in parts if "ibs" in part.tau])
    if name == "c_index":
        return pair_ratio([(p.index, concordant(p.column("time"), p.column("event"), p.column("risk"))) for p in parts])
    if name == "c_index_ipcw":
        return pair_ratio([(part.index, _uno(part)) for part in parts if name in part.tau])
    day = float(name.removeprefix("auc_"))
    return pair_ratio([(part.index, _dynamic_auc(part, day)) for part in parts if name in part.tau])


def pair_ratio(parts: Sequence[tuple[NDArray, Rows]]) -> Weighted:
    """Σ_folds Σ_ij w_i w_j credit_ij over the same sum of comparable_ij, with i and j of the same fold."""

    def metric(weights: NDArray) -> NDArray[np.float64]:
        top, bottom = np.zeros(len(weights)), np.zeros(len(weights))
        for index, rows in parts:
            own = weights[:, index]
            for start in range(0, len(index), ROWS):
                block = slice(start, start + ROWS)
                for total, matrix in zip((top, bottom), rows(block), strict=True):
                    total += np.einsum(
                        "rn,rn->r", own[:, block] @ matrix.astype(own.dtype, copy=False), own, dtype=np.float64
                    )
        return divide(top, bottom)

    return metric


def concordant(time: ArrayLike, event: ArrayLike, risk: ArrayLike, weight: ArrayLike | None = None) -> Rows:
    """Pair matrices of Harrell's concordance: i has the event and j outlives i (on a tied day, j is censored).

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        risk: (n,) higher = worse.
        weight: (n,) weight of a pair by its i; None gives all pairs weight 1.
    """
    time, died, risk = np.asarray(time, float), np.asarray(event, float) > 0, np.asarray(risk, float)
    weight = np.ones(len(time)) if weight is None else np.asarray(weight, float)

    def rows(block: slice) -> tuple[NDArray, NDArray]:
        first = time[block, None]
        outlived = died[block, None] & ((first < time) | ((first == time) & ~died))
        pairs = outlived * weight[block, None]
        return _credit(risk, block) * pairs, pairs

    return rows


def _uno(part: Part) -> Rows:
    time, tau = part.column("time"), part.tau["c_index_ipcw"]
    early = (part.column("event") > 0) & (time < tau)
    inverse = np.where(early, divide(np.ones(len(time)), part.censoring.before(time)), 0.0)
    return concordant(time, part.column("event"), part.column("risk"), np.nan_to_num(inverse) ** 2)


def _dynamic_auc(part: Part, day: float) -> Rows:
    time, risk = part.column("time"), part.column("risk")
    case, control = (part.column("event") > 0) & (time <= day), time > day
    weight = np.nan_to_num(np.where(case, divide(np.ones(len(time)), part.censoring.before(time)), 0.0))
    return _separated(risk, weight, control)


def _macro_auc(parts: Sequence[Part]) -> Weighted:
    """Mean one-against-rest AUC over the classes that occur; for two classes, the AUC of the second one."""
    n_classes = parts[0].probability.shape[1]
    ratios = []
    for c in [1] if n_classes == 2 else range(n_classes):
        rows = [(p.index, _separated(p.probability[:, c], (p.label == c).astype(float), p.label != c)) for p in parts]
        if any(0 < (part.label == c).sum() < len(part.label) for part in parts):
            ratios.append(pair_ratio(rows))
    if not ratios:
        return lambda weights: np.full(len(weights), np.nan)
    return lambda weights: np.mean([ratio(weights) for ratio in ratios], axis=0)


def _separated(score: NDArray, case: NDArray, control: NDArray) -> Rows:
    """Pair matrices of an AUC: cases with weights (n,) against controls (n,) bool."""

    def rows(block: slice) -> tuple[NDArray, NDArray]:
        pairs = case[block, None] * control
        return _credit(score, block) * pairs, pairs

    return rows


def _credit(score: NDArray, block: slice) -> NDArray[np.float64]:
    """(rows, n): 1 if i has the higher score, ½ if the two are tied."""
    mine = score[block, None]
    return (mine > score) + 0.5 * (mine == score)


def _brier(part: Part) -> NDArray[np.float64]:
    """Each patient's contribution to the integrated Brier score, up to the last day of the fold."""
    tau = min(part.tau["ibs"], survival_days(part.known)[-1])
    times = np.linspace(0, tau, BRIER_STEPS + 1) * (1 - 1e-9)
    outcome = part.column("time"), part.column("event")
    loss = weighted.brier_parts(*outcome, curve_at(part.known, times), times, part.censoring)
    return np.trapezoid(loss, times, axis=1) / (times[-1] - times[0])


def _patient_mean(parts: Sequence[tuple[NDArray, NDArray]]) -> Weighted:
    """Mean over the patients of all parts."""

    def metric(weights: NDArray) -> NDArray[np.float64]:
        top, bottom = np.zeros(len(weights)), np.zeros(len(weights))
        for index, values in parts:
            top += weights[:, index] @ values
            bottom += weights[:, index].sum(1, dtype=np.float64)
        return divide(top, bottom)

    return metric


CLASS_METRICS: dict[str, Callable[[ArrayLike, NDArray], Weighted]] = {
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
    "f1_macro": classification.macro_f1,
    "kappa_quadratic": classification.quadratic_kappa,
    "ece": classification.calibration_error,
}
"""Metrics that do not compare patients, so that all folds can be joined: probabilities mean the same in each."""


def corrected_resampled_p(differences: ArrayLike, test_share: float) -> float:
    """Two-sided p of a mean difference over folds and repeats whose training sets overlap.

    t = mean(d) / √((1/J + n_test / n_train) · var(d)) with J − 1 degrees of freedom.

    Args:
        differences: (J,) differences in the folds of all repeats; undefined ones are left out.
        test_share: n_test / n_train.

    Returns:
        p; NaN with fewer than two folds, or if all differences are the same.

    Source: Nadeau & Bengio 2003, eq. 9.
    """
    from scipy.stats import t as student

    d = np.asarray(differences, float)
    d = d[np.isfinite(d)]
    if len(d) < 2 or np.ptp(d) == 0:
        return float("nan")
    statistic = d.mean() / np.sqrt((1 / len(d) + test_share) * d.var(ddof=1))
    return float(2 * student.sf(abs(statistic), len(d) - 1))
