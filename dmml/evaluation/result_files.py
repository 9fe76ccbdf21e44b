"""Writes the numbers of an evaluation: `metrics.json`, `calibration.json`, `recalibrated.json` and `recalibrated.csv`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from dmml.atomic_files import atomic_write, write_json, write_text
from dmml.evaluation.caveats import OVERLAP, overlap_entry
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.recalibration import recalibrate


def write_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Write `metrics.json`, and return its content.

    It starts with the number of tested patients that the model was trained on, if there are any.
    """
    overlap = {OVERLAP: overlap_entry(evaluation.overlap)} if evaluation.overlap else {}
    metrics = overlap | evaluation.metrics
    write_text(evaluation.folder / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    return metrics


def write_calibration(evaluation: Evaluation) -> dict[str, Any] | None:
    """Write `calibration.json`: calibration at the horizons, and the log-rank test at the training median.

    Returns:
        The written content; None for classes and for cohorts without outcomes, for which no file is written and that of
        an earlier test is deleted.
    """
    path, groups = evaluation.folder / "calibration.json", evaluation.risk_groups
    if groups is None:
        path.unlink(missing_ok=True)
        return None
    content = {
        "horizons": {
            f"{day:g}": {"reason": "fewer than two risk groups, or no prediction there"}
            if calibration is None
            else calibration.plain()
            for day, calibration in evaluation.calibration_by_day.items()
        },
        "log_rank": {
            "cut": groups.cut,
            "cut_from_training": groups.from_training,
            "p": None if np.isnan(groups.p) else groups.p,
            "groups": [{"name": curve.name, "n": curve.n, "events": curve.events} for curve in groups.curves],
        },
    }
    write_json(path, content)
    return content


def write_recalibration(evaluation: Evaluation, share: float | None) -> dict[str, Any] | None:
    """Write `recalibrated.json` and `recalibrated.csv`, the recalibrated predictions of the evaluated patients.

    Args:
        evaluation: The evaluation.
        share: Share of the cohort to recalibrate on; None deletes the files of an earlier test.

    Returns:
        The written content; None without a share.
    """
    summary, table = (evaluation.folder / f"recalibrated.{kind}" for kind in ("json", "csv"))
    if share is None:
        summary.unlink(missing_ok=True)
        table.unlink(missing_ok=True)
        return None
    content, recalibrated = recalibrate(evaluation, share)
    if recalibrated is None:
        table.unlink(missing_ok=True)
    else:
        with atomic_write(table) as partial:
            recalibrated.to_csv(partial, index=False)
    write_json(summary, content)
    return content
