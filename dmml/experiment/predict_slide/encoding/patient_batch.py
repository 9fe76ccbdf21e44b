"""Makes a batch of one patient from encoded slides in memory, as the loaders make batches from a feature store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from dmml.data.collate import Collate
from dmml.data.dataset import PatientReader

if TYPE_CHECKING:
    from dmml.store import SlideFeatures
    from dmml.types import Batch


class _EncodedSlides:
    """Encoded slides in memory, with the members through which a feature store is read."""

    def __init__(self, slides: Mapping[str, Mapping[int, SlideFeatures]]):
        self._slides = slides
        self.attributes = {"magnifications": sorted({m for bags in slides.values() for m in bags})}

    def whole(self, slide_ids: Iterable[str]) -> list[str]:
        return [slide for slide in slide_ids if slide in self._slides]

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        return self._slides[slide_id].get(magnification)


def patient_batch(
    patient: str, slides: Mapping[str, Mapping[int, SlideFeatures]], magnifications: Sequence[int]
) -> Batch:
    """Collate one patient without RNA and outcome, joined and padded as in training.

    Args:
        patient: Id of the patient.
        slides: {slide: {magnification: features}}; a magnification may be missing.
        magnifications: Magnifications of the model.
    """
    reader = PatientReader(_EncodedSlides(slides), {patient: list(slides)}, magnifications, cache_gib=0)  # type: ignore[arg-type]
    collate = Collate(magnifications, [patient], {}, torch.zeros(1, dtype=torch.bool), {})
    return collate([reader.read(patient)])
