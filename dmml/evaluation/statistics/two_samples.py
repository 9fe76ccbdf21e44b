"""Whether two samples of patients can be distinguished, by the AUC of a classifier and its permutation p."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

PERMUTATIONS = 999
_CHUNK = 100  # permutations at a time; memory stays below 50 MB for 600 patients


class TwoSamples(NamedTuple):
    """Result of `classifier_test`.

    Attributes:
        auc: 0.5 or less = no better than chance, 1 = complete separation.
        p: Share of the permutations, including the observed labels, whose AUC is at least as high.
        scores_a: (n,) held-out score of each patient: 0 is midway between the samples, the unit is their within-sample
            spread.
        scores_b: (m,) held-out scores of the second sample.
    """

    auc: float
    p: float
    scores_a: NDArray[np.float64]
    scores_b: NDArray[np.float64]


def classifier_test(
    a: ArrayLike, b: ArrayLike, folds: int = 5, permutations: int = PERMUTATIONS, seed: int = 0
) -> TwoSamples:
    """AUC of a linear discriminant on held-out patients, averaged over folds, with its permutation p.

    Each permutation exchanges patients between the samples and fits the discriminant anew, so that p refers to the
    returned AUC.

    Args:
        a: (n, k) rows of at least `folds` patients.
        b: (m, k) rows of at least `folds` patients.
        folds: Number of cross-validation folds.
        permutations: Number of random exchanges of patients between the samples.
        seed: Seed of folds and exchanges.

    Source: Lopez-Paz & Oquab 2017, classifier two-sample tests.
    """
    generator = np.random.default_rng(seed)
    a, b = np.asarray(a, float), np.asarray(b, float)
    both, n = np.vstack([a, b]), len(a)
    fold = np.concatenate([generator.permutation(len(side)) % folds for side in (a, b)])
    [auc], [scores] = _discriminate(both[None], n, fold)
    orders = np.stack([generator.permutation(len(both)) for _ in range(permutations)])
    chance = [_discriminate(both[orders[i : i + _CHUNK]], n, fold)[0] for i in range(0, permutations, _CHUNK)]
    as_high = int((np.concatenate(chance) >= auc - 1e-12).sum())
    return TwoSamples(float(auc), (1 + as_high) / (permutations + 1), scores[:n], scores[n:])


def _discriminate(x: NDArray, n: int, fold: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUC (R,) and held-out scores (R, N) of R arrangements x (R, N, k), whose first n rows are the first sample."""
    second = np.arange(x.shape[1]) >= n
    scores, values = np.zeros(x.shape[:2]), []
    for k in range(fold.max() + 1):
        fit = [x[:, (second == side) & (fold != k)] for side in (False, True)]
        weight, middle = _discriminant(*fit)
        held = np.flatnonzero(fold == k)
        scores[:, held] = np.einsum("rnk,rk->rn", x[:, held] - middle[:, None], weight)
        values.append(_auc(scores[:, held], second[held]))
    return np.mean(values, axis=0), scores


def _discriminant(low: NDArray, high: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (R, k), scaled to unit spread within the samples, and the midpoint of the two means (R, k)."""
    means = low.mean(1), high.mean(1)
    centred = np.concatenate([low - means[0][:, None], high - means[1][:, None]], axis=1)
    covariance = np.einsum("rni,rnj->rij", centred, centred) / max(1, centred.shape[1] - 2)
    size = covariance.shape[-1]
    ridge = 0.1 * np.trace(covariance, axis1=1, axis2=2) / size + 1e-9
    weight = np.linalg.solve(covariance + ridge[:, None, None] * np.eye(size), (means[1] - means[0])[..., None])[..., 0]
    spread = np.sqrt(np.einsum("ri,rij,rj->r", weight, covariance, weight))
    return weight / np.where(spread > 0, spread, 1.0)[:, None], (means[0] + means[1]) / 2


def _auc(scores: NDArray, second: NDArray) -> NDArray[np.float64]:
    """(R,) share of pairs in which the patient of the second sample scores higher; ties count half."""
    from scipy.stats import rankdata

    n, m = int((~second).sum()), int(second.sum())
    return (rankdata(scores, axis=1)[:, second].sum(1) - m * (m + 1) / 2) / (n * m)
