"""Writes the result of all models of a cross-validation on one cohort, from the results of each of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmml.atomic_files import write_json
from dmml.errors import InputError
from dmml.evaluation.average_predictions import average_predictions
from dmml.evaluation.caveats import OVERLAP
from dmml.evaluation.evaluation_result import evaluation_of
from dmml.evaluation.predictions import read_predictions, write_table
from dmml.evaluation.result_folders import read_json
from dmml.experiment.run_folder import now
from dmml.experiment.tested_checkpoint import RECORDS

MODELS = "models"
"""Entry of a record: the checkpoints whose predictions were averaged"""
_AVERAGED = ("median_risk", "deep_share", "program_share")
"""Entries of `context.json` that are numbers of one model, and averaged like its predictions"""


def newest_result(run: Path, verb: str) -> Path:
    """Return the folder of the result that was written last in a run."""
    records = [folder / RECORDS[verb] for folder in (run / verb).iterdir()]
    return max((path for path in records if path.is_file()), key=lambda path: path.stat().st_mtime_ns).parent


def average_results(
    verb: str,
    runs: Sequence[Path],
    checkpoints: Sequence[Path],
    crossval: Path,
    root: Path,
    command: str,
    overwrite: bool = False,
) -> Path:
    """Average the newest results of the models, and write the folder `<root>/<verb>/<cohort>`.

    Args:
        verb: `test` or `predict`.
        runs: Folder of each model's results.
        checkpoints: Checkpoint of each model.
        crossval: Folder of the cross-validation.
        root: Folder of the result of all models.
        command: The typed command.
        overwrite: Whether the result of other models may be replaced.

    Returns:
        The folder.

    Raises:
        InputError: The folder holds the result of other models.
    """
    results = [newest_result(run, verb) for run in runs]
    folder = root / verb / results[0].name
    records = [read_json(result / RECORDS[verb]) for result in results]
    record = _record(records, checkpoints, crossval, folder, command)
    _check_replaceable(folder / RECORDS[verb], record, overwrite)
    table = average_predictions([read_predictions(result / "predictions.csv") for result in results])
    rows = [_without_missing(row) for row in table.to_dict("records")]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("predictions.csv", "metrics.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / RECORDS[verb], record)
    write_table(folder / "predictions.csv", rows)
    if verb == "test":
        _evaluate(folder, crossval, rows, record)
    return folder


def _evaluate(folder: Path, crossval: Path, rows: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> None:
    from dmml.evaluation.report.build import write_evaluation
    from dmml.evaluation.result_files import write_calibration
    from dmml.experiment.results import log_metrics

    evaluation = evaluation_of(folder, crossval, rows, context)
    write_calibration(evaluation)
    log_metrics(evaluation, write_evaluation(evaluation))


def _record(
    records: Sequence[Mapping[str, Any]], checkpoints: Sequence[Path], crossval: Path, folder: Path, command: str
) -> dict[str, Any]:
    """Make the record of the average: that of the first model, with what differs between models replaced."""
    hashes = [str((record.get("checkpoint") or {}).get("sha256")) for record in records]
    models = [
        {"checkpoint": os.path.relpath(path.resolve(), crossval.resolve()), "sha256": sha256}
        for path, sha256 in zip(checkpoints, hashes, strict=True)
    ]
    averaged = {
        name: float(np.mean([record[name] for record in records]))
        for name in _AVERAGED
        if all(isinstance(record.get(name), int | float) for record in records)
    }
    overlaps = [record[OVERLAP] for record in records if record.get(OVERLAP)]
    # Each model names only how many of the patients it was trained on; together they have seen at most the sum.
    seen = (
        {"n": min(sum(each["n"] for each in overlaps), overlaps[0]["of"]), "of": overlaps[0]["of"]} if overlaps else {}
    )
    return {
        **records[0],
        **averaged,
        **({OVERLAP: seen} if seen else {}),
        "run": crossval.resolve().name,
        "run_folder": os.path.relpath(crossval.resolve(), folder.resolve()),
        "checkpoint": {"path": ".", "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]},
        MODELS: models,
        "command": command,
        "created": now(),
    }


def _check_replaceable(path: Path, record: Mapping[str, Any], overwrite: bool) -> None:
    former = (read_json(path).get("checkpoint") or {}).get("sha256") if path.is_file() else None
    if former not in (None, record["checkpoint"]["sha256"]) and not overwrite:
        raise InputError(
            f"{path.parent}: holds the result of other models; give --overwrite to replace it, or "
            "--trainer.default_root_dir FOLDER to write this one elsewhere"
        )


def _without_missing(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}
