"""Many slides to one feature store: resumable, a bad slide is recorded and the rest goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.slides.claims import Claims
from dmml.slides.extraction import Extraction, Options
from dmml.slides.failures import Failure, beside, record_failures
from dmml.slides.grid import pixel_um
from dmml.slides.manifest import Manifest, read_manifest
from dmml.slides.mpp import SlideError
from dmml.slides.shards import Shard, shard_of
from dmml.slides.sources import is_same
from dmml.slides.survey import Survey, survey

if TYPE_CHECKING:
    from dmml.slides.encoders import Encoder
    from dmml.store import FeatureStore

FAILURES, QC = "failures.csv", "qc.html"


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
