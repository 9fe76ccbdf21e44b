"""Ridge regression of several targets with one variance per block of columns, chosen by marginal likelihood.

Each target is standardised and modelled as y = Σ_b X_b β_b + ε with β_b ~ N(0, v_b I) and ε ~ N(0, s). All targets
share the variances v_b and the noise variance s.

Source: MacKay 1992 (evidence, which is exact here).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from dmml.linear.block_model import BlockModel, concatenate

PRIOR_MEAN, PRIOR_SD = -1.0, 3.0
"""Normal prior on each log variance and on the log noise variance"""
START = -1.0
"""Initial log variance of every block and of the noise in the search"""
EVALUATIONS = 60
"""Maximum number of evaluations of the marginal likelihood per variance"""


def fit_regression(targets: NDArray, blocks: Mapping[str, NDArray]) -> BlockModel:
    """Choose the variances and the noise by marginal likelihood, and fit the weights with them.

    Args:
        targets: (n, q).
        blocks: {name: (n, p_b)}, at least one; centred, and with rows whose mean squared norm is 1.
    """
    marginal = _Marginal(targets, blocks)
    n_free = len(blocks) + 1

    def objective(log_variance: NDArray) -> float:
        prior = 0.5 * (((log_variance - PRIOR_MEAN) / PRIOR_SD) ** 2).sum()
        return prior + marginal.negative_log_likelihood(log_variance)

    bounds = [(-14.0, 8.0)] * len(blocks) + [(-6.0, 3.0)]
    options = {"maxfev": EVALUATIONS * n_free, "xtol": 0.02, "ftol": 1e-5}
    optimum = minimize(objective, np.full(n_free, START), method="Powell", bounds=bounds, options=options)
    return marginal.model(optimum.x)


def fit_regression_with_variances(
    targets: NDArray, blocks: Mapping[str, NDArray], log_variance: Mapping[str, float]
) -> BlockModel:
    """Fit the weights with given variances, e.g. to a subset of the patients.

    Args:
        targets: (n, q).
        blocks: {name: (n, p_b)}.
        log_variance: {name: log v_b}, and log s under "noise".
    """
    names = [*blocks, "noise"]
    return _Marginal(targets, blocks).model(np.array([log_variance[name] for name in names]))


class _Marginal:
    """Marginal likelihood from XᵀX, so that its cost, once XᵀX is known, does not grow with the number of patients."""

    def __init__(self, targets: NDArray, blocks: Mapping[str, NDArray]):
        targets = np.asarray(targets, np.float64)
        self.n, self.q = targets.shape
        self.mean, sd = targets.mean(0), targets.std(0)
        self.sd, self.names = np.where(sd > 1e-9, sd, 1.0), list(blocks)
        y = (targets - self.mean) / self.sd
        x, self.block_of_column = concatenate(blocks)
        self.gram, self.cross, self.square = x.T @ x, x.T @ y, (y**2).sum()

    def _solve(self, log_variance: NDArray) -> tuple[NDArray, NDArray, float]:
        """Solve for the weights.

        Returns:
            Weights (p, q) in units of their prior standard deviation, the diagonal (p,) of the Cholesky factor of
            s I + V^½ XᵀX V^½, and s.
        """
        sd, noise = np.exp(log_variance[:-1] / 2)[self.block_of_column], float(np.exp(log_variance[-1]))
        inner = noise * np.eye(len(sd)) + sd[:, None] * self.gram * sd
        factor = cho_factor(inner, lower=True)
        scaled = cho_solve(factor, sd[:, None] * self.cross)
        return scaled, np.diag(factor[0]), noise

    def negative_log_likelihood(self, log_variance: NDArray) -> float:
        """Return −log p(y | v, s) up to a constant, summed over the targets.

        Args:
            log_variance: (n_blocks + 1,) log v_b and, last, log s.
        """
        try:
            scaled, diagonal, noise = self._solve(log_variance)
        except LinAlgError:
            return 1e12
        sd = np.exp(log_variance[:-1] / 2)[self.block_of_column]
        explained = (scaled * (sd[:, None] * self.cross)).sum()
        log_det = 2 * np.log(diagonal).sum() + (self.n - len(sd)) * np.log(noise)
        return 0.5 * (self.q * log_det + (self.square - explained) / noise)

    def model(self, log_variance: NDArray) -> BlockModel:
        """Return the posterior mean at the given (n_blocks + 1,) log variances."""
        scaled, _, _ = self._solve(log_variance)
        weights = np.exp(log_variance[:-1] / 2)[self.block_of_column][:, None] * scaled * self.sd
        by_block = {name: weights[self.block_of_column == b] for b, name in enumerate(self.names)}
        return BlockModel(by_block, self.mean, dict(zip([*self.names, "noise"], map(float, log_variance), strict=True)))
