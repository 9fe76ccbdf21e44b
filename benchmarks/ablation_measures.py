"""What the ablation measures: what embeddings tell of known factors, and paired comparisons over seeds."""

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
    """How much each subspace's embedding tells of its own factors and of the other's, given the other group.

    Args:
        embeddings: {subspace: (n, E)}.
        factors: {subspace: (n, F)}.

    Returns:
        {subspace: {"own": …, "other": …}}: of the subspace's own factors given the other's, and of the other's given
        its own. An embedding that knows its own factors alone has 1 and 0, although the groups are correlated.
    """
    result = {}
    for s, other in zip(SUBSPACES, reversed(SUBSPACES), strict=True):
        result[s] = {
            "own": explained(embeddings[s], factors[s], given=factors[other]),
            "other": explained(embeddings[s], factors[other], given=factors[s]),
        }
    return result


def explained(embedding: NDArray, target: NDArray, given: NDArray) -> float:
    """Partial R² of a target given other variables, out of fold, meaned over the target's columns.

    1 − Σ (r − r̂)² / Σ r², where r is what a linear model of `given` leaves of the target, and r̂ what a ridge reads of r
    in what it leaves of the embedding. Both are fitted on four fifths of the patients, the penalty of each column
    chosen by folds among them, and judged on the fifth. An embedding that tells nothing may fall a little below 0.

    Args:
        embedding: (n, E).
        target: (n, F).
        given: (n, G).
    """
    left, missed = np.zeros(target.shape[1]), np.zeros(target.shape[1])
    for known, asked in _folds(len(target)):
        inner = [_read(embedding[known], target[known], given[known], *fold)[1].sum(1) for fold in _folds(len(known))]
        best = np.sum(inner, axis=0).argmin(0)  # (F,)
        own, squares = _read(embedding, target, given, known, asked)
        left += (own**2).sum(0)
        missed += squares.sum(1)[best, np.arange(len(best))]
    return float(np.mean(1 - missed / left))


def _folds(n: int) -> list[tuple[NDArray, NDArray]]:
    """→ (known, asked) rows, one pair a fold."""
    return list(KFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(n)))


def _read(
    embedding: NDArray, target: NDArray, given: NDArray, known: NDArray, asked: NDArray
) -> tuple[NDArray, NDArray]:
    """→ (a, F) what `given` leaves of the target of those asked, and (P, a, F) squares of what is missed at a penalty."""
    reduced = [x - LinearRegression().fit(given[known], x[known]).predict(given) for x in (embedding, target)]
    (told, rest), spread = reduced, embedding[known].std(0)
    own_spread = told[known].std(0)
    there = own_spread > 1e-6 * spread  # what follows from `given` leaves rounding errors alone
    told = told[:, there] / own_spread[there]
    values, vectors = np.linalg.eigh(told[known].T @ told[known])
    onto = vectors.T @ (told[known].T @ rest[known])  # (E, F)
    shrunk = onto / (np.maximum(values, 0)[:, None] + PENALTIES[:, None, None])  # (P, E, F)
    return rest[asked], (rest[asked] - (told[asked] @ vectors) @ shrunk) ** 2


def ceilings(world: World) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """What slides allow: `partial_r2` on the test patients of readings that know more than a student can.

    Returns:
        {"shown": of the factors as the slide shows them, "taught": of a ridge regression that was taught the true
        factors of training and inner validation patients, from the mean of their tokens}, each {"partial_r2": …,
        "partial_r2_shown": …}.
    """
    known, rows = world.parts["train"] + world.parts["val"], world.parts["test"]
    tokens = np.stack(
        [np.concatenate([f.astype(float).mean(0) for f in item.features.values()]) for item in world.items]
    )
    tokens = (tokens - tokens[known].mean(0)) / tokens[known].std(0)
    taught = {
        s: RidgeCV(10.0 ** np.arange(-2, 5)).fit(tokens[known], values[known]).predict(tokens[rows])
        for s, values in world.factors.items()
    }
    true, shown = ({s: values[rows] for s, values in group.items()} for group in (world.factors, world.shown))
    return {
        reading: {"partial_r2": partial_r2(told, true), "partial_r2_shown": partial_r2(told, shown)}
        for reading, told in {"shown": shown, "taught": taught}.items()
    }


# ---- concordance over seeds ----------------------------------------------------------------------------------------


@dataclass
class Draws:
    """Concordance of one model: seed by seed, and its mean over seeds in every resample."""

    by_seed: NDArray
    """(S,)"""
    resampled: NDArray
    """(R,) mean over seeds"""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.by_seed))

    @property
    def interval(self) -> Interval:
        """Mean and its interval."""
        return Interval(self.mean, *percentiles(self.resampled))


class Resampled:
    """The test patients of all seeds, resampled once for every model: patients within a seed, within event or not.

    The interval is of patients: how much fits of the same model differ is seen from the seeds side by side.

    Args:
        outcomes: Of each seed: {"time": (n,) days, "event": (n,)}.
        n_resamples: R.
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
    """(reached − start) / (goal − start); None where the gap's own interval does not leave out 0 from above."""
    gap = difference(goal, start)
    if not gap.low > 0:
        return None
    shares = (reached.resampled - start.resampled) / (goal.resampled - start.resampled)
    return Interval((reached.mean - start.mean) / gap.estimate, *percentiles(shares))
