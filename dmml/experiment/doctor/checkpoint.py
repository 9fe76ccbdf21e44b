"""Examines a checkpoint together with the cohort that it is to be tested on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_config import STANDARDISE
from dmml.data.encoder_match import check_same_encoder, describe_other_tiles
from dmml.data.rna import CohortRna, far_from_training
from dmml.errors import InputError
from dmml.evaluation.caveats import UNKNOWN_TEXT
from dmml.experiment.doctor.examination import Examination
from dmml.networks.checkpoint_content import hyper_parameters_of
from dmml.networks.packing import unpack
from dmml.store import FeatureStore
from dmml.training.checkpointing.seen_patients import patients_seen

_MAX_GENES = 5
"""Maximum number of missing genes that a finding names"""


def examine_checkpoint(
    examination: Examination, path: str | Path, cohort: Cohort | None, section: Mapping[str, Any]
) -> None:
    """Add findings on a model, and on whether it can read the cohort: encoder, scale, genes, training patients.

    Args:
        examination: Findings are added to it.
        path: The checkpoint.
        cohort: The cohort, as far as it could be read.
        section: Arguments of `MultimodalDataModule`.
    """
    hparams = examination.attempt("checkpoint", lambda: hyper_parameters_of(path))
    if hparams is None:
        return
    fitted = unpack(hparams.get("fitted") or {})
    name = str(hparams.get("_class_path", "a model")).rsplit(".", 1)[-1]
    origin = f"fitted on {fitted.get('n_training')} patients of {fitted.get('cohort')}"
    examination.add("checkpoint", f"{path}: {name}, {origin}")
    if cohort is None:
        return
    for member in cohort.members or [cohort]:
        if member.features:
            _examine_encoder(examination, member.features, hparams.get("n_features"), fitted)
    if cohort.expression is not None:
        standardise = section.get("standardise") or STANDARDISE[0]
        _examine_genes(examination, cohort, standardise, fitted.get("gene_statistics") or {})
    _examine_patients(examination, cohort, fitted)


def _examine_encoder(examination: Examination, path: str, n_features: int | None, fitted: Mapping[str, Any]) -> None:
    store = examination.attempt("features", partial(FeatureStore, path))
    if store is not None:
        examination.attempt("checkpoint", partial(check_same_encoder, path, store, n_features, fitted))
        if difference := describe_other_tiles(store, fitted):
            examination.add("checkpoint", f"{path}: {difference}", "check")


def _examine_patients(examination: Examination, cohort: Cohort, fitted: Mapping[str, Any]) -> None:
    """Report patients to test whom the model has seen."""
    if not fitted.get("patients"):
        examination.add("checkpoint", UNKNOWN_TEXT, "check")
    test = cohort.partition("test").test
    if seen := patients_seen(test, list(cohort.clinical.patients.index), fitted):
        text = (
            f"{len(seen)} of the {len(test)} patients to test were in its training or inner validation (first: {seen[0]}); "
            "`dmml test` refuses those that have slides or RNA: give the fold that it was trained without, or another cohort"
        )
        examination.add("checkpoint", text, "check")


def _examine_genes(examination: Examination, cohort: Cohort, standardise: str, statistics: Mapping[str, Any]) -> None:
    """Report the model's genes that the cohort lacks, and RNA that is far from that of the training patients."""
    if not statistics:
        examination.add("checkpoint", "the model reads no RNA; the RNA of the cohort is not used", "check")
        return
    try:
        facts = CohortRna(cohort, standardise).facts(statistics, cohort.partition("test").test)
    except InputError as error:
        examination.add("checkpoint", str(error), "blocks")
        return
    for subspace, absent in facts["genes_imputed"].items():
        n = len(statistics[subspace]["genes"])
        more = ", …" if len(absent) > _MAX_GENES else ""
        names = f" ({', '.join(absent[:_MAX_GENES])}{more})" if absent else ""
        text = f"{subspace}: {n - len(absent)} of the model's {n} genes measured, {len(absent)} imputed{names}"
        examination.add("checkpoint", text, "check" if absent else "ok")
    if facts["values_imputed"]:
        text = f"{facts['values_imputed']} missing values of measured genes are imputed"
        examination.add("checkpoint", text, "check")
    if far := far_from_training(facts):
        examination.add("checkpoint", far, "check")
    if facts["transductive"]:
        text = "RNA is standardised within the cohort: the result is transductive and not to be taken as the main one"
        examination.add("checkpoint", text, "check")
