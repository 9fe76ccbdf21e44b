"""Ridge Cox regression with Breslow's baseline hazard, the regression of survival."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.errors import InputError
from dmml.linear.ridge import cox_log_likelihood, fit_cox, rotate
from dmml.tasks.ridge.ridge_regression import JOIN_PRECISION, Outcome, RegressionModel, RidgeRegression

if TYPE_CHECKING:
    import pandas as pd

    from dmml.tasks.survival import Survival

JOIN_CENTRE = 0.3
"""Centre of the normal prior of the two weights of a join: a typical log-hazard ratio per standard deviation of a useful
score"""


@dataclass(frozen=True)
class CoxModel(RegressionModel):
    """A fitted Cox regression; its score is the log-hazard, higher = worse.

    Attributes:
        task: Gives the days on which survival is predicted.
        event_days: (K,) training days with an event.
        hazard: (K,) Breslow's cumulative baseline hazard at these days.
    """

    task: Survival
    event_days: NDArray[np.float64]
    hazard: NDArray[np.float64]

    def predictions(self, x: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Return risk and survival on the days of the networks."""
        score, days = self.score(x), self.task.prediction_days()
        steps = np.concatenate([[0.0], self.hazard])[np.searchsorted(self.event_days, days, side="right")]
        survival = np.exp(-steps * np.exp(np.clip(score, -50, 50)))  # (n, T)
        return {"risk": score[:, 0]} | {f"survival_{day:g}": survival[:, i] for i, day in enumerate(days)}


class CoxRegression(RidgeRegression):
    """Ridge Cox regression; see `RidgeRegression`.

    Args:
        task: Gives the days on which survival is predicted.
    """

    task: Survival

    def check_learnable(self, outcome: Outcome, where: str) -> None:
        """Refuse patients of whom none has the event."""
        if not np.any(outcome["event"]):
            raise InputError(
                f"{where}: no training patient has the event, so no Cox model can be fitted; use fewer folds"
            )

    def path(self, x: NDArray, outcome: Outcome, penalties: Sequence[float]) -> Iterator[CoxModel]:
        """See `RidgeRegression`."""
        rotation, scale, start = rotate(x), float(x.var(axis=0).sum()) or 1.0, None
        time, event = _time_and_event(outcome)
        for penalty in penalties:
            start = fit_cox(rotation.rows, time, event, penalty * scale, start=start)
            yield self._model(x, rotation.basis @ start, float(penalty), time, event)

    def log_likelihood(self, score: NDArray, outcome: Outcome) -> float:
        """Return the log partial likelihood."""
        return cox_log_likelihood(score[:, 0], outcome["time"], outcome["event"])

    def score_of(self, predictions: pd.DataFrame) -> NDArray[np.float64]:
        """Return the risk (n, 1)."""
        return predictions[["risk"]].to_numpy()

    def join(self, clinical: NDArray, model: NDArray, outcome: Outcome) -> CoxModel:
        """See `RidgeRegression`."""
        x = np.hstack([clinical, model])
        time, event = _time_and_event(outcome)
        penalty = JOIN_PRECISION / max(1, len(x))
        return self._model(x, fit_cox(x, time, event, penalty, centre=JOIN_CENTRE), penalty, time, event)

    def _model(self, x: NDArray, weight: NDArray, penalty: float, time: NDArray, event: NDArray) -> CoxModel:
        return CoxModel(self.task, weight[:, None], np.zeros(1), penalty, *breslow(x @ weight, time, event))


def _time_and_event(outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(outcome["time"], np.float64), np.asarray(outcome["event"], np.float64)


def breslow(risk: ArrayLike, time: ArrayLike, event: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the days with an event, and the cumulative baseline hazard at these days.

    The hazard at day t is Σ_{events t_i ≤ t} 1 / Σ_{t_j ≥ t_i} exp η_j.
    """
    risk, time, died = np.asarray(risk, float), np.asarray(time, float), np.asarray(event, float) > 0
    days, deaths = np.unique(time[died], return_counts=True)
    weight = ((time >= days[:, None]) * np.exp(np.clip(risk, -50, 50))).sum(1)
    return days, np.cumsum(deaths / weight)
