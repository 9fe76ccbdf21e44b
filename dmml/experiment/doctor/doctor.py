"""Examines, before a long run, what a cohort consists of and how its tables match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.cohort.cohort import Cohort
from dmml.cohort.config_paths import named_files
from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.cohort.section import read_cohort
from dmml.errors import InputError
from dmml.experiment.doctor.examination import Examination
from dmml.experiment.doctor.folds import examine_folds
from dmml.experiment.doctor.tables import (
    examine_covariates,
    examine_data_of_patients,
    examine_expression,
    examine_joined,
    examine_outcome,
    examine_sites,
    examine_split,
)


def examine(section: Mapping[str, Any], training: bool = True) -> Examination:
    """Examine the cohort of a data section; of several cohorts, examine each, and then all of them together.

    Args:
        section: Arguments of `MultimodalDataModule`.
        training: Whether the cohort may be trained on. If not, the folds of a cohort without a split are not examined,
            since all its patients are tested.
    """
    examination = Examination()
    missing = {option: path for option, path in named_files(section).items() if not path.exists()}
    for option, path in missing.items():
        examination.add(option, f"{path} does not exist", "blocks")
    cohort = None if missing else _read(examination, section)
    if cohort is None:
        return examination
    examination.cohort = cohort
    for member in cohort.members or [cohort]:
        examine_outcome(examination, member.clinical)
        examine_covariates(examination, member.clinical)
        examine_expression(examination, member)
    examine_joined(examination, cohort)
    examine_data_of_patients(examination, cohort, _patients_with_slides(examination, cohort, section))
    examine_split(examination, cohort)
    examine_sites(examination, cohort)
    if training or cohort.split is not None:
        examination.folds = examination.attempt("folds", lambda: examine_folds(examination.add, cohort))
    return examination


def _read(examination: Examination, section: Mapping[str, Any]) -> Cohort | None:
    """Read the cohort; if that fails, read it without its RNA, and then also without its split."""
    without_rna = {**section, "expression": None, "features": section.get("features") or section.get("clinical")}
    reported: set[str] = set()
    for part, attempt in {"cohort": section, "RNA": without_rna, "split": {**without_rna, "split": None}}.items():
        try:
            cohort = read_cohort(attempt)
        except InputError as error:
            if str(error) not in reported:
                examination.add("cohort", str(error), "blocks")
            reported.add(str(error))
            continue
        if part != "cohort" and not section.get("features"):
            cohort.features = None
        return cohort
    return None


def _patients_with_slides(examination: Examination, cohort: Cohort, section: Mapping[str, Any]) -> set[str]:
    """Examine the stores of all members, and return the patients who have slides in them."""
    with_slides: set[str] = set()
    for member in cohort.members or [cohort]:
        if member.features:
            from dmml.experiment.doctor.features import examine_store

            magnifications = list(section.get("magnifications") or DEFAULT_MAGNIFICATIONS)
            with_slides |= examine_store(examination, member.features, member.clinical, magnifications)
    return with_slides
