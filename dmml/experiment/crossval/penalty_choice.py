"""Chooses the penalty of a fold's regression by cross-validation among its training patients, and fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.linear.ridge import PENALTIES, choose
from dmml.tasks.ridge.ridge_regression import Outcome, RegressionModel, RidgeRegression

GIVE_UP_AFTER = 6
"""Number of successive penalties worse than the best one after which weaker ones are not tried"""


class InnerFold(NamedTuple):
    """Training patients that a model is fitted to, and held-out ones that evaluate it; the former define the coding.

    Attributes:
        x: (n, p) centred inputs.
        outcome: Outcome of these patients.
        x_held_out: (m, p) inputs of the held-out patients.
        outcome_held_out: Outcome of the held-out patients.
    """

    x: NDArray
    outcome: Outcome
    x_held_out: NDArray
    outcome_held_out: Outcome


def fit_regression(
    regression: RidgeRegression, x: ArrayLike, outcome: Outcome, penalty: float, where: str = "the fold"
) -> RegressionModel:
    """Fit on training patients with a given penalty; see `choose_penalty`.

    Args:
        regression: The task's regression.
        x: (n, p) inputs of the training patients, centred.
        outcome: Their outcome.
        penalty: Penalty as a multiple of the total variance of the columns.
        where: Name of the fold in messages.

    Raises:
        InputError: Nothing can be learned from the outcomes; see `RidgeRegression.check_learnable`.
    """
    regression.check_learnable(outcome, where)
    return next(regression.path(np.asarray(x, np.float64), outcome, (penalty,)))


def choose_penalty(regression: RidgeRegression, folds: Sequence[InnerFold]) -> tuple[float, list[RegressionModel]]:
    """Choose the penalty by cross-validation among training patients.

    The best penalty gives the highest log-likelihood of the held-out patients of all folds together, so that risk sets
    are large enough even with few patients. Weaker penalties are not tried once six in a row were worse.

    Args:
        regression: The task's regression.
        folds: At least one inner fold.

    Returns:
        The penalty, and the model of each fold with it.

    Source: Dai & Breheny 2019 (cross-validated linear predictors). The likelihood within each fold, and that of Verweij
    & van Houwelingen 1993, were tried as well; neither was better for few covariates of 40 patients and for RNA of 400.
    """
    paths = [regression.path(fold.x, fold.outcome, PENALTIES) for fold in folds]
    scores: list[float] = []
    models: list[list[RegressionModel]] = []
    for _ in PENALTIES:
        models.append([next(path) for path in paths])
        scores.append(_held_out_likelihood(regression, models[-1], folds))
        if len(scores) - 1 - choose(scores) >= GIVE_UP_AFTER:
            break
    best = choose(scores)
    return models[best][0].penalty, models[best]


def _held_out_likelihood(
    regression: RidgeRegression, models: Sequence[RegressionModel], folds: Sequence[InnerFold]
) -> float:
    """Log-likelihood of the held-out patients of all folds; 0 if none of them is informative."""
    score = np.concatenate([model.score(fold.x_held_out) for model, fold in zip(models, folds, strict=True)])
    names = folds[0].outcome_held_out
    outcome = {name: np.concatenate([fold.outcome_held_out[name] for fold in folds]) for name in names}
    return regression.log_likelihood(score, outcome)
