"""What a task is: all that depends on the endpoint stands behind these methods and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torchmetrics import MetricCollection

from dmml.errors import InputError
from dmml.linear.likelihoods import Likelihood

COMBINATIONS = ("mean", "max_confidence")
SLOPE_SD, BIAS_SD = 0.5, 10.0
"""Standard deviations of the normal priors of a calibration's slope, whose mean is 1, and of its constants"""


class Task:
    """An endpoint. Models know a task only through these methods; one of the user's own subclasses it.

    Args:
        combination: How magnifications are combined: "mean" of class probabilities or of survival curves, worked in
            log space; "max_confidence", the paper's: the magnification with the larger top softmax probability, the
            finer one where they tie.

    Attributes:
        kind: Short name, written into results.
        n_outputs: C.
        outcome: Columns of a patient's outcome that the task needs, as the cohort names them.
    """

    kind: str
    n_outputs: int
    outcome: tuple[str, ...]

    def __init__(self, combination: str = "mean"):
        if combination not in COMBINATIONS:
            raise ValueError(f"combination must be one of {', '.join(COMBINATIONS)}; got {combination!r}")
        self.combination = combination
        self._placed: dict[tuple[str, torch.device], tuple[list[float], Tensor]] = {}

    def placed(self, name: str, values: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Numbers as a tensor on a device, copied there once: a copy from the host waits for the device, each time.

        Args:
            name: Under which they are kept; other numbers of the same name take their place.
            values: The numbers.
            device: Where.
            dtype: Of the tensor.
        """
        kept = self._placed.get((name, device))
        if kept is None or kept[0] != list(values):
            with torch.inference_mode(False):  # a tensor made in validation is to be of use in training
                kept = list(values), torch.tensor(values, dtype=dtype, device=device)
            self._placed[name, device] = kept
        return kept[1]

    def fit(self, outcome: Mapping[str, Sequence[Any]]) -> None:
        """Take from the outcomes of the training patients, and of no others, what was not given."""
        raise NotImplementedError

    def check_batch(self, batch_size: float, outcome: Mapping[str, Sequence[Any]]) -> None:
        """Refuse a batch size with which the loss cannot be learned; by default none is.

        Args:
            batch_size: Patients that one call of `loss` sees on average: of a micro-batch, on one process.
            outcome: Of the training patients, as given to `fit`.

        Raises:
            InputError: A batch holds too little of what the loss compares.
        """

    def init_args(self) -> dict[str, Any]:
        """Constructor arguments, fitted values included, in plain Python: what a checkpoint keeps."""
        raise NotImplementedError

    def encode(self, outcome: Mapping[str, Sequence[Any]]) -> dict[str, Tensor]:
        """Outcomes of patients → `Batch.target`, with `observed` False where the outcome is unknown."""
        raise NotImplementedError

    def decode(self, target: Mapping[str, Tensor]) -> dict[str, list[Any]]:
        """The way back: columns of the outcome as they stand in `predictions.csv`, None where it is unknown."""
        observed = target["observed"].tolist()
        return {
            name: [value if known else None for value, known in zip(target[name].tolist(), observed, strict=True)]
            for name in self.outcome
        }

    def loss(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """(B, C) → (B,) loss to train with; 0 for patients who are not observed."""
        raise NotImplementedError

    def log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """(B, C) → (B,) log-likelihood of what was observed, a proper score; 0 for patients who are not observed."""
        raise NotImplementedError

    def calibration_log_likelihood(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """(B, C) → (B,) log-likelihood by which the backbone is calibrated and shares are compared; 0 where not observed."""
        return self.log_likelihood(logits, target)

    def paper_confidence(self, logits: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """(B, C) → (B,) likelihood of what was observed; 0 for patients who are not observed."""
        return self.log_likelihood(logits, target).exp() * target["observed"]

    def divergence(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Softened divergence of each patient from a teacher, factor T² included. (B, C), (B, C) → (B,)."""
        raise NotImplementedError

    def combine(self, logits: Tensor, available: Tensor) -> Tensor:
        """(M, B, C) of the magnifications, finer last, and (M, B) bool → (B, C).

        Magnifications that are not available to a patient are left out, unless none is.
        """
        available = available | ~available.any(0, keepdim=True)
        if self.combination == "mean":
            return self._mean(logits.float(), available.float().log())
        top = logits.float().softmax(-1).amax(-1).masked_fill(~available, -1.0)  # (M, B)
        finest_best = len(top) - 1 - top.flip(0).argmax(0)  # argmax takes the first: flipped, the finer one
        return logits.gather(0, finest_best[None, :, None].expand(1, -1, logits.shape[-1])).squeeze(0)

    def _mean(self, logits: Tensor, log_weight: Tensor) -> Tensor:
        """Logits of the mean prediction; `log_weight` (M, B) is 0 or −inf."""
        raise NotImplementedError

    def linear_likelihood(self, target: Mapping[str, Tensor]) -> Likelihood:
        """Log-likelihood of a linear predictor, to which the backbone is fitted.

        Args:
            target: Of patients who are all observed.

        Raises:
            InputError: The task has none.
        """
        raise InputError(
            f"the task {type(self).__name__} has no linear_likelihood for the backbone; define it, or set backbone: null "
            "in the model section"
        )

    def calibrate(self, predictor: NDArray, target: Mapping[str, Tensor]) -> tuple[NDArray, NDArray]:
        """Fit how a linear predictor becomes logits: logits = bias + predictor @ spread.

        Args:
            predictor: (n, q), each patient's by a model that was fitted without the patient.
            target: Of the same patients, all of whom are observed.

        Returns:
            bias (C,) and spread (q, C), by `calibration_log_likelihood`.
        """
        raise NotImplementedError

    def metrics(self) -> MetricCollection:
        """Metrics that are followed while training; updated with (logits, target) of observed patients."""
        raise NotImplementedError

    def predictions(self, logits: Tensor) -> dict[str, Tensor]:
        """(B, C) → {column: (B,)} as they stand in `predictions.csv`."""
        raise NotImplementedError

    def direction(self, logits: Tensor) -> Tensor:
        """Weights by which logits become one number, in which tiles are compared; by default their mean.

        Args:
            logits: (B, C) of the whole prediction.

        Returns:
            (B, C).
        """
        return torch.full_like(logits, 1 / logits.shape[1])

    def context(self) -> dict[str, Any]:
        """What evaluation must know of the task, in plain Python."""
        raise NotImplementedError


def masked_log_mean(log_values: Tensor, log_weight: Tensor) -> Tensor:
    """Log Σ_m w_m exp(v_m), finite with finite gradients where at least one weight is not 0. (M, …), (M, …) → (…)."""
    return torch.logsumexp(log_values + log_weight, 0)


def calibrated(
    task: Task, predictor: NDArray, target: Mapping[str, Tensor], spread: NDArray, weight: Tensor | float = 1.0
) -> tuple[NDArray, NDArray]:
    """Bias and slope by penalised likelihood: logits = bias + slope · predictor @ spread.

    Args:
        task: Gives `calibration_log_likelihood` of logits.
        predictor: (n, q).
        target: Of n observed patients.
        spread: (q, C) before the slope.
        weight: (n,) of each patient in the likelihood.

    Returns:
        bias (C,) and slope · spread (q, C); the slope is at least 0.05, so that an order is never turned round.
    """
    spread_predictor = torch.as_tensor(np.asarray(predictor) @ spread)

    def objective(values: NDArray) -> tuple[float, NDArray]:
        with torch.enable_grad():
            x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
            logits = x[1:] + x[0] * spread_predictor
            loss = -(task.calibration_log_likelihood(logits, target).double() * weight).sum()
            loss = loss + ((x[0] - 1) / SLOPE_SD) ** 2 / 2 + ((x[1:] / BIAS_SD) ** 2).sum() / 2
            loss.backward()
        return loss.item(), x.grad.numpy()

    start = np.append(1.0, np.zeros(spread.shape[1]))
    bounds = [(0.05, None)] + [(None, None)] * spread.shape[1]
    slope, *bias = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.array(bias), slope * spread
