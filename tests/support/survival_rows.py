"""Simulated patients whose hazard is a linear function of a few columns."""

import numpy as np
from numpy.typing import NDArray


def survival_rows(n: int, p: int, seed: int = 0, strength: float = 1.0) -> tuple[NDArray, NDArray, NDArray]:
    """Columns (n, p) with mean 0 and standard deviation 1, days (n,) and events (n,); the first two columns matter."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    x = (x - x.mean(0)) / x.std(0, ddof=1)
    beta = np.zeros(p)
    beta[:2] = strength
    time = rng.exponential(np.exp(-x @ beta)) * 500 + 1e-6 * np.arange(n)
    censored = rng.exponential(800, n)
    return x, np.minimum(time, censored), (time <= censored).astype(float)
