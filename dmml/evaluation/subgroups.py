"""The primary metric within sites and other groups that a clinical table defines."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.endpoints.find import endpoint_of
from dmml.evaluation.evaluate import undefined

LEAST = 10
"""Minimum number of patients with a known outcome for the metric of a group."""
MOST_LEVELS = 12


def by_subgroup(predictions: pd.DataFrame, context: dict, groups: pd.DataFrame) -> list[dict[str, Any]]:
    """Primary metric of each group alone, e.g. concordance or macro AUC.

    A numeric column divides the patients at its median among them, which does not depend on the outcome. A text column
    makes one group per value; values that fewer than five patients share, such as ids, are left out, as are all but the
    `MOST_LEVELS` most frequent ones.

    Args:
        predictions: As for `evaluate`.
        context: As for `evaluate`.
        groups: (patients × columns) with patient ids as index.

    Returns:
        One dictionary per group: {column, level, metric, value, low, high, n, events}, with `reason` if undefined.
    """
    endpoint = endpoint_of(context, predictions.columns)
    ids = predictions["patient_id"].astype(str)
    rows = []
    for column in groups:
        level = _levels(groups[column].reindex(ids)).to_numpy(object)
        names = pd.unique(level[pd.notna(level)])
        if len(names) < 2:
            continue
        for name in sorted(names):
            rows.append(
                {
                    "column": str(column),
                    "level": name,
                    "metric": endpoint.primary,
                    **_figure(predictions[level == name], context, endpoint),
                }
            )
    return rows


def _figure(part: pd.DataFrame, context: dict, endpoint: Endpoint) -> dict[str, Any]:
    n = len(endpoint.with_outcome(part))
    if n < LEAST:
        return undefined(f"{n} patients of known outcome, of {LEAST} that are needed", n, None)
    return endpoint.evaluate(part.reset_index(drop=True), context)[endpoint.primary]


def _levels(column: pd.Series) -> pd.Series:
    """Group name of each patient, None where unknown or rare."""
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > 2:
        middle = column.median()
        words = column.map(lambda value: f"up to {middle:g}" if value <= middle else f"above {middle:g}")
        return words.where(column.notna(), None)
    words = column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value)).where(
        column.notna(), None
    )
    counts = words.value_counts()
    kept = counts.index[(counts >= min(LEAST, 5))][:MOST_LEVELS]
    return words.where(words.isin(kept), None)
