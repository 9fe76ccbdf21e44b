"""Ends of a bootstrap interval: percentiles, bias-corrected and accelerated, and the p that agrees with them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.95
LEFT_OUT = 200
"""Groups of the jackknife; up to as many patients are left out one by one."""
MOST_BIAS = 1.5
TIE = 1e-6
"""Draws this near to a value are equal to it: weights are float32, and an accuracy takes few values."""


class Correction(NamedTuple):
    """How an interval departs from plain percentiles: both 0 = it does not."""

    bias: float = 0.0
    acceleration: float = 0.0


PLAIN = Correction()
"""Plain percentiles."""


def left_out(n: int, groups: int = LEFT_OUT) -> NDArray:
    """(min(n, groups), n) weights: all patients but one in each row, or but one group of equal size."""
    groups = min(n, groups)
    return (np.arange(n) % groups != np.arange(groups)[:, None]).astype(np.float32)


def correction(value: float, draws: NDArray, jackknife: NDArray) -> Correction:
    """Bias and acceleration of the BCa interval.

    Bias: the normal quantile of the share of draws below the estimate, half of those equal to it included.
    Acceleration: a sixth of the skewness of the jackknife, Σ d³ / (6 (Σ d²)^1.5) with d = its mean − its values.

    Args:
        value: The estimate.
        draws: (R,) the metric of the resamples.
        jackknife: (groups,) the metric without a patient, or a group of them.

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
    # Of a metric that is biased by more than its own noise (a calibration error near 0) no more is believed.
    bias = float(np.clip(ndtri(share), -MOST_BIAS, MOST_BIAS))
    return Correction(bias, float((gap**3).sum() / (6 * size)) if size > 0 else 0.0)


def percentiles(draws: NDArray, how: Correction = PLAIN) -> tuple[float, float]:
    """Ends of the 95 % interval; undefined draws are left out, NaN when fewer than half are defined.

    An end is the draw at Φ(b + (b + z) / (1 − a (b + z))), z = ∓1.96, b the bias and a the acceleration.

    Args:
        draws: (R,).
        how: Of the interval; the default is that of plain percentiles.
    """
    from scipy.special import ndtr, ndtri

    draws = draws[np.isfinite(draws)] if np.isfinite(draws).sum() * 2 >= len(draws) else draws[:0]
    if not len(draws):
        return float("nan"), float("nan")
    z = how.bias + ndtri(np.array([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]))
    low, high = np.quantile(draws, ndtr(how.bias + z / (1 - how.acceleration * z)))
    return float(low), float(high)


def two_sided_p(draws: NDArray, how: Correction = PLAIN) -> float:
    """Twice the smaller share of resampled differences on one side of 0, ties on both, with one added to each count.

    It agrees with `percentiles`: p < 0.05 where the 95 % interval leaves 0 out; a correction moves both alike.
    """
    from scipy.special import ndtr, ndtri

    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return float("nan")
    below, above = (((sign * draws <= TIE).sum() + 1) / (len(draws) + 1) for sign in (1, -1))
    if min(below, above) >= 1:  # every draw is 0: nothing differs, and there is nothing to correct
        return 1.0
    # The level at which the interval's end would be 0 is that share of draws, corrected the other way round.
    ends = np.array([below, above]).clip(max=len(draws) / (len(draws) + 1))
    moved = ndtri(ends) - how.bias * np.array([1, -1])
    tilt = how.acceleration * np.array([1, -1])
    shares = ndtr(moved / (1 + tilt * moved) - how.bias * np.array([1, -1]))
    return float(min(1.0, 2 * shares.min()))
