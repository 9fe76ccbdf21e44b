"""Ridge regression of an endpoint on columns of numbers, as cross-validations fit it to RNA and to covariates.

`Task.regression` returns it. The base class serves every task that defines `linear_likelihood` and `calibrate`; survival
and classes have forms of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dmml.linear.likelihood_ridge import fit_likelihood_ridge
from dmml.linear.ridge import rotate

if TYPE_CHECKING:
    import pandas as pd

    from dmml.linear.likelihoods import Likelihood
    from dmml.tasks.base import Task

JOIN_PRECISION = 7.0
"""Precision (in units of log-likelihood) of the normal prior of the two weights of a join. The prior dominates with a
few dozen patients, and matters less the more patients there are"""
Outcome = Mapping[str, NDArray]
"""{column of the outcome: (n,) values} of patients with a known outcome, as `Task.encode` gives them"""


@dataclass(frozen=True)
class RegressionModel:
    """A fitted regression.

    Attributes:
        task: The task, fitted on the same patients.
        weight: (p, q).
        intercept: (q,).
        penalty: Penalty as a multiple of the total variance of the columns.
    """

    task: Task
    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: float

    def score(self, x: ArrayLike) -> NDArray[np.float64]:
        """Map inputs to the linear predictor. (n, p) → (n, q)."""
        return np.asarray(x, np.float64) @ self.weight + self.intercept

    def predictions(self, x: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Return the columns of `predictions.csv` that a network with the same task has. (n, p) → {column: (n,)}."""
        raise NotImplementedError


@dataclass(frozen=True)
class CalibratedModel(RegressionModel):
    """A regression whose linear predictor is mapped to the logits of the task.

    Attributes:
        bias: (C,).
        spread: (q, C); logits = bias + score @ spread.
    """

    bias: NDArray[np.float64]
    spread: NDArray[np.float64]

    def predictions(self, x: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """See `RegressionModel`."""
        logits = torch.as_tensor(self.bias + self.score(x) @ self.spread)
        return {name: column.numpy() for name, column in self.task.predictions(logits).items()}


class RidgeRegression:
    """Ridge regression by the task's `linear_likelihood`, mapped to logits by its `calibrate`.

    Args:
        task: The task. `predictions` of the models need a fitted one.
    """

    def __init__(self, task: Task):
        self.task = task

    def check_learnable(self, outcome: Outcome, where: str) -> None:
        """Refuse patients from whose outcomes nothing can be learned.

        Args:
            outcome: Outcomes of the training patients.
            where: Name of the fold in messages.

        Raises:
            InputError: For example, none of them has the event, or all are of one class.
        """

    def path(self, x: NDArray, outcome: Outcome, penalties: Sequence[float]) -> Iterator[RegressionModel]:
        """Yield a model for each penalty, each started from the previous one.

        Args:
            x: (n, p) inputs of the training patients, centred.
            outcome: Their outcomes.
            penalties: Penalties as multiples of the total variance of the columns, strongest first.
        """
        rotation, scale, likelihood = rotate(x), float(x.var(axis=0).sum()) or 1.0, self._likelihood(outcome)
        start = None
        for penalty in penalties:
            weight, intercept = fit_likelihood_ridge(likelihood, rotation.rows, penalty * scale, start)
            start = np.vstack([weight, intercept]) if likelihood.has_intercept else weight
            yield self._calibrated(rotation.basis @ weight, intercept, float(penalty), x, outcome)

    def log_likelihood(self, score: NDArray, outcome: Outcome) -> float:
        """Log-likelihood of held-out patients under their scores (n, q), by which the penalty is chosen."""
        return self._likelihood(outcome).value(score)

    def score_of(self, predictions: pd.DataFrame) -> NDArray[np.float64]:
        """Return the scores (n, q) of other models for a join: here, the task's first column of predictions."""
        first = next(iter(self.task.predictions(torch.zeros(1, self.task.n_outputs))))
        return predictions[[first]].to_numpy(float)

    def scale(self, score: NDArray) -> tuple[float, float]:
        """Return the mean and the standard deviation by which a join standardises the scores of one model."""
        return (float(score.mean()), float(score.std()) or 1.0) if len(score) else (0.0, 1.0)

    def join(self, clinical: NDArray, model: NDArray, outcome: Outcome) -> RegressionModel:
        """Learn the weights of a clinical and a model's score side by side, from patients to whom neither was fitted.

        A model's risk of its own training patients is too good, and a regression on them trusts it too much: on
        TCGA-LUAD (ridge Cox of RNA, published folds) the concordance of such a join was 0.02 lower than with weights
        learned from other patients.

        Args:
            clinical: (m, q) scores of patients to whom neither model was fitted, standardised by `scale`.
            model: The same for the model.
            outcome: Outcomes of these patients.

        Returns:
            A regression on [clinical | model], of width 2 q.
        """
        x = np.hstack([clinical, model])
        penalty = JOIN_PRECISION / max(1, len(x))
        weight, intercept = fit_likelihood_ridge(self._likelihood(outcome), x, penalty)
        return self._calibrated(weight, intercept, penalty, x, outcome)

    def _calibrated(
        self, weight: NDArray, intercept: NDArray, penalty: float, x: NDArray, outcome: Outcome
    ) -> CalibratedModel:
        bias, spread = self.task.calibrate(x @ weight + intercept, observed_target(outcome))
        return CalibratedModel(self.task, weight, intercept, penalty, bias, spread)

    def _likelihood(self, outcome: Outcome) -> Likelihood:
        return self.task.linear_likelihood(observed_target(outcome))


def observed_target(outcome: Outcome) -> dict[str, torch.Tensor]:
    """Convert known outcomes to a target, as `Task.encode` returns it."""
    target = {name: torch.as_tensor(values) for name, values in outcome.items()}
    return target | {"observed": torch.ones(len(next(iter(target.values()))), dtype=torch.bool)}
