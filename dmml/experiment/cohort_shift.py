"""Writes `shift.json`, `calibration.json` and `recalibrated.json` of a tested cohort.

They state how the cohort differs from the training patients, what data it lacks and how the model performs in its
subgroups; calibration with a formal test, and the log-rank test at the training median; and what recalibration on a
share of the cohort would change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmml.callbacks.patient_rows import Rows
from dmml.data.rna import STANDARDISE
from dmml.evaluation.evaluate import horizons
from dmml.evaluation.predictions import known_outcome, read_predictions
from dmml.evaluation.recalibration import recalibrated
from dmml.evaluation.report.text.shift import NAMES as GENES
from dmml.evaluation.report.text.shift import shift_words
from dmml.evaluation.shift import compare
from dmml.evaluation.stain import NAMES
from dmml.evaluation.statistics.calibration import calibration_at
from dmml.evaluation.statistics.survival_curves import risk_groups
from dmml.evaluation.subgroups import by_subgroup
from dmml.experiment.run_folder import write_json
from dmml.experiment.training_reference import measured, stain_rows
from dmml.training.checkpointing.packing import unpack
from dmml.types import SUBSPACES


def write_shift(folder: Path, rows: Rows, model: Any, data: Any, context: dict[str, Any]) -> dict[str, Any]:
    """Write `shift.json` of a tested cohort.

    Args:
        folder: `test/<cohort>`, with `predictions.csv`.
        rows: Inputs that the model received, one row per patient.
        model: Its `fitted` has the reference distribution of its training patients.
        data: The data module, set up for test.
        context: Context of the test.

    Returns:
        The written content.
    """
    predictions = read_predictions(folder / "predictions.csv")
    genes = imputed_genes(model, data)
    content: dict[str, Any] = {
        "missing": missing(predictions, data, genes) | _missing_values(context.get("rna") or {}),
        "genes": genes,
        "reads_rna": context.get("model") != "student",
        **_compared(rows, model, data, genes),
        "subgroups": by_subgroup(predictions, context, _groups(data)),
    }
    content["words"] = shift_words(content)
    write_json(folder / "shift.json", content)
    return content


def write_calibration(folder: Path, context: dict[str, Any]) -> dict[str, Any] | None:
    """Write `calibration.json`: calibration at the horizons, and the log-rank test at the training median.

    Args:
        folder: `test/<cohort>`, with `predictions.csv`.
        context: Context of the test.

    Returns:
        The written content; None (and no file) for classes and for cohorts without outcomes.
    """
    predictions = read_predictions(folder / "predictions.csv")
    known = known_outcome(predictions) if "risk" in predictions else predictions.iloc[:0]
    if known.empty:
        (folder / "calibration.json").unlink(missing_ok=True)
        return None
    days = horizons(context, known["time"].to_numpy(float))
    told = {f"{day:g}": calibration_at(known, day) for day in days}
    groups = risk_groups(known, context.get("median_risk"))
    content = {
        "horizons": {
            day: {"reason": "fewer than two risk groups, or no prediction there"} if one is None else one.plain()
            for day, one in told.items()
        },
        "log_rank": {
            "cut": groups.cut,
            "cut_from_training": groups.from_training,
            "p": None if np.isnan(groups.p) else groups.p,
            "groups": [{"name": curve.name, "n": curve.n, "events": curve.events} for curve in groups.curves],
        },
    }
    write_json(folder / "calibration.json", content)
    return content


def write_recalibrated(folder: Path, context: dict[str, Any], share: float | None) -> dict[str, Any] | None:
    """Write `recalibrated.json` and `recalibrated.csv`, the recalibrated predictions of the evaluated patients.

    Args:
        folder: `test/<cohort>`, with `predictions.csv`.
        context: Context of the test.
        share: Share of the cohort to recalibrate on; None deletes the files of an earlier test.

    Returns:
        The written content; None without a share.
    """
    if share is None:
        for name in ("recalibrated.json", "recalibrated.csv"):
            (folder / name).unlink(missing_ok=True)
        return None
    content, table = recalibrated(read_predictions(folder / "predictions.csv"), context, share)
    if table is not None:
        part = folder / ".recalibrated.csv.part"
        table.to_csv(part, index=False)
        part.replace(folder / "recalibrated.csv")
    write_json(folder / "recalibrated.json", content)
    return content


def _missing_values(rna: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return {what: {n, of}} of single values that are missing in a table; empty for a cohort without RNA."""
    if "values_imputed" not in rna:
        return {}
    n = rna["values_imputed"]
    return {"values of measured genes, the training mean stands in": {"n": n, "of": n + rna["values"]}}


def missing(predictions: pd.DataFrame, data: Any, genes: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return {what: {n, of}} of everything that patients or the RNA table may lack, including counts of 0."""
    n = len(predictions)
    found = {"patients with neither slides nor RNA, not predicted": {"n": data.counts("test")["left_out"], "of": n}}
    found["patients with neither slides nor RNA, not predicted"]["of"] += data.counts("test")["left_out"]
    if "has_expression" in predictions:
        found["patients without RNA"] = {"n": int((predictions["has_expression"] == 0).sum()), "of": n}
    for name in predictions:
        if name.startswith("n_tokens_"):
            scale = name.removeprefix("n_tokens_")
            found[f"patients without tissue at {scale}"] = {"n": int((predictions[name] == 0).sum()), "of": n}
    outcome = next((name for name in ("time", "label") if name in predictions), None)
    unknown = n if outcome is None else int(predictions[outcome].isna().sum())
    found["patients without a known outcome"] = {"n": unknown, "of": n}
    named = {slide for patient in data.patients("test") for slide in data.cohort.clinical.slides.get(patient, [])}
    if named and data.store is not None:
        there = {slide for patient in data.patients("test") for slide in data.reader.slides.get(patient, [])}
        found["slides of the table that are not in the store"] = {"n": len(named - there), "of": len(named)}
    for s, entry in genes.items():
        found[f"{GENES.get(s, s)}, the training mean stands in"] = {"n": len(entry["imputed"]), "of": entry["n"]}
    return found


def imputed_genes(model: Any, data: Any) -> dict[str, Any]:
    """Return {subspace: {n, imputed}}: number of model genes, and those that the table lacks; empty without a table."""
    if data.rna is None:
        return {}
    kept = {s: stats["genes"] for s, stats in (model.fitted.get("gene_statistics") or {}).items()}
    return {s: {"n": len(g), "imputed": [gene for gene in g if gene not in data.rna.measured]} for s, g in kept.items()}


def _compared(rows: Rows, model: Any, data: Any, genes: dict[str, Any]) -> dict[str, Any]:
    """Compare with the training patients: {"features": {"10x": …}, "expression": {"tumor": …}, "stain": …}."""
    references = unpack(model.fitted.get("reference") or {})
    found: dict[str, Any] = {}
    for name, reference in references.items():
        if name == "stain":
            stain = stain_rows(data, data.patients("test"))
            found["stain"] = compare(reference, _table(stain, len(NAMES)), NAMES)
        elif name in SUBSPACES:
            if not genes:
                continue
            names = model.fitted["gene_statistics"][name]["genes"]
            table = measured(_table(rows.get(name, {}), len(names)), list(rows.get(name, {})), names, data)
            within = data.standardise != STANDARDISE[0]
            found.setdefault("expression", {})[name] = compare(reference, table, names, within)
        else:
            width = len(reference["mean"])
            found.setdefault("features", {})[name] = compare(reference, _table(rows.get(name, {}), width))
    if "features" in found and "stain" not in found:
        found["stain"] = {"reason": "the training patients' feature store kept no pictures of slides"}
    if not references:
        found["reason"] = "the checkpoint keeps no reference of its training patients; one of an earlier dmml"
    return found


def _table(patients: dict[str, Any], width: int) -> np.ndarray:
    return np.stack(list(patients.values())).astype(float) if patients else np.zeros((0, width))


def _groups(data: Any) -> pd.DataFrame:
    """Return site and covariates of the patients, as far as the clinical table and the config name them."""
    clinical = data.cohort.clinical
    groups = clinical.covariates.copy()
    if "site" in clinical.patients and "site" not in groups:
        groups.insert(0, "site", clinical.patients["site"])
    groups.index = groups.index.astype(str)
    return groups
