"""Survival in evaluation: predictions with a column `risk`, and outcomes with `time` (days) and `event`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.bootstrap import resamples
from dmml.evaluation.endpoints.base import Context, Endpoint
from dmml.evaluation.evaluate import (
    HAZARD_RATIO,
    MIN_EVENTS,
    MetricEntry,
    horizons,
    regression_entry,
    survival_metrics,
    undefined,
)
from dmml.evaluation.predictions import curve_at, known_outcome, survival_days
from dmml.evaluation.statistics import weighted
from dmml.evaluation.statistics.censoring import training_censoring
from dmml.evaluation.statistics.hazard_ratio import hazard_ratio

if TYPE_CHECKING:
    from dmml.evaluation.evaluation_result import Evaluation
    from dmml.evaluation.plots.plot import Plot
    from dmml.evaluation.statistics.curves.decision import DecisionCurve
    from dmml.evaluation.statistics.pooled import FoldPredictions
    from dmml.evaluation.statistics.weighted import Weighted


class SurvivalEndpoint(Endpoint):
    """Time to an event under right censoring; models are compared by Harrell's concordance."""

    outcome = ("time", "event")
    primary = "c_index"
    primary_name = "concordance"
    chance = 0.5
    counts_events = True
    tile_effects = ("raise the predicted risk", "lower it")
    strata = ("event",)
    # A Brier score depends on the number of deaths, which draws within strata of events would hold fixed.
    drawn_freely = frozenset({"ibs"})
    stratified_by_fold = frozenset({HAZARD_RATIO})

    def with_outcome(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """See `known_outcome`."""
        return known_outcome(predictions)

    def evaluate(self, predictions: pd.DataFrame, context: Context) -> dict[str, MetricEntry]:
        """See `survival_metrics`."""
        return survival_metrics(predictions, context)

    def horizons(self, patients: pd.DataFrame, context: Context) -> list[float]:
        """See `dmml.evaluation.evaluate.horizons`."""
        return horizons(context, patients["time"].to_numpy(float))

    def primary_metric(self, patients: pd.DataFrame, context: Context) -> Weighted:
        """Return Harrell's concordance."""
        return weighted.harrell(*(patients[name].to_numpy(float) for name in ("time", "event", "risk")))

    def bootstrap_strata(self, patients: pd.DataFrame, context: Context) -> NDArray | None:
        """Return who had the event."""
        return patients["event"].to_numpy(float)

    def fold_part(
        self, index: NDArray[np.int64], predictions: pd.DataFrame, context: Context, metrics: Mapping[str, MetricEntry]
    ) -> FoldPredictions:
        """See `Endpoint`; the metrics say up to which day each of them goes."""
        from dmml.evaluation.statistics.pooled import FoldPredictions

        patients = self.with_outcome(predictions)
        outcome = (patients[name].to_numpy(float) for name in ("time", "event"))
        defined = {name: each for name, each in metrics.items() if each["value"] is not None}
        tau = {name: each.get("tau", math.inf) for name, each in defined.items()}
        return FoldPredictions(index, patients, training_censoring(context, *outcome), tau)

    def pooled(self, name: str, folds: Sequence[FoldPredictions]) -> Weighted:
        """See `pooled_metric`: pairs of patients are counted within a fold."""
        from dmml.evaluation.statistics.pooled import pooled_metric

        return pooled_metric(name, folds)

    def over_folds(self, name: str, folds: Sequence[tuple[pd.DataFrame, Context]]) -> MetricEntry:
        """Return the hazard ratio with a stratum per fold; each fold is cut at the median risk of its training patients.

        The cut of a fold does not depend on tested patients, and the risks of different folds are never compared.
        """
        patients = pd.concat([table for table, _ in folds], ignore_index=True)
        time, event = (patients[column].to_numpy(float) for column in ("time", "event"))
        n, events = len(patients), int((event > 0).sum())
        cuts = [context.get("median_risk") for _, context in folds]
        if None in cuts:
            return undefined("the folders of the fits keep no median risk of the training patients", n, events)
        is_high = np.concatenate([table["risk"] > cut for (table, _), cut in zip(folds, cuts, strict=True)])
        fold = np.repeat(np.arange(len(folds)), [len(table) for table, _ in folds])
        return regression_entry(hazard_ratio(time, event, is_high, fold), n, events)

    def added_value(
        self, clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame], context: Context
    ) -> dict[str, float] | None:
        """See `added_to_hazard`."""
        from dmml.evaluation.statistics.added_value import added_to_hazard

        return added_to_hazard(clinical, model)

    def score(self, predictions: pd.DataFrame, context: Context) -> tuple[str, NDArray[np.float64]]:
        """Return the risk."""
        return "risk", predictions["risk"].to_numpy(float)

    def plots(self, evaluation: Evaluation) -> list[Plot]:
        """Draw Kaplan–Meier curves of the risk groups, calibration if survival is predicted, and ROC at the horizons."""
        from dmml.evaluation.plots.survival import calibration_plot, kaplan_meier_plot

        groups, ratio = evaluation.risk_groups, evaluation.metrics.get(HAZARD_RATIO)
        curves = [kaplan_meier_plot(groups, hazard_ratio=ratio)] if groups else []
        curves += [calibration_plot(evaluation.calibrations)] if evaluation.calibrations else []
        roc = _roc_at_horizons(evaluation)
        return curves + ([roc] if roc else [])

    def decision_curves(self, patients: pd.DataFrame, context: Context) -> list[DecisionCurve]:
        """Return the decision curve at every horizon up to the last predicted day."""
        from dmml.evaluation.report.formatting import event_by, horizon_name
        from dmml.evaluation.statistics.curves.decision import survival_decision_curve

        time, event = (patients[name].to_numpy(float) for name in ("time", "event"))
        curves = []
        for day in horizons(context, time):
            risk = 1 - curve_at(patients, [day])[:, 0] if survival_days(patients) else np.full(len(time), np.nan)
            if np.isfinite(risk).all():
                curves.append(survival_decision_curve(event_by(horizon_name(day)), time, event, risk, day))
        return curves

    def achievement(self, predictions: pd.DataFrame, context: Context) -> str:
        """See `Endpoint`."""
        return "orders patients by risk with a concordance of"


def _roc_at_horizons(evaluation: Evaluation) -> Plot | None:
    """Draw the ROC curves of patients dead by each horizon against those alive after it."""
    from dmml.evaluation.plots.curves.separation import roc_plot
    from dmml.evaluation.report.formatting import horizon_name
    from dmml.evaluation.statistics.curves.separation import survival_separation

    patients = evaluation.with_outcome
    time, event, risk = (patients[name].to_numpy(float) for name in ("time", "event", "risk"))
    if (event > 0).sum() < MIN_EVENTS:
        return None
    censoring = training_censoring(evaluation.context, time, event)
    separations = {
        horizon_name(day): survival_separation(time, event, risk, day, censoring) for day in evaluation.horizons
    }
    caption = (
        "Patients who had the event by the horizon, weighted by censoring, against those without it after the horizon."
    )
    return roc_plot(separations, resamples(len(time), event), caption)
