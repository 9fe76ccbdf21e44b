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

AXES = 8
LEAST = 10
"""Patients a side below which whole rows are not compared."""
PERMUTATIONS = 999
FAR = 0.5
"""Training standard deviations beyond which a column counts as shifted."""
LARGEST = 10
MOST_POINTS = 300
"""Points of a side that are kept for the picture, and patients of a side that are compared pair by pair."""
_CLIP = 10.0


def fit_reference(rows: ArrayLike, names: Sequence[str] | None = None) -> dict[str, Any]:
    """What a checkpoint keeps of its training patients, in plain Python; no row can be traced to a patient.

    Args:
        rows: (n, D) a training patient a row, NaN where unknown.
        names: (D,) of the columns; None numbers them.

    Returns:
        `n`, `mean` (D), `std` (D); from 2 · `LEAST` patients on also `centre` (D) and `scale` (D) of one half, its axes
        `basis` (k · D, row by row), the other half as `sample` (m · (k + 1)), and `n_axes` k: the last number of a sample
        row is the log of what the axes leave over.
    """
    rows = np.asarray(rows, np.float64)
    mean, std = _mean_and_std(rows)
    reference: dict[str, Any] = {"n": len(rows), "mean": _plain(mean), "std": _plain(std)}
    if names is not None:
        reference["names"] = list(names)
    if len(rows) < 2 * LEAST:
        return reference
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = order[::2], order[1::2]
    # Rounded, as a comparison will have them.
    centre, scale = (np.array(_plain(values)) for values in _mean_and_std(rows[first]))
    z = _standardised(rows[first], centre, scale)
    axes = np.linalg.svd(z - z.mean(0), full_matrices=False)[2][: min(AXES, len(first) - 1)]
    reference |= {"n_axes": len(axes), "basis": _plain(axes.ravel()), "centre": _plain(centre), "scale": _plain(scale)}
    axes = np.array(reference["basis"]).reshape(axes.shape)
    reference["sample"] = _plain(_places(_standardised(rows[second], centre, scale), axes).ravel())
    return reference


def compare(reference: Mapping[str, Any], rows: ArrayLike, names: Sequence[str] | None = None) -> dict[str, Any]:
    """How a cohort's rows differ from the training patients'.

    `shift` of a column = (mean − training mean) / training SD, `spread` = SD / training SD. `energy` is the energy
    coefficient of inhomogeneity, 0 = the same distribution … 1, with a permutation `p`; `auc` of a linear classifier
    between training and cohort, cross-validated: 0.5 = nothing tells them apart, 1 = everybody is told apart.

    Args:
        reference: From `fit_reference`.
        rows: (m, D); NaN where unknown, a column without any value is left out of `shift` and `spread`.
        names: (D,) of the columns; None takes those of the reference, or numbers them.

    Returns:
        Plain numbers; `reason` in place of those that cannot be given. `map` has a point a patient for a picture: the
        classifier's score, and the first principal axis.

    Source: Székely & Rizzo 2013 for the energy distance.
    """
    rows = np.asarray(rows, np.float64)
    mean, std = np.array(reference["mean"], float), np.array(reference["std"], float)
    names = names or reference.get("names") or [f"dimension {i}" for i in range(len(mean))]
    content: dict[str, Any] = {"n_training": int(reference["n"]), "n": len(rows)}
    if not len(rows):
        return content | {"reason": "nobody in this cohort has it"}
    content |= _columns(rows, mean, std, names, int(reference["n"]))
    if "basis" in reference and "centre" not in reference:
        return content | {"reason": "the checkpoint, of an earlier dmml, keeps no scale for whole rows; train again"}
    if "basis" not in reference:
        return content | {"reason": f"fewer than {2 * LEAST} training patients: whole rows are not compared"}
    if len(rows) < LEAST:
        return content | {"reason": f"{len(rows)} patients, of {LEAST} that a comparison of whole rows needs"}
    axes = np.array(reference["basis"], float).reshape(int(reference["n_axes"]), -1)
    theirs = np.array(reference["sample"], float).reshape(-1, len(axes) + 1)
    centre, scale = (np.array(reference[name], float) for name in ("centre", "scale"))
    ours = _places(_standardised(rows, centre, scale), axes)
    # By the spread of both together: one side's own would make the other look wider, and a permutation no longer equal.
    both = np.vstack([theirs, ours]).std(0)
    theirs, ours = (values / np.where(both > 1e-9, both, 1.0) for values in (theirs, ours))
    # Tables are often sorted, e.g. by site: those that are looked at must be any, not the first ones.
    generator = np.random.default_rng(0)
    first, second = (np.sort(generator.permutation(len(values))[:MOST_POINTS]) for values in (theirs, ours))
    energy, p = energy_test(theirs[first], ours[second])
    auc, *scores = told_apart(theirs, ours)
    content |= {"energy": energy, "p": p, "auc": auc, "map": {}}
    sides = zip(("training", "cohort"), (theirs, ours), scores, (first, second), strict=True)
    for side, values, score, shown in sides:
        content["map"][side] = np.round(np.column_stack([score, values[:, 0]])[shown], 3).tolist()
    return content


def energy_test(a: ArrayLike, b: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """Energy coefficient of two samples (2 E|A−B| − E|A−A'| − E|B−B'|) / 2 E|A−B|, and its permutation p.

    Args:
        a: (n, k).
        b: (m, k).
        permutations: Exchanges of patients between the samples.
        seed: Of them.

    Returns:
        (0 … 1, p).
    """
    from scipy.spatial.distance import cdist

    both = np.vstack([a, b])
    n, m = len(a), len(b)
    distance = cdist(both, both)
    member = np.zeros((permutations + 1, n + m))
    generator = np.random.default_rng(seed)
    member[0, :n] = 1
    for row in member[1:]:
        row[generator.permutation(n + m)[:n]] = 1
    within = np.einsum("rn,rn->r", member @ distance, member)
    across = np.einsum("rn,rn->r", member @ distance, 1 - member)
    rest = distance.sum() - within - 2 * across
    mean_across = across / (n * m)
    energy = 2 * mean_across - within / n**2 - rest / m**2
    if mean_across[0] == 0:
        return 0.0, 1.0
    p = (1 + (energy[1:] >= energy[0] - 1e-12).sum()) / (permutations + 1)
    return float(energy[0] / (2 * mean_across[0])), float(p)


def told_apart(
    a: ArrayLike, b: ArrayLike, folds: int = 5, seed: int = 0
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """AUC of a linear discriminant between two samples on patients that it was not fitted to, mean over folds.

    Args:
        a: (n, k).
        b: (m, k).
        folds: How many.
        seed: Of the folds.

    Returns:
        AUC (0.5 = not told apart; below is chance, too), and the scores (n,) and (m,) of the patients when they were
        held out: 0 lies midway between the samples, 1 is the spread within them.
    """
    samples = [np.asarray(x, float) for x in (a, b)]
    generator = np.random.default_rng(seed)
    parts = [generator.permutation(len(x)) % folds for x in samples]
    scores = [np.zeros(len(x)) for x in samples]
    values = []
    for fold in range(folds):
        fit = [x[part != fold] for x, part in zip(samples, parts, strict=True)]
        low, high = (x.mean(0) for x in fit)
        centred = np.vstack([x - x.mean(0) for x in fit])
        covariance = centred.T @ centred / max(1, len(centred) - 2)
        ridge = 0.1 * np.trace(covariance) / len(covariance) + 1e-9
        weight = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), high - low)
        weight /= np.sqrt(weight @ covariance @ weight) or 1.0
        held = [(x[part == fold] - (low + high) / 2) @ weight for x, part in zip(samples, parts, strict=True)]
        for own, part, score in zip(scores, parts, held, strict=True):
            own[part == fold] = score
        values.append(((held[1][:, None] > held[0]) + 0.5 * (held[1][:, None] == held[0])).mean())
    return float(np.mean(values)), scores[0], scores[1]


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
    """(n, D); what is unknown is the training mean."""
    return np.nan_to_num(np.clip((rows - mean) / std, -_CLIP, _CLIP), nan=0.0)


def _places(z: NDArray, axes: NDArray) -> NDArray[np.float64]:
    """(n, k + 1): along the axes, and the log of the mean square that they leave over."""
    along = z @ axes.T
    rest = ((z - along @ axes) ** 2).mean(1)
    return np.column_stack([along, np.log(rest + 1e-6)])


def _plain(values: NDArray) -> list[float]:
    """Four digits are more than a mean over patients has."""
    return [float(f"{value:.4g}") for value in values]
