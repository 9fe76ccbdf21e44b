"""Concordance of models on the same tested patients, resampled within seeds, and paired differences of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.bootstrap import Difference, Interval, resamples
from dmml.evaluation.statistics.bca import percentiles, two_sided_p
from dmml.evaluation.statistics.weighted import estimate, harrell

RESAMPLES = 1000


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
        self._kept: dict[tuple[int, bytes], tuple[float, NDArray]] = {}

    def draws(self, risks: dict[int, NDArray]) -> Draws:
        """Concordance of a model from its risks (n,) of each of its seeds, a subset of the seeds of the outcomes."""
        values, resampled = zip(
            *(self._of_seed(seed, np.asarray(risk, float)) for seed, risk in risks.items()), strict=True
        )
        return Draws(np.array(values), np.mean(resampled, axis=0))

    def _of_seed(self, seed: int, risk: NDArray) -> tuple[float, NDArray]:
        """Concordance of the tested patients and of each resample; computed once for the same risks."""
        key = seed, risk.tobytes()
        if key not in self._kept:
            time, event = self.outcomes[seed]
            metric = harrell(time, event, risk)
            self._kept[key] = estimate(metric, len(time)), metric(self.counts[seed])
        return self._kept[key]


def difference(a: Draws, b: Draws) -> Difference:
    """Mean concordance of a minus that of b on the same resamples."""
    drawn = a.resampled - b.resampled
    return Difference(a.mean - b.mean, *percentiles(drawn), two_sided_p(drawn))
