"""Divides the training patients of an outer fold: a validation set, or inner folds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dmml.cohort.clinical.table import Clinical
from dmml.cohort.splits.make_folds import make_folds
from dmml.errors import InputError


def carve_validation(
    clinical: Clinical, train: Sequence[str], folds: int = 5, seed: int = 0, site: bool = False
) -> tuple[list[str], list[str]]:
    """Carve an inner validation set, one of several stratified folds, from the training patients.

    Args:
        clinical: Clinical data of the cohort.
        train: Training patients of the outer fold.
        folds: Number of folds; the validation set gets 1/folds of the patients.
        seed: Seed of the shuffling.
        site: Keep sites whole if there are enough of them.

    Returns:
        (training, validation) patient ids.

    Raises:
        InputError: There are fewer training patients than folds.
    """
    if len(train) < folds:
        raise InputError(
            f"{clinical.source}: {len(train)} training patients are too few to carve a validation set from them; at least "
            f"{folds} are needed"
        )
    assigned = deal_training_patients(clinical, train, folds, seed, site)
    return list(assigned.index[assigned != 0]), list(assigned.index[assigned == 0])


def deal_training_patients(
    clinical: Clinical, train: Sequence[str], folds: int, seed: int = 0, site: bool = False
) -> pd.Series:
    """Assign the training patients of an outer fold to stratified inner folds.

    Args:
        clinical: Clinical data of the cohort.
        train: Training patients of the outer fold, at least as many as folds.
        folds: Number of inner folds.
        seed: Seed of the shuffling.
        site: Keep sites whole if there are enough of them.

    Returns:
        The same as `make_folds`.
    """
    if site:
        sites = clinical.patients["site"].loc[list(train)] if "site" in clinical.patients else pd.Series(dtype=object)
        site = sites.nunique() >= folds and not set(clinical.site_conflicts) & set(train)
    return make_folds(clinical, folds, stratify=True, site=site, seed=seed, patients=train)
