"""Examines a checkpoint together with the cohort that it is to be tested on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_config import STANDARDISE
from dmml.data.encoder_match import check_same_encoder
from dmml.data.rna import CohortRna, far_from_training
from dmml.errors import InputError
from dmml.evaluation.caveats import UNKNOWN_TEXT
from dmml.experiment.doctor.doctor import Examination
from dmml.store import FeatureStore
from dmml.training.checkpointing.checkpoint import read_checkpoint
from dmml.training.checkpointing.packing import unpack
from dmml.training.checkpointing.seen_patients import patients_seen


def examine_checkpoint(found: Examination, path: str | Path, cohort: Cohort | None, section: Mapping[str, Any]) -> None:
    """Add findings on a model, and on whether it can read the cohort: encoder, scale, genes, training patients.

    Args:
        found: The examination that findings are added to.
        path: The checkpoint.
        cohort: The cohort, as far as it could be read.
        section: Arguments of `MultimodalDataModule`.
    """
    hparams = found.attempt("checkpoint", lambda: read_checkpoint(path)["hyper_parameters"])
    if hparams is None:
        return
    fitted = unpack(hparams.get("fitted") or {})
    name = str(hparams.get("_class_path", "a model")).rsplit(".", 1)[-1]
    told = f"{path}: {name}, fitted on {fitted.get('n_training')} patients of {fitted.get('cohort')}"
    found.add("checkpoint", told)
    if cohort is None:
        return
    for member in cohort.members or [cohort]:
        if member.features:
            _encoder(found, member.features, hparams.get("n_features"), fitted)
    if cohort.expression is not None:
        _genes(found, cohort, section, fitted.get("gene_statistics") or {})
    if not fitted.get("patients"):
        found.add("checkpoint", UNKNOWN_TEXT, "look")
    test = cohort.partition("test").test
    if seen := patients_seen(test, list(cohort.clinical.patients.index), fitted):
        told = (
            f"{len(seen)} of the {len(test)} patients to test were in its training or inner validation (first: {seen[0]}); "
            "`dmml test` refuses those that have slides or RNA: give the fold that it was trained without, or another cohort"
        )
        found.add("checkpoint", told, "look")


def _encoder(found: Examination, path: str, n_features: int | None, fitted: Mapping[str, Any]) -> None:
    store = found.attempt("features", lambda: FeatureStore(path))
    if store is not None:
        found.attempt("checkpoint", lambda: check_same_encoder(path, store, n_features, fitted))


def _genes(found: Examination, cohort: Cohort, section: Mapping[str, Any], statistics: Mapping[str, Any]) -> None:
    how = section.get("standardise") or STANDARDISE[0]
    if not statistics:
        found.add("checkpoint", "it reads no RNA: the cohort's is not used", "look")
        return
    try:
        facts = CohortRna(cohort, how).facts(statistics, cohort.partition("test").test)
    except InputError as error:
        found.add("checkpoint", str(error), "blocks")
        return
    for subspace, absent in facts["genes_imputed"].items():
        n = len(statistics[subspace]["genes"])
        named = f" ({', '.join(absent[:5])}{', …' if len(absent) > 5 else ''})" if absent else ""
        told = f"{subspace}: {n - len(absent)} of the model's {n} genes measured, {len(absent)} imputed{named}"
        found.add("checkpoint", told, "look" if absent else "ok")
    if facts["values_imputed"]:
        found.add(
            "checkpoint", f"{facts['values_imputed']} values of measured genes are not known, and imputed", "look"
        )
    if far := far_from_training(facts):
        found.add("checkpoint", far, "look")
    if facts["transductive"]:
        found.add("checkpoint", "RNA is standardised within the cohort: transductive, not the headline", "look")
