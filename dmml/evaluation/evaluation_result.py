"""One model on one cohort: predictions, outcomes and context, with everything that is computed from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.evaluation.caveats import OVERLAP
from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.endpoints.find import endpoint_of
from dmml.evaluation.evaluate import MetricEntry
from dmml.evaluation.predictions import known_labels, predictions_table, read_predictions
from dmml.evaluation.result_folders import ResultFolder, read_context
from dmml.evaluation.statistics.calibration import Calibration, calibration_at
from dmml.evaluation.statistics.survival_curves import RiskGroups, risk_groups


@dataclass(frozen=True)
class Evaluation:
    """One model on one cohort.

    Metrics, calibration and risk groups are computed when they are first read, and only once. Files, plots and pages
    are made from one such object.

    Args:
        folder: Folder of the result, `<run>/test/<cohort>`.
        run_folder: Folder of the run that the tested checkpoint belongs to.
        predictions: Content of `predictions.csv`, from `read_predictions` or `predictions_table`.
        context: Content of `context.json`.
    """

    folder: Path
    run_folder: Path
    predictions: pd.DataFrame
    context: dict[str, Any]

    @property
    def run(self) -> str:
        """Name of the run."""
        return str(self.context.get("run") or self.run_folder.resolve().name)

    @property
    def label(self) -> str:
        """Name of the run, with a mark where the model was trained on some of the patients tested."""
        return f"{self.run} ({self.overlap['n']} of {self.overlap['of']} in training)" if self.overlap else self.run

    @property
    def overlap(self) -> dict[str, int] | None:
        """{"n": tested patients that the model was trained on, "of": tested patients}; None if there is none."""
        overlap = self.context.get(OVERLAP)
        return overlap if isinstance(overlap, dict) and overlap.get("n") else None

    @property
    def checkpoint(self) -> str:
        """Hash of the tested checkpoint; empty if the context has none."""
        return str((self.context.get("checkpoint") or {}).get("sha256") or "")

    @property
    def cohort(self) -> str:
        """Name of the tested cohort, followed by the fold if only one fold of its split was tested."""
        name, fold = str(self.context.get("cohort") or self.folder.resolve().name), self.context.get("fold")
        return f"{name} fold {fold}" if isinstance(fold, int) else name

    @cached_property
    def endpoint(self) -> Endpoint:
        """What evaluation knows of the endpoint."""
        return endpoint_of(self.context, self.predictions.columns)

    @property
    def model(self) -> str:
        """Kind of model: teacher, student, or another name from the context."""
        return str(self.context.get("model") or "model")

    @property
    def primary(self) -> str:
        """Name of the metric for comparisons, e.g. concordance for survival and macro AUC for classes."""
        return self.endpoint.primary

    @property
    def classes(self) -> list[str]:
        """Class names in the model's order; empty if the endpoint has no classes."""
        return self.endpoint.classes(self.predictions, self.context)

    @cached_property
    def with_outcome(self) -> pd.DataFrame:
        """Predictions of the patients with a known outcome."""
        return self.endpoint.with_outcome(self.predictions)

    @cached_property
    def labels(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Class index (n,) and probabilities (n, C) of the patients in `with_outcome`."""
        return known_labels(self.predictions, self.classes)

    @cached_property
    def metrics(self) -> dict[str, MetricEntry]:
        """Every metric with its interval, as in `metrics.json`.

        Raises:
            InputError: The predictions do not fit the context, or belong to no endpoint.
        """
        return self.endpoint.evaluate(self.predictions, self.context)

    @cached_property
    def horizons(self) -> list[float]:
        """Days at which survival predictions are evaluated; empty for other endpoints and without outcomes."""
        return [] if self.with_outcome.empty else self.endpoint.horizons(self.with_outcome, self.context)

    @cached_property
    def calibration_by_day(self) -> dict[float, Calibration | None]:
        """Calibration at every horizon; None where it cannot be computed (see `calibration_at`)."""
        return {day: calibration_at(self.with_outcome, day) for day in self.horizons}

    @property
    def calibrations(self) -> list[Calibration]:
        """Calibration at those horizons where it can be computed; empty for other endpoints than survival."""
        return [calibration for calibration in self.calibration_by_day.values() if calibration is not None]

    @cached_property
    def risk_groups(self) -> RiskGroups | None:
        """Patients of high and low risk, cut at the training patients' median; None without risks or outcomes."""
        if self.with_outcome.empty or not {"time", "event", "risk"} <= set(self.with_outcome):
            return None
        return risk_groups(self.with_outcome, self.context.get("median_risk"))

    def count(self, column: str) -> int | None:
        """Number of patients for whom `column` is above 0; None if the predictions lack it."""
        return int((self.predictions[column] > 0).sum()) if column in self.predictions else None

    def with_predictions(self, predictions: pd.DataFrame) -> Evaluation:
        """The same model on other predictions, e.g. of some of the patients."""
        return Evaluation(self.folder, self.run_folder, predictions, self.context)


def evaluation_of(
    folder: Path, run_folder: Path, rows: Sequence[Mapping[str, Any]], context: Mapping[str, Any]
) -> Evaluation:
    """Make the evaluation of predictions in memory; `read_evaluation` makes the same one from the files.

    Args:
        folder: See `Evaluation`.
        run_folder: See `Evaluation`.
        rows: Rows of `predictions.csv`, one per patient.
        context: Content of `context.json`.
    """
    return Evaluation(folder, run_folder, predictions_table(rows), json.loads(json.dumps(context, default=str)))


def read_evaluation(result: ResultFolder) -> Evaluation:
    """Read the evaluation of a test from its folder.

    Args:
        result: A folder from `find_tests`.

    Raises:
        InputError: A file in the folder is damaged.
    """
    return Evaluation(
        result.folder, result.run, read_predictions(result.folder / "predictions.csv"), read_context(result.folder)
    )
