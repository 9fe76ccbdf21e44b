"""Conformal prediction sets of classes: the true class is in the set with a stated probability.

The score of a patient is one minus the probability of the true class. A set holds every class whose score is at most the
⌈(n + 1)(1 − α)⌉-th smallest of the n calibration patients. For patients exchangeable with these, the set contains the
true class with a probability of at least 1 − α, and of at most 1 − α + 1 / (n + 1) if no set is completed.

Source: least ambiguous sets, Sadinle, Lei & Wasserman 2019; split conformal prediction, Papadopoulos et al. 2002.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.limits.quantiles import min_sample, upper_limit

LEVEL = 0.9


def fit_sets(probability: NDArray, label: NDArray[np.int64], level: float = LEVEL) -> dict[str, Any]:
    """Calibrate the sets, in plain Python.

    Args:
        probability: (n, C) predicted probabilities of patients to whom the model was not fitted.
        label: (n,) their true classes.
        level: Promised share 1 − α of sets with the true class.

    Returns:
        `n`, `level` and `limit`, the largest score of a class in a set. With fewer than `min_sample(1 − level)` patients
        `limit` is None, and `reason` says so.
    """
    limit = upper_limit(1 - probability[np.arange(len(label)), label], 1 - level)
    calibration: dict[str, Any] = {"n": len(label), "level": level, "limit": limit}
    if limit is None:
        calibration["reason"] = too_few(len(label), level)
    return calibration


def prediction_set(calibration: Mapping[str, Any], probability: NDArray, classes: Sequence[str]) -> list[str]:
    """Return the classes of a patient's set, the most probable first.

    A set that would be empty holds the most probable class, which can only raise the share of sets with the true class.

    Args:
        calibration: From `fit_sets`, with a limit.
        probability: (C,) predicted probabilities.
        classes: Names of the classes.
    """
    order = np.argsort(-np.asarray(probability), kind="stable")
    members = [i for i in order if 1 - probability[i] <= calibration["limit"]] or [order[0]]
    return [classes[i] for i in members]


def too_few(n: int, level: float) -> str:
    """State that n patients are too few for a promise with this probability, as a clause."""
    return (
        f"{n} patient{'s' * (n != 1)} of the inner validation with slides and a known outcome are too few for "
        f"{100 * level:g} %, {min_sample(1 - level)} are needed"
    )
