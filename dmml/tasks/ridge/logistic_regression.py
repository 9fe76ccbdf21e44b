"""Multinomial logistic regression with a ridge penalty, the regression of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from dmml.errors import InputError
from dmml.linear.ridge import fit_logistic, rotate
from dmml.tasks.ridge.ridge_regression import JOIN_PRECISION, Outcome, RegressionModel, RidgeRegression

if TYPE_CHECKING:
    import pandas as pd

    from dmml.tasks.classification import Classification


@dataclass(frozen=True)
class LogisticModel(RegressionModel):
    """A fitted logistic regression; its scores are the logits of the classes."""

    task: Classification

    def predictions(self, x: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Return the probability of each class."""
        probability = softmax(self.score(x), axis=1)
        return {f"prob_{name}": column for name, column in zip(self.task.class_names(), probability.T, strict=True)}


class LogisticRegression(RidgeRegression):
    """Multinomial logistic regression with a ridge penalty; see `RidgeRegression`.

    Args:
        task: Gives the classes.
    """

    task: Classification

    def check_learnable(self, outcome: Outcome, where: str) -> None:
        """Refuse patients who are all of one class."""
        if len(np.unique(outcome["label"])) < 2:
            raise InputError(f"{where}: the training patients are all of one class; use fewer folds")

    def path(self, x: NDArray, outcome: Outcome, penalties: Sequence[float]) -> Iterator[LogisticModel]:
        """See `RidgeRegression`."""
        rotation, scale, start = rotate(x), float(x.var(axis=0).sum()) or 1.0, None
        for penalty in penalties:
            start = fit_logistic(rotation.rows, outcome["label"], self.task.n_outputs, penalty * scale, start)
            yield LogisticModel(self.task, rotation.basis @ start[:-1], start[-1], float(penalty))

    def log_likelihood(self, score: NDArray, outcome: Outcome) -> float:
        """Return the log-likelihood of the labels."""
        label = outcome["label"].astype(int)
        return float(log_softmax(score, axis=1)[np.arange(len(label)), label].sum())

    def score_of(self, predictions: pd.DataFrame) -> NDArray[np.float64]:
        """Return centred log-probabilities (n, C)."""
        logs = np.log(predictions[[f"prob_{name}" for name in self.task.class_names()]].clip(lower=1e-6))
        return logs.sub(logs.mean(axis=1), axis=0).to_numpy()

    def scale(self, score: NDArray) -> tuple[float, float]:
        """Return 0 and 1: probabilities mean the same in all models."""
        return 0.0, 1.0

    def join(self, clinical: NDArray, model: NDArray, outcome: Outcome) -> LogisticModel:
        """See `RidgeRegression`; all classes share one weight of each score."""
        label, penalty = np.asarray(outcome["label"], int), JOIN_PRECISION / max(1, len(clinical))
        share, n = mixture_weights(clinical, model, label, penalty), clinical.shape[1]
        return LogisticModel(self.task, np.vstack([share[0] * np.eye(n), share[1] * np.eye(n)]), np.zeros(n), penalty)


def mixture_weights(clinical: NDArray, model: NDArray, label: NDArray, penalty: float) -> NDArray[np.float64]:
    """Return the (2,) weights a, b of the logits a · clinical + b · model that maximise their penalised likelihood."""

    def objective(weight: NDArray) -> float:
        log_probability = log_softmax(weight[0] * clinical + weight[1] * model, axis=1)
        log_likelihood = log_probability[np.arange(len(label)), label].sum() / max(1, len(label))
        return -log_likelihood + penalty / 2 * ((weight - 0.5) ** 2).sum()

    from scipy.optimize import minimize  # predictions do without it

    return minimize(objective, np.full(2, 0.5), method="L-BFGS-B").x
