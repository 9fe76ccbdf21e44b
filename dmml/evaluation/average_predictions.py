"""Averages the predictions of several models for the same patients, and keeps how far the models are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dmml.evaluation.predictions import PREDICTED_COLUMNS, curve_at, survival_days

SPREAD = "sd_"
"""Start of the names of columns with the standard deviation over the models"""


def average_predictions(tables: Sequence[pd.DataFrame], days: Sequence[float] = ()) -> pd.DataFrame:
    """Average tables of predictions.

    Risks, probabilities of classes and predicted values are averaged. Survival is averaged as a probability, on all days for which a model
    predicts it and up to the last day of the model that ends first: the models of a cross-validation have other
    intervals, and each curve is log-linear between its days.

    Args:
        tables: Predictions of each model, from `read_predictions`, of the same patients.
        days: Further days on which survival is wanted.

    Returns:
        One table with the other columns of the first one, and a column `sd_<column>` for every averaged one: the standard
        deviation over the models (n − 1).

    Raises:
        ValueError: The patients differ.
    """
    first = tables[0].reset_index(drop=True)
    tables = [_in_order_of(first, table) for table in tables]
    averaged: dict[str, np.ndarray] = {}
    for name in first:
        if name.startswith(PREDICTED_COLUMNS):
            averaged[name] = np.stack([table[name].to_numpy(float) for table in tables])
    if days := _common_days(tables, days):
        curves = np.stack([curve_at(table, days) for table in tables])
        averaged |= {f"survival_{day:g}": curves[..., i] for i, day in enumerate(days)}
    kept = [name for name in first if not name.startswith((*PREDICTED_COLUMNS, "survival_"))]
    means = {name: values.mean(0) for name, values in averaged.items()}
    spreads = {SPREAD + name: values.std(0, ddof=1) for name, values in averaged.items()} if len(tables) > 1 else {}
    return pd.concat([first[kept], pd.DataFrame(means | spreads)], axis=1)


def _in_order_of(first: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    table = table.set_index("patient_id")
    if set(table.index) != set(first["patient_id"]) or len(table) != len(first):
        raise ValueError("the models predicted different patients")
    return table.loc[first["patient_id"]].reset_index()


def _common_days(tables: Sequence[pd.DataFrame], more: Sequence[float]) -> list[float]:
    """All days for which some model predicts survival, and more, up to the last one of the model that ends first."""
    by_model = [survival_days(table) for table in tables]
    if not all(by_model):
        return []
    end = min(days[-1] for days in by_model)
    return sorted({day for days in [*by_model, more] for day in days if day <= end})
