"""Encodes the slides of a patient in the background, while the answer of the patient before is drawn and written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.experiment.predict_slide.encoding.tile_budget import parents_within
from dmml.experiment.predict_slide.encoding.tile_choice import TileChoice
from dmml.experiment.predict_slide.input import Case
from dmml.slides.tokens import tokens_of_slide

if TYPE_CHECKING:
    from dmml.experiment.load_model import CheckpointModel
    from dmml.experiment.predict_slide.maps import Thumbnail
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.stains.stains import StainNormalization
    from dmml.store import SlideFeatures

Progress = Callable[[str, int, int], None]
"""Called with (slide, encoded tiles, all tiles of the slide)"""


@dataclass(frozen=True)
class EncodedCase:
    """The encoded slides of one patient."""

    bags: dict[str, dict[int, SlideFeatures]] = field(default_factory=dict)
    """{slide: {magnification: features}}"""
    thumbnails: list[Thumbnail] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Attributes of each slide"""

    @property
    def tile_um(self) -> dict[int, float]:
        """{magnification: side of a tile in µm}, the same on all slides."""
        return {int(m): float(um) for m, um in self.sources[0]["tile_um"].items()}


def encode_case(
    case: Case,
    progress: Progress,
    model: CheckpointModel,
    encoder: Encoder,
    tiles: TileChoice,
    stains: StainNormalization | None,
    mpp: float | None,
) -> EncodedCase:
    """Encode the slides of a patient.

    Raises:
        SlideError: One of them cannot be used.
    """
    from dmml.experiment.predict_slide.maps import Thumbnail

    encoded = EncodedCase()
    for path in case.slides:
        bags, thumbnail, attributes = tokens_of_slide(
            path,
            encoder,
            mpp,
            model.module.magnifications,
            progress=partial(progress, path.stem),
            tissue=tiles.tissue,
            min_tissue=tiles.min_tissue,
            stain_normalization=stains,
            roi=tiles.roi,
            choose_parents=parents_within(tiles.budget, model.module),
        )
        encoded.bags[path.stem] = bags
        picture = np.ascontiguousarray(thumbnail[..., :3])
        encoded.thumbnails.append(Thumbnail(path.stem, picture, attributes["thumbnail_mpp"]))
        encoded.sources.append({"slide_id": path.stem, **attributes})
    return encoded


class EncodedAhead:
    """Patients in order, each with the future of its encoded slides; at most one patient is encoded ahead.

    A context manager: on leaving it early, the work in the background ends after the batch that is being encoded.

    Args:
        cases: The patients, at least one.
        encode: Encodes the slides of a patient; called with the patient and a `Progress`, in another thread.
        progress: Called while a slide is encoded, in that thread.
    """

    def __init__(
        self, cases: Sequence[Case], encode: Callable[[Case, Progress], EncodedCase], progress: Progress | None
    ):
        self._cases, self._encode, self._progress = cases, encode, progress
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._is_left = threading.Event()

    def __enter__(self) -> EncodedAhead:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_left.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[Case, Future[EncodedCase]]]:
        following = self._submit(0)
        for index, case in enumerate(self._cases):
            encoded = following
            wait([encoded])
            if index + 1 < len(self._cases):
                following = self._submit(index + 1)
            yield case, encoded

    def _submit(self, index: int) -> Future[EncodedCase]:
        return self._thread.submit(self._encode, self._cases[index], self._report)

    def _report(self, slide: str, done: int, total: int) -> None:
        if self._is_left.is_set():
            raise CancelledError
        if self._progress is not None:
            self._progress(slide, done, total)
