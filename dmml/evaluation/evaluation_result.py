"""One model on one cohort: the content of its test folder, loaded and evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.endpoints.find import endpoint_of
from dmml.evaluation.evaluate import evaluate
from dmml.evaluation.predictions import known_labels, read_predictions
from dmml.evaluation.runs import ResultFolder, read_context
from dmml.evaluation.statistics.calibration import Calibration, calibration_at
from dmml.evaluation.training_overlap import OVERLAP


@dataclass(frozen=True)
class Tested:
    """Predictions of one run on one cohort with their context and metrics."""

    folder: Path
    run_folder: Path
    predictions: pd.DataFrame
    context: dict
    metrics: dict[str, dict]

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
        found = self.context.get(OVERLAP)
        return found if isinstance(found, dict) and found.get("n") else None

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
    def known(self) -> pd.DataFrame:
        """Patients with a known outcome."""
        return self.endpoint.known(self.predictions)

    @cached_property
    def calibrations(self) -> list[Calibration]:
        """Calibration at every horizon for which survival is predicted; empty for other endpoints."""
        return [each for day in self.horizons if (each := calibration_at(self.known, day)) is not None]

    @property
    def horizons(self) -> list[float]:
        """Days at which survival is judged; empty for other endpoints."""
        return self.endpoint.horizons(self.known, self.context) if len(self.known) else []

    @cached_property
    def labels(self) -> tuple:
        """Class index (n,) and probabilities (n, C) of the patients in `known`."""
        return known_labels(self.predictions, self.classes)

    def count(self, column: str) -> int | None:
        """Number of patients for whom `column` is above 0; None if the predictions lack it."""
        return int((self.predictions[column] > 0).sum()) if column in self.predictions else None


def load_test(test: ResultFolder) -> Tested:
    """Read and evaluate a test folder.

    Raises:
        InputError: A file in the folder is damaged.
    """
    predictions = read_predictions(test.folder / "predictions.csv")
    context = read_context(test.folder)
    return Tested(test.folder, test.run, predictions, context, evaluate(predictions, context))
