"""A cohort: patients, RNA, gene sets and split, and the partition into training, validation and test patients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dmml.cohort.clinical.table import Clinical
from dmml.cohort.gene_sets.gene_choice import GeneChoice
from dmml.cohort.gene_sets.gene_sets import SUBSPACES, GeneSets, genes_of
from dmml.cohort.rna.expression import Expression
from dmml.cohort.splits.inner_folds import carve_validation
from dmml.cohort.splits.split import Split
from dmml.errors import InputError


class Partition(NamedTuple):
    """Patient ids for training, validation and test."""

    train: list[str]
    val: list[str]
    test: list[str]


@dataclass
class Cohort:
    """All data of a cohort except the pixels."""

    name: str
    clinical: Clinical
    expression: Expression | None
    gene_sets: GeneSets
    """{subspace: {program: [genes]}} as given, including genes that the RNA table lacks."""
    split: Split | None = None
    fold: int = 0
    features: str | None = None
    """Path or URL of the feature store."""
    gene_choice: GeneChoice | None = None
    """Rule that narrows the gene sets on training patients; None keeps all genes."""
    members: list[Cohort] = field(default_factory=list)
    """Cohorts that were joined into this one; empty for a single cohort."""

    def result_name(self, standardise: str | None) -> str:
        """Name of the cohort in results; a suffix marks that its RNA is standardised within the cohort.

        Args:
            standardise: The option of `MultimodalDataModule`.
        """
        return f"{self.name}_transductive" if standardise == "within_cohort" else self.name

    @property
    def tested_fold(self) -> int | None:
        """Fold whose outer test patients are tested; None without a split, when all patients are tested."""
        return None if self.split is None else self.fold

    def partition(self, stage: str = "fit") -> Partition:
        """Divide the patients into training, validation and test.

        With a split, the test patients are the outer test of `fold`, and the validation patients are those that the
        split names, or else one of 5 stratified folds of the other patients. Without a split, all patients are test
        patients, and the first of 5 stratified folds (seed 0) is the validation. Patients without an outcome are kept,
        since their other data may still be used.

        Args:
            stage: `fit` or `validate`; with `test` and `predict`, training and validation are empty, so that a single
                patient is enough.
        """
        if stage in ("test", "predict"):
            tested = list(self.clinical.patients.index) if self.split is None else self.split[self.fold].test
            return Partition([], [], tested)
        if self.split is None:
            train, validation = carve_validation(self.clinical, list(self.clinical.patients.index))
            return Partition(train, validation, list(self.clinical.patients.index))
        fold = self.split[self.fold]
        if fold.validation is not None:
            return Partition(fold.train, fold.validation, fold.test)
        train, validation = carve_validation(self.clinical, fold.train, site=self.split.by_site)
        return Partition(train, validation, fold.test)

    def usable_gene_sets(self) -> GeneSets:
        """The gene sets restricted to genes in the RNA table; programs without any are left out.

        Raises:
            InputError: The cohort has no RNA, or the RNA table has no gene of a subspace.
        """
        if self.expression is None:
            raise InputError(f"{self.clinical.source}: the cohort has no RNA; name its table under expression")
        measured = set(self.expression.table.columns)
        usable: GeneSets = {}
        for subspace in SUBSPACES:
            programs = {
                p: [gene for gene in genes if gene in measured] for p, genes in self.gene_sets[subspace].items()
            }
            usable[subspace] = {program: genes for program, genes in programs.items() if genes}
            if not usable[subspace]:
                raise InputError(
                    f"expression: none of the {len(genes_of(self.gene_sets[subspace]))} {subspace} genes is in the table "
                    f"(its genes: {', '.join(self.expression.table.columns[:3])}, …); give symbols, or other gene_sets"
                )
        return usable

    def summary(self) -> dict[str, int]:
        """Counts of patients by available data, of unused data, and of genes; counts of 0 are left out.

        Only `patients with outcome` is always present.
        """
        ids = set(self.clinical.patients.index)
        rna = set() if self.expression is None else set(self.expression.patients)
        counts = {
            "patients": len(ids),
            "patients with outcome": int(self.clinical.observed.sum()),
            "patients without outcome": int((~self.clinical.observed).sum()) if self.clinical.kind else 0,
            "events": int(self.clinical.patients["event"].sum()) if self.clinical.kind == "survival" else 0,
            "patients with RNA": len(ids & rna),
            "patients without RNA": len(ids - rna) if self.expression is not None else 0,
            "RNA samples of other patients (not used)": len(rna - ids),
            "slides named": sum(map(len, self.clinical.slides.values())),
            "patients without a slide named": sum(not s for s in self.clinical.slides.values())
            if self.clinical.names_slides
            else 0,
            "patients of the split unknown here": 0 if self.split is None else len(self.split.unknown),
            "patients outside the split (not used)": 0 if self.split is None else len(self.split.unused),
        }
        if self.expression is not None:
            measured = set(self.expression.table.columns)
            for subspace in SUBSPACES:
                genes = genes_of(self.gene_sets[subspace])
                counts[f"{subspace} genes measured"] = sum(gene in measured for gene in genes)
                counts[f"{subspace} genes absent"] = sum(gene not in measured for gene in genes)
        return {name: count for name, count in counts.items() if count or name == "patients with outcome"}
