"""Writes what a test collected to the cohort's folder: predictions, context, attention; then metrics, plots, report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmml._version import __version__
from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.patient_rows import Rows
from dmml.data.rna import told
from dmml.evaluation.statistics import intervals
from dmml.evaluation.training_overlap import OVERLAP, UNKNOWN_KEY, overlap_words
from dmml.experiment.program_table import program_rows
from dmml.experiment.run_folder import RunFolder, now, write_json
from dmml.experiment.tested_checkpoint import RECORDS, TestedCheckpoint


@dataclass(frozen=True)
class Tested:
    """What was run on a cohort.

    Args:
        checkpoint: The model's checkpoint.
        command: The typed command.
        seen: Patients of the cohort that the model was trained on.
        of: Number of tested patients.
        unknown: Whether the checkpoint does not record which patients it was trained on.
    """

    checkpoint: TestedCheckpoint
    command: str
    seen: Sequence[str] = ()
    of: int = 0
    unknown: bool = False

    @property
    def overlap(self) -> dict[str, Any]:
        """Statement of the results on training patients among the tested ones; empty if there are none."""
        if self.unknown:
            return {UNKNOWN_KEY: True}
        return {OVERLAP: {"n": len(self.seen), "of": self.of}} if self.seen else {}


def write_test(tested: Tested, collected: CollectPredictions, model: Any, data: Any, rows: Rows | None = None) -> Path:
    """Write the complete folder `test/<cohort>/`, or `test/<cohort>_fold<k>/`.

    Args:
        tested: What was run.
        collected: Predictions and attention.
        model: The tested model.
        data: The data module it was tested on.
        rows: Inputs that the model received, one row per patient; None leaves out the comparison with training.

    Returns:
        The folder.

    Raises:
        InputError: The folder holds the result of another checkpoint, cohort or fold.
    """
    from dmml.evaluation.report.build import write_evaluation
    from dmml.evaluation.transductive import transductive_words
    from dmml.experiment.cohort_shift import write_calibration, write_recalibrated, write_shift

    out = tested.checkpoint.check_result("test", data.name, tested_fold(data))
    # Files of an earlier test must never stand beside this test's context, even if the disk fills up in between.
    for name in ("predictions.csv", "programs.csv", "metrics.json", "report.html"):
        (out / name).unlink(missing_ok=True)
    context = _context(tested, model, data, out)
    write_json(out / "context.json", context)
    write_table(out / "predictions.csv", collected.rows)
    _write_maps(out / "attention.npz", collected, model, data)
    if table := program_rows(collected.programs, rows or {}, model):
        write_table(out / "programs.csv", table)
    if rows is not None:
        write_shift(out, rows, model, data, context)
    write_calibration(out, context)
    write_recalibrated(out, context, getattr(data, "recalibrate", None))
    metrics = write_evaluation(out)
    if tested.seen:
        print(f"{data.name}: {overlap_words(len(tested.seen), tested.of)}")
    for name, entry in metrics.items():
        if name != OVERLAP and isinstance(entry, dict) and entry.get("value") is not None:
            low, high = entry.get("low"), entry.get("high")
            interval = "" if low is None else f"   {intervals.level_text()} interval {low:.3f} to {high:.3f}"
            print(f"  {name:<18} {entry['value']:.3f}{interval}")
    transductive = transductive_words(context)
    print(f"{out / 'report.html'}: {len(collected.rows)} patients of {data.name}{transductive and f'; {transductive}'}")
    return out


def write_predictions(tested: Tested, collected: CollectPredictions, data: Any) -> Path:
    """Write `predict/<cohort>/predictions.csv` (or `<cohort>_fold<k>`), and a record of its origin beside it.

    Raises:
        InputError: The folder holds the predictions of another checkpoint, cohort or fold.
    """
    fold = tested_fold(data)
    folder = tested.checkpoint.check_result("predict", data.name, fold)
    out = folder / "predictions.csv"
    out.unlink(missing_ok=True)
    content = {"created": now(), "versions": {"dmml": __version__}, "hashes": _hashes(data), **tested.overlap}
    write_json(folder / RECORDS["predict"], content | tested.checkpoint.record(folder, data.name, fold))
    write_table(out, collected.rows)
    print(f"{out}: {len(collected.rows)} patients")
    return out


def tested_fold(data: Any) -> int | None:
    """Return the fold whose outer test patients were run; None if all patients of the cohort were."""
    return getattr(getattr(data, "cohort", None), "tested_fold", None)


def _hashes(data: Any) -> dict[str, str]:
    """Hash the tested tables, which may differ from those trained on, and the tested patients."""
    return data.hashes({"test": data.patients("test")})


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, completely or not at all; unknown values are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    names = list(dict.fromkeys(name for row in rows for name in row))
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: "" if _unknown(value) else value for name, value in row.items()})
    part.replace(path)


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _context(tested: Tested, model: Any, data: Any, out: Path) -> dict[str, Any]:
    fitted, rna = model.fitted, data.rna_facts(model)
    left_out = {"patients left out, having neither slides nor RNA": data.counts("test")["left_out"]}
    said = told(rna) if rna else ""
    return {
        "run": RunFolder(tested.checkpoint.run).name,
        "model": type(model).__name__.removeprefix("Subspace").lower(),
        **tested.checkpoint.record(out, data.name, tested_fold(data)),
        **tested.overlap,
        **model.task.evaluation_context(),
        "horizons": fitted.get("horizons"),
        "censoring": fitted.get("censoring"),
        "median_risk": fitted.get("median_risk"),
        **_shares(model),
        "training_cohort": fitted.get("cohort"),
        "n_training": fitted.get("n_training"),
        "counts": left_out | ({"RNA of this cohort": said} if said else {}),
        "rna": rna,
        "hashes": fitted.get("hashes"),
        "tested_hashes": _hashes(data),
        "oracle_risk": _oracle_risk(Path(data.section["clinical"]).parent / "truth.csv"),
        "command": tested.command,
        "created": now(),
        "versions": {"dmml": __version__},
    }


def _oracle_risk(truth: Path) -> dict[str, float] | None:
    """Read the true risk of simulated patients, if the cohort has it; nothing is fitted to it."""
    if not truth.is_file():
        return None
    with truth.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["patient_id"]: float(row["risk"]) for row in rows} if rows and "risk" in rows[0] else None


def _shares(model: Any) -> dict[str, float]:
    """Return the deep part's share beside the backbone, in the logits and in the programs; {} without a backbone."""
    if not getattr(model, "has_backbone", False):
        return {}
    return {name: float(getattr(model, name)) for name in ("deep_share", "program_share")}


def _write_maps(path: Path, collected: CollectPredictions, model: Any, data: Any) -> None:
    """Write token maps and thumbnails of patients with right and wrong predictions, as arrays and a JSON text."""
    from dmml.evaluation.examples import choose_examples

    arrays: dict[str, np.ndarray] = {}
    meta: list[dict[str, Any]] = []
    rows = {row["patient_id"]: row for row in collected.rows}
    placed = data.store is None or not data.store.holds_vectors  # vectors of whole slides have no position on them
    by_patient = {maps["patient_id"]: maps for maps in collected.attention if placed}
    for patient, verdict in choose_examples(collected.rows, list(by_patient)).items():
        maps, added = by_patient[patient], contributions(model, data, patient)
        for index, slide_id in enumerate(data.reader.slides.get(patient, [])):
            i = len(meta)
            for m, bag in maps["bags"].items():
                own = bag["slide"] == index
                arrays[f"position_{i}_{m}"] = bag["position"][own]
                for s, attention in bag["attention"].items():
                    arrays[f"attention_{i}_{m}_{s}"] = attention[own]
                if m in added:
                    arrays[f"contribution_{i}_{m}"] = added[m][own]
            thumbnail = data.store.thumbnail(slide_id)
            if thumbnail is not None:
                arrays[f"thumbnail_{i}"] = thumbnail
            store = data.store.attributes
            meta.append(
                {key: value for key, value in rows[patient].items() if not key.startswith("survival_")}
                | verdict
                | _shares(model)
                | {
                    "slide_id": slide_id,
                    "thumbnail_mpp": data.store.slide_attributes(slide_id).get("thumbnail_mpp"),
                    "tile_um": {str(m): store["tile_px"] * mpp for m, mpp in store["magnifications"].items()},
                }
            )
    part = path.with_name(f".{path.stem}.part.npz")
    np.savez_compressed(part, meta=np.array(json.dumps(meta)), **arrays)
    part.replace(path)


def contributions(model: Any, data: Any, patient: str) -> dict[int, np.ndarray]:
    """Return {magnification: (N,)} what each tile of a patient adds to the answer; {} for a model without a backbone.

    Computed only for the few patients who are shown, not for all tested patients.
    """
    if not getattr(model, "has_backbone", False):
        return {}
    import torch

    from dmml.experiment.predict_slide.tile_scores import read_tiles

    model.eval()
    batch = data.collate([patient], with_target=False)([data.reader.read(patient)])
    batch = model.transfer_batch_to_device(batch, next(model.parameters()).device, 0)
    with torch.inference_mode():
        tiles = read_tiles(model, batch, model(batch))
    return {m: tiles.total(m).astype(np.float32) for m in tiles.magnifications}
