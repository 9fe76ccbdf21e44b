"""Metrics of survival predictions as plain numbers.

Times are in days, event 1 = happened, a higher risk is worse, and an undefined metric is NaN.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from dmml.cohort.clinical.follow_up import CensoringCurve, censoring_curve
from dmml.evaluation.statistics import weighted
from dmml.evaluation.statistics.censoring import as_censoring
from dmml.functional.survival import concordance_index, survival_at

__all__ = [
    "auc_at",
    "censoring_curve",
    "concordance_index",
    "concordance_ipcw",
    "concordance_within",
    "integrated_brier",
    "survival_at",
]

Censoring = CensoringCurve | tuple[ArrayLike, ArrayLike] | None
"""Censoring distribution of the training patients: a `CensoringCurve`, or the days and G(t) as a pair of lists.

None estimates it from the evaluated patients.
"""


def concordance_ipcw(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, censoring: Censoring = None, tau: float | None = None
) -> float:
    """Uno's concordance, which does not depend on the censoring distribution.

    Σ 1(t_i < t_j, t_i < tau, event_i) G(t_i−)⁻² [r_i > r_j] / the same without [r_i > r_j]; tied risks count half.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        risk: (n,) higher = worse.
        censoring: See `Censoring`.
        tau: Day; pairs whose earlier time is at or after it are left out. None keeps all pairs.

    Returns:
        1 = perfect, 0.5 = chance; NaN if there are no comparable pairs, or if G is 0 at an event that counts.

    Source: Uno et al. 2011.
    """
    metric = weighted.uno(time, event, risk, as_censoring(censoring, time, event), tau)
    return weighted.estimate(metric, _count(time))


def concordance_within(time: ArrayLike, event: ArrayLike, group: ArrayLike, risk: ArrayLike) -> float:
    """Harrell's concordance over pairs within a group only, because risks of two folds' models are not comparable."""
    table = [np.asarray(values) for values in (time, event, risk)]
    folds = [np.flatnonzero(np.asarray(group) == label) for label in np.unique(np.asarray(group))]
    pairs = [replace(weighted.harrell_pairs(*(values[index] for values in table)), index=index) for index in folds]
    return weighted.estimate(weighted.pair_share(pairs), len(table[0]))


def auc_at(time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float, censoring: Censoring = None) -> float:
    """Cumulative/dynamic AUC at `day`: how well the risk separates patients dead by then from those alive after it.

    Patients who died by `day` are weighted 1 / G(t_i−); patients censored by then belong to neither side and are left
    out.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        risk: (n,) higher = worse.
        day: Horizon, days.
        censoring: See `Censoring`.

    Returns:
        1 = perfect, 0.5 = chance; NaN if one side is empty, or if G is 0 at a death that counts.

    Source: Uno et al. 2007; Hung & Chiang 2010.
    """
    metric = weighted.dynamic_auc(time, event, risk, day, as_censoring(censoring, time, event))
    return weighted.estimate(metric, _count(time))


def integrated_brier(
    time: ArrayLike, event: ArrayLike, survival: ArrayLike, times: ArrayLike, censoring: Censoring = None
) -> float:
    """Integrated Brier score: mean squared error of the survival curve over `times`, lower is better.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        survival: (n, T) predicted survival at `times`.
        times: (T,) increasing days; the score is averaged from the first to the last (trapezoid rule).
        censoring: See `Censoring`.

    Returns:
        0 = perfect; a constant prediction of 0.5 gives 0.25. NaN if a prediction is undefined, or if G is 0 where it
        is needed.

    Source: Graf et al. 1999.
    """
    metric = weighted.brier(time, event, survival, times, as_censoring(censoring, time, event))
    return weighted.estimate(metric, _count(time))


def _count(values: ArrayLike) -> int:
    return len(np.asarray(values))
