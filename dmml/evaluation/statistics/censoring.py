"""The censoring distribution that evaluation uses: that of the training patients, or that of the evaluated ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dmml.cohort.clinical.follow_up import CensoringCurve, censoring_curve


def training_censoring(context: Mapping[str, Any], time: ArrayLike, event: ArrayLike) -> CensoringCurve:
    """Censoring distribution of the training patients, or of these patients if the context has none.

    Args:
        context: Content of `context.json`.
        time: (n,) days of these patients.
        event: (n,) 1 = happened.
    """
    plain = context.get("censoring")
    return as_censoring((plain["time"], plain["survival"]) if plain else None, time, event)


def as_censoring(
    censoring: CensoringCurve | tuple[ArrayLike, ArrayLike] | None, time: ArrayLike, event: ArrayLike
) -> CensoringCurve:
    """Return the given curve (of training patients), or estimate it from `time` and `event` if it is None.

    Raises:
        ValueError: The days and the values are not two lists of one length.
    """
    if censoring is None:
        return censoring_curve(time, event)
    if isinstance(censoring, CensoringCurve):
        return censoring
    days, survival = (np.asarray(values, float) for values in censoring)
    if days.shape != survival.shape or days.ndim != 1:
        raise ValueError(f"censoring needs two lists of one length, got shapes {days.shape} and {survival.shape}")
    order = np.argsort(days, kind="stable")
    return CensoringCurve(days[order], survival[order])
