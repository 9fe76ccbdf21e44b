"""The primary metric within sites and other groups that a clinical table defines."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dmml.evaluation.evaluate import evaluate, undefined

LEAST = 10
"""Minimum number of patients with a known outcome for the metric of a group."""
MOST_LEVELS = 12


def by_subgroup(predictions: pd.DataFrame, context: dict, groups: pd.DataFrame) -> list[dict[str, Any]]:
    """Concordance or macro AUC of each group alone.

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
    metric = "c_index" if "risk" in predictions else "auc"
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
                    "metric": metric,
                    **_figure(predictions[level == name], context, metric),
                }
            )
    return rows


def _figure(part: pd.DataFrame, context: dict, metric: str) -> dict[str, Any]:
    known = part["time" if metric == "c_index" else "label"].notna() if {"time", "label"} & set(part) else []
    n = int(sum(known))
    if n < LEAST:
        return undefined(f"{n} patients of known outcome, of {LEAST} that are needed", n, None)
    return evaluate(part.reset_index(drop=True), context)[metric]


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
