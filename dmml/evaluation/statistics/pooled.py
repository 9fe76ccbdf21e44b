"""Metrics of the out-of-fold predictions of a kind of model that is fitted once per fold.

The risks of two folds' models are on different scales, so patients of different folds are never compared: concordance
and AUC count pairs within a fold, and the Brier score, a sum over patients, uses the censoring distribution of each
fold. The metrics themselves are those of `weighted` and `classification`. They take weights of all N patients, so that
a patient who is tested several times (with another seed or repeat) is drawn only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.cohort.clinical.follow_up import CensoringCurve
from dmml.evaluation.predictions import curve_at, survival_days
from dmml.evaluation.statistics import antolini, classification
from dmml.evaluation.statistics.weighted import (
    Pairs,
    Weighted,
    at_index,
    brier_scores,
    brier_times,
    dynamic_pairs,
    harrell_pairs,
    pair_share,
    patient_mean,
    uno_pairs,
)


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of one fold's model for the patients with a known outcome.

    Attributes:
        index: (n,) index of each row among the N patients.
        table: `time`, `event`, `risk` and `survival_<days>`; empty for classes.
        censoring: Censoring distribution of the fold's training patients; None for classes.
        tau: {metric: last day that it takes into account}, for the metrics that are defined in the fold.
        label: (n,) class indices; empty for survival.
        probability: (n, C) probabilities of the classes.
        context: Content of the fold's `context.json`; used by a user's own endpoint.
    """

    index: NDArray[np.int64]
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    censoring: CensoringCurve | None = None
    tau: Mapping[str, float] = field(default_factory=dict)
    label: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, int))
    probability: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    context: Mapping[str, Any] = field(default_factory=dict)

    def columns(self, *names: str) -> list[NDArray[np.float64]]:
        """Columns of `table`."""
        return [self.table[name].to_numpy(float) for name in names]


def pooled_metric(name: str, folds: Sequence[FoldPredictions]) -> Weighted:
    """A metric of `crossval.json` over the folds, without those in which it is undefined.

    Args:
        name: `c_index`, `c_index_antolini`, `c_index_ipcw`, `ibs`, `auc_<days>`, or a classification metric.
        folds: Predictions of at least one fold.

    Returns:
        Metric that maps weights (R, N) to (R,) values, NaN where undefined.
    """
    if name in CLASS_METRICS:
        label, probability = (np.concatenate([getattr(f, key) for f in folds]) for key in ("label", "probability"))
        metric, index = CLASS_METRICS[name](label, probability), np.concatenate([fold.index for fold in folds])
        return lambda weights: metric(weights[:, index])
    if name == "auc":
        return classification.macro_auc_of_folds([(fold.index, fold.label, fold.probability) for fold in folds])
    if name == "ibs":
        return patient_mean([(fold.index, _brier_scores(fold)) for fold in folds if name in fold.tau])
    if name == "c_index":
        pairs = [at_index(harrell_pairs(*fold.columns("time", "event", "risk")), fold.index) for fold in folds]
    elif name == "c_index_antolini":
        pairs = [at_index(antolini.pairs_of(fold.table), fold.index) for fold in folds]
    else:
        pairs = [at_index(_censoring_weighted_pairs(name, fold), fold.index) for fold in folds if name in fold.tau]
    return pair_share([each for fold in pairs for each in fold])


def _censoring_weighted_pairs(name: str, fold: FoldPredictions) -> Pairs | None:
    time, event, risk = fold.columns("time", "event", "risk")
    censoring = _censoring(fold)
    if name == "c_index_ipcw":
        return uno_pairs(time, event, risk, censoring, fold.tau[name])
    return dynamic_pairs(time, event, risk, float(name.removeprefix("auc_")), censoring)


def _brier_scores(fold: FoldPredictions) -> NDArray[np.float64]:
    times = brier_times(min(fold.tau["ibs"], survival_days(fold.table)[-1]))
    time, event = fold.columns("time", "event")
    return brier_scores(time, event, curve_at(fold.table, times), times, _censoring(fold))


def _censoring(fold: FoldPredictions) -> CensoringCurve:
    if fold.censoring is None:
        raise ValueError("metrics that are weighted by censoring need the censoring distribution of every fold")
    return fold.censoring


CLASS_METRICS: dict[str, Callable[[ArrayLike, NDArray], Weighted]] = {
    "accuracy": classification.accuracy,
    "balanced_accuracy": classification.balanced_accuracy,
    "specificity_macro": classification.macro_specificity,
    "sensitivity": classification.second_class_sensitivity,
    "specificity": classification.second_class_specificity,
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
