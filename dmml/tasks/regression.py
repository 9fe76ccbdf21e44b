"""Regression of a continuous value, such as a molecular score, tumor purity or an age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.errors import InputError
from dmml.evaluation.values.column import PREDICTED_VALUE
from dmml.linear.likelihoods import HUBER_THRESHOLD, HuberLikelihood, NormalLikelihood
from dmml.tasks.base import OutcomeColumns, Task, calibrated
from dmml.tasks.conformal import ValueIntervals
from dmml.tasks.regression_presentation import RegressionPresentation

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

LOSSES = ("huber", "squared")
MIN_PATIENTS = 3
"""Minimum number of training patients with a known value"""


class Regression(Task):
    """Regression of a continuous value.

    A network predicts the value in standard deviations from the mean of the training patients. Predictions are in the
    units of the value.

    Args:
        loss: "huber", which is linear beyond 1.345 standard deviations, so that a few outliers count little, or
            "squared". The likelihood by which a backbone is fitted is that of the same loss.
        name: Name of the value in answers, such as "tumor purity".
        unit: Unit of the value, written after numbers, such as "%".
        mean: Mean of the training patients' values. With None, it is fitted.
        sd: Standard deviation of the training patients' values. With None, it is fitted.
        combination: See `Task`.
    """

    kind = "regression"
    n_outputs = 1
    outcome = ("value",)

    def __init__(
        self,
        loss: str = "huber",
        name: str = "value",
        unit: str = "",
        mean: float | None = None,
        sd: float | None = None,
        combination: str = "mean",
    ):
        super().__init__(combination)
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
        if sd is not None and not sd > 0:
            raise ValueError(f"sd must be above 0; got {sd}")
        self.loss_name, self.name, self.unit = loss, name, unit
        self.mean = None if mean is None else float(mean)
        self.sd = None if sd is None else float(sd)

    def scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the training patients' values, which are given or fitted."""
        if self.mean is None or self.sd is None:
            raise RuntimeError("Regression has no mean and sd yet: give them, or call fit() with the training values")
        return self.mean, self.sd

    def fit(self, outcome: OutcomeColumns) -> None:
        """Set mean and standard deviation from the values of the training patients, unless they were given."""
        if self.mean is not None and self.sd is not None:
            return
        values = np.asarray(outcome["value"], float)
        values = values[~np.isnan(values)]
        if len(values) < MIN_PATIENTS:
            raise InputError(
                f"{len(values)} of {len(np.asarray(outcome['value']))} training patients have a known value; at least "
                f"{MIN_PATIENTS} are needed, so check the column that data.outcome names as value"
            )
        # A spread below the precision of float32 cannot be learned either.
        if np.ptp(values) <= 1e-6 * np.abs(values).max():
            raise InputError(
                f"all {len(values)} training patients with a known value have {values[0]:g}, so nothing can be learned; check "
                "the column that data.outcome names as value"
            )
        self.mean = float(values.mean()) if self.mean is None else self.mean
        self.sd = float(values.std()) if self.sd is None else self.sd

    def init_args(self) -> dict[str, Any]:
        """See `Task`."""
        names = ("name", "unit", "mean", "sd", "combination")
        return {"loss": self.loss_name} | {name: getattr(self, name) for name in names}

    def encode(self, outcome: OutcomeColumns) -> dict[str, Tensor]:
        """Convert values to `value` (float32, in their units) and `observed`.

        Raises:
            InputError: A value is not a number.
        """
        try:
            value = torch.tensor(np.asarray(outcome["value"], float))
        except (TypeError, ValueError) as error:
            raise InputError(f"a value of the outcome is not a number ({error}); name a column of numbers") from None
        return {"value": value.nan_to_num().float(), "observed": ~value.isnan()}

    def decode(self, target: Mapping[str, Tensor]) -> dict[str, list[Any]]:
        """Convert values back, with the shortest digits that give the same float32: 0.1 stays 0.1."""
        values = super().decode(target)["value"]
        return {"value": [None if value is None else float(str(np.float32(value))) for value in values]}

    def standardised(self, value: Tensor) -> Tensor:
        """Return values in standard deviations from the mean of the training patients."""
        mean, sd = self.scale()
        return (value - mean) / sd

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Huber's loss, or half the squared error, of the standardised value."""
        residual = logits[:, 0].float() - self.standardised(target["value"])
        loss = residual.square() / 2
        if self.loss_name == "huber":
            size = residual.abs()
            loss = torch.where(size <= HUBER_THRESHOLD, loss, HUBER_THRESHOLD * (size - HUBER_THRESHOLD / 2))
        return loss * target["observed"]

    def log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Minus the loss: the log-likelihood of residuals with a standard deviation of 1, up to a constant."""
        return -self.loss(logits, target)

    def divergence(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Half the squared difference: the divergence of two normal distributions of variance T², times T²."""
        return (student_logits - teacher_logits).float().square().sum(1) / 2

    def mean_prediction(self, logits: Tensor, log_weight: Tensor) -> Tensor:
        """Mean of the predicted values over magnifications."""
        weight = log_weight.softmax(0).unsqueeze(-1)
        return (logits * weight).sum(0)

    def linear_likelihood(self, target: Mapping[str, Tensor]) -> NormalLikelihood:
        """Likelihood of the loss; the linear predictor is the standardised value (n, 1)."""
        likelihood = HuberLikelihood if self.loss_name == "huber" else NormalLikelihood
        return likelihood(self.standardised(target["value"].double()).numpy())

    def calibrate(self, predictor: NDArray, target: Mapping[str, Tensor]) -> tuple[NDArray, NDArray]:
        """Fit slope and bias of the predicted value."""
        return calibrated(self, predictor, target, np.ones((1, 1)))

    def metrics(self) -> MetricCollection:
        """Return the mean absolute error, in the units of the value."""
        from torchmetrics import MetricCollection

        from dmml.tasks.absolute_error import AbsoluteError

        return MetricCollection({"mae": AbsoluteError(self)})

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the predicted value, in its units."""
        mean, sd = self.scale()
        return {PREDICTED_VALUE: mean + sd * logits[:, 0].double()}

    def presentation(self) -> RegressionPresentation:
        """Return how a predicted value is put into words."""
        return RegressionPresentation(self)

    def conformal(self) -> ValueIntervals:
        """Return intervals of the value."""
        return ValueIntervals(self)

    def context(self) -> dict[str, Any]:
        """See `Task`."""
        return {"task": self.kind, "value_name": self.name, "unit": self.unit, "mean": self.mean, "sd": self.sd}
