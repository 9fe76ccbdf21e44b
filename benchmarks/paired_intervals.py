"""Metrics of several models on the same patients, with intervals by resampling patients within their folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

DRAWS = 2_000


def figures(
    predictions: Mapping[str, pd.Series], outcome: pd.DataFrame, score: str, pairs: list[tuple[str, str]], seed: int = 0
) -> dict[str, Any]:
    """Metric of each model, and paired differences, over the patients whom all models predict.

    Args:
        predictions: {model: prediction by patient}, each from the fold that tested the patient.
        outcome: By patient: `fold`, and `time` and `event`, `label` (0 or 1) or `measured`. With a column `patient`, rows are
            patients of several repeats, and patients are drawn with all their rows.
        score: `concordance` or `auc` of the pairs within folds, `accuracy`, or `spearman` over all patients.
        pairs: Models to compare, a − b; pairs with a missing model are left out.
        seed: Seed of the draws.

    Returns:
        {"patients", "models": {model: {value, low, high}}, "paired": [{a, b, difference, low, high}]}; ends are the 2.5th
        and 97.5th percentiles of the draws.
    """
    common = [p for p in outcome.index if all(p in predicted.index for predicted in predictions.values())]
    table = outcome.loc[common]
    generator = np.random.default_rng(seed)
    strata = np.zeros(table["patient"].nunique()) if "patient" in table else table["fold"].to_numpy()
    draws = np.stack([_weights(strata, generator) for _ in range(DRAWS)])
    if "patient" in table:
        draws = draws[:, pd.factorize(table["patient"])[0]]
    every = np.vstack([np.ones(len(table)), draws])
    scores = {
        name: _SCORES[score](table, predicted.loc[common].to_numpy(float), every)
        for name, predicted in predictions.items()
    }
    return {
        "patients": len(common),
        "score": score,
        "models": {name: _summary(values) for name, values in scores.items()},
        "paired": [
            {"a": a, "b": b, "difference": summary.pop("value"), **summary}
            for a, b in pairs
            if a in scores and b in scores
            for summary in [_summary(scores[a] - scores[b])]
        ],
    }


def _weights(fold: NDArray, generator: np.random.Generator) -> NDArray:
    """How often each patient is drawn; as many patients are drawn from a fold as it has."""
    weights = np.zeros(len(fold))
    for k in np.unique(fold):
        rows = np.flatnonzero(fold == k)
        weights[rows] = np.bincount(generator.integers(0, len(rows), len(rows)), minlength=len(rows))
    return weights


def _summary(values: NDArray) -> dict[str, float]:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def _by_pairs(table: pd.DataFrame, first: NDArray, prediction: NDArray, weights: NDArray) -> NDArray:
    """Fraction of pairs within folds in the right order; `first` (n, n) marks who should rank higher. → (draws,)."""
    fold = table["fold"].to_numpy()
    comparable = first & (fold[:, None] == fold[None, :])
    difference = prediction[:, None] - prediction[None, :]
    credit = comparable * (0.5 * (difference == 0) + (difference > 0))
    top = np.einsum("di,di->d", weights @ credit, weights)
    return top / np.einsum("di,di->d", weights @ comparable.astype(float), weights)


def _concordance(table: pd.DataFrame, prediction: NDArray, weights: NDArray) -> NDArray:
    time, event = table["time"].to_numpy(float), table["event"].to_numpy(float) > 0
    later = (time[:, None] < time[None, :]) | ((time[:, None] == time[None, :]) & ~event[None, :])
    return _by_pairs(table, event[:, None] & later & ~np.eye(len(time), dtype=bool), prediction, weights)


def _auc(table: pd.DataFrame, prediction: NDArray, weights: NDArray) -> NDArray:
    label = table["label"].to_numpy(float)
    return _by_pairs(table, label[:, None] > label[None, :], prediction, weights)


def _accuracy(table: pd.DataFrame, prediction: NDArray, weights: NDArray) -> NDArray:
    right = ((prediction > 0.5) == (table["label"].to_numpy(float) > 0.5)).astype(float)
    return weights @ right / weights.sum(1)


def _spearman(table: pd.DataFrame, prediction: NDArray, weights: NDArray) -> NDArray:
    measured = table["measured"].to_numpy(float)
    correlations = []
    for draw in weights:
        rows = np.repeat(np.arange(len(measured)), draw.astype(int))
        ranks = [rankdata(values[rows]) for values in (prediction, measured)]
        correlations.append(np.corrcoef(*ranks)[0, 1])
    return np.array(correlations)


_SCORES = {"concordance": _concordance, "auc": _auc, "accuracy": _accuracy, "spearman": _spearman}
