"""Pearson correlations of many columns with one score, with intervals and p values in closed form, and false discoveries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation import interval_settings

MIN_PATIENTS = 10
"""Minimum number of patients for a correlation"""


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

    Source: Fisher 1921; PAPER.md §10, Fig. 7 (Pearson correlation over patients).
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


def null_correlations(n_patients: int, n_columns: int) -> NDArray[np.float64]:
    """Correlations of independent columns without any association, largest first: quantiles of r under independence.

    r = t / √(n − 2 + t²) with t of n − 2 degrees of freedom, at the levels (i − ½) / G.

    Args:
        n_patients: n, at least 3.
        n_columns: G.
    """
    from scipy.stats import t as student

    t = student.isf((np.arange(n_columns) + 0.5) / n_columns, n_patients - 2)
    return t / np.sqrt(n_patients - 2 + t**2)


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
