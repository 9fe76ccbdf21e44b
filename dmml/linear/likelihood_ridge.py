"""Ridge regression by any `Likelihood`, for endpoints that have no regression of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmml.linear.likelihoods import Likelihood

_STEPS, _TOLERANCE = 100, 1e-9


def fit_likelihood_ridge(
    likelihood: Likelihood, x: NDArray, penalty: float, start: NDArray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimise −(log-likelihood) / n + penalty / 2 · ‖W‖² by Newton's method; an intercept is practically unpenalised.

    Args:
        likelihood: Likelihood of n patients under a predictor of q columns.
        x: (n, p) with moderate p; `dmml.linear.ridge.rotate` reduces p to at most n.
        penalty: λ, above 0.
        start: (p, q), or (p + 1, q) with an intercept: initial weights; None = 0.

    Returns:
        The weights (p, q) and the intercept (q,), which is 0 if the likelihood does not depend on a constant.
    """
    n, p, q = max(1, len(x)), x.shape[1], likelihood.n_outputs
    design = np.column_stack([x, np.ones(len(x))]) if likelihood.has_intercept else np.asarray(x, np.float64)
    strength = np.full((design.shape[1], q), penalty)
    strength[p:] = 1e-6
    weight = np.zeros_like(strength) if start is None else np.array(start, np.float64)

    def objective(values: NDArray) -> float:
        return -likelihood.value(design @ values) / n + float((strength * values**2).sum()) / 2

    value = objective(weight)
    for _ in range(_STEPS):
        gradient, information = likelihood.derivatives(design, design @ weight)
        slope = -gradient / n + (strength * weight).ravel()
        step = np.linalg.solve(information / n + np.diag(strength.ravel()), slope)
        decrease = float(slope @ step)
        if decrease < _TOLERANCE:
            break
        size, direction = 1.0, step.reshape(weight.shape)
        while (new := objective(weight - size * direction)) > value - 1e-4 * size * decrease and size > 1e-8:
            size /= 2
        weight, value = weight - size * direction, new
    return weight[:p], weight[p] if likelihood.has_intercept else np.zeros(q)
