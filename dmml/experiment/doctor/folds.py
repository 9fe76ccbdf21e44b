"""Counts patients and events in each part of each fold, and finds parts that are too small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from dmml.cohort.clinical.table import Clinical
from dmml.cohort.cohort import Cohort

FEWEST_EVENTS = {"train": 20, "val": 3, "test": 5}
"""Number of events of a part below which a fold is called small"""
FEWEST_OF_CLASS = {"train": 5, "val": 1, "test": 2}


def examine_folds(add: Callable[[str, str, str], None], cohort: Cohort) -> pd.DataFrame:
    """Count the patients of every fold, and report parts that are too small for training or evaluation.

    Args:
        add: Called with the part of the examination, a sentence, and `look` or `blocks`.
        cohort: The cohort, with or without a split.

    Returns:
        One row per fold: patients and events (or patients of each class) of its train, val and test.

    Raises:
        InputError: A fold has too few training patients to split off an inner validation.
    """
    rows = {}
    numbers = [cohort.fold] if cohort.split is None else sorted(cohort.split.folds)
    small = []
    for k in numbers:
        parts = replace(cohort, fold=k).partition("fit")._asdict()
        rows[k] = {f"{part} {what}": n for part, own in parts.items() for what, n in _sizes(cohort.clinical, own)}
        for part, own in parts.items():
            small += [(k, part, told) for told in _too_small(cohort.clinical, part, own)]
    blocking = [one for one in small if one[2].startswith("no ") and one[1] == "train"]
    for k, part, told in small:
        add("folds", f"fold {k}, {part}: {told}", "blocks" if (k, part, told) in blocking else "look")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("fold")


def _sizes(clinical: Clinical, own: list[str]) -> list[tuple[str, int]]:
    patients = clinical.patients.loc[own]
    if clinical.kind == "survival":
        return [("patients", len(own)), ("events", int(patients["event"].sum()))]
    if clinical.kind == "classification":
        counts = patients["label"].value_counts()
        return [("patients", len(own)), *((label, int(counts.get(label, 0))) for label in clinical.classes)]
    return [("patients", len(own))]


def _too_small(clinical: Clinical, part: str, own: list[str]) -> list[str]:
    limits = FEWEST_EVENTS if clinical.kind == "survival" else FEWEST_OF_CLASS
    noun = "event" if clinical.kind == "survival" else None
    told = []
    for what, n in _sizes(clinical, own)[1:]:
        if n < limits[part]:
            name = noun or f"patient of class {what}"
            told.append(
                f"no {name}" if n == 0 else f"{n} {name}{'s' if n > 1 and noun else ''} only, figures of it vary"
            )
    return told
