"""Read `predictions.csv`: known outcomes, labels, and survival curves at any day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dmml.errors import InputError

TEXT = {"patient_id": str, "label": str}


def read_predictions(path: Path) -> pd.DataFrame:
    """Read `predictions.csv`, with patient ids and labels as text.

    Raises:
        InputError: The file cannot be read, lacks `patient_id`, lists a patient twice, or misses a prediction.
    """
    try:
        # Only an empty field counts as missing, because a class may be called "NA" or "None".
        table = pd.read_csv(path, dtype=TEXT, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    if "patient_id" not in table:
        raise InputError(f"{path} has no column patient_id; `dmml test` writes it")
    twice = table["patient_id"][table["patient_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: patient {twice.iloc[0]} stands there twice; one row a patient")
    for name in table.columns.difference(list(TEXT)):
        table[name] = pd.to_numeric(table[name].replace({"True": 1, "False": 0, "": np.nan}), errors="coerce")
        if (name == "risk" or name.startswith("prob_")) and not np.isfinite(table[name]).all():
            row = table[~np.isfinite(table[name])].iloc[0]
            raise InputError(f"{path}: patient {row['patient_id']} has no number in {name}; run `dmml test` again")
    if "label" in table:
        table["label"] = table["label"].replace("", np.nan)
    return table


def known_outcome(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose `time` and `event` are known; no rows if the columns are absent."""
    if not {"time", "event"} <= set(predictions):
        return predictions.assign(time=np.nan, event=np.nan).iloc[:0]
    known = predictions.assign(
        patient_id=predictions["patient_id"].astype(str),
        time=pd.to_numeric(predictions["time"], errors="coerce"),
        event=pd.to_numeric(predictions["event"], errors="coerce"),
    )
    return known.dropna(subset=["time", "event"]).reset_index(drop=True)


def class_names(predictions: pd.DataFrame, context: dict) -> list[str]:
    """Class names in the model's order, from the context or else from the order of the columns.

    Raises:
        InputError: The context and the columns name different classes.
    """
    columns = [name.removeprefix("prob_") for name in predictions if name.startswith("prob_")]
    classes = [str(name) for name in context.get("classes") or columns]
    if set(classes) != set(columns):
        raise InputError(f"context.json names the classes {classes}, predictions.csv has columns for {columns}")
    return classes


def known_labels(predictions: pd.DataFrame, classes: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class index (n,) and probabilities (n, C) of the patients with a known label.

    Raises:
        InputError: A label is not one of the model's classes.
    """
    if "label" not in predictions:
        return np.zeros(0, int), np.zeros((0, len(classes)))
    known = predictions[predictions["label"].notna()]
    strange = known[~known["label"].astype(str).isin(classes)]
    if len(strange):
        row = strange.iloc[0]
        raise InputError(f"patient {row['patient_id']} has the label {row['label']!r}; the model knows {classes}")
    label = known["label"].astype(str).map({name: index for index, name in enumerate(classes)}).to_numpy(int)
    return label, known[[f"prob_{name}" for name in classes]].to_numpy(float)


def survival_days(predictions: pd.DataFrame) -> list[float]:
    """Days, in increasing order, for which every patient has a predicted survival probability."""
    return sorted(_columns(predictions))


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
    columns = _columns(predictions)
    knots = np.array([0.0, *sorted(columns)])
    values = np.column_stack([np.ones(len(predictions))] + [predictions[columns[day]] for day in knots[1:]])
    logs = np.log(np.clip(values.astype(float), 1e-300, 1))
    days = np.asarray(days, float)
    right = np.clip(np.searchsorted(knots, days), 1, len(knots) - 1)
    share = (days - knots[right - 1]) / (knots[right] - knots[right - 1])
    curve = np.exp(logs[:, right - 1] + share * (logs[:, right] - logs[:, right - 1]))
    return np.where((days >= 0) & (days <= knots[-1]), curve, np.nan)


def _columns(predictions: pd.DataFrame) -> dict[float, str]:
    found = {}
    for name in predictions:
        if name.startswith("survival_") and len(predictions) and predictions[name].notna().all():
            day = float(name.removeprefix("survival_"))
            if day > 0:
                found[day] = name
    return found
