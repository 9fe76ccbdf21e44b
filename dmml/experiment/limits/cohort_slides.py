"""Summaries of the slides of a cohort's patients, to fit limits to them or to judge them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.evaluation.limits.slide_limits import fit_slide_limits, judge_slide
from dmml.evaluation.limits.slide_summary import SlideSummary, summarise_slide
from dmml.slides.wsi.mpp import FROM_MANIFEST, FROM_OPTION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dmml.data.module import MultimodalDataModule

MAX_PATIENTS = 1_000
"""Maximum number of training patients; the limits of more hardly differ"""
BY_HAND = (FROM_OPTION, FROM_MANIFEST)


def training_slide_limits(data: MultimodalDataModule) -> dict[str, Any]:
    """Fit the limits to the slides of the training patients, and of no others; {} for a cohort without tiles of slides.

    Args:
        data: Data module after `setup("fit")`; one of a user's own may lack a store.
    """
    if not _has_tiles(data):
        return {}
    patients = [patient for patient in data.patients("train") if data.has_tissue(patient)]
    if len(patients) > MAX_PATIENTS:
        patients = [patients[i] for i in np.linspace(0, len(patients) - 1, MAX_PATIENTS).astype(int)]
    slides = list(summaries(data, patients))
    if not slides:
        return {}
    encoder = data.store.attributes["encoder"] if data.store is not None else {}
    limits = fit_slide_limits([patient for patient, _ in slides], [summary for _, summary in slides])
    return limits | {"encoder": {key: encoder.get(key) for key in ("name", "weights")}}


def count_unlike(data: MultimodalDataModule, patients: Sequence[str], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Count the patients with a slide that is unlike the training slides.

    Args:
        data: Data module after `setup`.
        patients: The patients.
        limits: From `training_slide_limits`.

    Returns:
        `n` and `of`, the patients with slides; {} if the limits have no threshold or the cohort has no tiles.
    """
    if not _has_tiles(data) or limits.get("threshold") is None:
        return {}
    unlike: dict[str, bool] = {}
    for patient, summary in summaries(data, patients):
        unlike[patient] = unlike.get(patient, False) or judge_slide(limits, summary).is_unlike
    return {"n": sum(unlike.values()), "of": len(unlike)}


def summaries(data: MultimodalDataModule, patients: Sequence[str]) -> Iterator[tuple[str, SlideSummary]]:
    """Yield (patient, summary) of every slide of the patients; a slide is read once, one magnification at a time."""
    store = data.store
    if store is None:
        return
    for patient in patients:
        for slide in data.reader.slides.get(patient, []):
            bags = {m: store.read(slide, m) for m in data.magnifications}
            yield (
                patient,
                summarise_slide(bags, store.thumbnail(slide), store.slide_attributes(slide), BY_HAND),
            )


def _has_tiles(data: MultimodalDataModule) -> bool:
    store = getattr(data, "store", None)
    return store is not None and hasattr(data, "reader") and not store.holds_vectors
