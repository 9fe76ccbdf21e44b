"""Folds of a cross-validation in which a model does far worse, or better, than in its other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FAR = 0.15
"""Concordance or AUC by which a fold must differ from the median of the other folds"""
STANDARD_ERRORS = 2.5
"""and its own standard errors by which it must: folds of few patients differ by chance"""
FEWEST = 3
"""folds of a repeat that it takes to say which one lies apart"""


def outlying_folds(units: Sequence[Mapping[str, int]], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Folds that lie apart, the farthest first.

    Args:
        units: {repeat, fold, seed} of each fit.
        entries: Of each fit, the metric as `metrics.json` has it: `value`, `low`, `high`, None where undefined.

    Returns:
        For each such fit its unit, `value`, and the `median`, `lowest` and `highest` value of the other folds of its repeat.
    """
    found = []
    for unit, entry in zip(units, entries, strict=True):
        others: dict[int, list[float]] = {}
        for other, own in zip(units, entries, strict=True):
            if other["repeat"] == unit["repeat"] and other["fold"] != unit["fold"] and own["value"] is not None:
                others.setdefault(other["fold"], []).append(own["value"])
        values = [float(np.mean(seeds)) for seeds in others.values()]
        if None in (entry["value"], entry.get("low"), entry.get("high")) or len(values) < FEWEST - 1:
            continue
        median, error = float(np.median(values)), (entry["high"] - entry["low"]) / 3.92
        if abs(entry["value"] - median) >= max(FAR, STANDARD_ERRORS * error):
            told = {"value": entry["value"], "median": median, "lowest": min(values), "highest": max(values)}
            found.append({**unit, **told})
    return sorted(found, key=lambda one: -abs(one["value"] - one["median"]))
