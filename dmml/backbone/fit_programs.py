"""Regression of measured programs on statistics of slides, with cross-fitted predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmml.linear.gaussian import fit_regression, fit_regression_with_variances


@dataclass
class FittedPrograms:
    """Programs of one subspace, predicted from one magnification.

    Attributes:
        weights: {statistic: (r, P)}.
        cross_fitted: (n, P) predictions, each with weights that were fitted without the patient.
    """

    weights: dict[str, NDArray[np.float64]]
    cross_fitted: NDArray[np.float64]


def fit_programs(
    measured: NDArray, designs: Mapping[str, NDArray], has_both: NDArray[np.bool_], folds: Iterable[NDArray[np.bool_]]
) -> FittedPrograms:
    """Fit a ridge regression of the programs with one variance per statistic.

    Args:
        measured: (n, P), centred; rows of patients without RNA are ignored.
        designs: {statistic: (n, r)}; 0 for a patient without tissue.
        has_both: (n,) bool, whether a patient has both RNA and tissue; the regression is fitted to these patients.
        folds: (n,) bool masks that partition the patients.
    """
    fitted = fit_regression(measured[has_both], {name: x[has_both] for name, x in designs.items()})
    cross_fitted = np.zeros(measured.shape)
    for held_out in folds:
        rest = has_both & ~held_out
        if not held_out.any() or rest.sum() < 2:
            continue
        subset = {name: x[rest] for name, x in designs.items()}
        fold_fit = fit_regression_with_variances(measured[rest], subset, fitted.log_variance)
        cross_fitted[held_out] = (fold_fit.predict(designs) - fold_fit.intercept)[held_out]
    return FittedPrograms(fitted.weights, cross_fitted)
