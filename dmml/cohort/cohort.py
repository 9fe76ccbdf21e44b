"""A cohort as the data section of a config names it: clinical table, RNA, gene sets and split, read and joined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dmml.cohort.clinical import Clinical, read_clinical
from dmml.cohort.expression import Expression, read_expression
from dmml.cohort.folds import make_folds
from dmml.cohort.gene_preset import split_preset
from dmml.cohort.gene_sets import SUBSPACES, GeneSets, genes_of, read_gene_sets
from dmml.cohort.id_spelling import spelt_otherwise
from dmml.cohort.named_files import refuse_missing
from dmml.cohort.splits import Split, carve_validation, read_split, split_of_folds
from dmml.errors import InputError


class Partition(NamedTuple):
    """Patient ids by what they are for."""

    train: list[str]
    val: list[str]
    test: list[str]


@dataclass
class Cohort:
    """Everything of a cohort but the pixels."""

    name: str
    clinical: Clinical
    expression: Expression | None
    gene_sets: GeneSets
    """{subspace: {program: [genes]}} as named, whether or not the RNA table has the genes"""
    split: Split | None = None
    fold: int = 0
    features: str | None = None
    """where its tiles' features are"""
    preset: str | None = None
    """of the number of genes, chosen on training patients (`gene_preset`); None keeps all"""
    members: list[Cohort] = field(default_factory=list)
    """the cohorts that it was joined from; empty for one that stands alone"""

    def partition(self, stage: str = "fit") -> Partition:
        """Patients to train, validate and test on.

        With a split, test is the outer test of `fold`, and validation the split's own or one of 5 stratified folds of the
        other patients. Without one, test is everybody, and validation the first of 5 stratified folds (seed 0).
        Patients without outcome are kept: what is known of them may still be used.

        Args:
            stage: `fit` or `validate`; for `test` and `predict` nobody is trained on, so that a cohort of one patient
                will do.
        """
        if stage in ("test", "predict"):
            return Partition(
                [], [], list(self.clinical.patients.index) if self.split is None else self.split[self.fold].test
            )
        if self.split is None:
            train, validation = carve_validation(self.clinical, list(self.clinical.patients.index))
            return Partition(train, validation, list(self.clinical.patients.index))
        chosen = self.split[self.fold]
        if chosen.validation is not None:
            return Partition(chosen.train, chosen.validation, chosen.test)
        train, validation = carve_validation(self.clinical, chosen.train, site=self.split.by_site)
        return Partition(train, validation, chosen.test)

    def usable_gene_sets(self) -> GeneSets:
        """The gene sets with the genes that the RNA table has; programs without any are left out.

        Raises:
            InputError: There is no RNA, or a subspace has no gene in it.
        """
        if self.expression is None:
            raise InputError(f"{self.clinical.source}: the cohort has no RNA; name its table under expression")
        there = set(self.expression.table.columns)
        usable: GeneSets = {}
        for subspace in SUBSPACES:
            left = {p: [gene for gene in genes if gene in there] for p, genes in self.gene_sets[subspace].items()}
            usable[subspace] = {program: genes for program, genes in left.items() if genes}
            if not usable[subspace]:
                raise InputError(
                    f"expression: none of the {len(genes_of(self.gene_sets[subspace]))} {subspace} genes is in the table "
                    f"(its genes: {', '.join(self.expression.table.columns[:3])}, …); give symbols, or other gene_sets"
                )
        return usable

    def summary(self) -> dict[str, int]:
        """Counts of patients by what is known of them, and of what is not used; kinds that do not occur are left out."""
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
            there = set(self.expression.table.columns)
            for subspace in SUBSPACES:
                genes = genes_of(self.gene_sets[subspace])
                counts[f"{subspace} genes measured"] = sum(gene in there for gene in genes)
                counts[f"{subspace} genes absent"] = sum(gene not in there for gene in genes)
        return {what: count for what, count in counts.items() if count or what == "patients with outcome"}


def read_cohort(section: Mapping[str, Any]) -> Cohort:
    """Read what a config's data section names.

    Args:
        section: `clinical`, and optionally `name`, `patient_id`, `slide_id`, `site`, `outcome`, `covariates`,
            `expression`, `gene_sets`, `features` (only looked for), `split`, `fold`, and `also`: further sections, whose
            cohorts are joined to this one; other keys are not read here.

    Raises:
        InputError: Files are missing (all of them in one message, each with the option that names it), neither
            expression nor features is named, RNA and clinical table share no patient, or a reader refuses.
    """
    refuse_missing(section)
    if section.get("also"):
        from dmml.cohort.joined import join_cohorts

        own = {key: value for key, value in section.items() if key != "also"}
        return join_cohorts([read_cohort(one) for one in (own, *(_as_first(own, other) for other in section["also"]))])
    if not section.get("expression") and not section.get("features"):
        raise InputError(
            f"{section['clinical']}: neither expression nor features is named; a cohort needs at least one"
        )
    split = section.get("split")
    clinical = read_clinical(
        section["clinical"],
        patient_id=section.get("patient_id") or "patient_id",
        slide_id=section.get("slide_id", "slide_id"),
        site=_site_column(split, section.get("site", "site")),
        outcome=section.get("outcome"),
        covariates=section.get("covariates"),
    )
    fold = int(section.get("fold") or 0)
    parts = None if split is None else _read_or_make_split(split, clinical)
    if parts is not None:
        parts.fold(fold)  # a fold out of range is refused before the RNA is read
    lists, preset = split_preset(section.get("gene_sets"))
    gene_sets = read_gene_sets(lists)
    expression = read_expression(section["expression"]) if section.get("expression") else None
    if expression is not None:
        _refuse_strangers(expression, clinical)
    name = section.get("name") or Path(section["clinical"]).resolve().parent.name
    features = section.get("features")
    features = None if features is None else str(features)
    return Cohort(name, clinical, expression, gene_sets, parts, fold, features, preset)


def _refuse_strangers(expression: Expression, clinical: Clinical) -> None:
    """Refuse RNA of other people, and of the same people under ids that are spelt in another way."""
    here, there = list(clinical.patients.index), expression.patients
    if unlike := spelt_otherwise(here, there):
        own, other = next(iter(unlike.items()))
        raise InputError(
            f"expression: {len(unlike)} patients of {clinical.source} are spelt otherwise in the RNA table ({own!r} here, "
            f"{other!r} there); write ids alike in both, or map samples with `dmml cohort expression --patients`"
        )
    if not set(there) & set(here):
        raise InputError(
            f"expression: no patient of the RNA table ({there[0]!r}, …) is in {clinical.source} ({here[0]!r}, …); "
            "use the same ids in both, or map samples with `dmml cohort expression --patients`"
        )


def _as_first(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A further section with what all cohorts share; folds that a rule deals are dealt in each by the same rule."""
    shared = {key: first.get(key) for key in ("gene_sets", "fold")}
    split = other.get("split")
    if split is None and isinstance(first.get("split"), Mapping):
        split = {key: value for key, value in first["split"].items() if not isinstance(value, str)}
        split |= {"site": True} if isinstance(first["split"].get("site"), str) else {}
    return {**other, **shared, "split": split}


def _site_column(split: Any, default: str | None) -> str | None:
    """The site's column: the one that the split names, else the section's."""
    site = split.get("site") if isinstance(split, Mapping) else None
    return site if isinstance(site, str) else default


def _read_or_make_split(split: str | Path | Mapping[str, Any], clinical: Clinical) -> Split:
    if not isinstance(split, Mapping):
        return read_split(split, clinical)
    unknown = sorted(set(split) - {"folds", "stratify", "site", "seed"})
    if unknown:
        raise InputError(f"split: unknown key {unknown[0]!r}; it takes folds, stratify, site and seed, or a path")
    by_site = bool(split.get("site"))
    folds = make_folds(
        clinical, int(split.get("folds", 5)), bool(split.get("stratify", True)), by_site, int(split.get("seed", 0))
    )
    return split_of_folds(folds, f"{clinical.source} in {folds.nunique()} folds", by_site)
