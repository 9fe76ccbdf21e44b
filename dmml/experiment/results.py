"""Writes what a test collected to the cohort's folder: predictions, context, maps; then all that is computed from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.patient_rows import PatientInputs
from dmml.evaluation import interval_settings
from dmml.evaluation.caveats import OVERLAP, overlap_text, transductive_text
from dmml.evaluation.evaluation_result import Evaluation, evaluation_of
from dmml.evaluation.predictions import write_table
from dmml.experiment.attention_maps import write_maps
from dmml.experiment.genes.contributions import FILE as GENE_CONTRIBUTIONS
from dmml.experiment.genes.contributions import write_gene_contributions
from dmml.experiment.genes.correlations import write_gene_correlations
from dmml.experiment.program_table import program_rows
from dmml.experiment.result_context import ResultOrigin, result_context, table_hashes, tested_fold
from dmml.experiment.run_folder import now
from dmml.experiment.tested_checkpoint import RECORDS

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule

logger = logging.getLogger(__name__)


def write_test(
    origin: ResultOrigin,
    collected: CollectPredictions,
    model: SubspaceModule,
    data: MultimodalDataModule,
    inputs: PatientInputs | None = None,
) -> Path:
    """Write the complete folder `test/<cohort>/`, or `test/<cohort>_fold<k>/`.

    Predictions and context make one `Evaluation` in memory, from which all other numbers, plots and pages are made.

    Args:
        origin: Where the result comes from.
        collected: Predictions and attention.
        model: The tested model.
        data: The data module it was tested on.
        inputs: Inputs that the model received, one row per patient; None leaves out the comparison with training.

    Returns:
        The folder.

    Raises:
        InputError: The folder holds the result of another checkpoint, cohort or fold.
    """
    # Imported here: they need matplotlib and jinja2, which only a test needs.
    from dmml.evaluation.report.build import write_evaluation
    from dmml.evaluation.result_files import write_calibration, write_recalibration
    from dmml.experiment.cohort_shift import write_shift

    folder = origin.checkpoint.check_result("test", str(data.name), tested_fold(data))
    # Files of an earlier test must never lie next to this test's context, even if the disk fills up in between.
    tables = ("predictions.csv", "programs.csv", "gene_correlations.csv", GENE_CONTRIBUTIONS)
    for name in (*tables, "metrics.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    context = result_context(origin, model, data, folder)
    write_json(folder / "context.json", context)
    write_table(folder / "predictions.csv", collected.rows)
    write_maps(folder / "attention.npz", collected, model, data)
    if table := program_rows(collected.programs, inputs or {}, model):
        write_table(folder / "programs.csv", table)
    evaluation = evaluation_of(folder, origin.checkpoint.run, collected.rows, context)
    if inputs is not None:
        write_shift(evaluation, inputs, model, data)
        write_gene_correlations(evaluation, inputs, model, data)
        write_gene_contributions(folder, model, inputs)
    write_calibration(evaluation)
    write_recalibration(evaluation, data.recalibrate)
    log_metrics(evaluation, write_evaluation(evaluation))
    return folder


def log_metrics(evaluation: Evaluation, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Log the metrics of a result, with their intervals, and the path of its report."""
    name = evaluation.context["cohort"]
    if evaluation.overlap:
        logger.info("%s: %s", name, overlap_text(**evaluation.overlap))
    for metric, entry in metrics.items():
        if metric != OVERLAP and entry["value"] is not None:
            limits = ""
            if entry["low"] is not None:
                limits = f"   {interval_settings.level_text()} interval {entry['low']:.3f} to {entry['high']:.3f}"
            logger.info("  %-18s %.3f%s", metric, entry["value"], limits)
    transductive = transductive_text(evaluation.context)
    patients = f"{len(evaluation.predictions)} patients of {name}"
    logger.info("%s: %s%s", evaluation.folder / "report.html", patients, f"; {transductive}" if transductive else "")


def write_predictions(origin: ResultOrigin, collected: CollectPredictions, data: MultimodalDataModule) -> Path:
    """Write `predict/<cohort>/predictions.csv` (or `<cohort>_fold<k>`), and next to it a record of where it comes from.

    Raises:
        InputError: The folder holds the predictions of another checkpoint, cohort or fold.
    """
    name, fold = str(data.name), tested_fold(data)
    folder = origin.checkpoint.check_result("predict", name, fold)
    path = folder / "predictions.csv"
    path.unlink(missing_ok=True)
    record = {"created": now(), "versions": {"dmml": __version__}, "hashes": table_hashes(data), **origin.overlap}
    write_json(folder / RECORDS["predict"], record | origin.checkpoint.record(folder, name, fold))
    write_table(path, collected.rows)
    logger.info("%s: %d patients", path, len(collected.rows))
    return path
