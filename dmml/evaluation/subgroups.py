"""The primary metric within sites and other groups that a clinical table defines, and the gaps between the groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dmml.evaluation.bootstrap import holm, resamples, weighted_difference
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
        value of the column. `gap` is the difference between the group and the other groups of its column, see
        `_gap`; of two groups, only the first has one, because that of the second is the same. `second` is the metric
        that the endpoint names as `group_metric`, such as the mean error.
    """
    endpoint = endpoint_of(context, predictions.columns)
    ids = predictions["patient_id"].astype(str)
    rows = []
    for column in groups:
        group_of = _group_names(groups[column].reindex(ids)).to_numpy(object)
        names = pd.unique(group_of[pd.notna(group_of)])
        if len(names) < 2:
            continue
        for index, name in enumerate(sorted(names)):
            is_member = group_of == name
            row = {"column": str(column), "level": name, "metric": endpoint.primary}
            metrics = _metrics(predictions[is_member], context, endpoint)
            row |= metrics[endpoint.primary]
            if endpoint.group_metric:
                row["second"] = {"metric": endpoint.group_metric, **metrics[endpoint.group_metric]}
            if len(names) > 2 or index == 0:
                is_other = pd.notna(group_of) & ~is_member
                row["gap"] = _gap(predictions[is_member], predictions[is_other], context, endpoint)
            rows.append(row)
    gaps = [row["gap"] for row in rows if "gap" in row]
    for gap, p in zip(gaps, holm([math.nan if gap["p"] is None else gap["p"] for gap in gaps]), strict=True):
        gap["p_holm"] = None if math.isnan(p) else float(p)
    return rows


def _gap(members: pd.DataFrame, others: pd.DataFrame, context: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """Primary metric of a group minus that of the other patients, {value, low, high, p, n_others}.

    Patients are drawn within the group and within the others, in the strata of the endpoint. The p value is that of no
    difference; `p_holm`, which the caller adds, is adjusted over the gaps of all columns. Pairs of a member and another
    patient do not count, in either metric.
    """
    inside, outside = (endpoint.with_outcome(table.reset_index(drop=True)) for table in (members, others))
    if reason := _why_no_gap(inside, outside, context, endpoint):
        return {"value": None, "low": None, "high": None, "p": None, "n_others": len(outside), "reason": reason}
    strata = [endpoint.bootstrap_strata(table, context) for table in (inside, outside)]
    drawn = [resamples(len(t), s, seed=seed) for seed, (t, s) in enumerate(zip((inside, outside), strata, strict=True))]
    metric_in, metric_out = (endpoint.primary_metric(table, context) for table in (inside, outside))
    n = len(inside)
    difference = weighted_difference(
        lambda weights: metric_in(weights[:, :n]), lambda weights: metric_out(weights[:, n:]), np.hstack(drawn)
    )
    value, low, high, p = (float(x) if np.isfinite(x) else None for x in difference)
    gap = {"value": value, "low": low, "high": high, "p": p, "n_others": len(outside)}
    return gap if value is not None else gap | {"reason": "the metric is undefined in the group or in the others"}


def _why_no_gap(inside: pd.DataFrame, outside: pd.DataFrame, context: Mapping[str, Any], endpoint: Endpoint) -> str:
    """Explain why a group and the others cannot be compared; empty if they can."""
    n = min(len(inside), len(outside))
    if n < MIN_PATIENTS:
        return f"{n} patients with a known outcome on one side; at least {MIN_PATIENTS} are needed"
    # A mean over classes is comparable only if both sides have patients of the same ones.
    for name in endpoint.classes(inside, context):
        if (inside["label"].astype(str) == name).any() != (outside["label"].astype(str) == name).any():
            return f"only one side has patients of the class {name}"
    return ""


def _metrics(members: pd.DataFrame, context: Mapping[str, Any], endpoint: Endpoint) -> dict[str, MetricEntry]:
    """The primary metric of a group and, if the endpoint names one, its `group_metric`."""
    names = [endpoint.primary, *([endpoint.group_metric] if endpoint.group_metric else [])]
    n = len(endpoint.with_outcome(members))
    if n < MIN_PATIENTS:
        reason = f"{n} patients with a known outcome; at least {MIN_PATIENTS} are needed"
        return {name: undefined(reason, n, None) for name in names}
    metrics = endpoint.evaluate(members.reset_index(drop=True), context)
    return {name: metrics[name] for name in names}


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
