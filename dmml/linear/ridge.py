"""Cox and multinomial logistic regression with a ridge penalty, exact even with more genes than patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

PENALTIES = tuple(np.logspace(1.5, -4.5, 25))
"""Candidate penalties, strongest first, as multiples of the total variance of the columns, so that one grid serves
three covariates as well as three thousand genes. The weakest leaves a handful of covariates practically unpenalised."""
_STEPS, _TOLERANCE = 100, 1e-9


@dataclass(frozen=True)
class Rotation:
    """Patients' rows in the basis of their right singular vectors, in which a ridge penalty keeps its value.

    Attributes:
        rows: (n, r) with r ≤ min(n, p).
        basis: (p, r); `basis @ coefficients` converts coefficients of `rows` into coefficients of the original columns.
    """

    rows: NDArray[np.float64]
    basis: NDArray[np.float64]


def rotate(x: ArrayLike) -> Rotation:
    """Rotate (n, p) rows by a thin singular value decomposition; directions in which all rows are 0 are left out."""
    x = np.asarray(x, np.float64)
    if not x.size:
        return Rotation(np.zeros((len(x), 0)), np.zeros((x.shape[1], 0)))
    left, size, right = np.linalg.svd(x, full_matrices=False)
    nonzero = size > 1e-10 * max(size[0], 1e-300)
    return Rotation(left[:, nonzero] * size[nonzero], right[nonzero].T)


def cox_log_likelihood(risk: ArrayLike, time: ArrayLike, event: ArrayLike, strata: ArrayLike | None = None) -> float:
    """Return Efron's log partial likelihood Σ_events [η_i − log Σ_j w_ij exp η_j]; `risk_sets` defines the weights w.

    Args:
        risk: (n,) log-risk η.
        time: (n,) days; ties are frequent if follow-up was recorded in months or years.
        event: (n,) 1 = happened.
        strata: (n,) labels; None = a single stratum.

    Source: Efron 1977; equals Breslow's form if no two events share a time.
    """
    return _log_likelihood(np.asarray(risk, np.float64), *risk_sets(time, event, strata))


def fit_cox(
    x: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    penalty: float,
    strata: ArrayLike | None = None,
    start: ArrayLike | None = None,
    centre: ArrayLike = 0.0,
) -> NDArray[np.float64]:
    """Minimise −(log partial likelihood) / n + penalty / 2 · ‖β − centre‖² by Newton's method.

    Args:
        x: (n, p) with moderate p; `rotate` reduces p to at most n.
        time: (n,) days.
        event: (n,) 1 = happened.
        penalty: λ, above 0.
        strata: See `cox_log_likelihood`.
        start: (p,) initial coefficients; None = 0.
        centre: (p,) coefficients towards which the penalty shrinks.

    Returns:
        (p,) coefficients; `centre` if there is no event.
    """
    x, centre = np.asarray(x, np.float64), np.asarray(centre, np.float64)
    n = max(1, len(x))
    log_weight, has_event = risk_sets(time, event, strata)
    beta = np.zeros(x.shape[1]) if start is None else np.array(start, np.float64)

    if not has_event.any():
        return np.full(x.shape[1], centre, np.float64)

    def objective(b: NDArray) -> float:
        return -_log_likelihood(x @ b, log_weight, has_event) / n + penalty / 2 * ((b - centre) ** 2).sum()

    value = objective(beta)
    for _ in range(_STEPS):
        share = np.exp(log_softmax(log_weight + x @ beta, axis=1))  # (events, n)
        slope = x.T @ (share.sum(0) - has_event) / n + penalty * (beta - centre)
        mean = share @ x  # (events, p)
        curvature = (x.T @ (share.sum(0)[:, None] * x) - mean.T @ mean) / n + penalty * np.eye(len(beta))
        step = np.linalg.solve(curvature, slope)
        decrease = slope @ step
        if decrease < _TOLERANCE:
            break
        size = 1.0
        while (new := objective(beta - size * step)) > value - 1e-4 * size * decrease and size > 1e-8:
            size /= 2
        beta, value = beta - size * step, new
    return beta


def fit_logistic(
    x: ArrayLike, label: ArrayLike, n_classes: int, penalty: float, start: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Minimise the mean cross-entropy + penalty / 2 · ‖W‖²; the intercepts are practically unpenalised.

    Args:
        x: (n, p).
        label: (n,) class indices.
        n_classes: C.
        penalty: λ, above 0.
        start: (p + 1, C) initial weights; None = 0.

    Returns:
        (p + 1, C) weights, with the intercepts in the last row.
    """
    x, truth = np.asarray(x, np.float64), np.eye(n_classes)[np.asarray(label, int)]
    design = np.column_stack([x, np.ones(len(x))])
    # The intercept of a class without patients would diverge to −∞; a tiny penalty keeps it finite.
    strength = np.append(np.full(x.shape[1], penalty), 1e-6)[:, None]

    def objective(flat: NDArray) -> tuple[float, NDArray]:
        weight = flat.reshape(design.shape[1], n_classes)
        log_probability = log_softmax(design @ weight, axis=1)
        value = -(truth * log_probability).sum() / len(x) + (strength * weight**2).sum() / 2
        slope = design.T @ (np.exp(log_probability) - truth) / len(x) + strength * weight
        return value, slope.ravel()

    first = np.zeros(design.shape[1] * n_classes) if start is None else np.asarray(start, np.float64).ravel()
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7}
    from scipy.optimize import minimize  # predictions do without it

    optimum = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    return optimum.x.reshape(design.shape[1], n_classes)


def choose(scores: Sequence[float]) -> int:
    """Return the index of the best score; ties go to the first, the strongest penalty. NaN counts as the worst."""
    comparable = np.nan_to_num(np.asarray(scores, float), nan=-np.inf)
    return int(np.argmax(comparable >= comparable.max() - 1e-12))


def _log_likelihood(risk: NDArray, log_weight: NDArray, has_event: NDArray) -> float:
    return float((risk[has_event] - logsumexp(log_weight + risk, axis=1)).sum()) if has_event.any() else 0.0


def risk_sets(
    time: ArrayLike, event: ArrayLike, strata: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the log weight of each patient in the risk set of each event (events, n), and who has an event (n,) bool.

    A patient at risk has weight 1, all others 0. If d patients have the event at the same time, each of these d has
    weight 1 − l / d in the risk set of the l-th of them (counted from 0).
    """
    time, has_event = np.asarray(time, np.float64), np.asarray(event, np.float64) > 0
    weight = (time >= time[has_event, None]).astype(np.float64)
    same_stratum = np.ones(weight.shape, bool)
    if strata is not None:
        group = np.unique(np.asarray(strata), return_inverse=True)[1]
        same_stratum = group == group[has_event, None]
        weight *= same_stratum
    tied = has_event & (time == time[has_event, None]) & same_stratum
    if (n_tied := tied.sum(axis=1)).max(initial=0) > 1:
        earlier = np.tril(tied[:, has_event], -1).sum(axis=1)
        weight -= tied * (earlier / n_tied)[:, None]
    with np.errstate(divide="ignore"):
        return np.log(weight), has_event
