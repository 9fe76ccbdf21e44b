"""Folds of a cross-validation in which a model does far worse, or better, than in its other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmml.evaluation import interval_settings

MIN_DIFFERENCE = 0.15
"""Minimum difference of concordance or AUC between an outlying fold and the median of the other folds."""
MIN_STANDARD_ERRORS = 2.5
"""The same minimum in standard errors of the fold's value, because folds of few patients differ by chance."""
MIN_FOLDS = 3
"""Minimum number of folds in a repeat for any of them to count as outlying."""


def outlying_folds(fits: Sequence[Mapping[str, int]], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Find outlying folds, the most extreme first.

    Args:
        fits: {repeat, fold, seed} of each fit.
        entries: The metric of each fit in the form of `metrics.json`: `value`, `low`, `high`, None where undefined.

    Returns:
        For each outlying fold: its repeat, fold and seed, its `value`, and the `median`, `lowest` and `highest` value
        of the other folds of its repeat.
    """
    interval_width = 2 * round(interval_settings.normal_quantile(), 2)  # in standard errors
    outliers = []
    for fit, entry in zip(fits, entries, strict=True):
        by_fold: dict[int, list[float]] = {}
        for other, other_entry in zip(fits, entries, strict=True):
            same_repeat = other["repeat"] == fit["repeat"] and other["fold"] != fit["fold"]
            if same_repeat and other_entry["value"] is not None:
                by_fold.setdefault(other["fold"], []).append(other_entry["value"])
        values = [float(np.mean(seeds)) for seeds in by_fold.values()]
        if None in (entry["value"], entry.get("low"), entry.get("high")) or len(values) < MIN_FOLDS - 1:
            continue
        median, error = float(np.median(values)), (entry["high"] - entry["low"]) / interval_width
        if abs(entry["value"] - median) >= max(MIN_DIFFERENCE, MIN_STANDARD_ERRORS * error):
            spread = {"value": entry["value"], "median": median, "lowest": min(values), "highest": max(values)}
            outliers.append({**fit, **spread})
    return sorted(outliers, key=lambda row: -abs(row["value"] - row["median"]))
