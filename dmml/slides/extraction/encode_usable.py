"""The expensive part of an extraction, which takes slides through readers and encoder into the store."""

from __future__ import annotations

import time
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
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.wsi.file_identity import is_same_file
from dmml.store import FeatureStore, is_store
from dmml.store.backends import backend_of

_MIN_PAUSE = 20
"""Shortest pause between two writes of the list of failures, in durations of the last write"""


def dry_run(discovery: Discovery, job: ExtractionJob, readers: ReaderPool) -> Estimate:
    """Estimate what an extraction would do."""
    requests = [job.request(path) for path in discovery.usable]
    return estimate(requests, _load_encoder(job), readers, job.out)


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
    slides = _SlidesToStore(discovery, job, locks, encoder)
    start = time.perf_counter()
    try:
        slides.encode(readers)
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

    def __init__(self, discovery: Discovery, job: ExtractionJob, locks: SlideLocks, encoder: Encoder):
        self.discovery, self.job, self.locks, self.encoder = discovery, job, locks, encoder
        self.writer = SlideWriter(self._open_store, self._count_written)
        self._next_record = 0.0

    def encode(self, readers: ReaderPool) -> None:
        """Encode all slides and write them."""
        with Progress(len(self.discovery.usable)) as progress:

            def report(request: SlideRequest, done: int, resumed: int, total: int) -> None:
                progress.tile(request.path.stem, done, resumed, total)

            partial_file = backend_of(self.job.out).partial_file
            try:
                for slide in encode_slides(self._requests(), self.encoder, readers, report, partial_file):
                    if slide.error is not None:
                        self._count_failure(slide, slide.error)
                    else:
                        self.writer.write(slide)
                    progress.slide(sum(len(bag.features) for bag in slide.bags.values()) - slide.resumed_tiles)
                self.writer.finish()
            except SlideError as error:  # the disk is full: written slides stay, and no more can be written
                file = _slide_named_in(str(error), self.discovery.usable)
                self.job.result.failures.append(Failure(file, error.state, str(error)))

    def _requests(self) -> Iterator[SlideRequest]:
        result = self.job.result
        for path in self.discovery.usable:
            if not self.locks.acquire(path.stem):
                result.locked.append(path.stem)
            elif self._was_written_meanwhile(path):
                result.skipped.append(path.stem)
                self.locks.release(path.stem)
            else:
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
        return is_same_file(path, store.slide_attributes(path.stem))

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
        self.locks.release(slide_id)

    def _count_failure(self, slide: EncodedSlide, error: SlideError) -> None:
        self.job.result.failures.append(Failure(str(slide.request.path), error.state, str(error)))
        start = time.perf_counter()
        if start >= self._next_record:
            record_failures_so_far(self.job.result, self.locks)
            # The whole list is written each time: a long one must not take more than a small share of the time.
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
        encoder = load_encoder(encoder, options.weights, device, options.precision, options.compiled, backend)
    if job.store is not None:
        check_continued_backend(job.store, encoder, options)
    if options.batch_size is None:
        encoder.find_batch_size()
    return encoder


def _slide_named_in(reason: str, slides: list[Path]) -> str:
    """Return the slide whose path a reason begins with; empty if no slide's does."""
    return next((str(path) for path in slides if reason.startswith(f"{path}: ")), "")
