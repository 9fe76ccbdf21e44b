"""Linear models with one variance per block of columns, chosen by the evidence of the training outcomes.

The predictor is f = Σ_b X_b β_b with β_b ~ N(0, v_b I). The weights are the posterior mode. The variances maximise
Laplace's approximation of the evidence,

    log p(y | v) ≈ l(f̂) − ½ Σ_b ‖β̂_b‖² / v_b − ½ log det(I + V^½ H V^½),

where H is the observed information of the weights at the mode, plus a weak normal prior on each log v_b. A block that
adds nothing to the others is switched off by a small variance, and no validation patients are needed. The variance of the
residuals of a `NormalLikelihood`, log s, is chosen in the same way.

Source: MacKay 1992 (evidence); Tierney & Kadane 1986 (Laplace's approximation).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.optimize import minimize

from dmml.linear.block_model import BlockModel, concatenate
from dmml.linear.likelihoods import Likelihood, NormalLikelihood

PRIOR_MEAN, PRIOR_SD = -1.5, 2.0
"""Normal prior on each log variance, for blocks whose rows have a mean squared norm of 1"""
NOISE = "noise"
"""Name of log s among the log variances of a model"""
START = -1.0
"""Initial log variance of every block, and of the residuals, in the search"""
EVALUATIONS = 60
"""Maximum number of evaluations of the evidence per variance"""
FEW_VARIANCES = 3
"""Up to this many variances, the search uses the Nelder-Mead simplex, and Powell's method beyond"""
_INTERCEPT_VARIANCE = 100.0
_STEPS, _TOLERANCE = 50, 1e-8


def fit_blocks(likelihood: Likelihood, blocks: Mapping[str, NDArray]) -> BlockModel:
    """Choose one variance per block by evidence, and fit the weights with these variances.

    Args:
        likelihood: Likelihood of n patients.
        blocks: {name: (n, p_b)}, at least one; centred, and with rows whose mean squared norm is 1.

    Returns:
        The model at the best variances.
    """
    search = _Search(likelihood, blocks)
    n_free = len(search.names)

    def objective(log_variance: NDArray) -> float:
        prior = 0.5 * (((log_variance - PRIOR_MEAN) / PRIOR_SD) ** 2).sum()
        return prior - search.log_evidence(log_variance)

    limit = {"maxfev": EVALUATIONS * n_free}
    if n_free <= FEW_VARIANCES:
        options = limit | {"xatol": 0.02, "fatol": 1e-3}
        optimum = minimize(objective, np.full(n_free, START), method="Nelder-Mead", options=options)
    else:
        options = limit | {"xtol": 0.02, "ftol": 1e-5}
        bounds = [(-14.0, 8.0)] * n_free
        optimum = minimize(objective, np.full(n_free, START), method="Powell", bounds=bounds, options=options)
    return search.model(optimum.x)


def fit_with_variances(
    likelihood: Likelihood, blocks: Mapping[str, NDArray], log_variance: Mapping[str, float]
) -> BlockModel:
    """Fit the weights with given variances, e.g. to a subset of the patients.

    Args:
        likelihood: Likelihood of n patients.
        blocks: {name: (n, p_b)}.
        log_variance: {name: log v_b}, and log s under "noise" for a `NormalLikelihood`.
    """
    search = _Search(likelihood, blocks)
    return search.model(np.array([log_variance[name] for name in search.names]))


def with_fitted_noise(likelihood: Likelihood, model: BlockModel) -> Likelihood:
    """Return a `NormalLikelihood` with the variance of the residuals that a model was fitted with; others unchanged."""
    if isinstance(likelihood, NormalLikelihood):
        return likelihood.with_noise(float(np.exp(model.log_variance[NOISE])))
    return likelihood


def log_evidence(likelihood: Likelihood, blocks: Mapping[str, NDArray], log_variance: Mapping[str, float]) -> float:
    """Return Laplace's approximation of the log evidence at given variances, without the prior on the variances.

    Args:
        likelihood: Likelihood of n patients.
        blocks: {name: (n, p_b)}.
        log_variance: {name: log v_b}, and log s under "noise" for a `NormalLikelihood`.
    """
    search = _Search(likelihood, blocks)
    return float(search.log_evidence(np.array([log_variance[name] for name in search.names])))


class _Search:
    """Posterior mode and evidence for successive choices of variances; each starts from the previous mode."""

    def __init__(self, likelihood: Likelihood, blocks: Mapping[str, NDArray]):
        self.likelihood, self.blocks, self.names = likelihood, list(blocks), list(blocks)
        if isinstance(likelihood, NormalLikelihood):
            self.names = [*blocks, NOISE]
        x, self.block_of_column = concatenate(blocks)
        if likelihood.has_intercept:
            x = np.column_stack([x, np.ones(len(x))])
        self.x = x
        self.weights = np.zeros((x.shape[1], likelihood.n_outputs))

    def _set_variances(self, log_variance: NDArray) -> NDArray:
        """Set the variance of the residuals; return the (p,) prior standard deviation of each column's weights."""
        values = np.exp(np.clip(log_variance, -30, 30))
        variance = values[self.block_of_column]
        if isinstance(self.likelihood, NormalLikelihood):
            self.likelihood = self.likelihood.with_noise(float(values[-1]))
        if self.likelihood.has_intercept:
            variance = np.append(variance, _INTERCEPT_VARIANCE)
        return np.sqrt(variance)

    def _design(self, sd: NDArray) -> tuple[NDArray, NDArray | None]:
        """Return (n, r) columns whose weights have a standard normal prior, and a (p, r) basis to map weights back.

        With more columns than patients, the predictor's prior covariance x xᵀ has a square root with r ≤ n columns, in
        which the search is just as exact and cheaper; the basis is orthonormal. Otherwise r = p and the basis is None,
        meaning the identity.
        """
        x = self.x * sd
        if x.shape[1] <= len(x):
            return x, None
        value, vector = eigh(x @ x.T)
        positive = value > 1e-12 * max(value[-1], 1e-300)
        root = np.sqrt(value[positive])
        return vector[:, positive] * root, x.T @ (vector[:, positive] / root)

    def _mode(self, sd: NDArray) -> tuple[NDArray, float]:
        """Find the mode and store its weights.

        Returns:
            The diagonal of the Cholesky factor of I + V^½ H V^½, and l(f̂) − ½ ‖u‖², both at the mode; u holds the
            weights in units of their prior standard deviation.
        """
        (x, to_columns), q = self._design(sd), self.likelihood.n_outputs
        u = self.weights / sd[:, None]
        u = u if to_columns is None else to_columns.T @ u

        def value_at(u: NDArray) -> float:
            return self.likelihood.value(x @ u) - 0.5 * (u**2).sum()

        value, zero = value_at(u), value_at(np.zeros_like(u))
        if not value >= zero:
            u, value = np.zeros_like(u), zero
        for _ in range(_STEPS):
            gradient, information = self.likelihood.derivatives(x, x @ u)
            gradient = gradient - u.ravel()
            factor = cho_factor(information + np.eye(len(information)), lower=True)
            step = cho_solve(factor, gradient).reshape(-1, q)
            gain = gradient @ step.ravel()
            if gain < _TOLERANCE:
                break
            size = 1.0
            while (new := value_at(u + size * step)) < value + 1e-4 * size * gain and size > 1e-8:
                size /= 2
            u, value = u + size * step, new
        self.weights = (u if to_columns is None else to_columns @ u) * sd[:, None]
        return np.diag(factor[0]), value

    def log_evidence(self, log_variance: NDArray) -> float:
        """Return Laplace's approximation of the log evidence at the log variances of `names`."""
        diagonal, value = self._mode(self._set_variances(log_variance))
        return value - np.log(diagonal).sum()

    def model(self, log_variance: NDArray) -> BlockModel:
        """Return the model fitted with the given log variances of `names`."""
        self._mode(self._set_variances(log_variance))
        weights = {
            name: self.weights[: len(self.block_of_column)][self.block_of_column == b]
            for b, name in enumerate(self.blocks)
        }
        intercept = self.weights[-1] if self.likelihood.has_intercept else np.zeros(self.likelihood.n_outputs)
        return BlockModel(weights, intercept.copy(), dict(zip(self.names, map(float, log_variance), strict=True)))
