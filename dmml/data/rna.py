"""A cohort's RNA as a model reads it: on the model's scale and standardised, with a report of how it was prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_config import STANDARDISE
from dmml.cohort.gene_sets.gene_sets import GeneSets
from dmml.cohort.rna.expression import model_values
from dmml.cohort.rna.standardise import (
    CLIP,
    MAX_SHIFT,
    GeneStatistics,
    check_fit,
    fit_statistics,
    median_shift,
    standardise,
    statistics_within,
    z_scores,
)
from dmml.errors import InputError


class CohortRna:
    """RNA of a cohort's patients on the model's scale, and its standardisation.

    Args:
        cohort: Cohort with an RNA table.
        how: Patients whose statistics standardise a tested cohort; one of `STANDARDISE`.
    """

    def __init__(self, cohort: Cohort, how: str = STANDARDISE[0]):
        if cohort.expression is None:
            raise ValueError(f"{cohort.name}: the cohort has no RNA table")
        self.cohort, self.how = cohort, how
        self.scale = cohort.expression.scale
        self.values: pd.DataFrame = model_values(cohort.expression)
        """(patients × genes) on the model's scale"""

    @cached_property
    def measured(self) -> set[str]:
        """Genes for which at least one patient of the cohort has a value."""
        has_value = np.isfinite(self._cohort_values().to_numpy()).any(axis=0)
        return set(self.values.columns[has_value])

    def __contains__(self, patient: str) -> bool:
        """Whether the patient has RNA."""
        return patient in self.values.index

    def is_measured(self, patients: Sequence[str], genes: Sequence[str]) -> np.ndarray:
        """Whether the table has a value, (patients, G) bool; False for patients and genes that it lacks."""
        return np.isfinite(self.values.reindex(index=patients, columns=genes).to_numpy(float))

    def programs(self, train: Sequence[str]) -> GeneSets:
        """Gene sets restricted to the table's genes, and narrowed further on training patients with RNA if asked.

        Raises:
            InputError: A rule chooses genes, and no training patient has RNA, or the rule cannot read its scale.
        """
        usable = self.cohort.usable_gene_sets()
        if self.cohort.gene_choice is None:
            return usable
        with_rna = [patient for patient in train if patient in self]
        if not with_rna:
            raise InputError(
                f"gene_sets: {self.cohort.gene_choice} chooses genes on training patients with RNA, and there are none; "
                "leave it out, or check data.expression"
            )
        return self.cohort.gene_choice.choose(usable, self.values.loc[with_rna], self.scale)

    def fit(self, train: Sequence[str], genes: Sequence[str]) -> dict[str, Any]:
        """Fit the statistics of genes to the training patients with RNA; returned as plain lists."""
        with_rna = [patient for patient in train if patient in self]
        return fit_statistics(self.values.loc[with_rna], genes, self.scale).to_dict()

    def rows(self, patients: Sequence[str], statistics: Mapping[str, Any]) -> np.ndarray:
        """Standardised values, (patients, G) float32; 0 where the patient has no RNA or no value of the gene."""
        fitted = self._statistics(GeneStatistics.from_dict(statistics))
        return standardise(self.values.reindex(patients), fitted, self.scale)

    def _statistics(self, fitted: GeneStatistics) -> GeneStatistics:
        return fitted if self.how == STANDARDISE[0] else statistics_within(self._cohort_values(), fitted, self.scale)

    def _cohort_values(self) -> pd.DataFrame:
        """RNA of the patients in the clinical table."""
        return self.values.loc[[patient for patient in self.cohort.clinical.patients.index if patient in self]]

    def check(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse RNA that a model cannot read.

        Args:
            statistics: {subspace: statistics of the model}.

        Raises:
            InputError: The RNA is on another scale, or lacks more than half of a subspace's genes.
        """
        for kept in statistics.values():
            check_fit(self.measured, self._statistics(GeneStatistics.from_dict(kept)), self.scale)

    def facts(
        self, statistics: Mapping[str, Mapping[str, Any]], patients: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Report how the RNA of the tested patients was prepared for the model.

        Args:
            statistics: {subspace: statistics of the model}.
            patients: The tested patients; None = all in the clinical table.

        Returns:
            `scale`, `model_scale`, `standardised_by`, `transductive`, and `genes_imputed` {subspace: genes for which no
            patient of the cohort has a value}. Numbers of the tested patients' values, each counted once even if
            several subspaces read it: `values` (known standardised values), `values_held` (those of them beyond ±3,
            which were clipped) and `values_imputed` (missing values of measured genes). `median_shift` {subspace:
            median over genes of |median − mean| / std, with the mean and std that standardise the cohort; None where no
            gene is known}.
        """
        imputed: dict[str, list[str]] = {}
        shifts: dict[str, float | None] = {}
        counted: set[str] = set()
        total = dict.fromkeys(("values", "values_held", "values_imputed"), 0)
        values = self._cohort_values()
        tested = values if patients is None else values.loc[[patient for patient in patients if patient in self]]
        for subspace, kept in statistics.items():
            fitted = self._statistics(GeneStatistics.from_dict(kept))
            imputed[subspace] = check_fit(self.measured, fitted, self.scale)
            shift = median_shift(tested, fitted)
            shifts[subspace] = None if np.isnan(shift) else shift
            is_first = [gene in self.measured and gene not in counted for gene in fitted.genes]
            z = z_scores(tested, fitted)[:, is_first]
            has_value = np.isfinite(z)
            clipped = (np.abs(z[has_value]) > CLIP).sum()
            for name, n in zip(total, (has_value.sum(), clipped, (~has_value).sum()), strict=True):
                total[name] += int(n)
            counted.update(fitted.genes)
        return {
            "scale": self.scale,
            "model_scale": next((kept["scale"] for kept in statistics.values()), None),
            "standardised_by": self.how,
            "transductive": self.how != STANDARDISE[0],
            "genes_imputed": imputed,
            **total,
            "median_shift": shifts,
        }


def far_from_training(facts: Mapping[str, Any]) -> str:
    """Warn, in a sentence, if the typical gene is as far from training as on another platform; empty otherwise."""
    far = {
        subspace: shift for subspace, shift in facts["median_shift"].items() if shift is not None and shift > MAX_SHIFT
    }
    if not far:
        return ""
    shifts = ", ".join(f"{subspace} {shift:.1f}" for subspace, shift in far.items())
    return (
        f"the median gene lies far from its training mean ({shifts} training standard deviations): is this RNA of another "
        "platform? See data: standardise: within_cohort"
    )


def describe_rna_facts(facts: Mapping[str, Any]) -> str:
    """Summarise the facts in one line; empty if nothing was done that a reader must know about."""
    notes = []
    if facts["transductive"]:
        notes.append(
            f"RNA ({facts['scale']}, the model's is {facts['model_scale']}) is standardised within this cohort: "
            "transductive, a patient's answer depends on the other patients tested"
        )
    for subspace, genes in facts["genes_imputed"].items():
        if genes:
            named = ", ".join(genes[:5]) + (", …" if len(genes) > 5 else "")
            notes.append(f"{len(genes)} {subspace} genes are not measured and count as the training mean ({named})")
    if far := far_from_training(facts):
        notes.append(far)
    if facts["values_held"]:
        clipped, values = (f"{facts[name]:,}" for name in ("values_held", "values"))
        notes.append(f"{clipped} of {values} standardised values lie beyond ±{CLIP:g} and were clipped to it")
    if facts["values_imputed"]:
        notes.append(f"{facts['values_imputed']:,} values of measured genes are missing and count as the training mean")
    return "; ".join(notes)
