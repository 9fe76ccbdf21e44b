"""Measures of the ablation: known factors that embeddings contain, and paired comparisons over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from known_factors import World
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import KFold

from dmml.evaluation.bootstrap import Difference, Interval, resamples
from dmml.evaluation.statistics.bca import percentiles, two_sided_p
from dmml.evaluation.statistics.weighted import estimate, harrell
from dmml.types import SUBSPACES

RESAMPLES = 1000
FOLDS = 5
PENALTIES = 10.0 ** np.arange(-1, 6)


# ---- factors -------------------------------------------------------------------------------------------------------


def partial_r2(embeddings: dict[str, NDArray], factors: dict[str, NDArray]) -> dict[str, dict[str, float]]:
    """Partial R² of the factors of each subspace from its embedding and from that of the other subspace.

    Args:
        embeddings: {subspace: (n, E)}.
        factors: {subspace: (n, F)}.

    Returns:
        {subspace: {"own": …, "other": …}}: of the subspace's own factors given the other's, and of the other's given
        its own. An embedding with its own factors alone has 1 and 0, although the groups are correlated.
    """
    result = {}
    for s, other in zip(SUBSPACES, reversed(SUBSPACES), strict=True):
        result[s] = {
            "own": explained(embeddings[s], factors[s], covariates=factors[other]),
            "other": explained(embeddings[s], factors[other], covariates=factors[s]),
        }
    return result


def explained(embedding: NDArray, target: NDArray, covariates: NDArray) -> float:
    """Out-of-fold partial R² of a target given other variables, averaged over the target's columns.

    1 − Σ (r − r̂)² / Σ r², where r is the residual of the target after a linear model of `covariates`, and r̂ is predicted
    from the residual of the embedding by ridge regression. Both are fitted to four fifths of the patients, with the
    penalty of each column chosen by folds among them, and evaluated on the rest. An embedding without information may
    fall slightly below 0.

    Args:
        embedding: (n, E).
        target: (n, F).
        covariates: (n, G).
    """
    left, missed = np.zeros(target.shape[1]), np.zeros(target.shape[1])
    for train, test in _folds(len(target)):
        inner = [
            _read(embedding[train], target[train], covariates[train], *fold)[1].sum(1) for fold in _folds(len(train))
        ]
        best = np.sum(inner, axis=0).argmin(0)  # (F,)
        residual, squares = _read(embedding, target, covariates, train, test)
        left += (residual**2).sum(0)
        missed += squares.sum(1)[best, np.arange(len(best))]
    return float(np.mean(1 - missed / left))


def _folds(n: int) -> list[tuple[NDArray, NDArray]]:
    """Rows to fit to and rows to predict, one pair per fold."""
    return list(KFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(n)))


def _read(
    embedding: NDArray, target: NDArray, covariates: NDArray, train: NDArray, test: NDArray
) -> tuple[NDArray, NDArray]:
    """Residuals (n_test, F) of the target after the covariates, and squared errors (P, n_test, F) at each penalty."""
    reduced = [x - LinearRegression().fit(covariates[train], x[train]).predict(covariates) for x in (embedding, target)]
    (reduced_embedding, reduced_target), spread = reduced, embedding[train].std(0)
    reduced_spread = reduced_embedding[train].std(0)
    varies = reduced_spread > 1e-6 * spread  # columns that the covariates determine are rounding errors
    reduced_embedding = reduced_embedding[:, varies] / reduced_spread[varies]
    values, vectors = np.linalg.eigh(reduced_embedding[train].T @ reduced_embedding[train])
    onto = vectors.T @ (reduced_embedding[train].T @ reduced_target[train])  # (E, F)
    shrunk = onto / (np.maximum(values, 0)[:, None] + PENALTIES[:, None, None])  # (P, E, F)
    return reduced_target[test], (reduced_target[test] - (reduced_embedding[test] @ vectors) @ shrunk) ** 2


def ceilings(world: World) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Upper limits: `partial_r2` on the test patients of predictors that know more than a student can.

    Returns:
        {"shown": from the factors as the slide shows them, "taught": from a ridge regression of the true factors on mean
        tokens, fitted to the training and inner validation patients}, each {"partial_r2": …,
        "partial_r2_shown": …}.
    """
    fitted_rows, rows = world.parts["train"] + world.parts["val"], world.parts["test"]
    tokens = np.stack(
        [np.concatenate([f.astype(float).mean(0) for f in item.features.values()]) for item in world.items]
    )
    tokens = (tokens - tokens[fitted_rows].mean(0)) / tokens[fitted_rows].std(0)
    taught = {
        s: RidgeCV(10.0 ** np.arange(-2, 5)).fit(tokens[fitted_rows], values[fitted_rows]).predict(tokens[rows])
        for s, values in world.factors.items()
    }
    true, visible = (
        {s: values[rows] for s, values in group.items()} for group in (world.factors, world.visible_factors)
    )
    return {
        reading: {"partial_r2": partial_r2(predictor, true), "partial_r2_shown": partial_r2(predictor, visible)}
        for reading, predictor in {"shown": visible, "taught": taught}.items()
    }


# ---- concordance over seeds ----------------------------------------------------------------------------------------


@dataclass
class Draws:
    """Concordance of one model by seed, and its mean over seeds in every resample."""

    by_seed: NDArray
    """(S,)"""
    resampled: NDArray
    """(R,) mean over seeds"""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.by_seed))

    @property
    def interval(self) -> Interval:
        """Mean with its interval."""
        return Interval(self.mean, *percentiles(self.resampled))


class Resampled:
    """The test patients of all seeds, resampled once for all models, within each seed and stratum of event.

    The interval covers the sampling of patients; the differences between seeds show how much fits of a model differ.

    Args:
        outcomes: By seed: {"time": (n,) days, "event": (n,)}.
        n_resamples: Number R of resamples.
    """

    def __init__(self, outcomes: dict[int, dict[str, NDArray]], n_resamples: int = RESAMPLES):
        self.outcomes = {
            seed: (np.asarray(outcome["time"], float), np.asarray(outcome["event"], float))
            for seed, outcome in outcomes.items()
        }
        self.counts = {
            seed: resamples(len(event), event, n_resamples, seed) for seed, (_, event) in self.outcomes.items()
        }

    def draws(self, risks: dict[int, NDArray]) -> Draws:
        """Concordance of a model from its risks on every seed."""
        values, resampled = [], []
        for seed, (time, event) in self.outcomes.items():
            metric = harrell(time, event, np.asarray(risks[seed], float))
            values.append(estimate(metric, len(time)))
            resampled.append(metric(self.counts[seed]))
        return Draws(np.array(values), np.mean(resampled, axis=0))


def difference(a: Draws, b: Draws) -> Difference:
    """Mean concordance of a minus that of b on the same resamples."""
    drawn = a.resampled - b.resampled
    return Difference(a.mean - b.mean, *percentiles(drawn), two_sided_p(drawn))


def share_closed(reached: Draws, start: Draws, goal: Draws) -> Interval | None:
    """(reached − start) / (goal − start); None unless the interval of the gap lies above 0."""
    gap = difference(goal, start)
    if not gap.low > 0:
        return None
    shares = (reached.resampled - start.resampled) / (goal.resampled - start.resampled)
    return Interval((reached.mean - start.mean) / gap.estimate, *percentiles(shares))
