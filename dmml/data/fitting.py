"""What evaluation later needs of the training patients' follow-up, fitted on them alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dmml.cohort.file_hashes import file_hashes
from dmml.tasks.survival import HORIZONS


def censoring_curve(outcome: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Kaplan–Meier estimate G(t) of the censoring distribution, as a step function.

    Args:
        outcome: `time` in days and `event`, NaN where unknown.

    Returns:
        {"time": [...], "survival": [...]}; G steps down to `survival[i]` at `time[i]`. A death and a censoring on one
        day count as death first.
    """
    time, event = known_outcome(outcome)
    days = np.unique(time)
    at_risk = (time[None, :] >= days[:, None]).sum(1)
    died = ((time[None, :] == days[:, None]) & (event[None, :] > 0)).sum(1)
    censored = ((time[None, :] == days[:, None]) & (event[None, :] == 0)).sum(1)
    survival = np.cumprod(1 - censored / np.maximum(at_risk - died, 1))
    return {"time": days.tolist(), "survival": survival.tolist()}


def horizons_reached(outcome: Mapping[str, np.ndarray], share: float = 0.1) -> list[float]:
    """Those of 1, 3 and 5 years at which at least `share` of the training patients are still at risk."""
    time, _ = known_outcome(outcome)
    return [day for day in HORIZONS if len(time) and (time >= day).mean() >= share]


def known_outcome(outcome: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Days and events of patients who have both.

    Days are rounded to float32, as a model is given them and `predictions.csv` has them: a day that was computed from
    months must fall on the same step of the censoring curve on both sides.
    """
    time, event = (np.asarray(outcome[name], dtype=np.float32).astype(float) for name in ("time", "event"))
    known = ~(np.isnan(time) | np.isnan(event))
    return time[known], event[known]


def content_hashes(
    section: Mapping[str, Any], parts: Mapping[str, Sequence[str]], digests: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Hashes of the tables and the feature store that a run was made from, and of who was in which part.

    Args:
        section: The data section.
        parts: {part: patient ids}.
        digests: {path of a store: hash}, of those that are open already.
    """
    split = "|".join(f"{part}:{','.join(sorted(patients))}" for part, patients in sorted(parts.items()))
    return file_hashes(section, digests) | {"partition": hashlib.sha256(split.encode()).hexdigest()[:16]}
