"""How far a cohort lies from the training patients: the reference kept in a checkpoint, and the comparison with it.

Each patient is one row of numbers (the mean of the tile features, standardised genes, or the stain of the slides). The
reference keeps the mean and spread of every column over the training patients. To compare whole rows, it also keeps the
scale and the principal axes of one half of these patients, and the coordinates of the other half on the axes. Neither
that other half nor a new cohort is used to scale the columns or to find the axes. Otherwise, training patients would
look closer to the training data than any new patient can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.statistics.two_samples import classifier_test

AXES = 8
"""Maximum number of principal axes."""
MIN_PATIENTS = 10
"""Minimum number of patients on each side for a comparison of whole rows."""
CLEAR_SHIFT = 0.5
"""Number of training standard deviations beyond which a column counts as shifted."""
N_LARGEST = 10
"""Number of columns that are named, from the largest shift on."""
MAX_POINTS = 300
"""Maximum number of patients of either side that are compared and drawn."""
CLIP = 10.0
"""Largest standardised value, in standard deviations."""


def fit_reference(rows: ArrayLike, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Summarise the training patients for a checkpoint, in plain Python; no row can be traced to a patient.

    Args:
        rows: (n, D) one row per training patient, NaN for unknown values.
        names: (D,) names of the columns; None numbers them.

    Returns:
        `n`, `mean` (D) and `std` (D). With at least 2 · `MIN_PATIENTS` patients also `centre` (D) and `scale` (D) of one half
        and its axes `basis` (k · D, row by row) with `n_axes` k. Of the other half, `rest` (D) is the residual mean
        square of each column, and `sample` (m · (k + 1)) holds its patients' coordinates on the axes and the log of
        their residual mean square. `sample_within` is the same after that half was standardised by its mean and spread.
    """
    rows = np.asarray(rows, np.float64)
    mean, std = mean_and_std(rows)
    reference: dict[str, Any] = {"n": len(rows), "mean": rounded(mean), "std": rounded(std)}
    if names is not None:
        reference["names"] = list(names)
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = rows[order[::2]], rows[order[1::2]]
    second = second[_has_enough_values(second)]
    if len(rows) < 2 * MIN_PATIENTS or len(second) < MIN_PATIENTS:
        return reference
    # Rounded to the values that a later comparison reads from the checkpoint.
    centre, scale = (np.array(rounded(values)) for values in mean_and_std(first))
    z = np.nan_to_num(_standardised(first, centre, scale))
    axes = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][: min(AXES, len(first) - 1)]
    reference |= {
        "n_axes": len(axes),
        "basis": rounded(axes.ravel()),
        "centre": rounded(centre),
        "scale": rounded(scale),
    }
    axes = np.array(reference["basis"]).reshape(axes.shape)
    z = _standardised(second, centre, scale)
    reference["rest"] = rounded(_residuals_by_column(z, axes))
    rest = np.array(reference["rest"])
    reference["sample"] = rounded(_coordinates(z, axes, rest).ravel())
    reference["sample_within"] = rounded(_coordinates(_standardised_within(second), axes, rest).ravel())
    return reference


def compare(
    reference: Mapping[str, Any], rows: ArrayLike, names: Sequence[str] | None = None, within: bool = False
) -> dict[str, Any]:
    """Compare a cohort's rows with those of the training patients.

    `shift` of a column is (mean − training mean) / training SD, `spread` is SD / training SD. `auc` is the
    cross-validated AUC of a linear classifier between training and cohort: 0.5 or less = no better than chance, 1 =
    complete separation. `p` is the permutation p of this AUC.

    On both sides, a patient's position depends on known values only: imputed values have no influence. A cohort that
    was standardised within itself is compared with training patients standardised in the same way.

    Args:
        reference: From `fit_reference`.
        rows: (m, D); NaN for unknown values. A column without any known value is left out of `shift` and `spread`.
        names: (D,) names of the columns; None takes those of the reference, or numbers them.
        within: Whether the rows were standardised by the cohort's own mean and spread. Then no column can have a shift,
            and only how the columns vary together is compared.

    Returns:
        Plain numbers; `reason` replaces those that cannot be computed. `map` has one point per patient for a plot: the
        classifier's score, and the coordinate on the first principal axis.
    """
    rows = np.asarray(rows, np.float64)
    mean, std = np.array(reference["mean"], float), np.array(reference["std"], float)
    names = names or reference.get("names") or [f"dimension {i}" for i in range(len(mean))]
    content: dict[str, Any] = {"n_training": int(reference["n"]), "n": len(rows)}
    if not len(rows):
        return content | {"reason": "no patient of this cohort has this input"}
    content |= {"within": True} if within else _compare_columns(rows, mean, std, names, int(reference["n"]))
    rows = rows[_has_enough_values(rows)]
    sample = "sample_within" if within else "sample"
    if reason := _why_not_comparable(reference, len(rows), sample):
        return content | {"reason": reason}
    axes = np.array(reference["basis"], float).reshape(int(reference["n_axes"]), -1)
    rest = np.array(reference.get("rest") or np.ones(axes.shape[1]), float)
    training = np.array(reference[sample], float).reshape(-1, len(axes) + 1)
    centre, scale = (np.array(reference[name], float) for name in ("centre", "scale"))
    z = _standardised_within(rows) if within else _standardised(rows, centre, scale)
    return content | _compare_whole_rows(training, _coordinates(z, axes, rest), within)


def _why_not_comparable(reference: Mapping[str, Any], n: int, sample: str) -> str:
    """Explain why whole patients cannot be compared; empty if they can."""
    if "basis" not in reference:
        return f"fewer than {2 * MIN_PATIENTS} training patients have enough known values to compare whole patients"
    if "centre" not in reference or sample not in reference:
        return (
            "the checkpoint is of an earlier dmml and keeps too little about its training patients to compare whole "
            "patients; train again"
        )
    if n < MIN_PATIENTS:
        return f"{n} patients have enough known values; a comparison of whole patients needs {MIN_PATIENTS}"
    return ""


def _compare_whole_rows(training: NDArray, cohort: NDArray, within: bool) -> dict[str, Any]:
    """Compare two samples of coordinates, (n, k + 1) and (m, k + 1).

    Two samples that were each standardised within themselves have the same mean. A classifier of positions would then
    be worse than chance on patients that it was not fitted to, so it gets their distance from the mean along each axis.
    """
    # Scale by the spread of both sides together: with that of one side, the other would look wider, and permutations
    # would not be exchangeable.
    both = np.vstack([training, cohort]).std(0)
    both = np.where(both > 1e-9, both, 1.0)
    # Tables are often sorted, e.g. by site, so the patients to compare are chosen at random if there are too many.
    generator = np.random.default_rng(0)
    a, b = (values[np.sort(generator.permutation(len(values))[:MAX_POINTS])] / both for values in (training, cohort))
    test = classifier_test(_distances(a), _distances(b)) if within else classifier_test(a, b)
    points = {
        name: np.round(np.column_stack([scores, values[:, 0]]), 3).tolist()
        for name, scores, values in (("training", test.scores_a, a), ("cohort", test.scores_b, b))
    }
    return {"auc": test.auc, "p": test.p, "map": points}


def _distances(coordinates: NDArray) -> NDArray[np.float64]:
    """Distance from the mean along each axis; the last column, the log of the residual, stays as it is."""
    return np.column_stack([np.abs(coordinates[:, :-1]), coordinates[:, -1]])


def _compare_columns(
    rows: NDArray, mean: NDArray, std: NDArray, names: Sequence[str], n_training: int
) -> dict[str, Any]:
    is_known = np.isfinite(rows)
    count = is_known.sum(0)
    columns = np.flatnonzero(count > 0)  # those with a known value
    z = np.where(is_known, (rows - mean) / std, 0.0)[:, columns]
    count = count[columns]
    shift = z.sum(0) / count
    spread = np.sqrt(np.where(is_known[:, columns], (z - shift) ** 2, 0).sum(0) / np.maximum(count - 1, 1))
    order = np.argsort(-np.abs(shift), kind="stable")[:N_LARGEST]
    # The median of |N(0, σ²)| is 0.674 σ: in the median column, two samples of one population differ by that much.
    chance = 0.6745 * np.sqrt(1 / max(1, n_training) + 1 / len(rows))
    return {
        "median_shift": float(np.median(np.abs(shift))) if len(shift) else None,
        "expected_shift": float(chance),
        "share_shifted": float((np.abs(shift) > CLEAR_SHIFT).mean()) if len(shift) else None,
        "median_spread": float(np.median(spread)) if len(shift) and len(rows) > 1 else None,
        "largest": [
            {"name": str(names[columns[i]]), "shift": float(shift[i]), "spread": float(spread[i])} for i in order
        ],
    }


def mean_and_std(rows: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and SD of each column, (D,) each, over its known values; the SD is 1 for a column without spread."""
    is_known = np.isfinite(rows)
    count = is_known.sum(0)
    mean = np.where(is_known, rows, 0).sum(0) / np.maximum(count, 1)
    std = np.sqrt(np.where(is_known, (rows - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1))
    return mean, np.where((std > 1e-6) & (count > 1), std, 1.0)


def _standardised(rows: NDArray, mean: NDArray, std: NDArray) -> NDArray[np.float64]:
    """Standardise the rows (n, D) and clip them; NaN stays NaN."""
    return np.clip((rows - mean) / std, -CLIP, CLIP)


def _standardised_within(rows: NDArray) -> NDArray[np.float64]:
    """Scale each column of (n, D) to mean 0 and mean square 1 over its known values."""
    is_known = np.isfinite(rows)
    count = np.maximum(is_known.sum(0), 1)
    centred = rows - np.where(is_known, rows, 0).sum(0) / count
    std = np.sqrt(np.where(is_known, centred**2, 0).sum(0) / count)
    return np.clip(centred / np.where(std > 1e-6, std, 1.0), -CLIP, CLIP)


def _has_enough_values(rows: NDArray) -> NDArray[np.bool_]:
    """(n,) whether a patient has enough known values: all, or at least half the columns and four per axis."""
    n_known, n_columns = np.isfinite(rows).sum(1), rows.shape[1]
    return (n_known == n_columns) | (n_known >= max(n_columns / 2, 4 * AXES))


def _project(z: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """(n, k) coordinates on the axes by least squares over each patient's known columns."""
    coordinates = np.zeros((len(z), len(axes)))
    patterns, pattern_of = np.unique(np.isfinite(z), axis=0, return_inverse=True)
    for i, is_known in enumerate(patterns):
        rows, restricted = pattern_of.ravel() == i, axes[:, is_known]
        # If all columns are known, the axes are orthonormal and the projection is the solution.
        gram = np.eye(len(axes)) if is_known.all() else restricted @ restricted.T + 1e-6 * np.eye(len(axes))
        coordinates[rows] = np.linalg.solve(gram, restricted @ z[rows][:, is_known].T).T
    return coordinates


def _residuals_by_column(z: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """(D,) residual mean square of each column; for a column without a known value, the mean over the others."""
    square = (z - _project(z, axes) @ axes) ** 2
    is_known = np.isfinite(square)
    count = is_known.sum(0)
    mean = np.where(is_known, square, 0).sum(0) / np.maximum(count, 1)
    return np.where(count > 0, mean, mean[count > 0].mean() if (count > 0).any() else 1.0)


def _coordinates(z: NDArray, axes: NDArray, rest: NDArray) -> NDArray[np.float64]:
    """(n, k + 1) coordinates on the axes, and the log of the residual mean square.

    Columns differ in their residuals, so a mean over only some columns is scaled to the level of all columns.
    """
    coordinates = _project(z, axes)
    square = (z - coordinates @ axes) ** 2
    is_known = np.isfinite(square)
    residual, expected = (np.where(is_known, values, 0).sum(1) for values in (square, rest))
    return np.column_stack([coordinates, np.log(residual / np.maximum(expected, 1e-12) * rest.mean() + 1e-6)])


def rounded(values: NDArray) -> list[float]:
    """Round to four significant digits; a mean over patients is not more precise than that."""
    return [float(f"{value:.4g}") for value in values]
