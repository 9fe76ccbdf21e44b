"""Reduces a table of samples to one row per patient."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dmml.errors import InputError


def without_empty_patients(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Drop patients without any value, since they have no RNA, and count them.

    Args:
        table: (patients × genes).
        source: Name of the table in messages.

    Raises:
        InputError: No patient has a value.
    """
    has_value = np.isfinite(table.to_numpy()).any(axis=1)
    if has_value.all():
        return table, {}
    if not has_value.any():
        raise InputError(f"{source}: no patient has a single value; check that it is an RNA table")
    return table[has_value], {"patients_without_any_value_dropped": int((~has_value).sum())}


def average_patients(table: pd.DataFrame, patients: list[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Average the samples of each patient, giving one row per patient in order of first appearance.

    Args:
        table: (samples × genes).
        patients: The patient of each row.

    Returns:
        (patients × genes) float32, and the counts of patients whose samples were equal and of those that differed.
    """
    index = pd.Index(patients, dtype=object, name="patient_id")
    if not index.has_duplicates:
        return table.set_axis(index), {}
    values = table.to_numpy()
    codes, unique = pd.factorize(index)
    rows, n_equal, n_differing = [], 0, 0
    for code in range(len(unique)):
        samples = values[codes == code]
        if len(samples) > 1:
            are_equal = bool(np.all((samples == samples[0]) | (np.isnan(samples) & np.isnan(samples[0]))))
            n_equal += are_equal
            n_differing += not are_equal
        is_finite = np.isfinite(samples)
        total = np.where(is_finite, samples, 0.0).sum(axis=0, dtype=np.float64)
        mean = np.where(is_finite.any(axis=0), total / np.maximum(is_finite.sum(axis=0), 1), np.nan)
        rows.append(samples[0] if len(samples) == 1 else mean.astype(np.float32))
    frame = pd.DataFrame(np.stack(rows), index=pd.Index(unique, dtype=object, name="patient_id"), columns=table.columns)
    return frame, {"patients_with_equal_rows_merged": n_equal, "patients_with_samples_averaged": n_differing}
