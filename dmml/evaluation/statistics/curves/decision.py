"""Decision curves of a model with intervals, beside treating every patient; treating nobody has a net benefit of 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.bootstrap import Band, WeightedCurve, resamples, weighted_band
from dmml.evaluation.statistics.curves.net_benefit import (
    THRESHOLDS,
    class_net_benefit,
    survival_net_benefit,
)

LISTED = np.array([0.1, 0.2, 0.3, 0.5])
"""Thresholds at which a table lists the net benefit."""
_Benefit = Callable[[NDArray, NDArray], WeightedCurve]
"""Maps the risks from which patients are treated, and the thresholds, to a curve of net benefit."""


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit of treating those whom a model predicts to have an outcome.

    Attributes:
        outcome: The outcome in words, such as "G4" or "event by 1 year".
        n: Number of patients.
        model: Net benefit of the model at `THRESHOLDS`.
        treat_all: The same of treating every patient.
        gain: Net benefit of the model minus that of treating every patient, at `LISTED`.
    """

    outcome: str
    n: int
    model: Band
    treat_all: Band
    gain: Band

    @property
    def is_defined(self) -> bool:
        """Whether the net benefit of treating every patient is: at a horizon, somebody must be followed that long."""
        return bool(np.isfinite(self.treat_all.value).any())

    def listed(self, band: Band) -> Band:
        """The values of a band at the thresholds of `LISTED`."""
        at = np.searchsorted(THRESHOLDS, LISTED - 1e-9)
        return Band(*(values[at] for values in band))


def class_decision_curve(outcome: str, is_case: ArrayLike, risk: ArrayLike) -> DecisionCurve:
    """Decision curve of a class against all others; see `class_net_benefit`."""
    return _decision_curve(
        outcome, len(np.asarray(risk)), lambda cut, thresholds: class_net_benefit(is_case, risk, cut, thresholds)
    )


def survival_decision_curve(
    outcome: str, time: ArrayLike, event: ArrayLike, risk: ArrayLike, day: float
) -> DecisionCurve:
    """Decision curve of an event by a day; see `survival_net_benefit`."""
    return _decision_curve(
        outcome,
        len(np.asarray(risk)),
        lambda cut, thresholds: survival_net_benefit(time, event, risk, day, cut, thresholds),
    )


def _decision_curve(outcome: str, n: int, benefit: _Benefit) -> DecisionCurve:
    """Draw patients without strata, because the net benefit depends on how common the outcome is."""
    weights = resamples(n)
    model, everybody = benefit(LISTED, LISTED), benefit(np.zeros(len(LISTED)), LISTED)
    return DecisionCurve(
        outcome,
        n,
        model=weighted_band(benefit(THRESHOLDS, THRESHOLDS), weights),
        treat_all=weighted_band(benefit(np.zeros(len(THRESHOLDS)), THRESHOLDS), weights),
        gain=weighted_band(lambda drawn: model(drawn) - everybody(drawn), weights),
    )
