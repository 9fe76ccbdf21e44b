"""The expensive part of an extraction, which takes slides through readers and encoder into the store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from dmml.slides.discovery.discover import Discovery
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.encoder import Encoder, cuda_is_available
from dmml.slides.extraction.continued_backend import backend_to_load, check_continued_backend
from dmml.slides.extraction.estimate import Estimate, estimate
from dmml.slides.extraction.finish import record_failures_so_far
from dmml.slides.extraction.job import ExtractionJob
from dmml.slides.extraction.options import open_for_writing
from dmml.slides.extraction.progress import Progress
from dmml.slides.extraction.slide_locks import SlideLocks
from dmml.slides.extraction.slide_writer import SlideWriter
from dmml.slides.extraction.stream import EncodedSlide, encode_slides
from dmml.slides.failures import Failure
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.slide_error import SlideError
from dmml.slides.staging.download import STATE as NOT_DOWNLOADED
from dmml.slides.storage.lost_storage import STATE as STORAGE_LOST
from dmml.slides.tiling.layout import SlideRequest
from dmml.store import FeatureStore, is_store
from dmml.store.backends import backend_of

_MIN_PAUSE = 20
"""Shortest pause between two writes of the list of failures, in durations of the last write"""


def dry_run(discovery: Discovery, job: ExtractionJob, readers: ReaderPool) -> Estimate:
    """Estimate what an extraction would do."""
    requests = [job.request(path) for path in discovery.usable]
    return estimate(requests, _load_encoder(job), job, readers)


def encode_usable(
    discovery: Discovery, job: ExtractionJob, locks: SlideLocks, readers: ReaderPool
) -> FeatureStore | None:
    """Encode the slides that can be used, write them, and add to the job's result.

    Returns:
        The store, or None if nothing was written and no store existed.
    """
    encoder = _load_encoder(job)
    batch_size = encoder.batch_size
    encoder.batch_size = job.options.batch_size or batch_size
    slides = _SlidesToStore(discovery, job, locks, encoder, readers)
    start = time.perf_counter()
    try:
        slides.encode()
    finally:
        slides.writer.close()
        encoder.batch_size = batch_size  # the encoder may belong to the caller
    job.result.seconds = time.perf_counter() - start
    if locks.unsupported:
        job.result.warnings.append(
            f"{job.out} is on a file system without file locks: processes that run at the same time need --shard, "
            "otherwise they extract the same slides twice"
        )
    return slides.writer.store


class _SlidesToStore:
    """Takes slides one by one, unless another process has them, and counts what becomes of each."""

    def __init__(
        self,
        discovery: Discovery,
        job: ExtractionJob,
        locks: SlideLocks,
        encoder: Encoder,
        readers: ReaderPool,
    ):
        self.discovery, self.job, self.locks, self.encoder, self.readers = discovery, job, locks, encoder, readers
        self.writer = SlideWriter(self._open_store, self._count_written)
        self.storage = job.storage_watch(readers)
        self.remaining = deque(discovery.usable)
        """Slides that have not been taken yet"""
        self.lost: list[Path] = []
        """Slides whose storage did not answer, for another attempt after all others"""
        self.had_second_attempt: set[Path] = set()
        self._next_record = 0.0

    def encode(self) -> None:
        """Encode all slides and write them."""
        with Progress(len(self.discovery.usable)) as progress:
            try:
                while self.remaining:
                    self._encode_remaining(progress)
                    self.remaining, self.lost = deque(self.lost), []
                self.writer.finish()
            except SlideError as error:  # the disk is full: written slides stay, and no more can be written
                file = _slide_named_in(str(error), self.discovery.usable)
                self.job.result.failures.append(
                    Failure(self.job.with_urls(file), error.state, self.job.with_urls(str(error)))
                )

    def _encode_remaining(self, progress: Progress) -> None:
        def report(request: SlideRequest, done: int, resumed: int, total: int) -> None:
            progress.tile(request.path.stem, done, resumed, total)

        partial_file = backend_of(self.job.out).partial_file
        lay_out = self.job.lay_out(self.readers)
        slides = encode_slides(
            self._requests(), self.encoder, self.readers, report, partial_file, lay_out, self._release_read
        )
        for slide in slides:
            if slide.error is not None:
                self._count_failure(slide, slide.error)
                if slide.request.path in self.lost:
                    continue
            else:
                self.writer.write(slide)
            progress.slide(sum(len(bag.features) for bag in slide.bags.values()) - slide.resumed_tiles)

    def _release_read(self, request: SlideRequest) -> None:
        self.job.release(request.path, was_read=True)

    def _requests(self) -> Iterator[SlideRequest]:
        result = self.job.result
        while self.remaining:
            path = self.remaining.popleft()
            if not self.locks.acquire(path.stem):
                result.locked.append(path.stem)
            elif self._was_written_meanwhile(path):
                result.skipped.append(path.stem)
                self.locks.release(path.stem)
            else:
                if path in self.had_second_attempt:  # its first failure counts no more
                    file = self.job.with_urls(str(path))
                    result.failures[:] = [failure for failure in result.failures if failure.file != file]
                yield self.job.request(path)

    def _was_written_meanwhile(self, path: Path) -> bool:
        """Whether another process has written a slide since this run began."""
        if self.writer.store is None and is_store(self.job.out):  # this or another process has created it
            self.writer.store = self._open_store()
        store = self.writer.store
        if store is None or path.stem not in store:
            return False
        if self.job.options.overwrite:
            return store.written_at(path.stem) != self.job.written_at.get(path.stem)
        try:
            return self.job.is_same_file(path, store.slide_attributes(path.stem))
        except (OSError, SlideError):  # its reader will say what is wrong with the file
            return False

    def _open_store(self) -> FeatureStore:
        job = self.job
        store = open_for_writing(job.out, self.encoder, job.magnifications, job.options, job.stain_normalization)
        check_continued_backend(store, self.encoder, job.options)  # another process may have created it
        return store

    def _count_written(self, slide: EncodedSlide) -> None:
        result, slide_id = self.job.result, slide.request.path.stem
        result.written.append(slide_id)
        result.tiles += sum(len(bag.features) for bag in slide.bags.values())
        result.resumed_tiles += slide.resumed_tiles
        if notes := slide.attributes.get("notes"):
            result.notes[slide_id] = notes
        if slide.partial is not None:
            slide.partial.remove()
        self.job.release(slide.request.path)
        self.locks.release(slide_id)

    def _count_failure(self, slide: EncodedSlide, error: SlideError) -> None:
        path = slide.request.path
        self.job.release(path)
        self.job.result.failures.append(self.job.failure(path, error))
        self._record_failures()
        if error.state in (STORAGE_LOST, NOT_DOWNLOADED):
            self.storage.wait(path, [*self.remaining, *self.lost])
            if path not in self.had_second_attempt:
                self.had_second_attempt.add(path)
                self.lost.append(path)

    def _record_failures(self) -> None:
        """Write the list of failures, unless it was written a moment ago.

        The whole list is written each time: a long one must not take more than a small share of the time.
        """
        start = time.perf_counter()
        if start >= self._next_record:
            record_failures_so_far(self.job.result, self.locks)
            end = time.perf_counter()
            self._next_record = end + _MIN_PAUSE * (end - start)


def _load_encoder(job: ExtractionJob) -> Encoder:
    encoder, options, shard = job.options.encoder, job.options, job.shard
    if isinstance(encoder, str):
        device = None
        if shard is not None and shard.source != "--shard" and cuda_is_available():
            import torch

            device = f"cuda:{shard.local % torch.cuda.device_count()}"
        backend = backend_to_load(job.store, options)
        encoder = load_encoder(
            encoder, options.weights, device, options.precision, options.compiled, backend, options.side_px
        )
    if job.store is not None:
        check_continued_backend(job.store, encoder, options)
    if options.batch_size is None:
        encoder.find_batch_size()
    return encoder


def _slide_named_in(reason: str, slides: list[Path]) -> str:
    """Return the slide whose path a reason begins with; empty if no slide's does."""
    return next((str(path) for path in slides if reason.startswith(f"{path}: ")), "")
