"""The table of predictions: `predictions.csv`, its outcomes, labels, and survival curves at any day.

Where a new column is added:

- what a task predicts: `Task.predictions`. Regressions of a cross-validation use it as well, unless the task's regression
  has its own `RegressionModel.predictions`, as `dmml/tasks/ridge/cox_regression.py` has.
- what all models know of a patient, networks and regressions alike: `prediction_row` below.
- what only networks know, such as numbers of tokens: `CollectPredictions` in `dmml/callbacks/collection.py`.

Models joined with covariates take over every column of the joined model that is no prediction and no outcome. A column
is read back as numbers if all of its values are numbers, otherwise as text.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.atomic_files import atomic_write
from dmml.errors import InputError
from dmml.evaluation.values.column import PREDICTED_VALUE

TEXT_COLUMNS = frozenset({"patient_id", "label"})
"""Columns that hold text even if it looks like numbers; class names may be "2" and "3"."""
NUMERIC_COLUMNS = (
    "time",
    "event",
    "value",
    "risk",
    "prob_",
    PREDICTED_VALUE,
    "survival_",
    "n_tokens_",
    "has_expression",
)
"""Columns that hold numbers, by their whole name or its start; text in them counts as unknown."""
PREDICTED_COLUMNS = ("risk", "prob_", PREDICTED_VALUE)
"""Columns, by their whole name or its start, that need a number for every patient."""
_NUMBER_WORDS = {"": math.nan, "True": 1.0, "False": 0.0}


def prediction_row(
    patient_id: str, outcome: Mapping[str, Any], predictions: Mapping[str, Any], has_expression: bool
) -> dict[str, Any]:
    """Make one patient's row of `predictions.csv`, with the columns that every model has.

    Args:
        patient_id: The patient.
        outcome: {column: observed value}, None where unknown.
        predictions: {column: predicted value}.
        has_expression: Whether the patient has RNA.
    """
    return {"patient_id": patient_id, **outcome, **predictions, "has_expression": int(has_expression)}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, completely or not at all; unknown values (None and NaN) are empty.

    Args:
        path: The file to write.
        rows: One dictionary {column: value} per row. Columns that a row lacks are empty.
    """
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _columns_of(rows), restval="")
        writer.writeheader()
        writer.writerows({name: _as_text(value) for name, value in row.items()} for row in rows)


def predictions_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table that `read_predictions` reads from the file which `write_table` writes with these rows.

    Args:
        rows: One dictionary {column: value} per patient.
    """
    names = _columns_of(rows)
    text = pd.DataFrame({name: [_as_text(row.get(name)) for row in rows] for name in names}, dtype=object)
    return _typed(text, "the predictions")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read `predictions.csv`.

    Returns:
        Columns of numbers as numbers and all others as text, with NaN where a value is unknown.

    Raises:
        InputError: The file cannot be read, lacks `patient_id`, lists a patient twice, or misses a prediction.
    """
    try:
        # Only an empty field counts as missing, because a class may be called "NA" or "None".
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    if "patient_id" not in table:
        raise InputError(f"{path} has no column patient_id; `dmml test` writes it")
    repeated = table["patient_id"][table["patient_id"].duplicated()]
    if len(repeated):
        raise InputError(f"{path} has two rows for the patient {repeated.iloc[0]}; it needs one row per patient")
    return _typed(table, str(path))


def _typed(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Convert a table of text to numbers, where a column holds numbers.

    Args:
        table: Text in every field; empty where unknown.
        source: Where the table comes from, for messages.

    Raises:
        InputError: A prediction is missing.
    """
    columns = {str(name): _typed_column(str(name), table[name]) for name in table.columns}
    for name, values in columns.items():
        if name.startswith(PREDICTED_COLUMNS) and not np.isfinite(values).all():
            patient = table["patient_id"][~np.isfinite(values)].iloc[0]
            raise InputError(f"{source}: patient {patient} has no number in {name}; run `dmml test` again")
    return pd.DataFrame(columns, index=table.index)


def _typed_column(name: str, text: pd.Series) -> pd.Series:
    if name not in TEXT_COLUMNS:
        numbers = [_number(value) for value in text]
        if name.startswith(NUMERIC_COLUMNS) or None not in numbers:
            whole = all(re.fullmatch(r"-?\d{1,18}", value) for value in text)
            return pd.Series(
                [math.nan if value is None else value for value in numbers], text.index, "int64" if whole else float
            )
    return text if name == "patient_id" else text.replace("", np.nan)


def _number(text: str) -> float | None:
    """The number that a field holds, NaN for an empty one, and None for text."""
    if text in _NUMBER_WORDS:
        return _NUMBER_WORDS[text]
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _as_text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def known_outcome(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose `time` and `event` are known; no rows if the columns are absent."""
    if not {"time", "event"} <= set(predictions):
        return predictions.assign(time=np.nan, event=np.nan).iloc[:0]
    outcomes = predictions.assign(
        patient_id=predictions["patient_id"].astype(str),
        time=pd.to_numeric(predictions["time"], errors="coerce"),
        event=pd.to_numeric(predictions["event"], errors="coerce"),
    )
    return outcomes.dropna(subset=["time", "event"]).reset_index(drop=True)


def class_names(predictions: pd.DataFrame, context: Mapping[str, Any]) -> list[str]:
    """Class names in the model's order, from the context or else from the order of the columns.

    Raises:
        InputError: The context and the columns name different classes.
    """
    columns = [name.removeprefix("prob_") for name in predictions if name.startswith("prob_")]
    classes = [str(name) for name in context.get("classes") or columns]
    if set(classes) != set(columns):
        raise InputError(
            f"context.json names the classes {classes}, predictions.csv has columns for {columns}; run `dmml test` again"
        )
    return classes


def known_labels(predictions: pd.DataFrame, classes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class index (n,) and probabilities (n, C) of the patients with a known label.

    Raises:
        InputError: A label is not one of the model's classes.
    """
    if "label" not in predictions:
        return np.zeros(0, int), np.zeros((0, len(classes)))
    labelled = predictions[predictions["label"].notna()]
    unexpected = labelled[~labelled["label"].astype(str).isin(classes)]
    if len(unexpected):
        row = unexpected.iloc[0]
        raise InputError(
            f"patient {row['patient_id']} has the label {row['label']!r}, which is none of the model's classes "
            f"({', '.join(classes)}); correct the label, or leave it empty"
        )
    label = labelled["label"].astype(str).map({name: index for index, name in enumerate(classes)}).to_numpy(int)
    return label, labelled[[f"prob_{name}" for name in classes]].to_numpy(float)


def survival_days(predictions: pd.DataFrame) -> list[float]:
    """Days, in increasing order, for which every patient has a predicted survival probability."""
    return sorted(_survival_columns(predictions))


def curve_at(predictions: pd.DataFrame, days: ArrayLike) -> NDArray[np.float64]:
    """Survival at any day: log-linear between the predicted days, 1 at day 0, and NaN after the last predicted day.

    Interpolation loses nothing: there is a column for every edge of the model's intervals, and within an interval the
    model's curve is log-linear, too.

    Args:
        predictions: Table with `survival_<days>` columns.
        days: (T,) days.

    Returns:
        (n, T) survival probabilities.
    """
    columns = _survival_columns(predictions)
    knots = np.array([0.0, *sorted(columns)])
    values = np.column_stack([np.ones(len(predictions))] + [predictions[columns[day]] for day in knots[1:]])
    logs = np.log(np.clip(values.astype(float), 1e-300, 1))
    days = np.asarray(days, float)
    right = np.clip(np.searchsorted(knots, days), 1, len(knots) - 1)
    share = (days - knots[right - 1]) / (knots[right] - knots[right - 1])
    curve = np.exp(logs[:, right - 1] + share * (logs[:, right] - logs[:, right - 1]))
    return np.where((days >= 0) & (days <= knots[-1]), curve, np.nan)


def _survival_columns(predictions: pd.DataFrame) -> dict[float, str]:
    """{day: column} of the days for which every patient has a predicted survival probability."""
    columns = {}
    for name in predictions:
        if name.startswith("survival_") and len(predictions) and predictions[name].notna().all():
            day = float(name.removeprefix("survival_"))
            if day > 0:
                columns[day] = name
    return columns
