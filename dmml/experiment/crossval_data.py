"""One data module for all folds of a cross-validation: tables are read once, and slides stay in its cache."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dmml.cohort.splits import Split, deal_training_patients
from dmml.cohort.standardise import GeneStatistics
from dmml.data.module import MultimodalDataModule
from dmml.tasks import Task

INNER_FOLDS = 5
"""Folds among the training patients that choose a regression's penalty."""


class FoldData(MultimodalDataModule):
    """The cohort, turned from fold to fold; arguments are those of `MultimodalDataModule`."""

    _turn: tuple[int, int] | None = None
    """Repeat and fold that the data are turned to; each line is printed once for them"""
    without: frozenset[str] | set[str] = frozenset()
    """Training patients that are left out: see `crossval_teachers`"""
    fixed: Mapping[str, Any] = MappingProxyType({})
    """What is not fitted anew, in place of what would be"""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._told: set[tuple[tuple[int, int] | None, str]] = set()

    def setup(self, stage: str) -> None:
        """As the base, less the training patients that are left out."""
        super().setup(stage)
        if self.without:
            self._parts["train"] = [patient for patient in self._parts["train"] if patient not in self.without]

    def fitted(self, genes: dict[str, list[str]]) -> dict[str, Any]:
        """As the base, but for what is fixed."""
        return super().fitted(genes) | dict(self.fixed)

    def read(self) -> Split:
        """Read the tables, once.

        Returns:
            The split that the section names.
        """
        if self.cohort is None:
            self.setup("fit")
            self._named_split = self.cohort.split
        return self._named_split

    def turn_to(self, split: Split, fold: int, turn: tuple[int, int]) -> None:
        """Let `fold` of `split` be the outer test from now on; the patients are parted as for `fit`.

        Args:
            split: Of a repeat.
            fold: Its number there.
            turn: Repeat and fold, for which the counts are printed once.
        """
        self.read()
        self._turn = turn
        self.cohort.split, self.cohort.fold, self.section["fold"] = split, fold, fold
        self.setup("fit")
        self._say("test")

    def _say(self, part: str) -> None:
        """Counts of a fold's parts; silent before the first fold is chosen."""
        if self._turn is not None:
            super()._say(part)

    def _tell(self, what: str) -> None:
        """Print each line once per fold, not once per model."""
        if (self._turn, what) not in self._told:
            self._told.add((self._turn, what))
            super()._tell(what)

    def known(self, part: str) -> list[str]:
        """Patients of a part whose outcome is known."""
        observed = self.cohort.clinical.observed
        return [patient for patient in self.patients(part) if observed[patient]]

    def inner_folds(self, patients: list[str]) -> list[tuple[list[str], list[str]]]:
        """Inner folds of training patients, for choices that must not depend on test patients.

        Args:
            patients: Training patients of known outcome, at least two.

        Returns:
            (the others, those held out) of each fold; sites are kept whole if they are in the outer folds.
        """
        clinical, by_site = self.cohort.clinical, self.cohort.split.by_site
        dealt = deal_training_patients(clinical, patients, min(INNER_FOLDS, len(patients)), site=by_site)
        return [(list(dealt.index[dealt != k]), list(dealt.index[dealt == k])) for k in sorted(dealt.unique())]

    def gene_statistics(self, patients: list[str]) -> GeneStatistics:
        """Statistics of the genes of both subspaces, over those of the patients who have RNA."""
        genes = {
            s: sorted({gene for members in sets.values() for gene in members}) for s, sets in self.programs().items()
        }
        both = sorted({gene for members in genes.values() for gene in members})
        return GeneStatistics.from_dict(self.rna.fit(patients, both))

    def genes(self, patients: list[str], statistics: GeneStatistics) -> NDArray[np.float32]:
        """(n, G) standardised; patients without RNA are the mean patient, all 0."""
        return self.rna.rows(patients, statistics.to_dict())

    def covariates(self, patients: list[str]) -> pd.DataFrame:
        """(n × covariates)."""
        return self.cohort.clinical.covariates.loc[patients]

    @property
    def covariate_levels(self) -> dict[str, tuple[str, ...]]:
        """As `Clinical` has them."""
        return self.cohort.clinical.covariate_levels

    def target(self, task: Task, patients: list[str]) -> dict[str, NDArray]:
        """Outcomes of patients as the networks are given them, as arrays: `time` and `event`, or `label`."""
        target = task.encode(self.outcome(patients))
        return {name: target[name].numpy() for name in task.outcome}

    def outcome_columns(self, task: Task, patients: list[str]) -> dict[str, list[Any]]:
        """Outcomes as `predictions.csv` has them, None where unknown."""
        with torch.no_grad():
            return task.decode(task.encode(self.outcome(patients)))
