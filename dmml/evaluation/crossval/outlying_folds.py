"""Folds of a cross-validation in which a model does far worse, or better, than in its other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FAR = 0.15
"""Minimum difference of concordance or AUC between an outlying fold and the median of the other folds."""
STANDARD_ERRORS = 2.5
"""The same minimum in standard errors of the fold's value, because folds of few patients differ by chance."""
FEWEST = 3
"""Minimum number of folds in a repeat for any of them to count as outlying."""


def outlying_folds(units: Sequence[Mapping[str, int]], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Find outlying folds, the most extreme first.

    Args:
        units: {repeat, fold, seed} of each fit.
        entries: The metric of each fit in the form of `metrics.json`: `value`, `low`, `high`, None where undefined.

    Returns:
        For each outlying fold: its unit, its `value`, and the `median`, `lowest` and `highest` value of the other folds
        of its repeat.
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
