"""Metrics of predicted values of weighted patients, each written once for the estimate, its resamples, and pooled folds.

R², errors and the calibration slope compare a patient's prediction with the patient's own value, in the same units for every
model, so the folds of a cross-validation are joined. Correlations compare patients with each other and are taken within
folds: the models of two folds differ in their mean, which would lower a correlation over all patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.statistics.weighted import Weighted, divide

_Scores = Callable[[NDArray], Weighted]


@dataclass(frozen=True)
class PredictedValues:
    """Values of patients whom one model has predicted.

    Attributes:
        value: (n,) measured values.
        predicted: (n,) predicted values.
        index: (n,) position of each patient among all patients that the weights belong to; None for all of them.
    """

    value: NDArray[np.float64]
    predicted: NDArray[np.float64]
    index: NDArray[np.int64] | None = None

    def weights(self, weights: NDArray) -> NDArray[np.float64]:
        """Return the weights of these patients. (R, N) → (R, n)."""
        return np.asarray(weights if self.index is None else weights[:, self.index], np.float64)


def r_squared(value: ArrayLike, predicted: ArrayLike) -> Weighted:
    """R²: 1 − Σ (value − predicted)² / Σ (value − mean)². It is below 0 if the mean of these patients is better."""
    y, p = np.asarray(value, float), np.asarray(predicted, float)
    centred, square = y - y.mean(), (y - p) ** 2

    def metric(weights: NDArray) -> NDArray[np.float64]:
        weights = np.asarray(weights, np.float64)
        spread = weights @ centred**2 - (weights @ centred) ** 2 / weights.sum(1)
        return 1 - divide(weights @ square, np.where(_is_positive(spread, centred), spread, 0))

    return metric


def mean_absolute_error(value: ArrayLike, predicted: ArrayLike) -> Weighted:
    """Mean of |value − predicted|, in the units of the value."""
    return _mean(np.abs(np.asarray(value, float) - np.asarray(predicted, float)))


def mean_error(value: ArrayLike, predicted: ArrayLike) -> Weighted:
    """Mean of predicted − value, in the units of the value: above 0, the predictions are too high."""
    return _mean(np.asarray(predicted, float) - np.asarray(value, float))


def calibration_slope(value: ArrayLike, predicted: ArrayLike) -> Weighted:
    """Slope of the least-squares line of values against predictions: below 1, the predictions are too far apart."""
    y, p = (np.asarray(each, float) for each in (value, predicted))
    y, p = y - y.mean(), p - p.mean()

    def metric(weights: NDArray) -> NDArray[np.float64]:
        weights = np.asarray(weights, np.float64)
        total, of_p = weights.sum(1), weights @ p
        spread = weights @ p**2 - of_p**2 / total
        return divide(weights @ (y * p) - of_p * (weights @ y) / total, np.where(_is_positive(spread, p), spread, 0))

    return metric


def pearson(folds: Sequence[PredictedValues]) -> Weighted:
    """Pearson correlation of values and predictions, with the mean of each fold subtracted."""
    return _correlation(folds, lambda values: lambda weights: np.broadcast_to(values, weights.shape))


def spearman(folds: Sequence[PredictedValues]) -> Weighted:
    """Spearman correlation: that of the ranks within each fold, where ties share their mean rank."""
    return _correlation(folds, weighted_ranks)


def weighted_ranks(values: NDArray) -> Weighted:
    """Rank of each of n values in a resample that holds it `weight` times. Returns a map (R, n) → (R, n)."""
    order = np.argsort(values, kind="stable")
    group = np.unique(values, return_inverse=True)[1]
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def ranks(weights: NDArray) -> NDArray[np.float64]:
        sizes = np.add.reduceat(weights[:, order], starts, axis=1)
        return (np.cumsum(sizes, axis=1) - sizes / 2)[:, group]

    return ranks


def _correlation(folds: Sequence[PredictedValues], score_of: _Scores) -> Weighted:
    scores = [[score_of(each - each.mean()) for each in (fold.value, fold.predicted)] for fold in folds]

    def metric(weights: NDArray) -> NDArray[np.float64]:
        sums = np.zeros((3, len(weights)))  # covariance, and the two variances
        for fold, (of_value, of_predicted) in zip(folds, scores, strict=True):
            w = fold.weights(weights)
            total = np.maximum(w.sum(1, keepdims=True), np.finfo(float).tiny)
            x, y = (score(w) for score in (of_value, of_predicted))
            x, y = x - (w * x).sum(1, keepdims=True) / total, y - (w * y).sum(1, keepdims=True) / total
            sums += np.stack([(w * each).sum(1) for each in (x * y, x**2, y**2)])
        return divide(sums[0], np.sqrt(sums[1] * sums[2]))

    return metric


def _mean(errors: NDArray) -> Weighted:
    return lambda weights: np.asarray(weights, np.float64) @ errors / weights.sum(1)


def _is_positive(spread: NDArray, centred: NDArray) -> NDArray[np.bool_]:
    """Whether a sum of squares is above its rounding error."""
    return spread > 1e-12 * max(float((centred**2).max(initial=0.0)), np.finfo(float).tiny)
