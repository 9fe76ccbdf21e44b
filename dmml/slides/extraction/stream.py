"""Turns slides into features: batches extend across slides, so that the encoder never waits for the end of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.slides.extraction.partial_features import Draft, digest_of
from dmml.slides.tiling.grid import TILE_PX, Tiles
from dmml.slides.tiling.layout import Layout, SlideRequest
from dmml.slides.tiling.tile_reading import ReadTiles, Unit, units_of
from dmml.slides.wsi.mpp import SlideError
from dmml.slides.wsi.reader import MOST_UNREADABLE

if TYPE_CHECKING:
    from dmml.slides.encoders.build import Encoder
    from dmml.slides.wsi.readers import Readers
    from dmml.store import SlideFeatures

_UNITS_AHEAD = 6
"""Units read ahead in addition to two per reader, so that the encoder has work while a slide is laid out"""


@dataclass
class EncodedSlide:
    """The outcome for a slide: its features, or the error that prevented them."""

    request: SlideRequest
    bags: dict[int, SlideFeatures] = field(default_factory=dict)
    layout: Layout | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    error: SlideError | None = None
    known: int = 0
    """Number of tiles that an earlier, interrupted run had already encoded"""
    draft: Draft | None = None
    """File to remove when the slide is in the store"""


class _Work:
    """A slide that is being encoded."""

    def __init__(self, request: SlideRequest, layout: Layout, encoder: Encoder, draft: Path | None):
        self.request, self.layout, self.draft = request, layout, None
        self.features = {m: np.zeros((len(t), encoder.dim), np.float16) for m, t in layout.tiles.items()}
        self.read = {m: np.zeros(len(t), bool) for m, t in layout.tiles.items()}
        self.total = sum(len(t) for t in layout.tiles.values())
        self.handed = self.done = self.lost = 0
        self.finished = False
        self.error: SlideError | None = None
        if draft is not None:
            counts = {magnification: len(tiles) for magnification, tiles in layout.tiles.items()}
            self.draft = Draft(draft, digest_of(layout, encoder), counts, encoder.dim, self._keep)
        self.done = self.known = sum(int(read.sum()) for read in self.read.values())
        self.units: Iterator[Unit] = filter(self._is_open, units_of(layout.tiles))

    def _is_open(self, unit: Unit) -> bool:
        """Whether some tile of a unit has not been encoded yet."""
        coarse, fine = self.read[min(self.read)], self.read[max(self.read)]
        return not (coarse[unit.row].all() and fine[unit.child_row].all())

    def _keep(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        self.features[magnification][rows] = features
        self.read[magnification][rows] = True

    def encoded(self, magnification: int, rows: np.ndarray, features: np.ndarray) -> None:
        """Store the (n, D) features of tiles."""
        self._keep(magnification, rows, features)
        self.done += len(rows)
        if self.draft is not None and self.error is None:
            self.draft.add(magnification, rows, features)

    def take(self, tiles: ReadTiles) -> None:
        """Count the tiles that were read.

        Raises:
            SlideError: Too much of the slide cannot be decoded.
        """
        self.handed += len(tiles.row) + tiles.lost
        self.lost += tiles.lost
        self.done += tiles.lost
        if self.lost > MOST_UNREADABLE * self.total:
            raise SlideError(
                "unreadable",
                f"{self.request.path}: {self.lost} of the first {self.handed} tiles cannot be decoded; fetch it again",
            )


def encode_slides(
    requests: Iterable[SlideRequest],
    encoder: Encoder,
    readers: Readers,
    progress: Callable[[SlideRequest, int, int, int], None] | None = None,
    draft_of: Callable[[str], Path | None] = lambda slide_id: None,
) -> Iterator[EncodedSlide]:
    """Encode slides one after the other.

    Args:
        requests: Slides; taken from the iterable only a few ahead of the encoder.
        encoder: As returned by `load_encoder`.
        readers: Readers of the slides.
        progress: Called after every batch with (slide, its finished tiles, those finished by an earlier run, all its
            tiles).
        draft_of: Returns the file that keeps the features of an unfinished slide, so that they need not be computed
            again if this process dies; None means no such file. See `Draft`.

    Yields:
        Each slide once, as soon as it is done.
    """
    flow = _Flow(iter(requests), encoder, readers, progress, draft_of)
    while flow.advance():
        while flow.ready:
            yield flow.ready.popleft()
    while flow.ready:
        yield flow.ready.popleft()


class _Flow:
    """The state of a stream: slides being laid out, units being read, tiles waiting for a full batch."""

    def __init__(self, requests: Iterator[SlideRequest], encoder: Encoder, readers: Readers, progress, draft_of):
        self.requests, self.encoder, self.readers, self.progress = requests, encoder, readers, progress
        self.draft_of = draft_of
        self.planned: deque[tuple[SlideRequest, Future]] = deque()
        self.current: _Work | None = None
        self.reading: deque[tuple[_Work, Future]] = deque()
        self.waiting: list[tuple[_Work, int, int]] = []
        self.tiles = np.empty((encoder.batch_size, TILE_PX, TILE_PX, 3), np.uint8)
        self.running: tuple[list[tuple[_Work, int, int]], Any] | None = None
        self.ready: deque[EncodedSlide] = deque()

    def advance(self) -> bool:
        """Read one unit and encode every batch that it fills; False when everything is done."""
        self._look_ahead()
        if self.reading:
            work, future = self.reading.popleft()
            self._take(work, future)
            return True
        self._encode()
        self._collect()
        return bool(self.planned)

    def _look_ahead(self) -> None:
        """Keep the readers busy: request the next units, and lay out the next slides."""
        while len(self.reading) < 2 * self.readers.width + _UNITS_AHEAD:
            unit = None if self.current is None else next(self.current.units, None)
            if self.current is not None and unit is not None and self.current.error is None:
                self.reading.append((self.current, self.readers.submit("read", self.current.request, unit)))
                continue
            self.current = None
            # While there is nothing to encode, no reader lays out a second slide before it has read the first.
            self._plan(self.readers.width)
            if not self.planned or not (self.planned[0][1].done() or not self.reading):
                break
            self._begin(*self.planned.popleft())
        self._plan(self.readers.width + 1)

    def _plan(self, ahead: int) -> None:
        """Request layouts until this many slides are laid out or in progress."""
        while len(self.planned) < ahead and (request := next(self.requests, None)) is not None:
            self.planned.append((request, self.readers.submit("plan", request)))

    def _begin(self, request: SlideRequest, future: Future) -> None:
        try:
            layout: Layout = future.result()
        except SlideError as error:
            self.ready.append(EncodedSlide(request, error=error))
            return
        try:
            draft = self.draft_of(request.path.stem)
        except OSError:  # the later write to the store reports the problem with the path
            draft = None
        work = _Work(request, layout, self.encoder, draft)
        if work.done == work.total:  # an earlier run encoded it completely, and died before it was written
            self._finish(work)
        else:
            self.current = work

    def _fail(self, work: _Work, error: SlideError) -> None:
        work.error = error
        if work.draft is not None:
            work.draft.remove()
        self.ready.append(EncodedSlide(work.request, error=error))

    def _take(self, work: _Work, future: Future) -> None:
        if work.error is not None:
            future.cancel()
            return
        try:
            tiles: ReadTiles = future.result()
            work.take(tiles)
        except SlideError as error:
            self._fail(work, error)
            return
        for magnification, row, pixels in zip(
            tiles.magnification.tolist(), tiles.row.tolist(), tiles.pixels, strict=True
        ):
            if work.read[magnification][row]:  # encoded by an earlier run, which did not finish this unit
                continue
            self.tiles[len(self.waiting)] = pixels
            self.waiting.append((work, magnification, row))
            if len(self.waiting) == len(self.tiles):
                self._encode()
        if work.done == work.total:  # its last tiles were lost, and there is no batch to wait for
            self._finish(work)

    def _encode(self) -> None:
        """Hand a batch to the encoder, and collect the features of the previous one."""
        started = self.encoder.start(self.tiles[: len(self.waiting)]) if self.waiting else None
        self._collect()
        if started is not None:
            self.running = (self.waiting, started)
            self.waiting = []
            if len(self.tiles) != self.encoder.batch_size:  # memory did not suffice for the old size
                self.tiles = np.empty((self.encoder.batch_size, TILE_PX, TILE_PX, 3), np.uint8)

    def _collect(self) -> None:
        if self.running is None:
            return
        (whose, started), self.running = self.running, None
        values = self.encoder.finish(started)
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
        finite = np.isfinite(values).all(axis=1)
        parts: dict[tuple[int, int], tuple[_Work, list[int]]] = {}  # (slide, magnification) → positions in the batch
        for place, (work, magnification, _) in enumerate(whose):
            parts.setdefault((id(work), magnification), (work, []))[1].append(place)
        for (_, magnification), (work, places) in parts.items():
            if not finite[places].all() and work.error is None:
                reason = (
                    f"{work.request.path}: --encoder {self.encoder.name} gave NaN or more than float16 holds for a tile "
                    "of it; try --precision 32, or another encoder"
                )
                self._fail(work, SlideError("not_finite", reason))
            work.encoded(magnification, np.array([whose[place][2] for place in places]), values[places])
        if self.progress:
            last = whose[-1][0]
            self.progress(last.request, last.done, last.known, last.total)
        for work, _ in parts.values():
            if work.done == work.total and work.error is None:
                self._finish(work)

    def _finish(self, work: _Work) -> None:
        if work.finished:
            return
        work.finished = True
        bags = _bags(work.layout.tiles, work.features, work.read)
        attributes = {
            **work.layout.attributes,
            "tiles": {str(m): len(bag.features) for m, bag in bags.items()},
            "tiles_unreadable": work.lost,
        }
        self.ready.append(EncodedSlide(work.request, bags, work.layout, attributes, known=work.known, draft=work.draft))


def _bags(
    tiles: dict[int, Tiles], features: dict[int, np.ndarray], read: dict[int, np.ndarray]
) -> dict[int, SlideFeatures]:
    """Leave out the tiles that were not read; a fine tile whose parent was left out has parent −1."""
    from dmml.store import SlideFeatures

    bags = {}
    for magnification, kept in read.items():
        parent = tiles[magnification].parent
        if parent is not None:
            alive = read[magnification // 2]
            row = np.where(alive, np.cumsum(alive) - 1, -1).astype(np.int32)
            parent = row[parent][kept]
        whole = (
            features[magnification] if kept.all() else features[magnification][kept]
        )  # avoids a second copy of a large slide
        bags[magnification] = SlideFeatures(whole, tiles[magnification].position[kept], parent)
    return bags
