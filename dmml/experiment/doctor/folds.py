"""Counts patients and events in each part of each fold, and finds parts that are too small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from dmml.cohort.clinical.table import Clinical
from dmml.cohort.cohort import Cohort
from dmml.experiment.doctor.examination import State

MIN_EVENTS = {"train": 20, "val": 3, "test": 5}
"""Number of events of a part below which a fold is called small"""
MIN_OF_CLASS = {"train": 5, "val": 1, "test": 2}
"""The same for patients of a class"""
MIN_VALUES = {"train": 20, "val": 5, "test": 10}
"""The same for patients with a known value"""


def examine_folds(add: Callable[[str, str, State], None], cohort: Cohort) -> pd.DataFrame:
    """Count the patients of every fold, and report parts that are too small for training or evaluation.

    Args:
        add: Called with the part of the examination, a sentence, and the state of the finding.
        cohort: The cohort, with or without a split.

    Returns:
        One row per fold: patients and events (or patients of each class) of its train, val and test.

    Raises:
        InputError: A fold has too few training patients to split off an inner validation.
    """
    rows, clinical = {}, cohort.clinical
    findings: list[tuple[str, State]] = []
    for k in [cohort.fold] if cohort.split is None else sorted(cohort.split.folds):
        parts = replace(cohort, fold=k).partition("fit")._asdict()
        rows[k] = {f"{part} {what}": n for part, patients in parts.items() for what, n in _sizes(clinical, patients)}
        for part, patients in parts.items():
            for n, text in _small_counts(clinical, part, patients):
                findings.append((f"fold {k}, {part}: {text}", "blocks" if part == "train" and not n else "check"))
    for text, state in findings:
        add("folds", text, state)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("fold")


def _sizes(clinical: Clinical, patients: Sequence[str]) -> list[tuple[str, int]]:
    """Count the patients, and their events, the patients of each class, or those with a known value."""
    rows = clinical.patients.loc[list(patients)]
    if clinical.kind == "survival":
        return [("patients", len(rows)), ("events", int(rows["event"].sum()))]
    if clinical.kind == "classification":
        counts = rows["label"].value_counts()
        return [("patients", len(rows)), *((label, int(counts.get(label, 0))) for label in clinical.classes)]
    if clinical.kind == "regression":
        return [("patients", len(rows)), ("values", int(rows["value"].notna().sum()))]
    return [("patients", len(rows))]


def _small_counts(clinical: Clinical, part: str, patients: Sequence[str]) -> list[tuple[int, str]]:
    """List the counts of a part that are too small, with a text for each."""
    minima = {"survival": MIN_EVENTS, "regression": MIN_VALUES}.get(clinical.kind or "", MIN_OF_CLASS)
    plain = {"survival": ("event", "events"), "regression": ("known value", "known values")}.get(clinical.kind or "")
    small = []
    for what, n in _sizes(clinical, patients)[1:]:
        if n < minima[part]:
            noun, nouns = plain or (f"patient of class {what}", f"patients of class {what}")
            plural = noun if n == 1 else nouns
            small.append((n, f"no {noun}" if n == 0 else f"only {n} {plural}, too few for stable metrics"))
    return small
