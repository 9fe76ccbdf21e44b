"""Counts the patients from the clinical table to the parts of a fold, and who is left out on the way and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dmml.evaluation.report.formatting import joined

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule

FITTED = {"train": "training", "val": "validation"}
OF_A_FOLD = {**FITTED, "test": "test"}
TESTED = {"test": "test"}
"""{part of the data module: its name in the flow}"""


def patient_flow(data: MultimodalDataModule, parts: Mapping[str, str]) -> dict[str, Any]:
    """Return the flow of the cohort's patients into some parts of it.

    Patients are kept if they have slides or RNA, whichever the model reads, and without an outcome, too; a validation
    patient needs an outcome.

    Args:
        data: Data module after `setup`.
        parts: The parts that are used, and their names.

    Returns:
        {cohort, fold, steps, parts}. A step is {name, n, left_out}: the patients it starts with, and those who do not
        reach the next step, as [{reason, n}]. A part is {name, n, counts}, with the numbers of its patients by what
        they have.
    """
    clinical, split = data.cohort.clinical, data.cohort.split
    listed = {patient for part in parts for patient in data.listed(part)}
    unused = 0 if split is None else len(split.unused)
    elsewhere = len(clinical.patients) - unused - len(listed)
    without_data = sum(not data.has_tissue(p) and not data.has_expression(p) for p in listed)
    used = {part: data.patients(part) for part in parts}
    without_outcome = len(listed) - without_data - len({p for patients in used.values() for p in patients})
    steps = [
        _step(
            "in the clinical table",
            len(clinical.patients),
            {"outside the split": unused, _elsewhere(data, parts): elsewhere},
        ),
        _step(
            f"listed for {joined(list(parts.values()))}",
            len(listed),
            {"neither slides nor RNA": without_data, "validation patients without a known outcome": without_outcome},
        ),
    ]
    return {
        "cohort": data.name,
        "fold": data.cohort.tested_fold,
        "steps": steps,
        "parts": [{"name": name, "n": len(used[part]), "counts": _counts(data, part)} for part, name in parts.items()],
    }


def _elsewhere(data: MultimodalDataModule, parts: Mapping[str, str]) -> str:
    fold = data.cohort.tested_fold
    others = [name for part, name in OF_A_FOLD.items() if part not in parts]
    return f"{' and '.join(others)} patients of fold {fold}" if others else f"not in fold {fold}"


def _step(name: str, n: int, left_out: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "n": n,
        "left_out": [{"reason": reason, "n": count} for reason, count in left_out.items() if count],
    }


def _counts(data: MultimodalDataModule, part: str) -> dict[str, int]:
    """Number of patients of a part with an outcome, slides and RNA, as far as the cohort has any, and of events."""
    names = {"with_outcome": "with outcome", "with_slides": "with slides", "with_rna": "with RNA", "events": "events"}
    counts = data.counts(part)
    return {name: counts[key] for key, name in names.items() if key in counts}
