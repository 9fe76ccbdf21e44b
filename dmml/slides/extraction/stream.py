"""Turns slides into features: batches extend across slides, so that the encoder never waits for the end of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.slides.extraction.encoded_slide import EncodedSlide, SlideInProgress
from dmml.slides.reading.reader_demand import ReaderDemand
from dmml.slides.reading.tile_reading import TileBatch
from dmml.slides.slide_error import SlideError
from dmml.slides.storage.lost_storage import STATE as STORAGE_LOST
from dmml.slides.tiling.layout import Layout, SlideRequest

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.reading.reader_pool import ReaderPool

_GROUPS_AHEAD = 6
"""Groups of tiles read ahead in addition to two per reader, so that the encoder has work while a slide is laid out"""
ReportProgress = Callable[[SlideRequest, int, int, int], None]
"""Function of a slide, its finished tiles, those finished by an earlier run, and all its tiles"""
LayOut = Callable[[SlideRequest], Future[Layout]]


def encode_slides(
    requests: Iterable[SlideRequest],
    encoder: Encoder,
    readers: ReaderPool,
    progress: ReportProgress | None = None,
    partial_file_of: Callable[[str], Path | None] = lambda slide_id: None,
    lay_out: LayOut | None = None,
    on_read: Callable[[SlideRequest], None] = lambda request: None,
) -> Iterator[EncodedSlide]:
    """Encode slides one after the other.

    Args:
        requests: Slides; taken from the iterable only a few ahead of the encoder.
        encoder: As returned by `load_encoder`.
        readers: Readers of the slides.
        progress: Called after every batch.
        partial_file_of: Returns the file that keeps the features of an unfinished slide, so that they need not be
            computed again if this process dies; None means no such file. See `PartialFeatures`.
        lay_out: Lays out a slide in the background; None means that the readers do at once.
        on_read: Called with each slide when its last tile was read, which may be long before it is encoded.

    Yields:
        Each slide once, as soon as it is done.
    """
    stream = _Stream(iter(requests), encoder, readers, progress, partial_file_of, lay_out, on_read)
    while stream.advance():
        while stream.finished:
            yield stream.finished.popleft()
    while stream.finished:
        yield stream.finished.popleft()


def encode_layout(
    request: SlideRequest,
    layout: Layout,
    encoder: Encoder,
    readers: ReaderPool,
    progress: ReportProgress | None = None,
    encoded: Mapping[int, np.ndarray] = MappingProxyType({}),
) -> EncodedSlide:
    """Encode a slide whose tiles have been chosen.

    Args:
        request: The slide.
        layout: Its tiles, which may be some of those that `ReaderPool.lay_out` returns.
        encoder: As returned by `load_encoder`.
        readers: Readers of the slide.
        progress: Called after every batch.
        encoded: {magnification: (N, D) features of all its tiles} that are not computed again.
    """
    stream = _Stream(iter(()), encoder, readers, progress, lambda slide_id: None)
    stream.begin(SlideInProgress(request, layout, encoder, None, encoded))
    while not stream.finished:
        stream.advance()
    return stream.finished.popleft()


@dataclass(frozen=True)
class _WaitingTile:
    """A tile in the batch that is being filled."""

    slide: SlideInProgress
    magnification: int
    row: int


class _Stream:
    """The state of the work: slides being laid out, tiles being read, tiles waiting for a full batch."""

    def __init__(
        self,
        requests: Iterator[SlideRequest],
        encoder: Encoder,
        readers: ReaderPool,
        progress: ReportProgress | None,
        partial_file_of: Callable[[str], Path | None],
        lay_out: LayOut | None = None,
        on_read: Callable[[SlideRequest], None] = lambda request: None,
    ):
        self.requests, self.encoder, self.readers, self.progress = requests, encoder, readers, progress
        self.partial_file_of = partial_file_of
        self.lay_out, self.on_read = lay_out or readers.lay_out, on_read
        self.demand = ReaderDemand(readers)
        self.layouts: deque[tuple[SlideRequest, Future[Layout]]] = deque()
        self.current: SlideInProgress | None = None
        self.reading: deque[tuple[SlideInProgress, Future[TileBatch]]] = deque()
        self.waiting: list[_WaitingTile] = []
        self.pixels = self._empty_batch()
        self.running: tuple[list[_WaitingTile], Sequence[Any]] | None = None
        self.finished: deque[EncodedSlide] = deque()

    def advance(self) -> bool:
        """Read one group of tiles and encode every batch that it fills; False when everything is done."""
        self._read_ahead()
        if self.reading:
            slide, future = self.reading.popleft()
            self._add_tiles(slide, future)
            return True
        self._encode()
        self._collect()
        return bool(self.layouts)

    def _read_ahead(self) -> None:
        """Keep the readers busy: request the next groups of tiles, and lay out the next slides."""
        while len(self.reading) < 2 * self.readers.n_readers + _GROUPS_AHEAD:
            group = None if self.current is None else next(self.current.groups, None)
            if self.current is not None and group is not None and self.current.error is None:
                self.reading.append((self.current, self.readers.read(self.current.request, group)))
                continue
            self.current = None
            # While there is nothing to encode, no reader lays out a second slide before it has read the first.
            self._lay_out(self.readers.n_readers)
            if not self.layouts or not (self.layouts[0][1].done() or not self.reading):
                break
            self._begin(*self.layouts.popleft())
        self._lay_out(self.readers.n_readers + 1)

    def _lay_out(self, ahead: int) -> None:
        """Request layouts until this many slides are laid out or in progress."""
        while len(self.layouts) < ahead and (request := next(self.requests, None)) is not None:
            self.layouts.append((request, self.lay_out(request)))

    def _begin(self, request: SlideRequest, future: Future[Layout]) -> None:
        try:
            layout = future.result()
        except SlideError as error:
            self.finished.append(EncodedSlide(request, error=error))
            return
        try:
            partial_file = self.partial_file_of(request.path.stem)
        except OSError:  # the later write to the store reports the problem with the path
            partial_file = None
        self.begin(SlideInProgress(request, layout, self.encoder, partial_file))

    def begin(self, slide: SlideInProgress) -> None:
        """Take a slide as the next one to read."""
        if slide.n_done == slide.n_tiles:  # an earlier run encoded it completely, and died before it was written
            self.on_read(slide.request)
            self._finish(slide)
        else:
            self.current = slide

    def _fail(self, slide: SlideInProgress, error: SlideError) -> None:
        slide.error = error
        if slide.partial is not None and error.state == STORAGE_LOST:
            slide.partial.close()  # what was encoded is used as soon as the rest of the slide can be read
        elif slide.partial is not None:
            slide.partial.remove()
        self.finished.append(EncodedSlide(slide.request, error=error))

    def _add_tiles(self, slide: SlideInProgress, future: Future[TileBatch]) -> None:
        """Add the tiles of a group to the batch, and encode the batch whenever it is full."""
        if slide.error is not None:
            future.cancel()
            return
        try:
            with self.demand.waiting_for_pixels():
                tiles = future.result()
            slide.count_read(tiles)
        except SlideError as error:
            self._fail(slide, error)
            return
        for magnification, row, pixels in zip(
            tiles.magnification.tolist(), tiles.row.tolist(), tiles.pixels, strict=True
        ):
            if slide.is_encoded[magnification][row]:  # by an earlier run, which did not finish this group
                continue
            self.pixels[len(self.waiting)] = pixels
            self.waiting.append(_WaitingTile(slide, magnification, row))
            if len(self.waiting) == len(self.pixels):
                self._encode()
        if slide is not self.current and all(other is not slide for other, _ in self.reading):
            self.on_read(slide.request)
        if slide.n_done == slide.n_tiles:  # its last tiles could not be decoded, and there is no batch to wait for
            self._finish(slide)

    def _encode(self) -> None:
        """Hand a batch to the encoder, and collect the features of the previous one."""
        with self.demand.waiting_for_features():  # not every encoder works in the background
            started = self.encoder.start(self.pixels[: len(self.waiting)]) if self.waiting else None
        self._collect()
        if started is not None:
            self.running = (self.waiting, started)
            self.waiting = []
            if len(self.pixels) != self.encoder.batch_size:  # memory did not suffice for the old size
                self.pixels = self._empty_batch()

    def _empty_batch(self) -> np.ndarray:
        return np.empty((self.encoder.batch_size, self.encoder.tile_px, self.encoder.tile_px, 3), np.uint8)

    def _collect(self) -> None:
        """Store the features of the batch that is being encoded."""
        if self.running is None:
            return
        (tiles, started), self.running = self.running, None
        with self.demand.waiting_for_features():
            features = self.encoder.finish(started)
        with np.errstate(over="ignore"):
            features = features.astype(np.float16)
        finite = np.isfinite(features).all(axis=1)
        parts: dict[tuple[int, int], tuple[SlideInProgress, list[int]]] = {}  # (slide, magnification) → rows of batch
        for index, tile in enumerate(tiles):
            parts.setdefault((id(tile.slide), tile.magnification), (tile.slide, []))[1].append(index)
        for (_, magnification), (slide, indices) in parts.items():
            if not finite[indices].all() and slide.error is None:
                self._fail(slide, self._not_finite(slide))
            slide.add_features(magnification, np.array([tiles[index].row for index in indices]), features[indices])
        if self.progress:
            last = tiles[-1].slide
            self.progress(last.request, last.n_done, last.n_resumed, last.n_tiles)
        for slide, _ in parts.values():
            if slide.n_done == slide.n_tiles and slide.error is None:
                self._finish(slide)

    def _not_finite(self, slide: SlideInProgress) -> SlideError:
        reason = (
            f"{slide.request.path}: --encoder {self.encoder.name} gave NaN or more than float16 holds for one of its "
            "tiles; try --precision 32, or another encoder"
        )
        return SlideError("not_finite", reason)

    def _finish(self, slide: SlideInProgress) -> None:
        if not slide.is_finished:
            slide.is_finished = True
            self.finished.append(slide.encoded_slide())
