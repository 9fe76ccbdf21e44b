"""Continuous values in evaluation: predictions with a column `predicted_value`, and outcomes with a `value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.endpoints.base import Context, Endpoint
from dmml.evaluation.evaluate import MetricEntry
from dmml.evaluation.values import metrics
from dmml.evaluation.values.column import PREDICTED_VALUE
from dmml.evaluation.values.metrics import PredictedValues

if TYPE_CHECKING:
    from dmml.evaluation.evaluation_result import Evaluation
    from dmml.evaluation.plots.plot import Plot
    from dmml.evaluation.statistics.pooled import FoldPredictions
    from dmml.evaluation.statistics.weighted import Weighted

CORRELATIONS = {"pearson": metrics.pearson, "spearman": metrics.spearman}
COMPARED_WITH_OWN_VALUE = {
    "r2": metrics.r_squared,
    "mae": metrics.mean_absolute_error,
    "mean_error": metrics.mean_error,
    "calibration_slope": metrics.calibration_slope,
}

METRIC_NAMES = {
    "r2": (
        "R²",
        "higher is better, 1 is perfect; 0 is no better than the mean of these patients, and worse is below 0",
    ),
    "pearson": ("Correlation (Pearson)", "higher is better, 0 is chance"),
    "spearman": ("Rank correlation (Spearman)", "higher is better, 0 is chance"),
    "mae": ("Mean absolute error", "in the units of the value; lower is better"),
    "mean_error": (
        "Mean error",
        "predicted minus measured, in the units of the value; 0 is best, and above 0 predictions are too high",
    ),
    "calibration_slope": (
        "Calibration slope",
        "of measured against predicted values; 1 is best, and below 1 predictions are too far apart",
    ),
}
"""{metric: (its name, how to read it)}"""


class RegressionEndpoint(Endpoint):
    """A continuous value; models are compared by R²."""

    outcome = ("value",)
    primary = "r2"
    primary_name = "R²"
    chance = 0.0
    second_sentence = ("Its mean absolute error is", "mae")
    known_outcome_name = "with a known value"
    tile_effects = ("raise the predicted value", "lower it")
    group_metric = "mean_error"
    metric_names = METRIC_NAMES

    def with_outcome(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """See `Endpoint`."""
        patients = super().with_outcome(predictions)
        return patients.assign(value=pd.to_numeric(patients["value"]).astype(float))

    def weighted_metrics(self, patients: pd.DataFrame, context: Context) -> dict[str, Weighted]:
        """See `Endpoint`."""
        value, predicted = _columns(patients)
        correlations = {name: metric([PredictedValues(value, predicted)]) for name, metric in CORRELATIONS.items()}
        others = {name: metric(value, predicted) for name, metric in COMPARED_WITH_OWN_VALUE.items()}
        return {name: (correlations | others)[name] for name in self.metric_names}

    def evaluate(self, predictions: pd.DataFrame, context: Context) -> dict[str, MetricEntry]:
        """See `Endpoint`; says why a metric is undefined."""
        entries = super().evaluate(predictions, context)
        patients = self.with_outcome(predictions)
        if not patients.empty:
            for entry in entries.values():
                if entry["value"] is None:
                    entry["reason"] = _why_undefined(*_columns(patients))
        return entries

    def pooled(self, name: str, folds: Sequence[FoldPredictions]) -> Weighted:
        """Join the folds for errors, and take correlations within folds; see `dmml.evaluation.values.metrics`."""
        if name not in CORRELATIONS:
            return super().pooled(name, folds)
        return CORRELATIONS[name]([PredictedValues(*_columns(fold.table), fold.index) for fold in folds])

    def added_value(
        self, clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame], context: Context
    ) -> dict[str, float] | None:
        """See `added_to_value`."""
        from dmml.evaluation.statistics.added_value import added_to_value

        return added_to_value(clinical, model)

    def score(self, predictions: pd.DataFrame, context: Context) -> tuple[str, NDArray[np.float64]]:
        """Return the predicted value."""
        return f"predicted {value_name(context)}", predictions[PREDICTED_VALUE].to_numpy(float)

    def plots(self, evaluation: Evaluation) -> list[Plot]:
        """Draw measured against predicted values."""
        from dmml.evaluation.values.plots import agreement_plot

        context = evaluation.context
        name, unit = value_name(context), str(context.get("unit") or "")
        return [agreement_plot(*_columns(evaluation.with_outcome), name, unit)]

    def achievement(self, predictions: pd.DataFrame, context: Context) -> str:
        """See `Endpoint`."""
        return f"predicts the {value_name(context)} with an R² of"


def value_name(context: Mapping[str, object]) -> str:
    """Return the name of the value in sentences."""
    return str(context.get("value_name") or "value")


def _columns(patients: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return measured and predicted values, (n,) each."""
    return patients["value"].to_numpy(float), patients[PREDICTED_VALUE].to_numpy(float)


def _why_undefined(value: NDArray, predicted: NDArray) -> str:
    n = len(value)
    if np.ptp(value) == 0:
        return f"all {n} patients have the same value" if n > 1 else "one patient alone has a known value"
    return f"the model predicts the same for all {n} patients" if np.ptp(predicted) == 0 else "undefined here"
