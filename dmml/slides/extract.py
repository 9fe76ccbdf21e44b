"""Many slides to one feature store: resumable, a bad slide is recorded and the rest goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.slides.claims import Claims
from dmml.slides.failures import Failure, beside, record_failures
from dmml.slides.grid import LEAST_TISSUE, TILE_PX, check_magnifications, pixel_um
from dmml.slides.manifest import Manifest, read_manifest
from dmml.slides.mpp import SlideError, check_given
from dmml.slides.shards import Shard, shard_of
from dmml.slides.sources import is_same
from dmml.slides.survey import Survey, survey

if TYPE_CHECKING:
    from dmml.slides.encoders import Encoder
    from dmml.slides.estimate import Estimate
    from dmml.store import FeatureStore

FAILURES, QC = "failures.csv", "qc.html"
COLOUR = "colour"
"""`dmml.slides.tissue.DEFAULT_TISSUE`, named here because tissue imports scipy"""


@dataclass
class Extraction:
    """What a run did."""

    written: list[str] = field(default_factory=list)
    """Slides that it wrote"""
    changed: list[str] = field(default_factory=list)
    """Those of them that were there before, from a file that has changed since"""
    passed_over: list[str] = field(default_factory=list)
    """Slides that were there already"""
    elsewhere: list[str] = field(default_factory=list)
    """Slides that another process is working on"""
    failures: list[Failure] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Names in the manifest that no file has"""
    warnings: list[str] = field(default_factory=list)
    shard: Shard | None = None
    tiles: int = 0
    seconds: float = 0.0
    qc: str = ""
    failures_file: str = ""
    estimate: Estimate | None = None
    """What a dry run found; nothing was written"""


@dataclass(frozen=True)
class Options:
    """How slides are extracted; see `extract`."""

    encoder: str | Encoder | None = None
    weights: str | Path | None = None
    magnifications: Sequence[int] = (10, 20)
    mpp: float | None = None
    manifest: str | Path | None = None
    batch_size: int | None = None
    precision: str = "32"
    compiled: bool = False
    least_tissue: float = LEAST_TISSUE
    tissue: str = COLOUR
    readers: int = 0
    shard: str | None = None
    strict: bool = False
    overwrite: bool = False
    dry_run: bool = False

    def check(self) -> tuple[int, ...]:
        """Refuse what cannot be meant; the magnifications in order.

        Raises:
            InputError: Names the option.
        """
        from dmml.slides.encoders import DEFAULT, check_precision, check_weights

        if self.mpp is not None:
            check_given(self.mpp)
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size}: must be at least 1")
        if not 0 < self.least_tissue <= 1:
            raise InputError(f"--least-tissue {self.least_tissue}: must be above 0 and at most 1")
        if self.readers < 0:
            raise InputError(f"--readers {self.readers}: must be at least 0")
        if self.tissue != COLOUR:
            from dmml.slides.tissue import tissue_function

            tissue_function(self.tissue)
        check_precision(self.precision)
        if not self.encoder or isinstance(self.encoder, str):
            check_weights(self.encoder or DEFAULT, self.weights)
        return check_magnifications(self.magnifications)

    @property
    def recorded(self) -> dict[str, Any]:
        """What the store keeps of them: all that changes what stands in it, beside encoder and magnifications."""
        return {"tissue": self.tissue, "least_tissue": self.least_tissue, "precision": self.precision}


def extract(
    slides: Sequence[str | Path], out: str | Path, encoder: str | Encoder | None = None, **options
) -> Extraction:
    """Write features of slides into a store.

    Slides that are complete in the store are passed over. A slide that cannot be used goes into `failures.csv` beside
    the store, and the rest goes on. A picture of every slide with its tiles is kept in `qc.html` beside the store.

    Args:
        slides: Files, and folders that are searched for slides.
        out: Store to write to or go on with; folder or fsspec URL.
        encoder: Name for `load_encoder`, a loaded encoder, or None for the default.
        **options: Fields of `Options`: `weights`, local weights of the encoder; `magnifications`, one, or two of which
            the finer is twice the coarser; `mpp`, µm per pixel where neither a slide nor the `manifest` (CSV) tells;
            `batch_size`, `precision` and `compiled` of the encoder; `least_tissue`, smallest share of tissue in a tile;
            `tissue`, `colour` or `module:function`; `readers`, reading processes, 0 for a thread; `shard`, `i/n`;
            `strict`, raise when any slide failed, after the rest is done; `overwrite`, extract slides again that are
            there; `dry_run`, only say what would be done.

    Raises:
        InputError: Nothing can be extracted, the store was made otherwise, the disk is full, or `strict` and a slide
            failed.
    """
    from dmml.slides.encoders import DEFAULT

    chosen = Options(encoder=encoder or DEFAULT, **options)
    magnifications = chosen.check()
    out = str(out).removeprefix("file://")
    manifest, shard = read_manifest(chosen.manifest), shard_of(chosen.shard, os.environ)
    store = _existing(out)
    if store:
        name = chosen.encoder if isinstance(chosen.encoder, str) else chosen.encoder.name
        scales = {str(m): pixel_um(m) for m in magnifications}
        wanted = {"encoder": {"name": name}, "magnifications": scales, "extraction": chosen.recorded}
        store.check_same(wanted, partly=("encoder",))
    result = Extraction(shard=shard)
    found = _look(slides, chosen, magnifications, manifest, shard, store, result)
    if chosen.dry_run:
        from dmml.slides.extraction_run import dry_run

        result.estimate = dry_run(found, out, chosen, magnifications, manifest)
        return result
    with Claims(out) as claims:
        if found.usable:
            from dmml.slides.extraction_run import extract_usable

            store = extract_usable(found, out, chosen, magnifications, manifest, claims, result) or store
        _finish(store or _existing(out), out, found, shard, claims, result)
    if chosen.strict and result.failures:
        raise InputError(
            f"{len(result.failures)} of {len(found.looked_at())} slides failed (--strict; the others are in {out}): "
            f"{result.failures[0].reason}; all in {result.failures_file}"
        )
    return result


def _look(
    slides: Sequence[str | Path],
    chosen: Options,
    magnifications: tuple[int, ...],
    manifest: Manifest,
    shard: Shard | None,
    store: FeatureStore | None,
    result: Extraction,
) -> Survey:
    """Open every slide that is this process's own and not done."""
    is_done = _done_in(store, chosen.overwrite, result)
    found = survey(
        slides, lambda path: manifest.mpp_of(path.stem, chosen.mpp), magnifications, is_done, manifest.select, shard
    )
    result.passed_over = [path.stem for path in found.done]
    result.failures, result.ignored, result.missing = found.failures, found.ignored, found.missing
    return found


def _finish(
    store: FeatureStore | None, out: str, found: Survey, shard: Shard | None, claims: Claims, result: Extraction
) -> None:
    """Write `failures.csv` and `qc.html`, and clear what writers that died left behind."""
    # Behind a URL there is no lock, and ranks must not write over each other's list.
    apart = shard is not None and "://" in out
    result.failures_file = beside(out, f"failures-{shard.index + 1}-of-{shard.count}.csv" if apart else FAILURES)
    with claims.alone():
        everything = record_failures(result.failures_file, result.failures, found.looked_at())
        full = next((f for f in result.failures if f.state == "disk_full"), None)
        if full is not None:
            done = len(result.written) + len(result.passed_over)
            raise InputError(f"{full.reason} ({done} slides are in {out}, none is lost)")
        if store is None:
            if shard is not None and not result.failures:
                return  # nothing of a short list falls to this rank
            raise InputError(_none_left(result.failures, result.failures_file))
        for name in store.place.unfinished():
            if claims.take(name):
                store.place.tidy(name)
                claims.leave(name)
        store.place.tidy()
        if not (result.written or result.passed_over or result.elsewhere) and result.failures:
            raise InputError(_none_left(result.failures, result.failures_file))
        from dmml.slides.qc import write_qc

        result.qc = write_qc(store, everything, beside(store.path, QC))


def _existing(out: str | Path) -> FeatureStore | None:
    """The store at `out`, or None where there is none yet."""
    local = "://" not in str(out)
    if local and not Path(out).exists():
        return None
    from dmml.store import FeatureStore, is_store

    if is_store(out):
        return FeatureStore(out)
    if local and not (Path(out).is_dir() and {path.name for path in Path(out).iterdir()} <= {"slides", ".writing"}):
        raise InputError(f"--out {out}: exists and is no feature store; name a new folder, e.g. features.zarr")
    return None


def _done_in(store: FeatureStore | None, overwrite: bool, result: Extraction) -> Callable[[Path], bool]:
    """Whether a slide is in the store and still the same file."""

    def is_done(path: Path) -> bool:
        if store is None or overwrite or path.stem not in store:
            return False
        attributes = store.slide_attributes(path.stem)
        if attributes.get("source", path.name) != path.name:
            raise SlideError(
                "duplicate_stem",
                f"{path}: the store holds {path.stem!r} from {attributes['source']}; rename one, or give --overwrite",
            )
        if is_same(path, attributes):
            return True
        result.changed.append(path.stem)
        return False

    return is_done


def _none_left(failures: list[Failure], path: str) -> str:
    if len(failures) == 1:
        return failures[0].reason
    states = ", ".join(sorted({failure.state for failure in failures}))
    return f"none of the {len(failures)} slides can be used ({states}), e.g. {failures[0].reason}; all in {path}"


def open_for_writing(out: str, encoder: Encoder, magnifications: tuple[int, ...], chosen: Options) -> FeatureStore:
    """The store at `out`, made where there is none.

    Raises:
        InputError: It was made otherwise.
    """
    from dmml.store import FeatureStore

    scales = {m: pixel_um(m) for m in magnifications}
    return FeatureStore.create(out, encoder.identity, scales, TILE_PX, chosen.recorded)
