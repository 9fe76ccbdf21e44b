"""Limits that a stated share of new values exceeds on average, from a sample of exchangeable values.

For n + 1 exchangeable values, the last one is as likely to have any rank. The k-th smallest of the first n is therefore
exceeded by the last one with a probability of at most 1 − k / (n + 1). Rounding k up makes the limit hold for small
samples, too, where a plain quantile would be exceeded too often.

Source: split conformal prediction, Papadopoulos et al. 2002; Lei et al. 2018, Theorem 2.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def min_sample(share: float) -> int:
    """Return the smallest sample that has an upper limit which at most `share` of new values exceed."""
    return math.ceil(1 / share - 1e-9) - 1


def upper_limit(values: ArrayLike, share: float) -> float | None:
    """Return the limit that at most `share` of new values exceed: the ⌈(n + 1)(1 − share)⌉-th smallest value.

    Args:
        values: (n,) values, exchangeable with the new ones.
        share: Share of new values above the limit, averaged over samples.

    Returns:
        The limit; None if the sample is smaller than `min_sample(share)`.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    # The rounding error of (n + 1)(1 − share) must not raise the rank by one.
    rank = math.ceil((len(ordered) + 1) * (1 - share) - 1e-9)
    return float(ordered[rank - 1]) if 1 <= rank <= len(ordered) else None


def lower_limit(values: ArrayLike, share: float) -> float:
    """Return the limit below which at most `share` of new values lie, or 1 / (n + 1) of them in a smaller sample.

    Args:
        values: (n,) values, at least one.
        share: Share of new values below the limit, averaged over samples.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    return float(ordered[max(1, math.floor((len(ordered) + 1) * share + 1e-9)) - 1])
