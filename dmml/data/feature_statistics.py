"""Mean and standard deviation of each feature over training patients, and imputation of a store's missing values."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.data.dataset import PatientReader
from dmml.data.joined_store import JoinedStore
from dmml.store import FeatureStore

MAX_TOKENS = 2_000
"""Maximum number of tokens read per patient and magnification; the mean over more of them hardly differs"""
MAX_PATIENTS = 5_000
"""Maximum number of patients read: the standard error of a mean is then 1.4 % of the patients' standard deviation"""
_MIN_RELATIVE_SCALE = 1e-7
"""Relative to the mean: a smaller standard deviation is float32 rounding error, and the feature counts as constant"""


def fit_feature_statistics(
    reader: PatientReader,
    patients: Sequence[str],
    magnifications: Iterable[int],
    max_tokens_per_patient: int = MAX_TOKENS,
    seed: int = 0,
    max_patients: int = MAX_PATIENTS,
) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation of each feature over the tokens of training patients, with equal weight per patient.

    Patients are read one at a time, with at most `max_tokens_per_patient` tokens each, evenly spaced over the patient's
    tokens, so that memory grows neither with patients nor with tokens. Of more than `max_patients` patients with slides,
    as many are read, evenly spaced over the list, so that a fit on any number of slides starts within minutes. Sums are
    kept in float64 with the pairwise update of Chan et al. 1983, which loses no precision where a mean is large relative
    to its standard deviation.

    Args:
        reader: Reads a patient's features; NaN is a missing value. A patient without any value of a feature is left out
            of that feature's statistics.
        patients: The training patients, and no others.
        magnifications: Magnifications to read.
        max_tokens_per_patient: Maximum number of tokens to read per patient and magnification.
        seed: Seed of the offset of the evenly spaced tokens and patients (`even_rows`).
        max_patients: Maximum number of patients to read.

    Returns:
        {"<magnification>": {"mean": D numbers, "scale": D numbers}} in plain Python, as a checkpoint holds it; a
        magnification at which no patient has tokens is left out. A constant feature has scale 1; a feature for which
        no patient has a value has mean 0 and scale 1.
    """
    sums = {int(m): _Moments() for m in magnifications}
    with_slides = np.array([patient for patient in patients if reader.slides.get(patient)], dtype=object)
    for patient_id in with_slides[even_rows(len(with_slides), max_patients, (seed, 0))]:
        features = reader.read(patient_id).features
        for m, moments in sums.items():
            if len(tokens := features.get(m, ())):
                rows = even_rows(len(tokens), max_tokens_per_patient, (seed, m), patient_id)
                moments.add(np.asarray(tokens[rows], np.float64))
    return {str(m): moments.statistics() for m, moments in sorted(sums.items()) if moments.weight is not None}


def even_rows(n: int, max_rows: int, seed: tuple[int, int], patient_id: str = "") -> NDArray[np.int64] | slice:
    """Choose at most `max_rows` of n rows, evenly spaced from an offset that is drawn from the seed and the patient."""
    if n <= max_rows:
        return slice(None)
    start = np.random.default_rng([*seed, zlib.crc32(patient_id.encode())]).random()
    return np.floor((np.arange(max_rows) + start) * (n / max_rows)).astype(np.int64).clip(max=n - 1)


@dataclass
class _Moments:
    """Running mean and sum of squares of D features over patients, (D,) float64 after the first patient."""

    weight: NDArray[np.float64] | None = None
    """Number of patients who have the feature; None before the first patient"""
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Sum over patients of the mean squared distance of their tokens from the running mean"""

    def add(self, tokens: NDArray[np.float64]) -> None:
        """Add the (N, D) tokens of one patient."""
        if self.weight is None:
            self.weight, self.mean, self.squares = (np.zeros(tokens.shape[1]) for _ in range(3))
        measured = ~np.isnan(tokens)
        count = measured.sum(0)
        patient_mean = np.where(measured, tokens, 0).sum(0) / np.maximum(count, 1)
        variance = (np.where(measured, tokens - patient_mean, 0) ** 2).sum(0) / np.maximum(count, 1)
        before, self.weight = self.weight, self.weight + (count > 0)
        share = (count > 0) / np.maximum(self.weight, 1)
        distance = patient_mean - self.mean
        self.mean = self.mean + distance * share
        self.squares = self.squares + (count > 0) * variance + distance**2 * before * share

    def statistics(self) -> dict[str, list[float]]:
        """Return means and scales as plain lists."""
        scale = np.sqrt(self.squares / np.maximum(0 if self.weight is None else self.weight, 1))
        scale = np.where(scale > _MIN_RELATIVE_SCALE * np.abs(self.mean), scale, 1.0)
        return {"mean": self.mean.tolist(), "scale": scale.tolist()}


def fillings(
    store: FeatureStore | JoinedStore | None, fitted: Mapping[str, Any]
) -> dict[int, Callable[[Tensor], Tensor]]:
    """{magnification: function that imputes padded features}; empty for a store in which no value can be missing.

    Args:
        store: Feature store of the cohort, or None.
        fitted: What was fitted with the model; its `feature_statistics` give the means.
    """
    if store is None or not store.holds_vectors:
        return {}
    statistics = fitted.get("feature_statistics") or {}
    means = {int(m): torch.tensor(values["mean"]) for m, values in statistics.items()}
    return {m: partial(fill_missing, mean=mean) for m, mean in means.items()}


def fill_missing(features: Tensor, mean: Tensor) -> Tensor:
    """Replace NaN by the training patients' mean of that feature.

    Args:
        features: (B, N, D), NaN where a value is missing.
        mean: (D,).

    Returns:
        (B, N, D) of the same type.
    """
    return torch.where(features.isnan(), mean.to(features.dtype), features)
