"""The expensive part of an extraction, which takes slides through readers and encoder into the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dmml.slides.discovery.file_identity import is_same
from dmml.slides.encoders.build import Encoder, load_encoder
from dmml.slides.extraction.estimate import Estimate, estimate
from dmml.slides.extraction.failures import Failure
from dmml.slides.extraction.options import Extraction, Options, open_for_writing
from dmml.slides.extraction.progress import Progress
from dmml.slides.extraction.shards import Shard
from dmml.slides.extraction.slide_writer import SlideWriter
from dmml.slides.extraction.stream import EncodedSlide, encode_slides
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.wsi.mpp import SlideError
from dmml.slides.wsi.readers import Readers
from dmml.store import is_store
from dmml.store.backends import backend_of

if TYPE_CHECKING:
    from pathlib import Path

    from dmml.slides.discovery.manifest import Manifest
    from dmml.slides.discovery.survey import Survey
    from dmml.slides.extraction.slide_locks import Claims
    from dmml.store import FeatureStore


def dry_run(
    found: Survey, out: str, chosen: Options, magnifications: tuple[int, ...], manifest: Manifest, readers: Readers
) -> Estimate:
    """Estimate what an extraction would do."""
    requests = [_request(path, chosen, magnifications, manifest) for path in found.usable]
    return estimate(requests, _encoder(chosen, None), readers, out)


def extract_usable(
    found: Survey,
    out: str,
    chosen: Options,
    magnifications: tuple[int, ...],
    manifest: Manifest,
    claims: Claims,
    readers: Readers,
    result: Extraction,
    failed: Callable[[Failure], None],
) -> FeatureStore | None:
    """Encode the slides that passed the survey, write them, and fill in `result`; `failed` is called for each failure.

    Returns:
        The store, or None if nothing was written and no store existed.
    """
    encoder = _encoder(chosen, result.shard)
    own_batch = encoder.batch_size
    encoder.batch_size = chosen.batch_size or own_batch

    def written(slide: EncodedSlide) -> None:
        _add_to(result, slide)
        if slide.draft is not None:
            slide.draft.remove()
        claims.leave(slide.request.path.stem)

    writer = SlideWriter(lambda: open_for_writing(out, encoder, magnifications, chosen), written)

    def opened() -> FeatureStore | None:
        """Return the store as soon as this or another process has created it."""
        if writer.store is None and is_store(out):
            writer.store = open_for_writing(out, encoder, magnifications, chosen)
        return writer.store

    def requests() -> Iterator[SlideRequest]:
        for path in found.usable:
            if not claims.take(path.stem):
                result.elsewhere.append(path.stem)
            elif _done_meanwhile(path, opened(), found, chosen):
                result.passed_over.append(path.stem)
                claims.leave(path.stem)
            else:
                yield _request(path, chosen, magnifications, manifest)

    start = time.perf_counter()
    with Progress(len(found.usable)) as progress:

        def tell(request: SlideRequest, done: int, known: int, total: int) -> None:
            progress.tile(request.path.stem, done, known, total)

        try:
            _write(
                encode_slides(requests(), encoder, readers, tell, backend_of(out).partial_file),
                writer,
                progress,
                failed,
            )
        except SlideError as error:  # the disk is full: written slides stay, and no more can be written
            result.failures.append(Failure(_slide_of(str(error), found.usable), error.state, str(error)))
        finally:
            writer.close()
            encoder.batch_size = own_batch  # the encoder may belong to the caller
    result.seconds = time.perf_counter() - start
    if claims.without_locks:
        result.warnings.append(
            f"{out} lies where files cannot be locked: two processes at a time need --shard, or they redo each other's slides"
        )
    return writer.store


def _add_to(result: Extraction, slide: EncodedSlide) -> None:
    """Count a slide that is in the store."""
    result.written.append(slide.request.path.stem)
    result.tiles += sum(len(bag.features) for bag in slide.bags.values())
    result.known += slide.known
    if notes := slide.attributes.get("notes"):
        result.notes[slide.request.path.stem] = notes


def _write(
    slides: Iterator[EncodedSlide], writer: SlideWriter, progress: Progress, failed: Callable[[Failure], None]
) -> None:
    for slide in slides:
        if slide.error is not None:
            failed(Failure(str(slide.request.path), slide.error.state, str(slide.error)))
        else:
            writer.write(slide)
        progress.slide(sum(len(bag.features) for bag in slide.bags.values()) - slide.known)
    writer.finish()


def _encoder(chosen: Options, shard: Shard | None) -> Encoder:
    encoder = chosen.encoder
    if isinstance(encoder, str):
        import torch

        device = None
        if shard is not None and shard.source != "--shard" and torch.cuda.is_available():
            device = f"cuda:{shard.local % torch.cuda.device_count()}"
        encoder = load_encoder(encoder, chosen.weights, device, chosen.precision, chosen.compiled)
    if chosen.batch_size is None:
        encoder.find_batch_size()
    return encoder


def _request(path: Path, chosen: Options, magnifications: tuple[int, ...], manifest: Manifest) -> SlideRequest:
    mpp = manifest.mpp_of(path.stem, chosen.mpp)
    return SlideRequest(path, magnifications, mpp, chosen.least_tissue, chosen.tissue, manifest.mpp_from(path.stem))


def _done_meanwhile(path: Path, store: FeatureStore | None, found: Survey, chosen: Options) -> bool:
    """Whether another process has written a slide since this run began."""
    if store is None or path.stem not in store:
        return False
    if chosen.overwrite:
        return store.written_at(path.stem) != found.written_at.get(path.stem)
    return is_same(path, store.slide_attributes(path.stem))


def _slide_of(reason: str, slides: list[Path]) -> str:
    """Return the slide whose path a reason begins with; empty if no slide's does."""
    return next((str(path) for path in slides if reason.startswith(f"{path}: ")), "")
