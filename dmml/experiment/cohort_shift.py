"""Writes `shift.json` of a tested cohort: how it differs from the training patients, and what data it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.atomic_files import write_json
from dmml.callbacks.patient_rows import PatientInputs
from dmml.cohort.cohort_config import STANDARDISE
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.report.text.shift import GENE_NAMES, shift_sentences
from dmml.evaluation.shift import compare
from dmml.evaluation.statistics.stain import NAMES
from dmml.evaluation.subgroups import by_subgroup
from dmml.experiment.limits.cohort_slides import count_unlike
from dmml.experiment.training_reference import patient_stains, without_imputed
from dmml.networks.packing import unpack
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule


def write_shift(
    evaluation: Evaluation, inputs: PatientInputs, model: SubspaceModule, data: MultimodalDataModule
) -> dict[str, Any]:
    """Write `shift.json` of a tested cohort, with the metrics of its subgroups.

    Args:
        evaluation: Evaluation of the cohort.
        inputs: Inputs that the model received, one row per patient.
        model: Its `fitted` has the reference distribution of its training patients.
        data: The data module, set up for test.

    Returns:
        The written content.
    """
    predictions, context = evaluation.predictions, evaluation.context
    genes = imputed_genes(model, data)
    content: dict[str, Any] = {
        "missing": missing_data(evaluation, data, genes) | _missing_values(context.get("rna") or {}),
        "genes": genes,
        "reads_rna": context.get("model") != "student",
        **_comparisons(inputs, model, data, genes),
        "unlike_slides": count_unlike(data, data.patients("test"), unpack(model.fitted.get("slide_limits") or {})),
        "subgroups": by_subgroup(predictions, context, _groups(data)),
    }
    content["words"] = shift_sentences(content)
    write_json(evaluation.folder / "shift.json", content)
    return content


def _missing_values(rna: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return {what: {n, of}} of single values that are missing in a table; empty for a cohort without RNA."""
    if "values_imputed" not in rna:
        return {}
    n = rna["values_imputed"]
    return {"values of measured genes, the training mean stands in": {"n": n, "of": n + rna["values"]}}


def missing_data(
    evaluation: Evaluation, data: MultimodalDataModule, genes: Mapping[str, Any]
) -> dict[str, dict[str, int]]:
    """Return {what: {n, of}} of everything that patients or the RNA table may lack, including counts of 0."""
    predictions = evaluation.predictions
    n, left_out = len(predictions), data.counts("test")["left_out"]
    counts = {"patients with neither slides nor RNA, not predicted": {"n": left_out, "of": n + left_out}}
    if "has_expression" in predictions:
        counts["patients without RNA"] = {"n": int((predictions["has_expression"] == 0).sum()), "of": n}
    for name in predictions:
        if name.startswith("n_tokens_"):
            scale = name.removeprefix("n_tokens_")
            counts[f"patients without tissue at {scale}"] = {"n": int((predictions[name] == 0).sum()), "of": n}
    counts["patients without a known outcome"] = {"n": n - len(evaluation.with_outcome), "of": n}
    named = {slide for patient in data.patients("test") for slide in data.cohort.clinical.slides.get(patient, [])}
    if named and data.store is not None:
        stored = {slide for patient in data.patients("test") for slide in data.reader.slides.get(patient, [])}
        counts["slides of the table that are not in the store"] = {"n": len(named - stored), "of": len(named)}
    for s, entry in genes.items():
        counts[f"{GENE_NAMES.get(s, s)}, the training mean stands in"] = {"n": len(entry["imputed"]), "of": entry["n"]}
    return counts


def imputed_genes(model: SubspaceModule, data: MultimodalDataModule) -> dict[str, Any]:
    """Return {subspace: {n, imputed}}: number of model genes, and those that the table lacks; empty without a table."""
    rna = data.rna
    if rna is None:
        return {}
    genes_of = {s: stats["genes"] for s, stats in (model.fitted.get("gene_statistics") or {}).items()}
    return {
        s: {"n": len(genes), "imputed": [gene for gene in genes if gene not in rna.measured]}
        for s, genes in genes_of.items()
    }


def _comparisons(
    inputs: PatientInputs, model: SubspaceModule, data: MultimodalDataModule, genes: Mapping[str, Any]
) -> dict[str, Any]:
    """Compare with the training patients: {"features": {"10x": …}, "expression": {"tumor": …}, "stain": …}."""
    references = unpack(model.fitted.get("reference") or {})
    comparisons: dict[str, Any] = {}
    for name, reference in references.items():
        if name == "stain":
            stain = patient_stains(data, data.patients("test"))
            comparisons["stain"] = compare(reference, _table(stain, len(NAMES)), NAMES)
        elif name in SUBSPACES:
            if not genes:
                continue
            names = model.fitted["gene_statistics"][name]["genes"]
            table = without_imputed(_table(inputs.get(name, {}), len(names)), list(inputs.get(name, {})), names, data)
            within = data.standardise != STANDARDISE[0]
            comparisons.setdefault("expression", {})[name] = compare(reference, table, names, within)
        else:
            width = len(reference["mean"])
            comparisons.setdefault("features", {})[name] = compare(reference, _table(inputs.get(name, {}), width))
    if "features" in comparisons and "stain" not in comparisons:
        comparisons["stain"] = {
            "reason": "the feature store of the training patients has no thumbnails of their slides"
        }
    if not references:
        comparisons["reason"] = "the checkpoint has no reference of its training patients, as it is of an earlier dmml"
    return comparisons


def _table(patients: Mapping[str, NDArray], width: int) -> NDArray[np.float64]:
    return np.stack(list(patients.values())).astype(float) if patients else np.zeros((0, width))


def _groups(data: MultimodalDataModule) -> pd.DataFrame:
    """Return site and covariates of the patients, as far as the clinical table and the config name them."""
    clinical = data.cohort.clinical
    groups = clinical.covariates.copy()
    if "site" in clinical.patients and "site" not in groups:
        groups.insert(0, "site", clinical.patients["site"])
    groups.index = groups.index.astype(str)
    return groups
