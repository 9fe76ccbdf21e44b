"""The distance of one slide from the training slides, in parts: tile features of each magnification, and stain.

A slide is one row per part. Of tile features, the row is the mean over the tiles, and the variance of the tiles around
it is kept as well. A distance is the root mean square of coordinates, each in standard deviations of training slides:

- features: the coordinates on the principal axes of the training slides, the log of the rest outside these axes, and
  the log of the mean variance within the slide;
- stain: the six numbers of `dmml.evaluation.statistics.stain`, decorrelated.

The slides that give the axes are closer to them than any new slide can be. Typical values of the rest and of the
variance, and all thresholds, are therefore taken from slides that were left out of the fit, in folds of patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.shift import CLIP, mean_and_std, rounded

MAX_AXES = 8
"""Maximum number of principal axes"""
SLIDES_PER_AXIS = 5
"""Minimum number of training slides for each axis"""
FLOOR = 1e-6
"""Added to a mean square before its logarithm is taken"""
Plain = dict[str, Any]
"""A fitted part in plain Python, as a checkpoint holds it"""


def fit_features(mean: NDArray, variance: NDArray, fold: NDArray[np.int64]) -> tuple[Plain, NDArray[np.float64]]:
    """Fit the part of the tile features.

    Args:
        mean: (n, D) mean of the tiles of each training slide.
        variance: (n, D) variance of the tiles of each slide around its mean.
        fold: (n,) fold of each slide; all slides of a patient are in one fold, and there are at least three folds.

    Returns:
        The part, and the (n,) distance of each slide from a fit without its fold.
    """
    coordinates, logs = [np.zeros(0)] * len(mean), np.zeros((len(mean), 2))
    for left_out in np.unique(fold):
        axes = _fit_axes(mean[fold != left_out])
        for i in np.flatnonzero(fold == left_out):
            coordinates[i], logs[i] = _raw_coordinates(axes, mean[i], variance[i])
    distances = np.zeros(len(mean))
    for left_out in np.unique(fold):
        typical = mean_and_std(logs[fold != left_out])
        for i in np.flatnonzero(fold == left_out):
            distances[i] = _root_mean_square(np.concatenate([coordinates[i], _standardised(logs[i], *typical)]))
    level, spread = mean_and_std(logs)
    part = _fit_axes(mean) | {"log_mean": rounded(level), "log_std": rounded(spread)}
    return part, distances


def features_distance(part: Mapping[str, Any], mean: NDArray, variance: NDArray) -> float:
    """Return the distance of a slide's tile features.

    Args:
        part: From `fit_features`.
        mean: (D,) mean of the slide's tiles.
        variance: (D,) variance of the slide's tiles around their mean.
    """
    coordinates, logs = _raw_coordinates(part, mean, variance)
    typical = _standardised(logs, np.array(part["log_mean"]), np.array(part["log_std"]))
    return _root_mean_square(np.concatenate([coordinates, typical]))


def fit_stain(rows: NDArray, fold: NDArray[np.int64]) -> tuple[Plain, NDArray[np.float64]]:
    """Fit the part of the stain.

    Args:
        rows: (n, 6) stain of each training slide.
        fold: (n,) fold of each slide, as in `fit_features`.

    Returns:
        The part, and the (n,) distance of each slide from a fit without its fold.
    """
    distances = np.zeros(len(rows))
    for left_out in np.unique(fold):
        part = _fit_whitening(rows[fold != left_out])
        for i in np.flatnonzero(fold == left_out):
            distances[i] = stain_distance(part, rows[i])
    return _fit_whitening(rows), distances


def stain_distance(part: Mapping[str, Any], row: NDArray) -> float:
    """Return the distance of a slide's stain (6,) from the part of `fit_stain`."""
    width = len(part["centre"])
    z = (np.asarray(row) - np.array(part["centre"])) / np.array(part["scale"])
    return _root_mean_square(np.array(part["whitening"]).reshape(width, width) @ z)


def _fit_axes(mean: NDArray) -> Plain:
    """Centre and scale of the columns of (n, D), the principal axes of the slides, and the spread along each axis."""
    centre, scale = (np.array(rounded(values)) for values in mean_and_std(mean))
    z = np.clip((mean - centre) / scale, -CLIP, CLIP)
    n_axes = min(MAX_AXES, mean.shape[1] - 1, max(1, len(mean) // SLIDES_PER_AXIS))
    _, singular, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
    variance = singular[:n_axes] ** 2 / max(1, len(mean) - 1)
    # Shrunk as if `n_axes` more slides had the average variance on every axis.
    weight = n_axes / (n_axes + len(mean))
    spread = np.sqrt(np.maximum((1 - weight) * variance + weight * variance.mean(), FLOOR))
    return {
        "n": len(mean),
        "centre": rounded(centre),
        "scale": rounded(scale),
        "axes": rounded(axes[:n_axes].ravel()),
        "axis_std": rounded(spread),
    }


def _raw_coordinates(part: Mapping[str, Any], mean: NDArray, variance: NDArray) -> tuple[NDArray, NDArray]:
    """Coordinates (k,) on the axes in standard deviations; logs (2,) of the rest and of the variance within the slide."""
    spread, scale = np.array(part["axis_std"]), np.array(part["scale"])
    axes = np.array(part["axes"]).reshape(len(spread), -1)
    z = np.clip((np.asarray(mean, np.float64) - np.array(part["centre"])) / scale, -CLIP, CLIP)
    on_axes = axes @ z
    rest = z - on_axes @ axes
    within = np.minimum(np.asarray(variance, np.float64) / scale**2, CLIP**4)
    return on_axes / spread, np.log(np.array([(rest**2).mean(), within.mean()]) + FLOOR)


def _fit_whitening(rows: NDArray) -> Plain:
    """Centre and scale of the columns, and the matrix that decorrelates them.

    The correlations are shrunk towards 0 with the weight p / (p + n), as if p slides without correlation were added.
    """
    centre, scale = mean_and_std(rows)
    z = (rows - centre) / scale
    n, width = z.shape
    weight = width / (width + n)
    correlation = (1 - weight) * (z.T @ z) / max(1, n - 1) + weight * np.eye(width)
    whitening = np.linalg.inv(np.linalg.cholesky(correlation))
    return {"n": n, "centre": rounded(centre), "scale": rounded(scale), "whitening": rounded(whitening.ravel())}


def _standardised(values: NDArray, mean: NDArray, std: NDArray) -> NDArray[np.float64]:
    return (values - mean) / std


def _root_mean_square(values: NDArray) -> float:
    return float(np.sqrt(np.mean(values**2)))
