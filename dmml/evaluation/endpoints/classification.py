"""Classes in evaluation: predictions with a column `prob_<class>` for each class, and outcomes with a `label`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.bootstrap import resamples
from dmml.evaluation.endpoints.base import Context, Endpoint
from dmml.evaluation.evaluate import MetricEntry, class_metrics
from dmml.evaluation.predictions import class_names, known_labels
from dmml.evaluation.statistics import classification

if TYPE_CHECKING:
    from dmml.evaluation.evaluation_result import Evaluation
    from dmml.evaluation.plots.plot import Plot
    from dmml.evaluation.statistics.curves.decision import DecisionCurve
    from dmml.evaluation.statistics.pooled import FoldPredictions
    from dmml.evaluation.statistics.weighted import Weighted


TINY = 1e-6
"""Smallest probability whose log odds are finite here"""


class ClassificationEndpoint(Endpoint):
    """One of several classes; models are compared by the macro one-against-rest AUC."""

    outcome = ("label",)
    primary = "auc"
    primary_name = "AUC"
    axis_name = "macro AUC"
    second_sentence = ("Its balanced accuracy is", "balanced_accuracy")
    known_outcome_name = "with a label"
    tile_effects = ("speak for the predicted class", "speak against it")
    chance = 0.5
    strata = ("label",)

    def evaluate(self, predictions: pd.DataFrame, context: Context) -> dict[str, MetricEntry]:
        """See `class_metrics`."""
        return class_metrics(predictions, context)

    def primary_metric(self, patients: pd.DataFrame, context: Context) -> Weighted:
        """Return the macro AUC."""
        label, probability = known_labels(patients, class_names(patients, context))
        return classification.macro_auc(label, probability)

    def bootstrap_strata(self, patients: pd.DataFrame, context: Context) -> NDArray | None:
        """Return the class of each patient."""
        return known_labels(patients, class_names(patients, context))[0]

    def classes(self, predictions: pd.DataFrame, context: Context) -> list[str]:
        """See `class_names`."""
        return class_names(predictions, context)

    def fold_part(
        self, index: NDArray[np.int64], predictions: pd.DataFrame, context: Context, metrics: Mapping[str, MetricEntry]
    ) -> FoldPredictions:
        """See `Endpoint`."""
        from dmml.evaluation.statistics.pooled import FoldPredictions

        label, probability = known_labels(predictions, context["classes"])
        return FoldPredictions(index, label=label, probability=probability)

    def pooled(self, name: str, folds: Sequence[FoldPredictions]) -> Weighted:
        """See `pooled_metric`: the AUC counts pairs of patients within a fold, and other metrics join the folds."""
        from dmml.evaluation.statistics.pooled import pooled_metric

        return pooled_metric(name, folds)

    def added_value(
        self, clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame], context: Context
    ) -> dict[str, float] | None:
        """See `added_to_classes`."""
        from dmml.evaluation.statistics.added_value import added_to_classes

        return added_to_classes(clinical, model, context["classes"])

    def score(self, predictions: pd.DataFrame, context: Context) -> tuple[str, NDArray[np.float64]]:
        """Return the probability of the last class, which is the highest grade of ordered ones."""
        last = class_names(predictions, context)[-1]
        return f"probability of {last}", predictions[f"prob_{last}"].to_numpy(float)

    def scores(self, predictions: pd.DataFrame, context: Context) -> dict[str, NDArray[np.float64]]:
        """Return the log odds of each class against all others; of two classes, those of the second one.

        Log odds are on the scale of the logits, to which a model adds its parts. A probability is squeezed near 0 and
        1, so that its correlations would depend on how sure the model is.
        """
        names = class_names(predictions, context)
        columns = names[1:] if len(names) == 2 else names
        probabilities = {name: predictions[f"prob_{name}"].to_numpy(float).clip(TINY, 1 - TINY) for name in columns}
        return {f"log odds of {name}": np.log(p) - np.log1p(-p) for name, p in probabilities.items()}

    def plots(self, evaluation: Evaluation) -> list[Plot]:
        """Draw the confusion table, ROC curves, precision and recall, and reliability."""
        from dmml.evaluation.plots.classification import confusion_plot, reliability_plot
        from dmml.evaluation.plots.curves.separation import precision_plot, roc_plot
        from dmml.evaluation.statistics.curves.separation import class_separation

        classes, (label, probability) = evaluation.classes, evaluation.labels
        separations = {classes[i]: class_separation(label, probability, i) for i in _each_against_rest(classes)}
        weights = resamples(len(label), label)
        caption = "Each class against all others." if len(separations) > 1 else f"{classes[1]} against {classes[0]}."
        plots = [
            confusion_plot(label, probability, classes),
            roc_plot(separations, weights, caption),
            precision_plot(separations, weights, caption),
            reliability_plot(label, probability),
        ]
        return [plot for plot in plots if plot]

    def decision_curves(self, patients: pd.DataFrame, context: Context) -> list[DecisionCurve]:
        """Return the decision curve of each class against all others; of two classes, that of the second one."""
        from dmml.evaluation.statistics.curves.decision import class_decision_curve

        classes = class_names(patients, context)
        label, probability = known_labels(patients, classes)
        indices = _each_against_rest(classes)
        return [class_decision_curve(classes[i], label == i, probability[:, i]) for i in indices]

    def achievement(self, predictions: pd.DataFrame, context: Context) -> str:
        """See `Endpoint`."""
        return f"tells {len(self.classes(predictions, context))} classes apart with an AUC of"


def _each_against_rest(classes: Sequence[str]) -> Sequence[int]:
    """Return the indices of the classes that are compared with the rest: all of them, or the second of two."""
    return [1] if len(classes) == 2 else range(len(classes))
