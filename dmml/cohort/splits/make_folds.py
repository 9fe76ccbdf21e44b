"""Assigns patients to folds, stratified by outcome and optionally with whole sites kept together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmml.cohort.clinical.table import Clinical
from dmml.errors import InputError

QUARTILES = 4
"""Number of strata of a time, for patients with and without an event separately, and of a value: quartiles."""


def make_folds(
    clinical: Clinical,
    folds: int = 5,
    stratify: bool = True,
    site: bool = False,
    seed: int = 0,
    patients: Sequence[str] | None = None,
) -> pd.Series:
    """Assign every patient to a fold.

    Strata are event × quartile of time, or the label, or the quartile of the value; patients with unknown outcome form a separate stratum.

    Args:
        clinical: Clinical data of the cohort.
        folds: Number of folds, at least 2.
        stratify: Balance the strata over the folds.
        site: Keep each site whole; a patient without a site is treated as a separate site.
        seed: Seed of the shuffling.
        patients: Patients to assign; None for all.

    Returns:
        Fold 0…folds−1, indexed by patient id in the order of `patients` or of the clinical table.

    Raises:
        InputError: There are fewer than two folds or fewer patients (or sites) than folds; or sites must be kept whole
            but none is known or a patient has two.
    """
    ids = list(clinical.patients.index) if patients is None else list(patients)
    if folds < 2:
        raise InputError(f"folds: {folds} is too few; at least 2 are needed")
    if len(ids) < folds:
        raise InputError(f"{clinical.source}: {len(ids)} patients cannot fill {folds} folds; use fewer folds")
    rng = np.random.default_rng(seed)
    strata = strata_of(clinical, ids) if stratify else np.zeros(len(ids), dtype=int)
    assigned = _by_site(clinical, ids, strata, folds, rng) if site else _deal(strata, folds, rng)
    return pd.Series(assigned, index=pd.Index(ids, dtype=object, name="patient_id"), name="fold")


def strata_of(clinical: Clinical, ids: Sequence[str]) -> np.ndarray:
    """Stratum of each patient, (len(ids),) int; −1 for unknown outcomes.

    It is the event × the quartile of time, or the label, or the quartile of the value.
    """
    observed = clinical.observed.loc[list(ids)].to_numpy()
    strata = np.full(len(ids), -1)
    patients = clinical.patients.loc[list(ids)]
    if clinical.kind == "classification":
        strata[observed] = pd.factorize(patients["label"][observed], sort=True)[0]
    elif clinical.kind == "survival":
        time, event = patients["time"].to_numpy(), patients["event"].to_numpy()
        for happened in (0, 1):
            rows = observed & (event == happened)
            if rows.any():
                strata[rows] = happened * QUARTILES + _quartile(time[rows])
    elif clinical.kind == "regression":
        strata[observed] = _quartile(patients["value"].to_numpy()[observed])
    return strata


def _quartile(values: np.ndarray) -> np.ndarray:
    """Quartile 0…3 of each value among the values. (n,) → (n,)."""
    edges = np.quantile(values, np.arange(1, QUARTILES) / QUARTILES) if len(values) else np.zeros(0)
    return np.searchsorted(edges, values, side="right")


def site_overlap(clinical: Clinical, folds: pd.Series) -> pd.DataFrame:
    """Count the patients of each fold, and those whose site also occurs in another fold.

    Returns:
        Table indexed by fold with the columns `patients`, `events` (for survival) or one per class, and, where sites
        are known, `sites` and `patients_with_shared_site` (0 if sites are kept whole).
    """
    patients = clinical.patients.loc[folds.index]
    table = pd.DataFrame({"patients": folds.groupby(folds).size()})
    if clinical.kind == "survival":
        table["events"] = patients["event"].groupby(folds).sum().astype(int)
    for label in clinical.classes:
        table[label] = (patients["label"] == label).groupby(folds).sum().astype(int)
    if "site" in patients:
        spread = folds.groupby(patients["site"]).nunique()
        shared = patients["site"].map(spread).gt(1)
        table["sites"] = patients["site"].groupby(folds).nunique()
        table["patients_with_shared_site"] = shared.groupby(folds).sum().astype(int)
    return table.rename_axis("fold")


def _deal(strata: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal the patients to the folds in turn, stratum by stratum without restarting, so that sizes stay even."""
    assigned = np.empty(len(strata), dtype=int)
    order = rng.permutation(folds)
    dealt = 0
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        assigned[members] = order[(dealt + np.arange(len(members))) % folds]
        dealt += len(members)
    return assigned


def _by_site(
    clinical: Clinical, ids: list[str], strata: np.ndarray, folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Assign whole sites, largest first, each to the fold that brings strata and sizes nearest to their targets."""
    if "site" not in clinical.patients or clinical.patients["site"].notna().sum() == 0:
        raise InputError(
            f"{clinical.source}: sites can only be kept whole if they are known; name the column of the sites, or leave site out"
        )
    with_two_sites = set(clinical.site_conflicts) & set(ids)
    if with_two_sites:
        raise InputError(
            f"{clinical.source}: patient {min(with_two_sites)} has two sites, so sites cannot be kept whole; correct one of "
            "the rows"
        )
    site = clinical.patients["site"].loc[ids]
    names = [
        f"site {name}" if isinstance(name, str) else f"patient {patient}"
        for patient, name in zip(ids, site, strict=True)
    ]
    codes, sites = pd.factorize(np.asarray(names, dtype=object))
    if len(sites) < folds:
        raise InputError(
            f"{clinical.source}: {len(sites)} sites cannot fill {folds} folds; use at most {len(sites)} folds"
        )
    # (sites, strata + 1): number of patients in each stratum, and in total
    counts = np.stack(
        [np.bincount(codes, weights=strata == s, minlength=len(sites)) for s in np.unique(strata)], axis=1
    )
    counts = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)
    weight = 1.0 / np.sqrt(counts.sum(axis=0))
    filled = np.zeros((folds, counts.shape[1]))
    fold_of = np.empty(len(sites), dtype=int)
    target = counts.sum(axis=0) / folds
    order = rng.permutation(len(sites))
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    for placed, i in enumerate(order):
        cost = (((filled + counts[i] - target) * weight) ** 2 - ((filled - target) * weight) ** 2).sum(axis=1)
        empty = filled[:, -1] == 0
        if len(sites) - placed == empty.sum():  # no fold may stay empty
            cost = np.where(empty, cost, np.inf)
        fold_of[i] = int(np.argmin(cost))
        filled[fold_of[i]] += counts[i]
    return fold_of[codes]
