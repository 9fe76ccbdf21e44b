"""One run of an extraction: its options, and its result so far."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmml.errors import InputError
from dmml.slides.companion_files import FAILURES, QC, companion_path, companion_prefix
from dmml.slides.discovery.manifest import Manifest, read_manifest
from dmml.slides.discovery.shards import Shard, shard_of
from dmml.slides.extraction.options import ExtractionOptions
from dmml.slides.extraction.result import ExtractionResult
from dmml.slides.extraction.stored_slides import existing_store
from dmml.slides.failures import Failure
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.reading.storage_watch import StorageWatch
from dmml.slides.slide_error import SlideError
from dmml.slides.staging.staged_slides import StagedSlides, same_file_test
from dmml.slides.stains.choose import stain_normalization
from dmml.slides.stains.stains import StainNormalization
from dmml.slides.tiling.layout import Layout, SlideRequest
from dmml.slides.wsi.file_identity import is_same_file
from dmml.slides.wsi.mpp import pixel_um
from dmml.store import FeatureStore
from dmml.store.encoder_identity import STAINS, describe_stains


@dataclass
class ExtractionJob:
    """A run with its checked options."""

    out: str
    """Path or URL of the store"""
    options: ExtractionOptions
    magnifications: tuple[int, ...]
    manifest: Manifest
    store: FeatureStore | None
    """The store as it was found; None if it did not exist"""
    result: ExtractionResult
    stain_normalization: StainNormalization | None = None
    """How the stains of all tiles are normalised; None leaves them as scanned"""
    written_at: Mapping[str, tuple[int, int] | None] = field(default_factory=dict)
    """{slide in the store to be replaced: when it was written, which shows whether another process has replaced it}"""

    staged: StagedSlides | None = None
    """The slides behind URLs; None if there are none"""

    @property
    def shard(self) -> Shard | None:
        """Part of the slides that this process extracts; None means all."""
        return self.result.shard

    def mpp_of(self, path: Path) -> float | None:
        """µm per pixel that the user gives for a slide."""
        return self.manifest.mpp_of(path.stem, self.options.mpp)

    @property
    def roi(self) -> Path | None:
        """File or folder with the regions of interest; None means whole slides."""
        return None if self.options.roi is None else Path(self.options.roi)

    def request(self, path: Path) -> SlideRequest:
        """What a reading process needs to know of a slide."""
        return SlideRequest(
            path,
            self.magnifications,
            self.mpp_of(path),
            self.options.min_tissue,
            self.options.tissue,
            self.manifest.mpp_from(path.stem),
            self.stain_normalization,
            roi=self.roi,
            is_listed=True,
            tile_px=self.options.side_px,
        )

    def storage_watch(self, readers: ReaderPool) -> StorageWatch:
        """What waits for slides that cannot be reached."""

        def is_reachable(path: Path) -> bool:
            if self.staged is not None and path in self.staged:
                return self.staged.is_reachable(path)
            return readers.is_reachable(self.request(path))

        return StorageWatch(is_reachable, self.options.storage_wait, self.with_urls)

    def with_urls(self, text: str) -> str:
        """Replace paths of staged slides in a text by their URLs."""
        return text if self.staged is None else self.staged.with_urls(text)

    def failure(self, path: Path, error: SlideError) -> Failure:
        """What `failures.csv` says of a slide."""
        return Failure(self.with_urls(str(path)), error.state, self.with_urls(str(error)))

    @property
    def is_same_file(self) -> Callable[[Path, Mapping[str, Any]], bool]:
        """Test of whether a file is the one that the attributes of a slide in the store record."""
        return same_file_test(self.staged, is_same_file)

    def lay_out(self, readers: ReaderPool) -> Callable[[SlideRequest], Future[Layout]]:
        """Function that lays out a slide in the background, after its download if it is behind a URL."""
        if (staged := self.staged) is None:
            return readers.lay_out
        return lambda request: staged.lay_out(request, readers)

    def release(self, path: Path, was_read: bool = False) -> None:
        """Remove what was downloaded of a slide."""
        if self.staged is not None:
            self.staged.release(path, was_read)


def prepare(out: str | Path, options: ExtractionOptions) -> ExtractionJob:
    """Check the options, and the store if it exists.

    Raises:
        InputError: An option has an impossible value, or the store was made with other options.
    """
    magnifications = options.check()
    out = str(out).removeprefix("file://")
    stains = stain_normalization(options.stain_normalization, options.stain_target)
    manifest, shard = read_manifest(options.manifest), shard_of(options.shard, os.environ)
    store = existing_store(out)
    if store:
        scales = {str(m): pixel_um(m) for m in magnifications}
        requested = {
            "encoder": {"name": options.encoder_name},
            "magnifications": scales,
            "tile_px": options.side_px,
            "extraction": options.recorded,
        }
        store.check_same(requested, partial=("encoder",))
        _check_same_stains(store, stains)
    prefix = companion_prefix(out)
    result = ExtractionResult(
        shard=shard, failures_file=_failures_file(out, shard, prefix), qc_file=companion_path(out, prefix + QC)
    )
    written_at = {name: store.written_at(name) for name in store.names()} if store and options.overwrite else {}
    return ExtractionJob(out, options, magnifications, manifest, store, result, stains, written_at)


def _check_same_stains(store: FeatureStore, stains: StainNormalization | None) -> None:
    """Refuse to add slides to a store whose stains were normalised in another way, or not at all."""
    stored, requested = store.attributes["encoder"], {} if stains is None else {STAINS: stains.identity}
    if stored.get(STAINS) != requested.get(STAINS):
        raise InputError(
            f"--out {store.path}: its tiles are {describe_stains(stored)}, and now would be {describe_stains(requested)}; give the same "
            "--stain-normalization and --stain-target, or another --out"
        )


def _failures_file(out: str, shard: Shard | None, prefix: str) -> str:
    # Behind a URL there are no locks, and ranks must not overwrite each other's list.
    is_separate = shard is not None and "://" in out
    name = f"failures-{shard.index + 1}-of-{shard.count}.csv" if shard is not None and is_separate else FAILURES
    return companion_path(out, prefix + name)
