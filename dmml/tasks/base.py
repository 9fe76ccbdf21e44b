"""Interface of a task, behind which everything that depends on the endpoint lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.errors import InputError
from dmml.functional.combination import highest_confidence, weighted_by_confidence
from dmml.linear.likelihoods import Likelihood
from dmml.tasks.conformal import Conformal
from dmml.tasks.presentation import Presentation
from dmml.tasks.ridge.ridge_regression import RidgeRegression

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from dmml.evaluation.endpoints import Endpoint

COMBINATIONS = ("mean", "confidence", "max_confidence")
OutcomeColumns = Mapping[str, Sequence[Any] | NDArray[Any]]
"""{time, event}, {label} or {value} of patients, as columns of the cohort; NaN or None where unknown"""
SLOPE_SD, BIAS_SD = 0.5, 10.0
"""Standard deviations of a calibration's normal priors: of the slope, with mean 1, and of the biases, with mean 0."""


class Task:
    """Base class of an endpoint: everything that depends on the endpoint is one of these methods.

    A subclass, which may lie in a user's own folder, must define the attributes `kind`, `n_outputs` and `outcome`, and the
    methods `fit`, `init_args`, `encode`, `loss`, `log_likelihood`, `mean_prediction`, `metrics` and `predictions`. Three
    more are needed for a part of dmml:

    - `divergence` for students with a teacher,
    - `linear_likelihood` and `calibrate` for the backbone and for the regressions of a cross-validation.

    The defaults of all other methods serve any task. Predictions whose columns are neither `risk` nor `prob_<class>` nor
    `predicted_value` also need an `endpoint`. docs/extending.md shows a whole task.

    Args:
        combination: How magnifications are combined. "mean" averages class probabilities or survival curves, computed
            in log space. "confidence" averages logits, weighted by each magnification's `prediction_confidence`; the
            paper fuses logits by a rule of confidence that it does not give, so the rule is ours. "max_confidence", as
            in the released code, takes the magnification with the larger top softmax probability, for survival a
            softmax over hazard logits, or the finer one in a tie.

    Attributes:
        kind: Short name, written into results.
        n_outputs: Number of outputs C.
        outcome: Names of the outcome columns that the task needs, as in the cohort.
        endpoint: How `dmml.evaluation` evaluates predictions whose columns are neither those of survival (`risk`) nor
            of classes (`prob_<class>`) nor of values (`predicted_value`); None for predictions with such columns.
        fit_warning: What users should know of the outcomes that `fit` has seen, in one line; empty if nothing.
    """

    kind: str
    n_outputs: int
    outcome: tuple[str, ...]
    endpoint: type[Endpoint] | None = None
    fit_warning: str = ""

    def __init__(self, combination: str = "mean"):
        if combination not in COMBINATIONS:
            raise ValueError(f"combination must be one of {', '.join(COMBINATIONS)}; got {combination!r}")
        self.combination = combination
        self._on_device: dict[tuple[str, torch.device], tuple[list[float], Tensor]] = {}

    def on_device(self, name: str, values: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return numbers as a tensor on a device and cache it, because every copy from the host waits for the device.

        Args:
            name: Key of the cache; different numbers under the same name replace the earlier ones.
            values: Numbers to convert.
            device: Device of the tensor.
            dtype: Data type of the tensor.
        """
        cached = self._on_device.get((name, device))
        if cached is None or cached[0] != list(values):
            with torch.inference_mode(False):  # a tensor created in validation must be usable in training
                cached = list(values), torch.tensor(values, dtype=dtype, device=device)
            self._on_device[name, device] = cached
        return cached[1]

    def fit(self, outcome: OutcomeColumns) -> None:
        """Set whatever was not given, from the outcomes of the training patients and of no others."""
        raise NotImplementedError

    def check_batch(self, batch_size: float, outcome: OutcomeColumns) -> None:
        """Refuse a batch size that is too small for the loss; by default every size is accepted.

        Args:
            batch_size: Mean number of patients in one call of `loss`, that is, in a micro-batch of one process.
            outcome: Outcomes of the training patients, as given to `fit`.

        Raises:
            InputError: A batch holds too little of what the loss compares.
        """

    def init_args(self) -> dict[str, Any]:
        """Return the constructor arguments, including fitted values, in plain Python, as a checkpoint stores them."""
        raise NotImplementedError

    def encode(self, outcome: OutcomeColumns) -> dict[str, Tensor]:
        """Convert outcomes of patients to `Batch.target`, with `observed` False where the outcome is unknown."""
        raise NotImplementedError

    def decode(self, target: Mapping[str, Tensor]) -> dict[str, list[Any]]:
        """Convert a target back to the outcome columns of `predictions.csv`, with None where the outcome is unknown."""
        observed = target["observed"].tolist()
        return {
            name: [value if is_known else None for value, is_known in zip(target[name].tolist(), observed, strict=True)]
            for name in self.outcome
        }

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Training loss of each patient, 0 where the outcome is not observed. (B, C) → (B,)."""
        raise NotImplementedError

    def loss_on_backbone(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Training loss of logits that add to a calibrated backbone's. (B, C) → (B,).

        It must not pull the logits away from the levels that `calibrate` has set.
        """
        return self.loss(logits, target)

    def log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Log-likelihood of each observed outcome, a proper score; 0 where none is observed. (B, C) → (B,)."""
        raise NotImplementedError

    def calibration_log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Log-likelihood to calibrate the backbone and compare deep shares; 0 if unobserved. (B, C) → (B,)."""
        return self.log_likelihood(logits, target)

    def paper_confidence(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """Likelihood of each observed outcome; 0 where none is observed. (B, C) → (B,)."""
        return self.log_likelihood(logits, target).exp() * target["observed"]

    def divergence(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Softened divergence of each patient's prediction from the teacher's, times T². (B, C), (B, C) → (B,)."""
        raise NotImplementedError

    def combine(self, logits: Tensor, available: Tensor) -> Tensor:
        """Combine the logits of the magnifications, the finest last. (M, B, C), (M, B) bool → (B, C).

        Magnifications that are not available for a patient are left out, unless none is available.
        """
        available = available | ~available.any(0, keepdim=True)
        if self.combination == "mean":
            return self.mean_prediction(logits.float(), available.float().log())
        if self.combination == "confidence":
            return weighted_by_confidence(logits.float(), self.prediction_confidence(logits.float()), available)
        return highest_confidence(logits, available)

    def prediction_confidence(self, logits: Tensor) -> Tensor:
        """Confidence of predictions in themselves, above 0, as `combination: confidence` weights them. (…, C) → (…).

        This is the largest probability of the predicted outcomes. By default all predictions are equally confident,
        because not every task predicts probabilities of finitely many outcomes.
        """
        return torch.ones_like(logits[..., 0])

    def mean_prediction(self, logits: Tensor, log_weight: Tensor) -> Tensor:
        """Return the logits of the mean prediction over magnifications. (M, B, C), (M, B) → (B, C).

        Args:
            logits: Logits of each magnification.
            log_weight: Log of each magnification's weight: 0, or −inf for one that a patient lacks.
        """
        raise NotImplementedError

    def linear_likelihood(self, target: Mapping[str, Tensor]) -> Likelihood:
        """Log-likelihood of a linear predictor, by which the backbone is fitted.

        Args:
            target: Target of patients whose outcomes are all observed.

        Raises:
            InputError: The task defines no such likelihood.
        """
        raise InputError(
            f"the task {type(self).__name__} has no linear_likelihood for the backbone; define it, or set backbone: null "
            "in the model section"
        )

    def regression(self) -> RidgeRegression:
        """Return the ridge regression that cross-validations fit to RNA (`rna_linear`) and covariates (`clinical`).

        Raises:
            InputError: The task defines no `linear_likelihood`, from which a regression follows.
        """
        if type(self).linear_likelihood is Task.linear_likelihood:
            raise InputError(
                f"the task {type(self).__name__} has no linear_likelihood, which rna_linear, clinical and <name>+clinical need; "
                "define it, or name other models with --models"
            )
        return RidgeRegression(self)

    def calibrate(self, predictor: NDArray, target: Mapping[str, Tensor]) -> tuple[NDArray, NDArray]:
        """Fit the map from a linear predictor to logits: logits = bias + predictor @ spread.

        Args:
            predictor: (n, q) predictions, each from a model that was fitted without the patient.
            target: Target of the same patients, whose outcomes are all observed.

        Returns:
            bias (C,) and spread (q, C) that fit best by `calibration_log_likelihood`; see `calibrated`.

        Raises:
            InputError: The task defines no such map.
        """
        raise InputError(
            f"the task {type(self).__name__} has no calibrate, which maps the backbone's predictor to logits; define it beside "
            "linear_likelihood, or set backbone: null in the model section"
        )

    def metrics(self) -> MetricCollection:
        """Return the metrics tracked during training, which are updated with (logits, target) of observed patients."""
        raise NotImplementedError

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """Convert logits to the prediction columns of `predictions.csv`. (B, C) → {column: (B,)}."""
        raise NotImplementedError

    def direction(self, logits: Tensor) -> Tensor:
        """Weights that reduce logits to one number by which tiles are compared; by default the mean.

        Args:
            logits: (B, C) of the whole prediction.

        Returns:
            Weights (B, C).
        """
        return torch.full_like(logits, 1 / logits.shape[1])

    def presentation(self) -> Presentation:
        """Return how `dmml predict-slide` puts a prediction into words; by default, its columns and their numbers."""
        return Presentation()

    def conformal(self) -> Conformal:
        """Return what the task promises of single patients; by default nothing."""
        return Conformal()

    def context(self) -> dict[str, Any]:
        """Return what evaluation needs to know about the fitted task, in plain Python; by default, `kind` alone."""
        return {"task": self.kind}

    def evaluation_context(self) -> dict[str, Any]:
        """Return `context`, with the class path of a task's own endpoint, as `context.json` stores them."""
        name = self.endpoint and f"{self.endpoint.__module__}.{self.endpoint.__qualname__}"
        return {**self.context(), **({"endpoint": name} if name else {})}


def calibrated(
    task: Task, predictor: NDArray, target: Mapping[str, Tensor], spread: NDArray, weight: Tensor | float = 1.0
) -> tuple[NDArray, NDArray]:
    """Fit bias and slope by penalised likelihood: logits = bias + slope · predictor @ spread.

    Args:
        task: Task whose `calibration_log_likelihood` is maximised.
        predictor: (n, q) linear predictor.
        target: Target of the n patients, whose outcomes are all observed.
        spread: (q, C) before it is multiplied by the slope.
        weight: (n,) weight of each patient in the likelihood.

    Returns:
        bias (C,) and slope · spread (q, C). The slope is at least 0.05, so it never reverses the order of patients.
    """
    from scipy.optimize import minimize

    spread_predictor = torch.as_tensor(np.asarray(predictor) @ spread)

    def objective(values: NDArray) -> tuple[float, NDArray]:
        with torch.enable_grad():
            x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
            logits = x[1:] + x[0] * spread_predictor
            loss = -(task.calibration_log_likelihood(logits, target).double() * weight).sum()
            loss = loss + ((x[0] - 1) / SLOPE_SD) ** 2 / 2 + ((x[1:] / BIAS_SD) ** 2).sum() / 2
            [gradient] = torch.autograd.grad(loss, [x])
        return loss.item(), gradient.numpy()

    start = np.append(1.0, np.zeros(spread.shape[1]))
    bounds = [(0.05, None)] + [(None, None)] * spread.shape[1]
    slope, *bias = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.array(bias), slope * spread
