"""What a task promises of single patients, calibrated on patients of the inner validation.

Classes come as sets that hold the true class, values as intervals that hold the true value, and survival as lower bounds
of the time to the event, each with a stated probability (`dmml.evaluation.limits`). A task of a user's own promises nothing unless it returns a `Conformal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.evaluation.limits import prediction_sets, survival_bounds, value_intervals
from dmml.evaluation.limits.prediction_sets import fit_sets, prediction_set
from dmml.evaluation.limits.survival_bounds import as_curve, bounds, fit_bounds, last_day
from dmml.evaluation.limits.value_intervals import fit_intervals, value_interval
from dmml.evaluation.report.formatting import in_unit, joined, percent
from dmml.functional.survival import survival_at, survival_curve

if TYPE_CHECKING:
    from dmml.tasks.classification import Classification
    from dmml.tasks.regression import Regression
    from dmml.tasks.survival import Survival

DAYS_PER_MONTH, DAYS_PER_YEAR = 30.4375, 365.25


class Conformal:
    """Promises of a task; the base class promises nothing.

    Attributes:
        level: Probability of the strongest promise. Nothing is calibrated with fewer patients than it needs
            (`min_sample`); None: any number is enough.
    """

    level: ClassVar[float | None] = None

    def fit(self, logits: Tensor, target: Mapping[str, Tensor], censoring: Mapping[str, Any] | None) -> dict[str, Any]:
        """Calibrate, and return the calibration in plain Python; it has `reason` if there are too few patients.

        Args:
            logits: (n, C) of patients who are exchangeable with later ones, and to whom the model was not fitted.
            target: Their targets, with every outcome observed.
            censoring: `fitted["censoring"]` of the model; None for a task without times.
        """
        return {}

    def promise(
        self, calibration: Mapping[str, Any], logits: Tensor, censoring: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return what is promised of one patient, in plain Python.

        Args:
            calibration: From `fit`, without `reason`.
            logits: (1, C).
            censoring: As in `fit`.
        """
        return {}

    def sentences(self, promise: Mapping[str, Any]) -> list[str]:
        """Put a promise into sentences."""
        return []


class ClassSets(Conformal):
    """Sets of classes.

    Args:
        task: The task, fitted.
    """

    level = prediction_sets.LEVEL

    def __init__(self, task: Classification):
        self.task = task

    def fit(self, logits: Tensor, target: Mapping[str, Tensor], censoring: Mapping[str, Any] | None) -> dict[str, Any]:
        """See `fit_sets`."""
        return fit_sets(logits.double().softmax(1).numpy(), target["label"].numpy())

    def promise(
        self, calibration: Mapping[str, Any], logits: Tensor, censoring: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return the `classes` of the patient's set, and its `level`."""
        probability = logits[0].double().softmax(0).numpy()
        classes = prediction_set(calibration, probability, self.task.class_names())
        return {"level": calibration["level"], "classes": classes}

    def sentences(self, promise: Mapping[str, Any]) -> list[str]:
        """Name the classes."""
        classes, level = promise["classes"], percent(promise["level"])
        if len(classes) == len(self.task.class_names()):
            return [f"With a probability of at least {level}, no class can be ruled out."]
        one_of = f"one of {joined(classes)}" if len(classes) > 1 else classes[0]
        return [f"With a probability of at least {level}, the class is {one_of}."]


class ValueIntervals(Conformal):
    """Intervals of a value.

    Args:
        task: The task, fitted.
    """

    level = value_intervals.LEVEL

    def __init__(self, task: Regression):
        self.task = task

    def fit(self, logits: Tensor, target: Mapping[str, Tensor], censoring: Mapping[str, Any] | None) -> dict[str, Any]:
        """See `fit_intervals`."""
        return fit_intervals(self._value(logits), target["value"].double().numpy())

    def promise(
        self, calibration: Mapping[str, Any], logits: Tensor, censoring: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return `low` and `high` of the patient's interval, in the units of the value, and its `level`."""
        low, high = value_interval(calibration, float(self._value(logits)[0]))
        return {"level": calibration["level"], "low": low, "high": high, "unit": self.task.unit}

    def sentences(self, promise: Mapping[str, Any]) -> list[str]:
        """State the interval."""
        low, high = in_unit(promise["low"]), in_unit(promise["high"], self.task.unit)
        level = percent(promise["level"])
        return [f"With a probability of at least {level}, the {self.task.name} lies between {low} and {high}."]

    def _value(self, logits: Tensor) -> NDArray[np.float64]:
        [value] = self.task.predictions(logits).values()
        return value.numpy()


class SurvivalBounds(Conformal):
    """Lower bounds of the time to the event.

    Args:
        task: The task, fitted.
    """

    level = survival_bounds.LEVELS[0]

    def __init__(self, task: Survival):
        self.task = task

    def event_probability(self, logits: Tensor, days: NDArray) -> NDArray[np.float64]:
        """Return the predicted probability of an event up to each of the (K,) days. (B, C) → (B, K)."""
        if self.task.edges is None or self.task.end is None:
            raise RuntimeError("Survival has no edges yet; only a fitted task has curves")
        edges, at = (torch.as_tensor(each, dtype=torch.float64) for each in (self.task.edges, days))
        return 1 - survival_at(survival_curve(logits.double()), edges, self.task.end, at).numpy()

    def fit(self, logits: Tensor, target: Mapping[str, Tensor], censoring: Mapping[str, Any] | None) -> dict[str, Any]:
        """See `fit_bounds`."""
        if censoring is None or self.task.end is None:
            return {}
        curve = as_curve(censoring)
        tau = last_day(curve, self.task.end)
        time = target["time"].double().numpy()
        days, day_of = np.unique(np.minimum(time, tau), return_inverse=True)
        scores = self.event_probability(logits, days)[np.arange(len(time)), day_of]
        return fit_bounds(scores, time, target["event"].numpy(), curve, tau)

    def promise(
        self, calibration: Mapping[str, Any], logits: Tensor, censoring: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return `bounds`, as `dmml.evaluation.limits.survival_bounds.bounds` does."""
        if censoring is None:
            return {}
        days = np.arange(0.0, np.floor(calibration["tau"]) + 1)
        return {"bounds": bounds(calibration, days, self.event_probability(logits, days)[0], as_curve(censoring))}

    def sentences(self, promise: Mapping[str, Any]) -> list[str]:
        """State the bounds."""
        stated: Sequence[Mapping[str, Any]] = promise["bounds"]
        if not stated:
            return []
        parts = [
            f"for at least {duration(each['days'])} with a probability of {percent(each['level'])}" for each in stated
        ]
        text = f"The patient stays free of the event {joined(parts)}."
        if stated[-1]["is_last"]:
            text += " No bound can be longer, because too few training patients were followed beyond it."
        return [text]


def duration(days: float) -> str:
    """Format days: 90 → 90 days (3 months), 800 → 800 days (2.2 years)."""
    whole = f"{days:.0f} day{'s' * (days != 1)}"
    if days < 2 * DAYS_PER_MONTH:
        return whole
    if days < 2 * DAYS_PER_YEAR:
        return f"{whole} ({days / DAYS_PER_MONTH:.0f} months)"
    return f"{whole} ({days / DAYS_PER_YEAR:.1f} years)"
