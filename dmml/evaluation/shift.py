"""How far a cohort lies from the training patients: a reference that a checkpoint keeps, and the comparison with it.

A patient is one row of numbers (the mean of the tile features, standardised genes, the stain of the slides). The
reference keeps mean and spread of every column over the training patients. For a comparison of whole rows it keeps the
scale and the principal axes of one half of them, and where the other half lies on these: both that half and a new cohort
were used neither to scale the columns nor to find the axes, so that training patients do not look closer to themselves
than strangers can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dmml.evaluation.two_samples import classifier_test

AXES = 8
LEAST = 10
"""Patients a side below which whole rows are not compared."""
FAR = 0.5
"""Training standard deviations beyond which a column counts as shifted."""
LARGEST = 10
MOST_POINTS = 300
"""Most patients of either side that are compared and drawn"""
_CLIP = 10.0


def fit_reference(rows: ArrayLike, names: Sequence[str] | None = None) -> dict[str, Any]:
    """What a checkpoint keeps of its training patients, in plain Python; no row can be traced to a patient.

    Args:
        rows: (n, D) one row per training patient, NaN where a value is not known.
        names: (D,) of the columns; None numbers them.

    Returns:
        `n`, `mean` (D), `std` (D). From 2 · `LEAST` patients on also `centre` (D) and `scale` (D) of one half, its axes
        `basis` (k · D, row by row) with `n_axes` k, and of the other half `rest` (D), the residual mean square of each
        column, and `sample` (m · (k + 1)), its patients' coordinates on the axes and the log of their residual mean
        square. `sample_within` is the same after that half was standardised by its own mean and spread.
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
    # Rounded, as a comparison will have them.
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
    """How a cohort's rows differ from the training patients'.

    `shift` of a column = (mean − training mean) / training SD, `spread` = SD / training SD. `auc` is that of a linear
    classifier between training and cohort, cross-validated: 0.5 or less = no better than chance, 1 = all are separated;
    `p` is the permutation p of this AUC.

    On both sides a patient's position depends on known values only: imputed values have no influence. A cohort that was
    standardised within itself is compared with training patients standardised in the same way.

    Args:
        reference: From `fit_reference`.
        rows: (m, D); NaN where a value is not known. A column without any value is left out of `shift` and `spread`.
        names: (D,) of the columns; None takes those of the reference, or numbers them.
        within: Whether the rows were standardised by the cohort's own mean and spread. Then no column can have a shift,
            and only how the columns vary together is compared.

    Returns:
        Plain numbers; `reason` in place of those that cannot be given. `map` has one point per patient for a picture: the
        classifier's score, and the first principal axis.
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
    """Why whole patients cannot be compared; empty if they can."""
    if "basis" not in reference:
        return f"fewer than {2 * LEAST} training patients with enough known values: whole patients are not compared"
    if "centre" not in reference or sample not in reference:
        return "the checkpoint, of an earlier dmml, keeps too little about its training patients to compare whole patients; train again"
    return f"{n} patients with enough known values; a comparison of whole patients needs {LEAST}" if n < LEAST else ""


def _whole_rows(training: NDArray, cohort: NDArray, within: bool) -> dict[str, Any]:
    """Compare two samples of coordinates, (n, k + 1) and (m, k + 1).

    Samples that were each standardised within themselves have one mean. A classifier of positions would then be worse
    than chance on patients whom it was not fitted to, so it is given their distance from the mean along each axis.
    """
    # Scaled by the spread of both together: the spread of one side would make the other look wider, and permutations unequal.
    both = np.vstack([training, cohort]).std(0)
    both = np.where(both > 1e-9, both, 1.0)
    # Tables are often sorted, e.g. by site: where only some patients are compared, they are chosen at random.
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
    # Median of |N(0, σ²)| is 0.674 σ: two samples of one population are that far apart in the median column.
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
    """(D,) each, over what is known of a column; 1 for a column without spread."""
    known = np.isfinite(rows)
    count = known.sum(0)
    mean = np.where(known, rows, 0).sum(0) / np.maximum(count, 1)
    std = np.sqrt(np.where(known, (rows - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1))
    return mean, np.where((std > 1e-6) & (count > 1), std, 1.0)


def _standardised(rows: NDArray, mean: NDArray, std: NDArray) -> NDArray[np.float64]:
    """(n, D); NaN stays NaN."""
    return np.clip((rows - mean) / std, -_CLIP, _CLIP)


def _within(rows: NDArray) -> NDArray[np.float64]:
    """(n, D) with mean 0 and mean square 1 over the known values of each column."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(0), 1)
    centred = rows - np.where(known, rows, 0).sum(0) / count
    std = np.sqrt(np.where(known, centred**2, 0).sum(0) / count)
    return np.clip(centred / np.where(std > 1e-6, std, 1.0), -_CLIP, _CLIP)


def _placeable(rows: NDArray) -> NDArray[np.bool_]:
    """(n,) whether a patient has enough known values: all columns, or half of them and at least four per axis."""
    known, columns = np.isfinite(rows).sum(1), rows.shape[1]
    return (known == columns) | (known >= max(columns / 2, 4 * AXES))


def _along(z: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """(n, k) coordinates on the axes, by least squares over the known columns of each patient."""
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
    """(n, k + 1): coordinates on the axes, and the log of the residual mean square.

    Columns differ in their residuals, so a mean over some columns is scaled to the level of all columns.
    """
    along = _along(z, axes)
    square = (z - along @ axes) ** 2
    known = np.isfinite(square)
    left, usual = (np.where(known, values, 0).sum(1) for values in (square, rest))
    return np.column_stack([along, np.log(left / np.maximum(usual, 1e-12) * rest.mean() + 1e-6)])


def _plain(values: NDArray) -> list[float]:
    """Four digits are more than a mean over patients has."""
    return [float(f"{value:.4g}") for value in values]
