"""Finds the endpoint of predictions: one of dmml's own, or a class that the context names by its path."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module

from dmml.errors import InputError
from dmml.evaluation.endpoints.base import Context, Endpoint
from dmml.evaluation.endpoints.classification import ClassificationEndpoint
from dmml.evaluation.endpoints.survival import SurvivalEndpoint

SURVIVAL, CLASSIFICATION = SurvivalEndpoint(), ClassificationEndpoint()


def endpoint_of(context: Context, columns: Collection[str] = ()) -> Endpoint:
    """Find the endpoint of a test or of a cross-validation.

    Args:
        context: Content of `context.json` or of `crossval.json`. Its `endpoint`, if present, is the class path of a
            user's own endpoint.
        columns: Columns of `predictions.csv`, which tell dmml's endpoints apart. A cross-validation has none; there,
            the primary metric does.

    Raises:
        InputError: The class cannot be imported or is no `Endpoint`, or the columns belong to no endpoint.
    """
    if path := context.get("endpoint"):
        return load_endpoint(str(path))
    metric = context.get("primary_metric")
    if "risk" in columns or metric == SURVIVAL.primary:
        return SURVIVAL
    if any(str(name).startswith("prob_") for name in columns) or metric == CLASSIFICATION.primary:
        return CLASSIFICATION
    raise InputError(
        "predictions.csv has neither a column risk nor columns prob_<class>; write it with `dmml test`, and let a task of "
        "your own with other columns name its endpoint (docs/extending.md)"
    )


def load_endpoint(path: str) -> Endpoint:
    """Load the endpoint of a user's own task; its module is imported, and its class must derive from `Endpoint`.

    Raises:
        InputError: There is no such class, or it is no `Endpoint`.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"the endpoint {path} cannot be imported; run the command in the folder that holds the class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Endpoint)):
        raise InputError(f"{path} is no endpoint; derive it from dmml.evaluation.endpoints.Endpoint")
    return found()
