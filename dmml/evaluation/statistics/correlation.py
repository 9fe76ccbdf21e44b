"""Pearson correlations of many columns with one score: closed-form intervals and p values, false discoveries, and ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation import interval_settings

MIN_PATIENTS = 10
"""Minimum number of patients for a correlation"""
PERMUTATIONS = 400
"""Number of permutations of a score"""


class Correlations(NamedTuple):
    """Correlations of G columns with a score; NaN where undefined.

    Attributes:
        n: (G,) number of patients who have both values.
        r: (G,) Pearson's r.
        low: (G,) lower limit of the interval, at the level of `interval_settings`.
        high: (G,) upper limit.
        p: (G,) two-sided p value of no correlation.
    """

    n: NDArray[np.int64]
    r: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]


def correlations(columns: ArrayLike, score: ArrayLike) -> Correlations:
    """Pearson correlation of every column with the score, over the patients who have both.

    The interval is Fisher's: tanh(artanh r ± z / √(n − 3)). The p value is that of t = r √((n − 2) / (1 − r²)) with n − 2
    degrees of freedom. Both are closed forms for normal values; 2,000 genes need no bootstrap.

    Args:
        columns: (N, G) values; NaN = missing.
        score: (N,) values; NaN = missing.

    Returns:
        Correlations, NaN for fewer than `MIN_PATIENTS` patients and where either value is the same for all of them.

    Source: Fisher 1921; Fig. 7 of the paper (Pearson correlation over patients).
    """
    x, y = np.asarray(columns, float), np.asarray(score, float)
    both = np.isfinite(x) & np.isfinite(y)[:, None]
    n = both.sum(0)
    varies = (n >= MIN_PATIENTS) & _varies(x, both) & _varies(np.broadcast_to(y[:, None], x.shape), both)
    x, y_of = _centred(x, both), _centred(np.broadcast_to(y[:, None], x.shape), both)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x * y_of).sum(0) / np.sqrt((x**2).sum(0) * (y_of**2).sum(0))
    r = np.where(varies, np.clip(r, -1, 1), np.nan)
    return Correlations(n, r, *_interval(r, n), _p(r, n))


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p values: min over ranks j ≥ i of m p_(j) / j. Undefined p values stay NaN and are not counted in m.

    Source: Benjamini & Hochberg 1995.
    """
    values = np.asarray(p, float)
    defined = np.flatnonzero(np.isfinite(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    scaled = values[order] * len(order) / np.arange(1, len(order) + 1)
    q = np.full(len(values), np.nan)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q


def permuted_ranks(
    columns: ArrayLike, score: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the ranked correlations would lie without any association, by random permutations of the score.

    Each permutation gives the scores to other patients, and the correlations of all columns are ranked anew. Columns keep
    their values, and so their dependence on each other, which spreads the ranks more than independent columns would.

    Args:
        columns: (N, G) values; NaN = missing. Only columns whose correlation is defined.
        score: (N,) values; NaN = missing.
        permutations: Number of permutations.
        seed: Seed of the permutations.

    Returns:
        (G,) lower and (G,) upper limit of each rank, largest correlation first: the quantiles over the permutations
        that enclose the level of `interval_settings`.
    """
    has_score = np.isfinite(np.asarray(score, float))
    x, y = np.asarray(columns, float)[has_score], np.asarray(score, float)[has_score]
    generator = np.random.default_rng(seed)
    shuffled = np.stack([(y - y.mean())[generator.permutation(len(y))] for _ in range(permutations)], axis=1)
    measured = np.isfinite(x)
    x, observed = _centred(x, measured), measured.astype(float)
    n, sums = observed.sum(0)[:, None], observed.T @ shuffled
    # The mean of x over its patients is 0; that of the score depends on which patients a permutation measures.
    spread = (x**2).sum(0)[:, None] * (observed.T @ shuffled**2 - sums**2 / n)
    r = np.divide(x.T @ shuffled, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(sums), where=spread > 0)
    ranked = -np.sort(-r, axis=0)
    tail = (1 - interval_settings.LEVEL) / 2
    low, high = np.quantile(ranked, [tail, 1 - tail], axis=1)
    return low, high


def _interval(r: NDArray, n: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.errstate(divide="ignore", invalid="ignore"):
        z, half_width = np.arctanh(r), interval_settings.normal_quantile() / np.sqrt(np.maximum(n - 3, 0))
        return np.tanh(z - half_width), np.tanh(z + half_width)


def _p(r: NDArray, n: NDArray) -> NDArray[np.float64]:
    from scipy.stats import t as student

    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(r) * np.sqrt((n - 2) / (1 - r**2))
    return 2 * student.sf(t, np.maximum(n - 2, 1))


def _varies(values: NDArray, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(G,) whether the counted values of a column are not all the same."""
    return np.where(counted, values, -np.inf).max(0, initial=-np.inf) > np.where(counted, values, np.inf).min(
        0, initial=np.inf
    )


def _centred(values: NDArray, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, G) counted values minus their mean, divided by the largest, and 0 elsewhere; r depends on neither of the two."""
    known_values = np.where(counted, values, 0.0)
    centred = np.where(counted, values - known_values.sum(0) / np.maximum(counted.sum(0), 1), 0.0)
    return centred / np.maximum(np.abs(centred).max(0, initial=0.0), np.finfo(float).tiny)
