"""Metrics of class probabilities, each in a form that takes patient weights; NaN = undefined.

`label` (n,) holds class indices 0 … C − 1; each row of `probability` (n, C) sums to 1. The most probable class is the
predicted one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.statistics.weighted import (
    Pairs,
    Weighted,
    divide,
    estimate,
    pair_share,
    separation_pairs,
    undefined_metric,
)

ECE_BINS = 15
"""Number of bins of equal width with `ECE_FULL` or more patients; otherwise, the maximum number of equal-size bins."""
ECE_FULL = 300


def class_auc(label: ArrayLike, probability: NDArray, index: int) -> Weighted:
    """AUC of one class against the rest: P(a patient of the class has the higher probability), ties count ½."""
    return pair_share([_class_pairs(label, probability, index)])


def macro_auc(label: ArrayLike, probability: NDArray) -> Weighted:
    """Mean one-against-rest AUC over the classes that occur; for two classes, the AUC of the second one."""
    return macro_auc_of_folds([(None, label, probability)])


def macro_auc_of_folds(folds: Sequence[tuple[NDArray[np.int64] | None, ArrayLike, NDArray]]) -> Weighted:
    """`macro_auc` over pairs of patients of the same fold.

    Args:
        folds: Index of the fold's patients (see `Pairs`), their class indices (n,) and probabilities (n, C).
    """
    classes = np.shape(folds[0][2])[1]
    aucs = []
    for c in [1] if classes == 2 else range(classes):
        if any(0 < (np.asarray(label) == c).sum() < len(np.asarray(label)) for _, label, _ in folds):
            pairs = [replace(_class_pairs(label, probability, c), index=index) for index, label, probability in folds]
            aucs.append(pair_share(pairs))
    return (lambda weights: np.mean([auc(weights) for auc in aucs], axis=0)) if aucs else undefined_metric


def _class_pairs(label: ArrayLike, probability: NDArray, index: int) -> Pairs:
    positive = np.asarray(label) == index
    return separation_pairs(np.asarray(probability, float)[:, index], positive.astype(float), ~positive)


def accuracy(label: ArrayLike, probability: NDArray) -> Weighted:
    """Share of patients whose most probable class is the true one."""
    return lambda weights: _agreement(confusion_weights(label, probability)(weights))


def balanced_accuracy(label: ArrayLike, probability: NDArray) -> Weighted:
    """Mean recall of the classes that occur, which is also the macro sensitivity of one class against the rest."""
    table = confusion_weights(label, probability)
    return lambda weights: _mean_defined(_recall(table(weights)))


def macro_specificity(label: ArrayLike, probability: NDArray) -> Weighted:
    """Mean one-against-rest specificity of the classes that occur.

    The specificity of a class is the share of the patients of other classes whose most probable class is another one.
    For two classes the mean is the balanced accuracy, since each class's specificity is the recall of the other.
    """
    table = confusion_weights(label, probability)
    return lambda weights: _mean_defined(_specificity(table(weights)))


def second_class_sensitivity(label: ArrayLike, probability: NDArray) -> Weighted:
    """Share of the patients of the second class whose most probable class it is."""
    table = confusion_weights(label, probability)
    return lambda weights: _recall(table(weights))[:, 1]


def second_class_specificity(label: ArrayLike, probability: NDArray) -> Weighted:
    """Share of the patients of the first of two classes whose most probable class it is."""
    table = confusion_weights(label, probability)
    return lambda weights: _recall(table(weights))[:, 0]


def macro_f1(label: ArrayLike, probability: NDArray) -> Weighted:
    """Mean over classes of 2 · hits / (true + predicted); classes that neither occur nor are predicted are left out."""
    table = confusion_weights(label, probability)

    def weighted(weights: NDArray) -> NDArray[np.float64]:
        counts = table(weights)
        hits = np.diagonal(counts, axis1=1, axis2=2)
        return _mean_defined(divide(2 * hits, counts.sum(1) + counts.sum(2)))

    return weighted


def quadratic_kappa(label: ArrayLike, probability: NDArray) -> Weighted:
    """Cohen's kappa with weights (i − j)², for ordered classes: 1 − Σ (i−j)² observed / Σ (i−j)² expected."""
    table = confusion_weights(label, probability)

    def weighted(weights: NDArray) -> NDArray[np.float64]:
        counts = table(weights)  # (R, C, C)
        steps = np.arange(counts.shape[1])
        cost = (steps[:, None] - steps) ** 2
        expected = counts.sum(2)[:, :, None] * counts.sum(1)[:, None, :]
        observed_cost = (cost * counts).sum((1, 2)) * counts.sum((1, 2))
        return 1 - divide(observed_cost, (cost * expected).sum((1, 2)))

    return weighted


def calibration_error(label: ArrayLike, probability: NDArray, bins: int | None = None) -> Weighted:
    """Expected calibration error of the most probable class: Σ_bins share · |hit rate − mean confidence|.

    With `ECE_FULL` patients or more, the usual 15 bins of equal width are used (lower edge excluded). With fewer, most
    of these would contain a handful of patients, and the score would be their noise, so bins of equal size with about
    20 patients each are used instead.

    Args:
        label: (n,) class indices.
        probability: (n, C) probabilities.
        bins: Number of bins of equal width, whatever n is; None chooses as described.
    """
    label, probability = np.asarray(label), np.asarray(probability, float)
    confidence, hit = probability.max(1), probability.argmax(1) == label
    member = np.eye(max(ECE_BINS, bins or 0) + 1)[confidence_bins(confidence, bins)]  # (n, bins)

    def weighted(weights: NDArray) -> NDArray[np.float64]:
        gap = np.abs((weights * (hit - confidence)) @ member).sum(1)
        return divide(gap, weights.sum(1, dtype=np.float64))

    return weighted


def confidence_bins(confidence: NDArray, bins: int | None = None) -> NDArray[np.int64]:
    """Bin index of each confidence, from 0; see `calibration_error`."""
    if bins is not None or len(confidence) >= ECE_FULL:
        bins = bins or ECE_BINS
        return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    bins = min(ECE_BINS, max(1, len(confidence) // 20))
    inner = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(inner, confidence, side="left")


def confusion_weights(label: ArrayLike, probability: NDArray) -> Weighted:
    """Map weights (R, n) to confusion tables (R, C, C), with true classes in rows and predicted ones in columns."""
    label, probability = np.asarray(label), np.asarray(probability, float)
    classes = probability.shape[1]
    cell = np.eye(classes * classes)[label * classes + probability.argmax(1)]  # (n, C²)
    return lambda weights: (weights @ cell).reshape(len(weights), classes, classes)


def confusion(label: ArrayLike, probability: NDArray) -> NDArray[np.int64]:
    """Confusion table (C, C) of counts, with true classes in rows and predicted ones in columns."""
    return confusion_weights(label, probability)(np.ones((1, len(np.asarray(label)))))[0].round().astype(int)


def per_class(label: ArrayLike, probability: NDArray, classes: list[str]) -> pd.DataFrame:
    """Table with one row per class: patients, predicted, precision, recall, specificity, f1, auc."""
    table = confusion(label, probability)
    hits, true, predicted = table.diagonal(), table.sum(1), table.sum(0)
    n = len(np.asarray(label))
    return pd.DataFrame(
        {
            "class": classes,
            "patients": true,
            "predicted": predicted,
            "precision": divide(hits, predicted),
            "recall": divide(hits, true),
            "specificity": divide(n - true - predicted + hits, n - true),
            "f1": divide(2 * hits, true + predicted),
            "auc": [estimate(class_auc(label, probability, c), n) for c in range(len(classes))],
        }
    )


def looks_ordered(classes: list[str]) -> bool:
    """Whether class names are steps of a scale: three or more, a common prefix, rising numbers (G2, G3, G4; I–IV)."""
    roman = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5}
    steps, heads = [], set()
    for name in classes:
        # A name may contain a line break, as any cell of a table may. The pattern matches every text.
        match = re.match(r"(?s)(.*?)[\s_-]*(\d+|(?<![A-Za-z])[ivIV]+)?\Z", str(name).strip())
        head, step = match.groups() if match else (name, None)
        number = int(step) if step and step.isdigit() else roman.get((step or "").lower())
        if number is None:
            return False
        steps.append(number)
        heads.add(head.lower())
    return len(classes) >= 3 and len(heads) == 1 and steps == sorted(set(steps))


def _recall(counts: NDArray) -> NDArray[np.float64]:
    """(R, C) recall of each class from confusion tables (R, C, C); NaN for a class without patients."""
    return divide(np.diagonal(counts, axis1=1, axis2=2), counts.sum(2))


def _specificity(counts: NDArray) -> NDArray[np.float64]:
    """(R, C) specificity of each class; NaN for a class without patients, or to which all patients belong."""
    true, predicted, hits = counts.sum(2), counts.sum(1), np.diagonal(counts, axis1=1, axis2=2)
    others = true.sum(1, keepdims=True) - true
    return divide(others - (predicted - hits), np.where(true > 0, others, 0))


def _agreement(counts: NDArray) -> NDArray[np.float64]:
    return divide(np.diagonal(counts, axis1=1, axis2=2).sum(1), counts.sum((1, 2)))


def _mean_defined(values: NDArray) -> NDArray[np.float64]:
    defined = np.isfinite(values)
    return divide(np.where(defined, values, 0).sum(1), defined.sum(1))
