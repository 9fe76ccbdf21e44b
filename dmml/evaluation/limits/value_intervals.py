"""Conformal intervals of a predicted value: the true value is in the interval with a stated probability.

The score of a patient is the absolute error. An interval reaches from the prediction minus to the prediction plus the
⌈(n + 1)(1 − α)⌉-th smallest score of the n calibration patients. For patients exchangeable with these, it contains the true
value with a probability of at least 1 − α, on average over patients: it is as wide for a patient who is easy to predict
as for one who is not.

Source: split conformal prediction, Papadopoulos et al. 2002; Lei et al. 2018, Theorem 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.limits.prediction_sets import LEVEL, too_few
from dmml.evaluation.limits.quantiles import upper_limit


def fit_intervals(predicted: NDArray, value: NDArray, level: float = LEVEL) -> dict[str, Any]:
    """Calibrate the intervals, in plain Python.

    Args:
        predicted: (n,) predicted values of patients to whom the model was not fitted.
        value: (n,) their true values.
        level: Promised share 1 − α of intervals with the true value.

    Returns:
        `n`, `level` and `limit`, the distance of the ends from the prediction. With fewer than `min_sample(1 − level)`
        patients `limit` is None, and `reason` says so.
    """
    limit = upper_limit(np.abs(value - predicted), 1 - level)
    calibration: dict[str, Any] = {"n": len(value), "level": level, "limit": limit}
    if limit is None:
        calibration["reason"] = too_few(len(value), level)
    return calibration


def value_interval(calibration: Mapping[str, Any], predicted: float) -> tuple[float, float]:
    """Return the ends of a patient's interval.

    Args:
        calibration: From `fit_intervals`, with a limit.
        predicted: Predicted value.
    """
    return predicted - calibration["limit"], predicted + calibration["limit"]
