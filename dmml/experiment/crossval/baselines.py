"""Linear baselines of a fold: ridge Cox or ridge logistic regression, fitted on its training patients alone.

The penalty is chosen by cross-validation among them. The same regression joins a model's risk with clinical covariates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from dmml.errors import InputError
from dmml.linear.ridge import PENALTIES, choose, cox_log_likelihood, fit_cox, fit_logistic, rotate
from dmml.tasks import Task
from dmml.tasks.survival import HORIZONS

JOIN_PRECISION, JOIN_CENTRE = 7.0, 0.3
"""Precision (in units of log-likelihood) and centre of the normal prior of the two weights of a join. 0.3 is a typical
log-hazard ratio per standard deviation of a useful score. The prior dominates with a few dozen patients, and matters
less the more patients there are"""
GIVE_UP_AFTER = 6
"""Number of successive penalties worse than the best one after which weaker ones are not tried"""
Outcome = Mapping[str, NDArray]
"""{time (days), event} or {label (class index)} of patients with a known outcome"""


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


@dataclass(frozen=True)
class LinearModel:
    """A fitted regression.

    Attributes:
        weight: (p, 1) of a log-hazard, or (p, C) of class logits.
        intercept: (C,); 0 for a hazard.
        penalty: Penalty as a multiple of the total variance of the columns.
        days: (K,) training days with an event; empty for classes.
        hazard: (K,) Breslow's cumulative baseline hazard at these days.
    """

    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: float
    days: NDArray[np.float64]
    hazard: NDArray[np.float64]

    def score(self, x: ArrayLike) -> NDArray[np.float64]:
        """Map (n, p) to the (n, 1) log-hazard, higher = worse, or to (n, C) class logits."""
        return np.asarray(x, np.float64) @ self.weight + self.intercept

    def predictions(self, x: ArrayLike, task: Task) -> dict[str, NDArray[np.float64]]:
        """Return columns of `predictions.csv`, with the same days, or classes, as those of the networks.

        Args:
            x: (n, p).
            task: The task, fitted on the same patients; gives edges and end, or classes.
        """
        score = self.score(x)
        if task.kind == "classification":
            return {f"prob_{name}": column for name, column in zip(task.classes, softmax(score, axis=1).T, strict=True)}
        days = sorted({*task.edges, task.end, *(day for day in HORIZONS if day < task.end)})
        steps = np.concatenate([[0.0], self.hazard])[np.searchsorted(self.days, days, side="right")]
        survival = np.exp(-steps * np.exp(np.clip(score, -50, 50)))  # (n, T)
        return {"risk": score[:, 0]} | {f"survival_{day:g}": survival[:, i] for i, day in enumerate(days)}


def fit_linear(task: Task, x: ArrayLike, outcome: Outcome, penalty: float, where: str = "the fold") -> LinearModel:
    """Fit on training patients with a given penalty; see `choose_penalty`.

    Args:
        task: `Survival`, or `Classification` with its classes.
        x: (n, p) inputs of the training patients, centred.
        outcome: Their outcome.
        penalty: Penalty as a multiple of the total variance of the columns.
        where: Name of the fold in messages.

    Raises:
        InputError: No training patient has the event, or all are of one class.
    """
    refuse_unlearnable(task, outcome, where)
    return next(fit_path(task, np.asarray(x, np.float64), outcome, (penalty,)))


def refuse_unlearnable(task: Task, outcome: Outcome, where: str) -> None:
    """Refuse patients from whose outcomes nothing can be learned.

    Raises:
        InputError: None of them has the event, or all are of one class.
    """
    if task.kind == "classification":
        if len(np.unique(outcome["label"])) < 2:
            raise InputError(f"{where}: the training patients are all of one class; use fewer folds")
    elif not np.any(outcome["event"]):
        raise InputError(f"{where}: no training patient has the event, so no Cox model can be fitted; use fewer folds")


def choose_penalty(task: Task, folds: Sequence[InnerFold]) -> tuple[float, list[LinearModel]]:
    """Choose the penalty by cross-validation among training patients.

    The best penalty gives the highest log-likelihood of the held-out patients of all folds together, so that risk sets
    are large enough even with few patients. Weaker penalties are not tried once six in a row were worse.

    Args:
        task: As in `fit_linear`.
        folds: At least one inner fold.

    Returns:
        The penalty, and the model of each fold with it.

    Source: Dai & Breheny 2019 (cross-validated linear predictors). The likelihood within each fold, and that of Verweij
    & van Houwelingen 1993, were tried as well; neither was better for few covariates of 40 patients and for RNA of 400.
    """
    paths = [fit_path(task, fold.x, fold.outcome, PENALTIES) for fold in folds]
    scores: list[float] = []
    models: list[list[LinearModel]] = []
    for _ in PENALTIES:
        models.append([next(path) for path in paths])
        scores.append(_held_out_likelihood(task, models[-1], folds))
        if len(scores) - 1 - choose(scores) >= GIVE_UP_AFTER:
            break
    best = choose(scores)
    return models[best][0].penalty, models[best]


def _held_out_likelihood(task: Task, models: Sequence[LinearModel], folds: Sequence[InnerFold]) -> float:
    """Log-likelihood of the held-out patients of all folds; 0 if none of them is informative."""
    score = np.concatenate([model.score(fold.x_held_out) for model, fold in zip(models, folds, strict=True)])
    outcome = {name: np.concatenate([fold.outcome_held_out[name] for fold in folds]) for name in task.outcome}
    if task.kind == "survival":
        return cox_log_likelihood(score[:, 0], outcome["time"], outcome["event"])
    label = outcome["label"].astype(int)
    return float(log_softmax(score, axis=1)[np.arange(len(label)), label].sum())


def fit_path(task: Task, x: NDArray, outcome: Outcome, penalties: Sequence[float]) -> Iterator[LinearModel]:
    """Yield a model for each penalty, each started from the previous one.

    Args:
        task: As in `fit_linear`.
        x: As in `fit_linear`.
        outcome: As in `fit_linear`.
        penalties: Penalties, strongest first.
    """
    rotation, scale, start, none = rotate(x), float(x.var(axis=0).sum()) or 1.0, None, np.zeros(0)
    for penalty in penalties:
        if task.kind == "survival":
            time, event = (np.asarray(outcome[name], np.float64) for name in ("time", "event"))
            start = fit_cox(rotation.rows, time, event, penalty * scale, start=start)
            weight = rotation.basis @ start
            yield LinearModel(weight[:, None], np.zeros(1), float(penalty), *breslow(x @ weight, time, event))
        else:
            start = fit_logistic(rotation.rows, outcome["label"], len(task.classes), penalty * scale, start)
            yield LinearModel(rotation.basis @ start[:-1], start[-1], float(penalty), none, none)


def join(task: Task, clinical: ArrayLike, model: ArrayLike, outcome: Outcome) -> LinearModel:
    """Learn the weights of a clinical and a model's score side by side, from patients to whom neither was fitted.

    A model's risk of its own training patients is too good, and a regression on them trusts it too much: on TCGA-LUAD
    (ridge Cox of RNA, published folds) the concordance of such a join was 0.02 lower than with weights learned from
    other patients.

    Args:
        task: As in `fit_linear`.
        clinical: (m, 1) log-hazard or (m, C) logits of patients to whom neither model was fitted; for survival, with
            mean 0 and standard deviation 1.
        model: The same for the model.
        outcome: Outcome of these patients.

    Returns:
        A regression on [clinical | model], of width 2 or 2 C.
    """
    clinical, model = np.asarray(clinical, np.float64), np.asarray(model, np.float64)
    both, none = np.hstack([clinical, model]), np.zeros(0)
    penalty = JOIN_PRECISION / max(1, len(both))
    if task.kind == "survival":
        time, event = (np.asarray(outcome[name], np.float64) for name in ("time", "event"))
        weight = fit_cox(both, time, event, penalty, centre=JOIN_CENTRE)
        days, hazard = breslow(both @ weight, time, event)
        return LinearModel(weight[:, None], np.zeros(1), penalty, days, hazard)
    share = _mix_logits(clinical, model, np.asarray(outcome["label"], int), penalty)
    n = clinical.shape[1]
    return LinearModel(np.vstack([share[0] * np.eye(n), share[1] * np.eye(n)]), np.zeros(n), penalty, none, none)


def _mix_logits(clinical: NDArray, model: NDArray, label: NDArray, penalty: float) -> NDArray[np.float64]:
    """Return the (2,) weights a, b of the logits a · clinical + b · model that maximise their penalised likelihood."""

    def objective(weight: NDArray) -> float:
        log_probability = log_softmax(weight[0] * clinical + weight[1] * model, axis=1)
        log_likelihood = log_probability[np.arange(len(label)), label].sum() / max(1, len(label))
        return -log_likelihood + penalty / 2 * ((weight - 0.5) ** 2).sum()

    return minimize(objective, np.full(2, 0.5), method="L-BFGS-B").x


def breslow(risk: ArrayLike, time: ArrayLike, event: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the days with an event, and the cumulative baseline hazard at these days.

    The hazard at day t is Σ_{events t_i ≤ t} 1 / Σ_{t_j ≥ t_i} exp η_j.
    """
    risk, time, died = np.asarray(risk, float), np.asarray(time, float), np.asarray(event, float) > 0
    days, deaths = np.unique(time[died], return_counts=True)
    weight = ((time >= days[:, None]) * np.exp(np.clip(risk, -50, 50))).sum(1)
    return days, np.cumsum(deaths / weight)
