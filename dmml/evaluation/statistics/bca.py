"""Limits of a bootstrap interval, bias-corrected and accelerated (BCa), and the p value that agrees with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.95
LEFT_OUT = 200
"""Maximum number of jackknife groups; up to this many patients are left out one by one."""
MOST_BIAS = 1.5
TIE = 1e-6
"""Draws this close to a value count as equal to it: weights are float32, and an accuracy takes few distinct values."""


class Correction(NamedTuple):
    """How an interval departs from plain percentiles; with both fields 0, it does not."""

    bias: float = 0.0
    acceleration: float = 0.0


PLAIN = Correction()
"""Correction of the plain percentile interval, i.e. none."""


def left_out(n: int, groups: int = LEFT_OUT) -> NDArray:
    """Jackknife weights (min(n, groups), n): each row leaves out one patient, or one of the groups of similar size."""
    groups = min(n, groups)
    return (np.arange(n) % groups != np.arange(groups)[:, None]).astype(np.float32)


def correction(value: float, draws: NDArray, jackknife: NDArray) -> Correction:
    """Bias and acceleration of the BCa interval.

    The bias is the normal quantile of the share of draws below the estimate, plus half of those equal to it. The
    acceleration is a sixth of the skewness of the jackknife: Σ d³ / (6 (Σ d²)^1.5) with d = its mean − its values.

    Args:
        value: The estimate.
        draws: (R,) the metric of each resample.
        jackknife: (groups,) the metric without one patient or one group of patients.

    Source: Efron 1987.
    """
    from scipy.special import ndtri

    draws, jackknife = draws[np.isfinite(draws)], jackknife[np.isfinite(jackknife)]
    if not len(draws) or np.ptp(draws) == 0:
        return Correction()
    below, tied = (draws < value - TIE).sum(), (np.abs(draws - value) <= TIE).sum()
    share = (below + tied / 2 + 0.5) / (len(draws) + 1)
    gap = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    size = (gap**2).sum() ** 1.5
    # A metric may be biased by more than its noise (a calibration error near 0); a larger correction is not credible.
    bias = float(np.clip(ndtri(share), -MOST_BIAS, MOST_BIAS))
    return Correction(bias, float((gap**3).sum() / (6 * size)) if size > 0 else 0.0)


def percentiles(draws: NDArray, how: Correction = PLAIN) -> tuple[float, float]:
    """Limits of the 95 % interval; undefined draws are left out, and fewer than half defined ones give NaN.

    A limit is the draw at Φ(b + (b + z) / (1 − a (b + z))), with z = ∓1.96, b the bias and a the acceleration.

    Args:
        draws: (R,) the metric of each resample.
        how: Correction of the interval; by default none, which gives plain percentiles.
    """
    from scipy.special import ndtr, ndtri

    draws = draws[np.isfinite(draws)] if np.isfinite(draws).sum() * 2 >= len(draws) else draws[:0]
    if not len(draws):
        return float("nan"), float("nan")
    z = how.bias + ndtri(np.array([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]))
    low, high = np.quantile(draws, ndtr(how.bias + z / (1 - how.acceleration * z)))
    return float(low), float(high)


def two_sided_p(draws: NDArray, how: Correction = PLAIN) -> float:
    """Twice the smaller share of resampled differences on one side of 0.

    Ties count on both sides, and one is added to each count. The p value agrees with `percentiles`: p < 0.05 if the
    95 % interval excludes 0, because a correction affects both alike.
    """
    from scipy.special import ndtr, ndtri

    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return float("nan")
    below, above = (((sign * draws <= TIE).sum() + 1) / (len(draws) + 1) for sign in (1, -1))
    if min(below, above) >= 1:  # every draw is 0: there is no difference, and nothing to correct
        return 1.0
    # The interval's limit would be 0 at the level given by this share of draws, with the correction inverted.
    ends = np.array([below, above]).clip(max=len(draws) / (len(draws) + 1))
    moved = ndtri(ends) - how.bias * np.array([1, -1])
    tilt = how.acceleration * np.array([1, -1])
    shares = ndtr(moved / (1 + tilt * moved) - how.bias * np.array([1, -1]))
    return float(min(1.0, 2 * shares.min()))
