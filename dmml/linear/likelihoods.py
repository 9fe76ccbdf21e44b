"""Log-likelihoods of a linear predictor, with derivatives for Newton's method and Laplace's approximation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from dmml.linear.ridge import risk_sets


class Likelihood(Protocol):
    """Log-likelihood of the outcomes of n patients under a predictor (n, q).

    Attributes:
        n_outputs: q, the number of columns of the predictor.
        has_intercept: Whether the predictor needs a constant; a partial likelihood is invariant to it.
    """

    n_outputs: int
    has_intercept: bool

    def value(self, predictor: NDArray) -> float:
        """Return the log-likelihood of a predictor (n, q), summed over patients."""
        ...

    def derivatives(self, x: NDArray, predictor: NDArray) -> tuple[NDArray, NDArray]:
        """Return gradient (p · q,) and information (p · q, p · q) for the weights (p, q) of the predictor x @ weights.

        Args:
            x: (n, p) design.
            predictor: (n, q), at which the derivatives are taken.
        """
        ...

    def subset(self, rows: Sequence[int] | NDArray) -> Likelihood:
        """Return the likelihood of a subset of the patients."""
        ...


class CoxLikelihood:
    """Cox log partial likelihood with Efron's treatment of ties.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened, 0 = censored.
    """

    n_outputs = 1
    has_intercept = False

    def __init__(self, time: ArrayLike, event: ArrayLike):
        self.time, self.event = np.asarray(time, np.float64), np.asarray(event, np.float64)
        self._log_weight, self._has_event = risk_sets(self.time, self.event, None)

    def _log_risk_share(self, predictor: NDArray) -> tuple[NDArray, NDArray]:
        """Return each patient's log share of each event's risk set (events, n), and the log normalisers (events,)."""
        weighted = self._log_weight + predictor[:, 0]
        top = weighted.max(1, initial=-np.inf)
        log_total = top + np.log(np.exp(weighted - top[:, None]).sum(1))
        return weighted - log_total[:, None], log_total

    def value(self, predictor: NDArray) -> float:
        """See `Likelihood`."""
        if not self._has_event.any():
            return 0.0
        return float((predictor[self._has_event, 0] - self._log_risk_share(predictor)[1]).sum())

    def derivatives(self, x: NDArray, predictor: NDArray) -> tuple[NDArray, NDArray]:
        """See `Likelihood`."""
        if not self._has_event.any():
            return np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
        share = np.exp(self._log_risk_share(predictor)[0])
        at_risk, mean = share.sum(0), share @ x
        return x.T @ (self._has_event - at_risk), (x.T * at_risk) @ x - mean.T @ mean

    def subset(self, rows: Sequence[int] | NDArray) -> CoxLikelihood:
        """See `Likelihood`."""
        return CoxLikelihood(self.time[rows], self.event[rows])


class MultinomialLikelihood:
    """Log-likelihood of class labels under softmax(predictor).

    Args:
        label: (n,) class indices.
        n_classes: C = q.
    """

    has_intercept = True

    def __init__(self, label: ArrayLike, n_classes: int):
        self.label, self.n_outputs = np.asarray(label, int), n_classes

    def value(self, predictor: NDArray) -> float:
        """See `Likelihood`."""
        return float(log_softmax(predictor, axis=1)[np.arange(len(self.label)), self.label].sum())

    def derivatives(self, x: NDArray, predictor: NDArray) -> tuple[NDArray, NDArray]:
        """See `Likelihood`."""
        probability = np.exp(log_softmax(predictor, axis=1))  # (n, C)
        p, q = x.shape[1], self.n_outputs
        truth = np.eye(q)[self.label]
        information = np.empty((p, q, p, q))
        for a in range(q):
            for b in range(a, q):
                weight = probability[:, a] * ((a == b) - probability[:, b])
                block = (x.T * weight) @ x
                information[:, a, :, b] = information[:, b, :, a] = block
        return (x.T @ (truth - probability)).ravel(), information.reshape(p * q, p * q)

    def subset(self, rows: Sequence[int] | NDArray) -> MultinomialLikelihood:
        """See `Likelihood`."""
        return MultinomialLikelihood(self.label[rows], self.n_outputs)


class NormalLikelihood:
    """Log-likelihood of numbers that are normally distributed around the predictor, up to a constant.

    Args:
        value: (n,) outcomes, standardised.
        noise: Variance of the residuals. `dmml.linear.evidence.fit_blocks` chooses it together with the variances of
            the blocks.
    """

    n_outputs = 1
    has_intercept = True

    def __init__(self, value: ArrayLike, noise: float = 1.0):
        self.outcome, self.noise = np.asarray(value, np.float64), noise

    def value(self, predictor: NDArray) -> float:
        """See `Likelihood`."""
        return float(-self._loss(self._residual(predictor)).sum() - len(self.outcome) * np.log(self.noise) / 2)

    def derivatives(self, x: NDArray, predictor: NDArray) -> tuple[NDArray, NDArray]:
        """See `Likelihood`."""
        slope, curvature = self._derivatives(self._residual(predictor))
        return x.T @ slope / np.sqrt(self.noise), (x.T * curvature) @ x / self.noise

    def subset(self, rows: Sequence[int] | NDArray) -> NormalLikelihood:
        """See `Likelihood`."""
        return type(self)(self.outcome[rows], self.noise)

    def with_noise(self, noise: float) -> NormalLikelihood:
        """Return the likelihood of the same patients with another variance of the residuals."""
        return type(self)(self.outcome, noise)

    def _residual(self, predictor: NDArray) -> NDArray[np.float64]:
        return (self.outcome - predictor[:, 0]) / np.sqrt(self.noise)

    def _loss(self, residual: NDArray) -> NDArray[np.float64]:
        return residual**2 / 2

    def _derivatives(self, residual: NDArray) -> tuple[NDArray, NDArray]:
        """Return the first and the second derivative of the loss of each patient."""
        return residual, np.ones_like(residual)


HUBER_THRESHOLD = 1.345
"""Residual, in standard deviations, beyond which Huber's loss is linear: 95 % efficiency for normal residuals (Huber 1964)"""


class HuberLikelihood(NormalLikelihood):
    """Log-likelihood whose negative is Huber's loss of the residuals, so that a few outliers count little; up to a constant.

    Its density is normal in the middle and exponential in the tails. `noise` is the variance of the normal middle.

    Source: Huber 1964.
    """

    def _loss(self, residual: NDArray) -> NDArray[np.float64]:
        size = np.abs(residual)
        return np.where(size <= HUBER_THRESHOLD, size**2 / 2, HUBER_THRESHOLD * (size - HUBER_THRESHOLD / 2))

    def _derivatives(self, residual: NDArray) -> tuple[NDArray, NDArray]:
        is_inside = np.abs(residual) <= HUBER_THRESHOLD
        return np.clip(residual, -HUBER_THRESHOLD, HUBER_THRESHOLD), is_inside.astype(float)
