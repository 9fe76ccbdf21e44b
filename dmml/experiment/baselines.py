"""Linear baselines of a fold: ridge Cox or ridge logistic regression, fitted on its training patients alone.

The penalty is the one that tells most about the inner validation patients. The same regression joins a model's risk with
clinical covariates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from dmml.errors import InputError
from dmml.experiment.ridge import PENALTIES, choose, cox_log_likelihood, fit_cox, fit_logistic, rotate
from dmml.tasks import Task
from dmml.tasks.survival import HORIZONS

JOIN_PENALTY, JOIN_CENTRE = 0.1, 0.3
"""How strongly the weights of clinic and model are pulled towards equal ones, and where those lie: 0.3 is the usual
log-hazard ratio of one standard deviation of a score worth reporting."""
Outcome = Mapping[str, NDArray]
"""{time (days), event} or {label (class index)} of patients whose outcome is known"""


@dataclass(frozen=True)
class LinearModel:
    """A fitted regression.

    Attributes:
        weight: (p, 1) of a log-hazard, or (p, C) of class logits.
        intercept: (C,); 0 for a hazard.
        penalty: The one chosen, as a multiple of the rows' mean squared length.
        days: (K,) training days with an event; empty for classes.
        hazard: (K,) Breslow's cumulative baseline hazard at them.
    """

    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: float
    days: NDArray[np.float64]
    hazard: NDArray[np.float64]

    def score(self, x: ArrayLike) -> NDArray[np.float64]:
        """(n, p) → (n, 1) log-hazard, higher = worse, or (n, C) class logits."""
        return np.asarray(x, np.float64) @ self.weight + self.intercept

    def predictions(self, x: ArrayLike, task: Task) -> dict[str, NDArray[np.float64]]:
        """Columns of `predictions.csv`: the same days, or classes, as those of the networks.

        Args:
            x: (n, p).
            task: Fitted on the same patients; gives edges and end, or classes.
        """
        score = self.score(x)
        if task.kind == "classification":
            return {f"prob_{name}": column for name, column in zip(task.classes, softmax(score, axis=1).T, strict=True)}
        days = sorted({*task.edges, task.end, *(day for day in HORIZONS if day < task.end)})
        steps = np.concatenate([[0.0], self.hazard])[np.searchsorted(self.days, days, side="right")]
        survival = np.exp(-steps * np.exp(np.clip(score, -50, 50)))  # (n, T)
        return {"risk": score[:, 0]} | {f"survival_{day:g}": survival[:, i] for i, day in enumerate(days)}


def fit_linear(
    task: Task, x: ArrayLike, outcome: Outcome, x_inner: ArrayLike, outcome_inner: Outcome, where: str = "the fold"
) -> LinearModel:
    """Fit on training patients with the penalty that inner validation patients choose.

    Survival: the penalty maximises ℓ(training + validation) − ℓ(training), both at the coefficients of the training
    patients alone, which asks where the validation patients stand among all of them. Classes: their log-likelihood.

    Args:
        task: `Survival`, or `Classification` with its classes.
        x: (n, p) training patients, centred.
        outcome: Of them.
        x_inner: (m, p) inner validation patients.
        outcome_inner: Of them.
        where: What messages call the patients.

    Raises:
        InputError: No training patient has the event, or all are of one class.

    Source: Verweij & van Houwelingen 1993 for the cross-validated partial likelihood.
    """
    x, x_inner = np.asarray(x, np.float64), np.asarray(x_inner, np.float64)
    if task.kind == "classification":
        return _fit_classes(len(task.classes), x, outcome["label"], x_inner, outcome_inner["label"], where)
    time, event = (np.asarray(outcome[name], np.float64) for name in ("time", "event"))
    if not event.any():
        raise InputError(f"{where}: no training patient has the event, so no Cox model can be fitted; use fewer folds")
    rotation, scale = rotate(x), _mean_square(x)
    both = [np.concatenate([outcome[name], outcome_inner[name]]) for name in ("time", "event")]
    found, scores, start = [], [], None
    for penalty in PENALTIES:
        start = fit_cox(rotation.rows, time, event, penalty * scale, start=start)
        found.append(rotation.basis @ start)
        risk, inner = x @ found[-1], x_inner @ found[-1]
        told = cox_log_likelihood(np.concatenate([risk, inner]), *both) - cox_log_likelihood(risk, time, event)
        scores.append(told)
    best = choose(scores)
    days, hazard = breslow(x @ found[best], time, event)
    return LinearModel(found[best][:, None], np.zeros(1), float(PENALTIES[best]), days, hazard)


def join(task: Task, clinical: ArrayLike, model: ArrayLike, outcome: Outcome) -> LinearModel:
    """Weights of a clinical and a model's score, side by side, learned from patients to whom neither was fitted.

    A model's risk of its own training patients is too good, and a regression on them trusts it too much: on TCGA-LUAD
    (ridge Cox of RNA, published folds) it lost to clinic and RNA weighted on the inner validation patients by 0.02 of
    concordance. Those are few, so the weights are pulled towards equal ones.

    Args:
        task: As in `fit_linear`.
        clinical: (m, 1) log-hazard or (m, C) logits of inner validation patients, of mean 0 and standard deviation 1 (survival).
        model: The same of the model.
        outcome: Of them.

    Returns:
        A regression on [clinical | model], of width 2 or 2 C.
    """
    clinical, model = np.asarray(clinical, np.float64), np.asarray(model, np.float64)
    both, none = np.hstack([clinical, model]), np.zeros(0)
    if task.kind == "survival":
        time, event = (np.asarray(outcome[name], np.float64) for name in ("time", "event"))
        weight = fit_cox(both, time, event, JOIN_PENALTY, centre=JOIN_CENTRE)
        days, hazard = breslow(both @ weight, time, event)
        return LinearModel(weight[:, None], np.zeros(1), JOIN_PENALTY, days, hazard)
    share = _mix_logits(clinical, model, np.asarray(outcome["label"], int))
    n = clinical.shape[1]
    return LinearModel(np.vstack([share[0] * np.eye(n), share[1] * np.eye(n)]), np.zeros(n), JOIN_PENALTY, none, none)


def _mix_logits(clinical: NDArray, model: NDArray, label: NDArray) -> NDArray[np.float64]:
    """(2,) weights a, b of the logits a · clinical + b · model by their penalised likelihood."""

    def objective(weight: NDArray) -> float:
        log_probability = log_softmax(weight[0] * clinical + weight[1] * model, axis=1)
        told = log_probability[np.arange(len(label)), label].sum() / max(1, len(label))
        return -told + JOIN_PENALTY / 2 * ((weight - 0.5) ** 2).sum()

    return minimize(objective, np.full(2, 0.5), method="L-BFGS-B").x


def breslow(risk: ArrayLike, time: ArrayLike, event: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days with an event, and the cumulative baseline hazard Σ_{events t_i ≤ t} 1 / Σ_{t_j ≥ t_i} exp η_j at them."""
    risk, time, died = np.asarray(risk, float), np.asarray(time, float), np.asarray(event, float) > 0
    days, deaths = np.unique(time[died], return_counts=True)
    weight = ((time >= days[:, None]) * np.exp(np.clip(risk, -50, 50))).sum(1)
    return days, np.cumsum(deaths / weight)


def _fit_classes(
    n_classes: int, x: NDArray, label: NDArray, x_inner: NDArray, inner: NDArray, where: str
) -> LinearModel:
    if len(np.unique(label)) < 2:
        raise InputError(f"{where}: the training patients are all of one class; use fewer folds")
    rotation, scale = rotate(x), _mean_square(x)
    found, scores, start = [], [], None
    for penalty in PENALTIES:
        start = fit_logistic(rotation.rows, label, n_classes, penalty * scale, start)
        weight = np.vstack([rotation.basis @ start[:-1], start[-1:]])
        found.append(weight)
        logits = x_inner @ weight[:-1] + weight[-1]
        told = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        scores.append(float(told[np.arange(len(inner)), np.asarray(inner, int)].sum()))
    best = choose(scores)
    none = np.zeros(0)
    return LinearModel(found[best][:-1], found[best][-1], float(PENALTIES[best]), none, none)


def _mean_square(x: NDArray) -> float:
    """Mean squared length of a row; 1 where there is nothing to measure."""
    return float((x**2).sum(1).mean()) or 1.0 if x.size else 1.0
