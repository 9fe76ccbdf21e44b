"""Extracts many slides into one feature store: resumable, and a slide that fails is recorded while the rest goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dmml.errors import InputError
from dmml.slides.discovery.discover import Discovery, discover_slides
from dmml.slides.encoders.default_encoder import NAME as DEFAULT_ENCODER
from dmml.slides.extraction.finish import finish, record_failures_so_far
from dmml.slides.extraction.job import ExtractionJob, prepare
from dmml.slides.extraction.options import ExtractionOptions
from dmml.slides.extraction.result import ExtractionResult
from dmml.slides.extraction.slide_locks import SlideLocks
from dmml.slides.extraction.stored_slides import existing_store, stored_slide_test
from dmml.slides.failures import Failure
from dmml.slides.geojson.roi import check_one_slide
from dmml.slides.staging.remote_files import is_url

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.reading.reader_pool import ReaderPool

_LOG = logging.getLogger(__name__)


def extract(
    slides: Sequence[str | Path],
    out: str | Path,
    encoder: str | Encoder | None = None,
    **options: object,
) -> ExtractionResult:
    """Write features of slides into a store.

    Slides that are complete in the store are skipped. A slide that cannot be used is recorded in `failures.csv` next to
    the store, and the run continues. A picture of every slide with its tiles is kept in `qc.html` next to the store. If
    a folder holds several stores, the names of both files are prefixed with the store's name for all but the first.

    Args:
        slides: Files, and folders that are searched for slides, local or behind URLs of fsspec's; plain images in them
            are slides if `mpp` or the manifest gives their scale.
        out: Store to create or to add to; folder or fsspec URL.
        encoder: Name for `load_encoder`, a loaded encoder, or None for the default.
        **options: Fields of `ExtractionOptions`: `weights`, local weights of the encoder; `magnifications`, one, or two
            of which the finer is twice the coarser; `tile_px`, side of a tile in pixels of its magnification (None means
            224, or that of a loaded encoder); `mpp`, µm per pixel if neither a slide nor the `manifest` (CSV)
            states it; `batch_size`, `precision`, `compiled` and `backend` of the encoder; `min_tissue`, smallest share of tissue
            in a tile; `tissue`, `colour` or `module:function`; `roi`, a GeoJSON file of QuPath's with the regions of
            the slide whose tiles are read, or a folder with `<slide>.geojson` for each slide; `readers`, number of
            reading processes, 0 for a thread, None for as many as keep the encoder busy;
            `shard`, `i/n`; `strict`, raise an error at the end if any slide failed; `overwrite`, extract slides again
            that the store already holds; `dry_run`, only report what would be done; `stain_normalization`, `macenko` or
            `vahadane`, and `stain_target`, an image (None means the built-in target); `storage_wait`, minutes to wait
            for slides if none of them can be reached; `staging`, the folder to which slides behind URLs are downloaded,
            and `staging_gib`, how much it may hold.

    Raises:
        InputError: Nothing can be extracted, the store was made with other options, the disk is full, the storage of the
            slides is gone, or `strict` is set and a slide failed.
    """
    if "least_tissue" in options:
        raise InputError("least_tissue: this option is now called min_tissue; rename it")
    job = prepare(out, ExtractionOptions(encoder=encoder or DEFAULT_ENCODER, **cast("dict[str, Any]", options)))
    from dmml.slides.reading.reader_pool import ReaderPool
    from dmml.slides.staging.staged_slides import StagedSlides

    with ExitStack() as stack:
        readers = stack.enter_context(ReaderPool(job.options.readers))
        if any(map(is_url, slides)):
            staging = job.options.staging
            job.staged = StagedSlides(None if staging is None else Path(staging), job.options.staging_gib)
            stack.callback(job.staged.close)  # before the readers end, for which its threads wait
        discovery = _discover(slides, job, readers)
        _warn_of_pretraining(job, discovery)
        if discovery.usable and readers.processes:
            readers.start()  # the other processes import their modules while the encoder is loaded
        if job.options.dry_run:
            from dmml.slides.extraction.encode_usable import dry_run

            job.result.estimate = dry_run(discovery, job, readers)
            return job.result
        _extract_discovered(discovery, job, readers)
    if job.options.strict and job.result.failures:
        raise InputError(
            f"{len(job.result.failures)} of {len(discovery.examined_files())} slides failed, which --strict does not "
            f"allow (the others are in {job.out}): {job.result.failures[0].reason}; {job.result.failures_file} lists all"
        )
    return job.result


def _extract_discovered(discovery: Discovery, job: ExtractionJob, readers: ReaderPool) -> None:
    """Encode and write the usable slides, and complete the files next to the store."""
    with SlideLocks(job.out) as locks:
        record_failures_so_far(job.result, locks)
        store = None
        if discovery.usable:
            from dmml.slides.extraction.encode_usable import encode_usable

            store = encode_usable(discovery, job, locks, readers)
        finish(store or existing_store(job.out), discovery, job, locks)


def _discover(slides: Sequence[str | Path], job: ExtractionJob, readers: ReaderPool) -> Discovery:
    """Open every slide that belongs to this process and is not in the store."""
    result = job.result
    store = None if job.options.overwrite else job.store
    is_stored = stored_slide_test(store, result.changed, job.mpp_of, job.roi, job.is_same_file)
    discovery = discover_slides(
        slides,
        job.mpp_of,
        job.magnifications,
        readers,
        is_stored,
        job.manifest.select,
        job.shard,
        job.storage_watch(readers),
        job.staged,
    )
    discovery.failures = [
        Failure(job.with_urls(failure.file), failure.state, job.with_urls(failure.reason))
        for failure in discovery.failures
    ]
    if job.staged is not None:
        job.staged.keep_only(discovery.usable)
    check_one_slide(job.roi, len(discovery.examined_files()))
    result.skipped = [path.stem for path in discovery.done]
    result.failures, result.ignored, result.missing = discovery.failures, discovery.ignored, discovery.missing
    result.unscaled = discovery.unscaled
    return discovery


def _warn_of_pretraining(job: ExtractionJob, discovery: Discovery) -> None:
    """Warn at once, before hours are spent, if the encoder was pre-trained on these slides."""
    from dmml.slides.encoders.recipes import pretraining_warning

    slide_ids = [path.stem for path in (*discovery.usable, *discovery.done)]
    if warning := pretraining_warning(job.options.encoder_name, slide_ids):
        job.result.warnings.append(warning)
        _LOG.warning("%s", warning)
