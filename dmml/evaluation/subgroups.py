"""The primary metric within sites and other groups that a clinical table defines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.endpoints.find import endpoint_of
from dmml.evaluation.evaluate import MetricEntry, undefined

MIN_PATIENTS = 10
"""Minimum number of patients with a known outcome for the metric of a group."""
MIN_SHARED = 5
"""Minimum number of patients who share a value that makes a group."""
MAX_LEVELS = 12
"""Maximum number of groups of one column."""


def by_subgroup(predictions: pd.DataFrame, context: Mapping[str, Any], groups: pd.DataFrame) -> list[dict[str, Any]]:
    """Primary metric of each group alone, e.g. concordance or macro AUC.

    A numeric column divides the patients at its median among them, which does not depend on the outcome. A text column
    makes one group per value; values that fewer than five patients share, such as ids, are left out, as are all but the
    `MAX_LEVELS` most frequent ones.

    Args:
        predictions: As for `evaluate`.
        context: As for `evaluate`.
        groups: (patients × columns) with patient ids as index.

    Returns:
        One dictionary per group: {column, level, metric} and the metric's entry of `metrics.json`; `level` is the group's
        value of the column.
    """
    endpoint = endpoint_of(context, predictions.columns)
    ids = predictions["patient_id"].astype(str)
    rows = []
    for column in groups:
        group_of = _group_names(groups[column].reindex(ids)).to_numpy(object)
        names = pd.unique(group_of[pd.notna(group_of)])
        if len(names) < 2:
            continue
        for name in sorted(names):
            entry = _primary_metric(predictions[group_of == name], context, endpoint)
            rows.append({"column": str(column), "level": name, "metric": endpoint.primary, **entry})
    return rows


def _primary_metric(members: pd.DataFrame, context: Mapping[str, Any], endpoint: Endpoint) -> MetricEntry:
    n = len(endpoint.with_outcome(members))
    if n < MIN_PATIENTS:
        return undefined(f"{n} patients with a known outcome; at least {MIN_PATIENTS} are needed", n, None)
    return endpoint.evaluate(members.reset_index(drop=True), context)[endpoint.primary]


def _group_names(column: pd.Series) -> pd.Series:
    """Group name of each patient, None where unknown or rare."""
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > 2:
        middle = column.median()
        halves = column.map(lambda value: f"up to {middle:g}" if value <= middle else f"above {middle:g}")
        return halves.where(column.notna(), None)
    names = column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    names = names.where(column.notna(), None)
    counts = names.value_counts()
    frequent = counts.index[counts >= MIN_SHARED][:MAX_LEVELS]
    return names.where(names.isin(frequent), None)
