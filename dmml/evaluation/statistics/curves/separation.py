"""ROC and precision–recall curves of weighted patients, for classes and for survival up to a day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.cohort.clinical.follow_up import CensoringCurve
from dmml.evaluation.statistics.weighted import Pairs, checked_outcome, divide, inverse, separation_pairs

GRID = np.linspace(0, 1, 101)
"""Positions on the horizontal axis at which the curves have intervals."""
BLOCK_VALUES = 2_000_000
"""Number of values of a matrix (resamples, thresholds) that is in memory at a time."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Separation:
    """How a score separates cases from controls.

    Attributes:
        score: (n,) higher for cases.
        case_weight: (n,) weight of each case; 0 for patients who are no cases.
        is_control: (n,) bool. Patients who are neither case nor control do not count.
    """

    score: NDArray[np.float64]
    case_weight: NDArray[np.float64]
    is_control: NDArray[np.bool_]

    @property
    def is_defined(self) -> bool:
        """Whether there is a case and a control, and every case has a finite weight."""
        return bool(np.isfinite(self.case_weight).all() and self.case_weight.any() and self.is_control.any())

    @property
    def pairs(self) -> Pairs:
        """Pairs of a case and a control, whose share in order is the area under the ROC curve."""
        return separation_pairs(self.score, self.case_weight, self.is_control)

    def roc(self, weights: NDArray) -> NDArray[np.float64]:
        """True positive rate (R, K) at the false positive rates of `GRID`; tied scores make one oblique step."""
        return self._curves(weights, _roc_on_grid)

    def precision(self, weights: NDArray) -> NDArray[np.float64]:
        """Precision (R, K) at the recalls of `GRID`: that of the highest threshold which reaches the recall."""
        return self._curves(weights, _precision_on_grid)

    def average_precision(self, weights: NDArray) -> NDArray[np.float64]:
        """(R,) Σ_k (recall_k − recall_{k−1}) · precision_k over the thresholds, as in scikit-learn."""
        return self._curves(weights, _average_precision)

    def roc_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False and true positive rates at every threshold, when every patient has weight 1."""
        [cases, controls] = next(self._counts(np.ones((1, len(self.score)))))
        return divide(controls[0], controls[0, -1]), divide(cases[0], cases[0, -1])

    def precision_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Recall and precision at every threshold, when every patient has weight 1."""
        [cases, controls] = next(self._counts(np.ones((1, len(self.score)))))
        return divide(cases[0, 1:], cases[0, -1]), divide(cases[0, 1:], cases[0, 1:] + controls[0, 1:])

    def _curves(self, weights: NDArray, curve: Callable[[NDArray, NDArray], NDArray]) -> NDArray[np.float64]:
        blocks = []
        for cases, controls in self._counts(weights):
            values = curve(cases, controls)
            values[(cases[:, -1] == 0) | (controls[:, -1] == 0)] = np.nan
            blocks.append(values)
        return np.concatenate(blocks)

    def _counts(self, weights: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
        """Weights of cases and of controls at or above each distinct score, (rows, K + 1) each, from 0 to all of them."""
        order = np.argsort(-self.score, kind="stable")
        last = np.append(np.flatnonzero(np.diff(self.score[order])), len(order) - 1)
        rows = max(1, BLOCK_VALUES // len(order))
        for start in range(0, len(weights), rows):
            w = np.asarray(weights[start : start + rows, order], np.float64)
            sums = [np.cumsum(w * part[order], axis=1)[:, last] for part in (self.case_weight, self.is_control)]
            cases, controls = (np.concatenate([np.zeros((len(w), 1)), each], axis=1) for each in sums)
            yield cases, controls


def class_separation(label: ArrayLike, probability: NDArray, index: int) -> Separation:
    """Separation of one class from all others by its probability."""
    is_case = np.asarray(label) == index
    return Separation(np.asarray(probability, float)[:, index], is_case.astype(float), ~is_case)


def survival_separation(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float, censoring: CensoringCurve
) -> Separation:
    """Separation of the patients dead by `day`, weighted 1 / G(t_i−), from those alive after it, by their risk.

    The area under its ROC curve is the cumulative/dynamic AUC. Patients censored by the day are neither.

    Source: Uno et al. 2007; Hung & Chiang 2010.
    """
    time, died, risk = checked_outcome(time, event, risk)
    is_case = died & (time <= day)
    return Separation(risk, inverse(censoring.before(time), needed=is_case), time > day)


def _roc_on_grid(cases: NDArray, controls: NDArray) -> NDArray[np.float64]:
    true, false = divide(cases, cases[:, -1:]), divide(controls, controls[:, -1:])
    # Of several points at one false positive rate, `interp` takes the last, which has the highest true positive rate.
    return np.stack([np.interp(GRID, x, y) for x, y in zip(false, true, strict=True)])


def _precision_on_grid(cases: NDArray, controls: NDArray) -> NDArray[np.float64]:
    recall, precision = divide(cases, cases[:, -1:])[:, 1:], divide(cases, cases + controls)[:, 1:]
    # Without a case above it, a threshold has no meaningful precision, so recall 0 takes that of the first case.
    needed = np.maximum(GRID, 2 * _ROUNDING) - _ROUNDING
    columns = [np.searchsorted(row, needed).clip(max=len(row) - 1) for row in recall]
    return np.take_along_axis(precision, np.stack(columns), axis=1)


def _average_precision(cases: NDArray, controls: NDArray) -> NDArray[np.float64]:
    steps = np.diff(divide(cases, cases[:, -1:]), axis=1)
    precision = divide(cases, cases + controls)[:, 1:]
    return np.where(steps > 0, steps * precision, 0).sum(1)
