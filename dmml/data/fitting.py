"""Quantities besides the task that are fitted on training patients' outcomes, and checks that a fit is possible."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.cohort.clinical.follow_up import censoring_curve, horizons_reached
from dmml.cohort.file_hashes import file_hashes
from dmml.errors import InputError
from dmml.tasks.base import Task
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


def fit_task(task: Task, data: MultimodalDataModule) -> None:
    """Fit a task to the training patients, and refuse data with which training cannot start.

    Args:
        task: Task of the model, fitted in place.
        data: Data module after `setup("fit")`.

    Raises:
        InputError: There are too few patients or events, there is no usable patient for training or inner validation,
            or one of these patients has an outcome that the task does not know.
    """
    outcome = data.training_outcome()
    check_outcome(task, data)
    for part in ("train", "val"):
        check_part(data, part)
    task.fit(outcome)
    if task.fit_warning:
        data.log_line(f"{data.name}: {task.fit_warning}", logging.WARNING)
    task.check_batch(data.mean_batch(), outcome)
    for part in ("train", "val"):
        task.encode(data.outcome(data.patients(part)))


def check_outcome(task: Task, data: MultimodalDataModule) -> None:
    """Refuse a cohort whose outcome is of another kind than the task's.

    Args:
        task: Task of the model.
        data: Data module after `setup`, with an outcome.

    Raises:
        InputError: The cohort has times to an event and the task learns labels, or the other way round.
    """
    columns, needed = data.outcome([]), getattr(task, "outcome", ())
    if columns and (missing := [name for name in needed if name not in columns]):
        raise InputError(
            f"{data.config.clinical}: data.outcome gives {' and '.join(columns)}, and the task {type(task).__name__} "
            f"needs {' and '.join(missing)}; give data.outcome of that kind, or a model of another task"
        )


def check_part(data: MultimodalDataModule, part: str) -> None:
    """Refuse a part of a fold that has no usable patient.

    Args:
        data: Data module after `setup`.
        part: `train`, `val` or `test`.

    Raises:
        InputError: No patient is usable; the message says whether the split lists none, or the listed patients have no
            data or no outcome.
    """
    if data.patients(part):
        return
    listed = data.listed(part)
    if not listed:
        reason = "the split has none; see data.split"
    elif not any(data.has_tissue(patient) or data.has_expression(patient) for patient in listed):
        reason = f"none of {len(listed)} has slides in the store or RNA ({listed[0]}, …); see data.features and data.expression"
    else:
        reason = f"none of {len(listed)} has a known outcome ({listed[0]}, …); see data.outcome"
    raise InputError(f"{data.config.clinical}: no patient for {part}: {reason}")


def count_patients(data: MultimodalDataModule, part: str) -> dict[str, int]:
    """Count the usable patients of a part, those with slides, RNA and outcome, their events, and those left out."""
    used = data.patients(part)
    outcome = data.outcome(used)
    counts = {
        "patients": len(used),
        "with_slides": sum(map(data.has_tissue, used)),
        "with_rna": sum(map(data.has_expression, used)),
        "with_outcome": int(data.cohort.clinical.observed[used].sum()),
    }
    if "event" in outcome:
        counts["events"] = int(np.nansum(outcome["event"].astype(float)))
    return counts | {"left_out": len(data.listed(part)) - len(used)}


def training_statistics(data: MultimodalDataModule, genes: Mapping[str, list[str]]) -> dict[str, Any]:
    """Everything besides the task that is fitted on training patients, in plain Python, as a checkpoint holds it.

    Args:
        data: Data module after `setup("fit")`.
        genes: {subspace: genes that the model reads}.
    """
    train = data.patients("train")
    time, event = follow_up(data.outcome(train))
    rna, store = data.rna, data.store
    return {
        "gene_statistics": {} if rna is None else {s: rna.fit(train, genes[s]) for s in SUBSPACES if genes.get(s)},
        "feature_statistics": data.feature_statistics(train),
        "encoder": {} if store is None else store.attributes["encoder"],
        "extraction": {} if store is None else store.attributes.get("extraction") or {},
        "tile_px": None if store is None or store.holds_vectors else store.attributes["tile_px"],
        "censoring": None if time is None or event is None else censoring_curve(time, event).plain(),
        "horizons": None if time is None else horizons_reached(time),
        "cohort": data.name,
        "fold": data.cohort.tested_fold,
        "gene_choice": None if data.cohort.gene_choice is None else str(data.cohort.gene_choice),
        "n_training": len(train),
        "hashes": data.hashes({part: data.patients(part) for part in ("train", "val", "test", "outer_test")}),
    }


def follow_up(outcome: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Days and events of the patients for whom both are known; (None, None) for another kind of outcome.

    Days are rounded to float32, the precision of model targets and `predictions.csv`: a day that was computed from
    months must fall on the same step of the censoring curve when it is fitted and when it is used.

    Args:
        outcome: `time` in days and `event`, NaN where unknown; or another outcome.
    """
    if "time" not in outcome:
        return None, None
    time, event = (np.asarray(outcome[name], dtype=np.float32).astype(float) for name in ("time", "event"))
    observed = ~(np.isnan(time) | np.isnan(event))
    return time[observed], event[observed]


def content_hashes(
    section: Mapping[str, Any], parts: Mapping[str, Sequence[str]], digests: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Hashes of the tables and feature stores that a run was made from, and of its partition of the patients.

    Args:
        section: Data section of the config.
        parts: {part: patient ids}.
        digests: {path of a store: hash} of the stores that are already open.
    """
    split = "|".join(f"{part}:{','.join(sorted(patients))}" for part, patients in sorted(parts.items()))
    return file_hashes(section, digests) | {"partition": hashlib.sha256(split.encode()).hexdigest()[:16]}
