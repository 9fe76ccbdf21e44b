"""Log-rank test of groups of patients, within strata such as the folds of a cross-validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2


def stratified_log_rank(time: ArrayLike, event: ArrayLike, group: ArrayLike, stratum: ArrayLike) -> float:
    """Return the p value of the log-rank test whose patients are compared within their stratum alone.

    Observed minus expected events and their hypergeometric covariance are summed over the strata. With one stratum it is
    the log-rank test of lifelines, which has none with strata.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        group: (n,) label of each patient's group; two groups or more.
        stratum: (n,) label of each patient's stratum.

    Returns:
        Two-sided p; NaN if no event happened while patients of two groups of one stratum were followed.

    Source: Mantel 1966; Kalbfleisch and Prentice 2002, section 1.4.
    """
    times, events, strata = np.asarray(time, float), np.asarray(event, float) > 0, np.asarray(stratum)
    labels, index = np.unique(np.asarray(group), return_inverse=True)
    member = np.eye(len(labels))[index]  # (n, G)
    excess, covariance = np.zeros(len(labels)), np.zeros((len(labels), len(labels)))
    for name in np.unique(strata):
        rows = strata == name
        stratum_excess, stratum_covariance = _excess(times[rows], events[rows], member[rows])
        excess += stratum_excess
        covariance += stratum_covariance
    degrees = int(np.linalg.matrix_rank(covariance, hermitian=True))
    if not degrees:
        return float("nan")
    return float(chi2.sf(excess @ np.linalg.pinv(covariance, hermitian=True) @ excess, degrees))


def _excess(time: NDArray, event: NDArray, member: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return observed minus expected events of each group in one stratum, and their covariance. → (G,), (G, G)."""
    days = np.unique(time[event])[:, None]
    at_risk = (time >= days) @ member  # (D, G) patients of each group who are followed when a day begins
    died = ((time == days) & event) @ member
    n, deaths = at_risk.sum(1, keepdims=True), died.sum(1, keepdims=True)
    share = at_risk / n
    spread = deaths * (n - deaths) / np.maximum(n - 1, 1)  # (D, 1)
    covariance = np.diag((spread * share).sum(0)) - (spread * share).T @ share
    return (died - deaths * share).sum(0), covariance
