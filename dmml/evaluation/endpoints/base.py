"""Interface between an endpoint and its evaluation: tests, reports and cross-validations know an endpoint through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.evaluate import MetricEntry, entry, undefined

if TYPE_CHECKING:
    from dmml.evaluation.evaluation_result import Evaluation
    from dmml.evaluation.plots.plot import Plot
    from dmml.evaluation.statistics.curves.decision import DecisionCurve
    from dmml.evaluation.statistics.pooled import FoldPredictions
    from dmml.evaluation.statistics.weighted import Weighted

Context = Mapping[str, Any]
"""Content of `context.json`"""


class Endpoint:
    """Evaluates predictions of one kind of outcome. It works on the files of a test; no model is loaded.

    Three endpoints come with dmml: survival for predictions with a column `risk`, classes for columns `prob_<class>`, and
    continuous values for a column `predicted_value`. A task with other columns names a subclass as `Task.endpoint`. A subclass must set the attributes without a default
    and define `weighted_metrics`. All else follows: intervals, paired differences, subgroups, cross-validation.

    Attributes:
        outcome: Columns of `predictions.csv` that hold the outcome.
        primary: The metric by which models are compared; higher is better.
        primary_name: Its name in sentences, such as "concordance".
        axis_name: Its name on axes.
        metric_names: {metric: (its name in tables, how to read it)}.
        chance: Value of the primary metric of a model that knows nothing; None if there is no such value.
        counts_events: Whether results state the number of events.
        second_sentence: (words before its value, name) of a metric that the summary names as well.
        known_outcome_name: Words for the patients who are judged, after their number: 'with outcome'.
        tile_effects: What a red tile of the maps does, and what a blue one.
        strata: Columns within which the bootstrap draws patients.
        group_metric: A second metric that is stated for each subgroup; None for none.
        drawn_freely: Metrics whose bootstrap draws patients without strata.
        stratified_by_fold: Metrics that a cross-validation does not pool, but computes by `over_folds`.
    """

    outcome: tuple[str, ...]
    primary: str
    primary_name: str
    metric_names: Mapping[str, tuple[str, str]] = {}
    chance: float | None = None
    counts_events: bool = False
    second_sentence: tuple[str, str] | None = None
    known_outcome_name: str = "with outcome"
    tile_effects: tuple[str, str] = ("raise the answer", "lower it")
    strata: tuple[str, ...] = ()
    group_metric: str | None = None
    drawn_freely: frozenset[str] = frozenset()
    stratified_by_fold: frozenset[str] = frozenset()

    @property
    def axis_name(self) -> str:
        """Name of the primary metric on axes."""
        return self.primary_name

    def with_outcome(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Return the rows whose outcome is known, numbered from 0; none if a column of the outcome is absent."""
        if not set(self.outcome) <= set(predictions):
            return predictions.iloc[:0].assign(**{name: [] for name in self.outcome if name not in predictions})
        return predictions[predictions[list(self.outcome)].notna().all(axis=1)].reset_index(drop=True)

    def weighted_metrics(self, patients: pd.DataFrame, context: Context) -> dict[str, Weighted]:
        """Return all metrics, the primary one among them, as functions of the patients' weights.

        A metric maps weights (R, n) of n patients, one row per bootstrap resample, to (R,) values, NaN where undefined.
        With weights of 1 it is the estimate. `dmml.evaluation.statistics` has examples.

        Args:
            patients: Rows of `predictions.csv` with a known outcome, at least one.
            context: Content of `context.json`.
        """
        raise NotImplementedError

    def evaluate(self, predictions: pd.DataFrame, context: Context) -> dict[str, MetricEntry]:
        """Return the content of `metrics.json`; see `dmml.evaluation.evaluate`."""
        from dmml.evaluation.bootstrap import resamples

        patients = self.with_outcome(predictions)
        n = len(patients)
        if not n:
            names = dict.fromkeys([self.primary, *self.metric_names])
            return {name: undefined("no patient has a known outcome", 0, None) for name in names}
        strata = self.bootstrap_strata(patients, context)
        metrics = self.weighted_metrics(patients, context)
        return {
            name: entry(metric, resamples(n, None if name in self.drawn_freely else strata), n, None, "undefined here")
            for name, metric in metrics.items()
        }

    def bootstrap_strata(self, patients: pd.DataFrame, context: Context) -> NDArray | None:
        """Return the (n,) strata within which the bootstrap draws patients; None for a single stratum."""
        return patients.groupby(list(self.strata)).ngroup().to_numpy(int) if self.strata else None

    def primary_metric(self, patients: pd.DataFrame, context: Context) -> Weighted:
        """Return the primary metric as a function of the patients' weights; see `weighted_metrics`."""
        return self.weighted_metrics(patients, context)[self.primary]

    def horizons(self, patients: pd.DataFrame, context: Context) -> list[float]:
        """Return the days at which survival is judged; empty for other endpoints."""
        return []

    def classes(self, predictions: pd.DataFrame, context: Context) -> list[str]:
        """Return the names of the classes that a model predicts, in its order; empty for other endpoints."""
        return []

    def fold_part(
        self, index: NDArray[np.int64], predictions: pd.DataFrame, context: Context, metrics: Mapping[str, MetricEntry]
    ) -> FoldPredictions:
        """Return one fold of a cross-validation in the form that `pooled` takes.

        Args:
            index: (n,) index among all patients of the cross-validation of each row with a known outcome.
            predictions: Predictions of the fold's test patients.
            context: Content of the fold's `context.json`.
            metrics: Metrics of the fold.
        """
        from dmml.evaluation.statistics.pooled import FoldPredictions

        return FoldPredictions(index, self.with_outcome(predictions), context=context)

    def pooled(self, name: str, folds: Sequence[FoldPredictions]) -> Weighted:
        """Return a metric over all folds of a cross-validation, as a function of the weights of all patients.

        By default the folds' predictions are joined. An endpoint whose metrics compare patients with each other must
        not compare patients of different folds, because the scales of two folds' models may differ; it overrides this.

        Args:
            name: One of `weighted_metrics`.
            folds: At least one fold, from `fold_part`.
        """
        patients = pd.concat([fold.table for fold in folds], ignore_index=True)
        index = np.concatenate([fold.index for fold in folds])
        metric = self.weighted_metrics(patients, folds[0].context)[name]
        return lambda weights: metric(weights[:, index])

    def over_folds(self, name: str, folds: Sequence[tuple[pd.DataFrame, Context]]) -> MetricEntry:
        """Return a metric of `stratified_by_fold` over all folds of a cross-validation, with its own interval.

        Args:
            name: One of `stratified_by_fold`.
            folds: Patients with a known outcome, each in one fold, and the content of the fold's `context.json`.
        """
        raise NotImplementedError

    def added_value(
        self, clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame], context: Context
    ) -> dict[str, float] | None:
        """Test whether a model's score adds to the clinical model's; None if the endpoint has no such test.

        Args:
            clinical: Out-of-fold predictions of the clinical model for patients with a known outcome, fold by fold.
            model: The model's predictions of the same patients, in the same order.
            context: Content of a fold's `context.json`.
        """
        return None

    def score(self, predictions: pd.DataFrame, context: Context) -> tuple[str, NDArray[np.float64]]:
        """Return the name and the (n,) values of the number that stands for a prediction, higher = more of it.

        By default it is the first column of numbers after the outcome.
        """
        rest = predictions.drop(columns=["patient_id", *self.outcome], errors="ignore")
        name = next(str(name) for name in rest if pd.api.types.is_numeric_dtype(rest[name]))
        return name, rest[name].to_numpy(float)

    def scores(self, predictions: pd.DataFrame, context: Context) -> dict[str, NDArray[np.float64]]:
        """Return {name: (n,) values} of the numbers that genes are correlated with; by default that of `score`."""
        name, values = self.score(predictions, context)
        return {name: values}

    def plots(self, evaluation: Evaluation) -> list[Plot]:
        """Draw the plots of a test, of which at least one patient has a known outcome."""
        return []

    def decision_curves(self, patients: pd.DataFrame, context: Context) -> list[DecisionCurve]:
        """Return the net benefit of acting on the predictions; none if they are no probabilities of an outcome.

        Args:
            patients: Rows of `predictions.csv` with a known outcome, at least one.
            context: Content of `context.json`.
        """
        return []

    def achievement(self, predictions: pd.DataFrame, context: Context) -> str:
        """Return the words before the primary metric's value: 'orders patients by risk with a concordance of'."""
        return f"is judged by {self.primary_name}:"
