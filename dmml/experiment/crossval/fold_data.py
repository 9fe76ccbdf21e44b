"""One data module for all folds of a cross-validation: tables are read once, and slides stay in its cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dmml.cohort.rna.standardise import GeneStatistics
from dmml.cohort.section import read_cohort
from dmml.cohort.splits.inner_folds import deal_training_patients
from dmml.cohort.splits.split import Split
from dmml.data.module import MultimodalDataModule
from dmml.data.rna import CohortRna
from dmml.errors import InputError
from dmml.tasks import Task

INNER_FOLDS = 5
"""Number of folds of the training patients by which a regression's penalty is chosen"""


class FoldData(MultimodalDataModule):
    """The data module of a cohort, which is turned from fold to fold. Arguments are those of `MultimodalDataModule`."""

    without: frozenset[str] | set[str] = frozenset()
    """Training patients that are left out; see `dmml.experiment.crossval.teachers`"""
    fixed: Mapping[str, Any] = MappingProxyType({})
    """Fitted statistics that replace newly fitted ones"""
    _turn: tuple[int, int] | None = None
    """Repeat and fold that the data are turned to"""

    def setup(self, stage: str) -> None:
        """As in the base class, but without the training patients that are left out."""
        super().setup(stage)
        if self.without:
            self._parts["train"] = [patient for patient in self._parts["train"] if patient not in self.without]

    def fitted(self, genes: dict[str, list[str]]) -> dict[str, Any]:
        """As in the base class, but with the entries of `fixed`."""
        return super().fitted(genes) | dict(self.fixed)

    def read(self) -> Split:
        """Read the tables on the first call.

        Returns:
            The split that the data section names.

        Raises:
            InputError: The data section names no split, or `read_cohort` refuses it.
        """
        if not self.has_cohort:
            self.use_cohort(read_cohort(self.config))
            self._named_split = self.cohort.split
        if self._named_split is None:
            raise InputError(f"{self.config.clinical}: data.split is missing; give it as {{folds: 5}}")
        return self._named_split

    def turn_to(self, split: Split, fold: int, repeat: int = 0, seed: int | None = None) -> None:
        """Make `fold` of `split` the outer test, with the patients partitioned as for `fit`.

        Lines about the cohort are logged once per repeat and fold, not once per model.

        Args:
            split: Split of a repeat.
            fold: Number of the fold in it.
            repeat: Number of the repeat.
            seed: Seed of the order of the training patients; None keeps it.
        """
        self.read()
        if self._turn != (repeat, fold):
            self._turn = (repeat, fold)
            self._logged.clear()
        self.cohort.split, self.cohort.fold = split, fold
        self.config = replace(self.config, fold=fold, seed=self.config.seed if seed is None else seed)
        self.setup("fit")
        self.log_counts("test")

    def with_outcome(self, part: str) -> list[str]:
        """Return the patients of a part whose outcome is known."""
        observed = self.cohort.clinical.observed
        return [patient for patient in self.patients(part) if observed[patient]]

    def inner_folds(self, patients: list[str]) -> list[tuple[list[str], list[str]]]:
        """Make inner folds of training patients, for choices that must not depend on test patients.

        Args:
            patients: Training patients with a known outcome, at least two.

        Returns:
            (the other patients, the held-out patients) of each fold. Sites are kept whole if the outer folds keep them
            whole and there are enough sites.
        """
        clinical, split = self.cohort.clinical, self.cohort.split
        by_site = split is not None and split.by_site
        fold_of = deal_training_patients(clinical, patients, min(INNER_FOLDS, len(patients)), site=by_site)
        return [
            (list(fold_of.index[fold_of != k]), list(fold_of.index[fold_of == k])) for k in sorted(fold_of.unique())
        ]

    def gene_statistics(self, patients: list[str]) -> GeneStatistics:
        """Fit the statistics of both subspaces' genes on those of the patients who have RNA."""
        genes = {
            s: sorted({gene for members in sets.values() for gene in members}) for s, sets in self.programs().items()
        }
        both = sorted({gene for members in genes.values() for gene in members})
        return GeneStatistics.from_dict(self._measured_rna.fit(patients, both))

    def genes(self, patients: list[str], statistics: GeneStatistics) -> NDArray[np.float32]:
        """Return (n, G) standardised genes; patients without RNA get the mean patient, all 0."""
        return self._measured_rna.rows(patients, statistics.to_dict())

    @property
    def _measured_rna(self) -> CohortRna:
        if self.rna is None:
            raise InputError(f"{self.config.clinical}: the cohort has no RNA; name its table under data.expression")
        return self.rna

    def covariates(self, patients: list[str]) -> pd.DataFrame:
        """Return (n × covariates)."""
        return self.cohort.clinical.covariates.loc[patients]

    @property
    def covariate_levels(self) -> dict[str, tuple[str, ...]]:
        """See `Clinical`."""
        return self.cohort.clinical.covariate_levels

    def target(self, task: Task, patients: list[str]) -> dict[str, NDArray]:
        """Return outcomes of patients as the networks receive them, as arrays: `time` and `event`, or `label`."""
        target = task.encode(self.outcome(patients))
        return {name: target[name].numpy() for name in task.outcome}

    def outcome_columns(self, task: Task, patients: list[str]) -> dict[str, list[Any]]:
        """Return outcomes as `predictions.csv` stores them, None where unknown."""
        with torch.no_grad():
            return task.decode(task.encode(self.outcome(patients)))
