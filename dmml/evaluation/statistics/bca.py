"""Limits of a bootstrap interval, bias-corrected and accelerated (BCa), and the p value that agrees with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation import interval_settings

MAX_JACKKNIFE_GROUPS = 200
"""Up to this many patients are left out one by one; more are left out in this many groups."""
MAX_BIAS = 1.5
TIE = 1e-6
"""Draws this close to a value count as equal to it: weights are float32, and an accuracy takes few distinct values."""


class Correction(NamedTuple):
    """How an interval departs from plain percentiles; with both fields 0, it does not."""

    bias: float = 0.0
    acceleration: float = 0.0


PLAIN = Correction()
"""Correction of the plain percentile interval, i.e. none."""


def jackknife_weights(n: int, max_groups: int = MAX_JACKKNIFE_GROUPS) -> NDArray:
    """Weights (groups, n): each row leaves out one patient, or one of `max_groups` groups of similar size."""
    groups = min(n, max_groups)
    return (np.arange(n) % groups != np.arange(groups)[:, None]).astype(np.float32)


def bca_correction(value: float, draws: NDArray, jackknife: NDArray) -> Correction:
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
        return PLAIN
    below, tied = (draws < value - TIE).sum(), (np.abs(draws - value) <= TIE).sum()
    share = (below + tied / 2 + 0.5) / (len(draws) + 1)
    gap = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    size = (gap**2).sum() ** 1.5
    # A metric may be biased by more than its noise (a calibration error near 0); a larger correction is not credible.
    bias = float(np.clip(ndtri(share), -MAX_BIAS, MAX_BIAS))
    return Correction(bias, float((gap**3).sum() / (6 * size)) if size > 0 else 0.0)


def percentiles(draws: NDArray, correction: Correction = PLAIN) -> tuple[float, float]:
    """Limits of the interval; undefined draws are left out, and both limits are NaN if more than half are undefined.

    A limit is the draw at Φ(b + (b + z) / (1 − a (b + z))), with b the bias, a the acceleration and z the two normal
    quantiles of the level (∓1.96 at 95 %).

    Args:
        draws: (R,) the metric of each resample.
        correction: Correction of the interval; by default none, which gives plain percentiles.
    """
    from scipy.special import ndtr, ndtri

    draws = draws[np.isfinite(draws)] if np.isfinite(draws).sum() * 2 >= len(draws) else draws[:0]
    if not len(draws):
        return float("nan"), float("nan")
    level = interval_settings.LEVEL
    z = correction.bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(draws, ndtr(correction.bias + z / (1 - correction.acceleration * z)))
    return float(low), float(high)


def two_sided_p(draws: NDArray, correction: Correction = PLAIN) -> float:
    """Twice the smaller share of resampled differences on one side of 0.

    Ties count on both sides, and one is added to each count. The p value agrees with `percentiles`: it is below 1 minus
    the level if the interval excludes 0, because a correction affects both alike.
    """
    from scipy.special import ndtr, ndtri

    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return float("nan")
    below, above = (((sign * draws <= TIE).sum() + 1) / (len(draws) + 1) for sign in (1, -1))
    if min(below, above) >= 1:  # every draw is 0: there is no difference, and nothing to correct
        return 1.0
    # The interval's limit would be 0 at the level given by this share of draws, with the correction inverted.
    shares = np.array([below, above]).clip(max=len(draws) / (len(draws) + 1))
    bias, acceleration = correction.bias * np.array([1, -1]), correction.acceleration * np.array([1, -1])
    z = ndtri(shares) - bias
    corrected = ndtr(z / (1 + acceleration * z) - bias)
    return float(min(1.0, 2 * corrected.min()))
