"""A split: the training, validation and test patients of each fold of a cohort."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from dmml.errors import InputError


@dataclass
class Fold:
    """Patients of one fold; no patient is in two parts."""

    train: list[str]
    test: list[str]
    """Outer test patients."""
    validation: list[str] | None = None
    """Inner validation patients if the source names them; otherwise they are carved from `train`."""


@dataclass
class Split:
    """Folds of a cohort, by number."""

    folds: dict[int, Fold]
    source: str
    unknown: list[str] = field(default_factory=list)
    """Ids of the source that are not patients (or slides) of the clinical table."""
    unused: list[str] = field(default_factory=list)
    """Patients of the clinical table that are in no fold."""
    by_site: bool = False
    """Whether sites are kept whole; if so, the inner validation keeps them whole, too."""

    def fold(self, k: int) -> tuple[list[str], list[str]]:
        """Training patients (including validation patients that the source names) and test patients of fold k.

        Raises:
            InputError: The split has no fold k.
        """
        fold = self[k]
        return [*fold.train, *(fold.validation or [])], fold.test

    def __getitem__(self, k: int) -> Fold:
        """Get fold k, or raise an InputError if the split has no such fold."""
        if k not in self.folds:
            folds = ", ".join(map(str, sorted(self.folds)))
            raise InputError(f"fold: there is no fold {k}; {self.source} has the folds {folds}")
        return self.folds[k]


def split_of_folds(folds: pd.Series, source: str, by_site: bool = False) -> Split:
    """Make a split in which each fold in turn is the outer test.

    Args:
        folds: Fold of each patient id, as from `make_folds`.
        source: Name of the split in messages.
        by_site: Whether sites are kept whole.

    Raises:
        InputError: There is only one fold.
    """
    numbers = sorted(int(k) for k in folds.unique())
    if len(numbers) < 2:
        raise InputError(
            f"{source}: has only one fold ({numbers[0]}); at least two are needed, to train on and to test on"
        )
    fold_of_number = {k: Fold(list(folds.index[folds != k]), list(folds.index[folds == k])) for k in numbers}
    return Split(fold_of_number, source, by_site=by_site)
