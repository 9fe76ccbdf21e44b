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
LEAST = 10
"""Minimum number of patients on each side for a comparison of whole rows."""
FAR = 0.5
"""Number of training standard deviations beyond which a column counts as shifted."""
LARGEST = 10
MOST_POINTS = 300
"""Maximum number of patients of either side that are compared and drawn."""
_CLIP = 10.0


def fit_reference(rows: ArrayLike, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Summarise the training patients for a checkpoint, in plain Python; no row can be traced to a patient.

    Args:
        rows: (n, D) one row per training patient, NaN for unknown values.
        names: (D,) names of the columns; None numbers them.

    Returns:
        `n`, `mean` (D) and `std` (D). With at least 2 · `LEAST` patients also `centre` (D) and `scale` (D) of one half
        and its axes `basis` (k · D, row by row) with `n_axes` k. Of the other half, `rest` (D) is the residual mean
        square of each column, and `sample` (m · (k + 1)) holds its patients' coordinates on the axes and the log of
        their residual mean square. `sample_within` is the same after that half was standardised by its mean and spread.
    """
    rows = np.asarray(rows, np.float64)
    mean, std = _mean_and_std(rows)
    reference: dict[str, Any] = {"n": len(rows), "mean": _plain(mean), "std": _plain(std)}
    if names is not None:
        reference["names"] = list(names)
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = rows[order[::2]], rows[order[1::2]]
    second = second[_placeable(second)]
    if len(rows) < 2 * LEAST or len(second) < LEAST:
        return reference
    # Rounded to the values that a later comparison reads from the checkpoint.
    centre, scale = (np.array(_plain(values)) for values in _mean_and_std(first))
    z = np.nan_to_num(_standardised(first, centre, scale))
    axes = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][: min(AXES, len(first) - 1)]
    reference |= {"n_axes": len(axes), "basis": _plain(axes.ravel()), "centre": _plain(centre), "scale": _plain(scale)}
    axes = np.array(reference["basis"]).reshape(axes.shape)
    z = _standardised(second, centre, scale)
    reference["rest"] = _plain(_left_over(z, axes))
    rest = np.array(reference["rest"])
    reference["sample"] = _plain(_places(z, axes, rest).ravel())
    reference["sample_within"] = _plain(_places(_within(second), axes, rest).ravel())
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
        return content | {"reason": "nobody in this cohort has it"}
    content |= {"within": True} if within else _columns(rows, mean, std, names, int(reference["n"]))
    rows = rows[_placeable(rows)]
    sample = "sample_within" if within else "sample"
    if reason := _not_comparable(reference, len(rows), sample):
        return content | {"reason": reason}
    axes = np.array(reference["basis"], float).reshape(int(reference["n_axes"]), -1)
    rest = np.array(reference.get("rest") or np.ones(axes.shape[1]), float)
    training = np.array(reference[sample], float).reshape(-1, len(axes) + 1)
    z = _within(rows) if within else _standardised(rows, *(np.array(reference[n], float) for n in ("centre", "scale")))
    return content | _whole_rows(training, _places(z, axes, rest), within)


def _not_comparable(reference: Mapping[str, Any], n: int, sample: str) -> str:
    """Explain why whole patients cannot be compared; empty if they can."""
    if "basis" not in reference:
        return f"fewer than {2 * LEAST} training patients with enough known values: whole patients are not compared"
    if "centre" not in reference or sample not in reference:
        return "the checkpoint, of an earlier dmml, keeps too little about its training patients to compare whole patients; train again"
    return f"{n} patients with enough known values; a comparison of whole patients needs {LEAST}" if n < LEAST else ""


def _whole_rows(training: NDArray, cohort: NDArray, within: bool) -> dict[str, Any]:
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
    sides = [values[np.sort(generator.permutation(len(values))[:MOST_POINTS])] / both for values in (training, cohort)]
    found = classifier_test(*(np.column_stack([np.abs(v[:, :-1]), v[:, -1]]) if within else v for v in sides))
    points = {
        name: np.round(np.column_stack([scores, values[:, 0]]), 3).tolist()
        for name, scores, values in zip(("training", "cohort"), (found.scores_a, found.scores_b), sides, strict=True)
    }
    return {"auc": found.auc, "p": found.p, "map": points}


def _columns(rows: NDArray, mean: NDArray, std: NDArray, names: Sequence[str], n_training: int) -> dict[str, Any]:
    known = np.isfinite(rows)
    count = known.sum(0)
    there = np.flatnonzero(count > 0)
    z = np.where(known, (rows - mean) / std, 0.0)[:, there]
    count = count[there]
    shift = z.sum(0) / count
    spread = np.sqrt(np.where(known[:, there], (z - shift) ** 2, 0).sum(0) / np.maximum(count - 1, 1))
    order = np.argsort(-np.abs(shift), kind="stable")[:LARGEST]
    # The median of |N(0, σ²)| is 0.674 σ: in the median column, two samples of one population differ by that much.
    chance = 0.6745 * np.sqrt(1 / max(1, n_training) + 1 / len(rows))
    return {
        "median_shift": float(np.median(np.abs(shift))) if len(shift) else None,
        "expected_shift": float(chance),
        "share_shifted": float((np.abs(shift) > FAR).mean()) if len(shift) else None,
        "median_spread": float(np.median(spread)) if len(shift) and len(rows) > 1 else None,
        "largest": [
            {"name": str(names[there[i]]), "shift": float(shift[i]), "spread": float(spread[i])} for i in order
        ],
    }


def _mean_and_std(rows: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and SD of each column, (D,) each, over its known values; the SD is 1 for a column without spread."""
    known = np.isfinite(rows)
    count = known.sum(0)
    mean = np.where(known, rows, 0).sum(0) / np.maximum(count, 1)
    std = np.sqrt(np.where(known, (rows - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1))
    return mean, np.where((std > 1e-6) & (count > 1), std, 1.0)


def _standardised(rows: NDArray, mean: NDArray, std: NDArray) -> NDArray[np.float64]:
    """Standardise the rows (n, D) and clip them; NaN stays NaN."""
    return np.clip((rows - mean) / std, -_CLIP, _CLIP)


def _within(rows: NDArray) -> NDArray[np.float64]:
    """Scale each column of (n, D) to mean 0 and mean square 1 over its known values."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(0), 1)
    centred = rows - np.where(known, rows, 0).sum(0) / count
    std = np.sqrt(np.where(known, centred**2, 0).sum(0) / count)
    return np.clip(centred / np.where(std > 1e-6, std, 1.0), -_CLIP, _CLIP)


def _placeable(rows: NDArray) -> NDArray[np.bool_]:
    """(n,) whether a patient has enough known values: all, or at least half the columns and four per axis."""
    known, columns = np.isfinite(rows).sum(1), rows.shape[1]
    return (known == columns) | (known >= max(columns / 2, 4 * AXES))


def _along(z: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """(n, k) coordinates on the axes by least squares over each patient's known columns."""
    found = np.zeros((len(z), len(axes)))
    patterns, row_of = np.unique(np.isfinite(z), axis=0, return_inverse=True)
    for i, known in enumerate(patterns):
        rows, own = row_of.ravel() == i, axes[:, known]
        # If all columns are known, the axes are orthonormal and the projection is the solution.
        gram = np.eye(len(axes)) if known.all() else own @ own.T + 1e-6 * np.eye(len(axes))
        found[rows] = np.linalg.solve(gram, own @ z[rows][:, known].T).T
    return found


def _left_over(z: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """(D,) residual mean square of each column; for a column without a known value, the mean over the others."""
    square = (z - _along(z, axes) @ axes) ** 2
    known = np.isfinite(square)
    count = known.sum(0)
    mean = np.where(known, square, 0).sum(0) / np.maximum(count, 1)
    return np.where(count > 0, mean, mean[count > 0].mean() if (count > 0).any() else 1.0)


def _places(z: NDArray, axes: NDArray, rest: NDArray) -> NDArray[np.float64]:
    """(n, k + 1) coordinates on the axes, and the log of the residual mean square.

    Columns differ in their residuals, so a mean over only some columns is scaled to the level of all columns.
    """
    along = _along(z, axes)
    square = (z - along @ axes) ** 2
    known = np.isfinite(square)
    left, usual = (np.where(known, values, 0).sum(1) for values in (square, rest))
    return np.column_stack([along, np.log(left / np.maximum(usual, 1e-12) * rest.mean() + 1e-6)])


def _plain(values: NDArray) -> list[float]:
    """Round to four significant digits; a mean over patients is not more precise than that."""
    return [float(f"{value:.4g}") for value in values]
