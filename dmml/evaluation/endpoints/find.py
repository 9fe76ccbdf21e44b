"""Finds the endpoint of predictions: one of dmml's own, or a class that the context names by its path."""

from __future__ import annotations

from collections.abc import Collection

from dmml.class_paths import import_class
from dmml.errors import InputError
from dmml.evaluation.endpoints.base import Context, Endpoint
from dmml.evaluation.endpoints.classification import ClassificationEndpoint
from dmml.evaluation.endpoints.regression import RegressionEndpoint
from dmml.evaluation.endpoints.survival import SurvivalEndpoint
from dmml.evaluation.values.column import PREDICTED_VALUE

SURVIVAL, CLASSIFICATION, REGRESSION = SurvivalEndpoint(), ClassificationEndpoint(), RegressionEndpoint()


def endpoint_of(context: Context, columns: Collection[str] = ()) -> Endpoint:
    """Find the endpoint of a test or of a cross-validation.

    Args:
        context: Content of `context.json` or of `crossval.json`. Its `endpoint`, if present, is the class path of a
            user's own endpoint, which the readers of both files have checked (`check_class_path`).
        columns: Columns of `predictions.csv`, which tell dmml's endpoints apart. A cross-validation has none; there,
            the primary metric does.

    Raises:
        InputError: The class cannot be imported or is no `Endpoint` (see `import_class`), or the columns belong to no
            endpoint.
    """
    if path := context.get("endpoint"):
        return import_class(str(path), Endpoint, "context.json")()
    metric = context.get("primary_metric")
    if "risk" in columns or metric == SURVIVAL.primary:
        return SURVIVAL
    if any(str(name).startswith("prob_") for name in columns) or metric == CLASSIFICATION.primary:
        return CLASSIFICATION
    if PREDICTED_VALUE in columns or metric == REGRESSION.primary:
        return REGRESSION
    raise InputError(
        "predictions.csv has neither a column risk or predicted_value nor columns prob_<class>; write it with `dmml test`, and let a task of "
        "your own with other columns name its endpoint (docs/extending.md)"
    )
