"""Extracts many slides into one feature store: resumable, and a slide that fails is recorded while the rest goes on."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.slides.discovery.file_identity import is_same
from dmml.slides.discovery.manifest import Manifest, read_manifest
from dmml.slides.discovery.survey import Survey, survey
from dmml.slides.extraction.companions import FAILURES, QC, beside, prefix_of
from dmml.slides.extraction.failures import Failure, record_failures, remove
from dmml.slides.extraction.options import Extraction, Options
from dmml.slides.extraction.shards import Shard, shard_of
from dmml.slides.extraction.slide_locks import Claims
from dmml.slides.tiling.grid import pixel_um
from dmml.slides.wsi.mpp import GIVEN, LISTED, SlideError
from dmml.store.backends import backend_of

if TYPE_CHECKING:
    from dmml.slides.encoders.build import Encoder
    from dmml.slides.wsi.readers import Readers
    from dmml.store import FeatureStore
    from dmml.store.backends import Backend


def extract(
    slides: Sequence[str | Path], out: str | Path, encoder: str | Encoder | None = None, **options
) -> Extraction:
    """Write features of slides into a store.

    Slides that are complete in the store are skipped. A slide that cannot be used is recorded in `failures.csv` beside
    the store, and the run continues. A picture of every slide with its tiles is kept in `qc.html` beside the store. If
    a folder holds several stores, the names of both files are prefixed with the store's name for all but the first.

    Args:
        slides: Files, and folders that are searched for slides; plain images in them are slides if `mpp` or the
            manifest gives their scale.
        out: Store to create or to add to; folder or fsspec URL.
        encoder: Name for `load_encoder`, a loaded encoder, or None for the default.
        **options: Fields of `Options`: `weights`, local weights of the encoder; `magnifications`, one, or two of which
            the finer is twice the coarser; `mpp`, µm per pixel if neither a slide nor the `manifest` (CSV) states it;
            `batch_size`, `precision` and `compiled` of the encoder; `least_tissue`, smallest share of tissue in a tile;
            `tissue`, `colour` or `module:function`; `readers`, number of reading processes, 0 for a thread; `shard`,
            `i/n`; `strict`, raise an error at the end if any slide failed; `overwrite`, extract slides again that the
            store already holds; `dry_run`, only report what would be done.

    Raises:
        InputError: Nothing can be extracted, the store was made with other options, the disk is full, or `strict` is
            set and a slide failed.
    """
    from dmml.slides.encoders.build import DEFAULT

    chosen = Options(encoder=encoder or DEFAULT, **options)
    magnifications = chosen.check()
    out = str(out).removeprefix("file://")
    manifest, shard = read_manifest(chosen.manifest), shard_of(chosen.shard, os.environ)
    store = _existing(out)
    if store:
        scales = {str(m): pixel_um(m) for m in magnifications}
        wanted = {"encoder": {"name": _name(chosen)}, "magnifications": scales, "extraction": chosen.recorded}
        store.check_same(wanted, partial=("encoder",))
    prefix = prefix_of(out)
    result = Extraction(shard=shard, failures_file=_failures_file(out, shard, prefix), qc_file=beside(out, prefix + QC))
    from dmml.slides.wsi.readers import Readers

    with Readers(chosen.readers) as readers:
        found = _look(slides, chosen, magnifications, manifest, shard, store, readers, result)
        _warn_of_pretraining(_name(chosen), found, result)
        if found.usable and chosen.readers:
            readers.start()  # the other processes import their modules while the encoder is loaded
        if chosen.dry_run:
            from dmml.slides.extraction.run import dry_run

            result.estimate = dry_run(found, out, chosen, magnifications, manifest, readers)
            return result
        with Claims(out) as claims:
            _record(claims, result)
            if found.usable:
                from dmml.slides.extraction.run import extract_usable

                def failed(failure: Failure) -> None:
                    result.failures.append(failure)
                    _record(claims, result)

                store = extract_usable(found, out, chosen, magnifications, manifest, claims, readers, result, failed)
            _finish(store or _existing(out), out, found, shard, claims, result)
    if chosen.strict and result.failures:
        raise InputError(
            f"{len(result.failures)} of {len(found.looked_at())} slides failed (--strict; the others are in {out}): "
            f"{result.failures[0].reason}; all in {result.failures_file}"
        )
    return result


def _name(chosen: Options) -> str:
    return chosen.encoder if isinstance(chosen.encoder, str) else chosen.encoder.name


def _failures_file(out: str, shard: Shard | None, prefix: str) -> str:
    # Behind a URL there are no locks, and ranks must not overwrite each other's list.
    apart = shard is not None and "://" in out
    name = f"failures-{shard.index + 1}-of-{shard.count}.csv" if apart else FAILURES
    return beside(out, prefix + name)


def _look(
    slides: Sequence[str | Path],
    chosen: Options,
    magnifications: tuple[int, ...],
    manifest: Manifest,
    shard: Shard | None,
    store: FeatureStore | None,
    readers: Readers,
    result: Extraction,
) -> Survey:
    """Open every slide that belongs to this process and is not done."""

    def mpp_of(path: Path) -> float | None:
        return manifest.mpp_of(path.stem, chosen.mpp)

    is_done = _done_in(store, chosen.overwrite, result, mpp_of)
    written_at = {name: store.written_at(name) for name in store.names()} if store and chosen.overwrite else {}
    found = survey(slides, mpp_of, magnifications, readers, is_done, manifest.select, shard)
    found.written_at = written_at
    result.passed_over = [path.stem for path in found.done]
    result.failures, result.ignored, result.missing = found.failures, found.ignored, found.missing
    result.unscaled = found.unscaled
    return found


def _warn_of_pretraining(encoder: str, found: Survey, result: Extraction) -> None:
    """Warn at once, before hours are spent, if the encoder was pre-trained on these slides."""
    from dmml.slides.encoders.known import seen_in_training

    if warning := seen_in_training(encoder, [path.stem for path in (*found.usable, *found.done)]):
        result.warnings.append(warning)
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _record(claims: Claims, result: Extraction) -> None:
    """Add the failures so far to their list: a run of days may be inspected, or interrupted, before its end.

    A list that carries the store's name is created at once, so that another store in the folder does not conclude that
    it shares `failures.csv` with this one.
    """
    if result.failures or Path(result.failures_file).name != FAILURES:
        with claims.alone():
            record_failures(result.failures_file, result.failures, ())


def _finish(
    store: FeatureStore | None, out: str, found: Survey, shard: Shard | None, claims: Claims, result: Extraction
) -> None:
    """Write `failures.csv` and `qc.html`, and clear what writers that died left behind."""
    with claims.alone():
        _tidy(backend_of(out), None if shard is None else {Path(file).stem for file in found.looked_at()}, claims)
        if store is None and shard is None:
            _list_without_store(out, result)
        theirs = set(result.elsewhere)  # another process has these, and its rows must stay
        looked_at = [file for file in found.looked_at() if Path(file).stem not in theirs]
        everything = record_failures(result.failures_file, result.failures, looked_at)
        full = next((f for f in result.failures if f.state == "disk_full"), None)
        if full is not None:
            done = len(result.written) + len(result.passed_over)
            raise InputError(f"{full.reason} ({done} slides are in {out}, none is lost)")
        if store is None:
            if shard is not None:
                return  # this rank has no usable slide; an error would end the other ranks, too
            raise InputError(_none_left(result.failures, result.failures_file))
        if shard is None and not (result.written or result.passed_over or result.elsewhere) and result.failures:
            raise InputError(_none_left(result.failures, result.failures_file))
        from dmml.slides.extraction.qc import write_qc

        result.qc = write_qc(store, everything, result.qc_file)


def _list_without_store(out: str, result: Extraction) -> None:
    """Move the list to `failures.csv` if nothing could be extracted: then there is no store that it could belong to."""
    plain = beside(out, FAILURES)
    if result.failures_file != plain:
        remove(result.failures_file)
        result.failures_file = plain


def _tidy(backend: Backend, own: set[str] | None, claims: Claims) -> None:
    """Clear what dead writers, or this one on a full disk, left behind; with a shard, only for its slides (`own`).

    Other shards may be at work on other machines, and not every network file system shows their locks here.
    """
    for name in backend.unfinished_groups():
        if (own is None or name in own) and claims.take(name):
            backend.clean_up(name)
            claims.leave(name)
    backend.clean_up()


def _existing(out: str | Path) -> FeatureStore | None:
    """Open the store at `out`; None if it does not exist yet."""
    local = "://" not in str(out)
    if local and not Path(out).exists():
        return None
    from dmml.store import FeatureStore, is_store

    if is_store(out):
        return FeatureStore(out)
    if local and not (Path(out).is_dir() and {path.name for path in Path(out).iterdir()} <= {"slides", ".writing"}):
        raise InputError(f"--out {out}: exists and is no feature store; name a new folder, e.g. features.zarr")
    return None


def _done_in(
    store: FeatureStore | None, overwrite: bool, result: Extraction, mpp_of: Callable[[Path], float | None]
) -> Callable[[Path], bool]:
    """Return a test of whether the store holds a slide, made from the same file and at the user's scale, if any."""

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
            _refuse_other_scale(store.path, path, attributes, mpp_of(path))
            return True
        result.changed.append(path.stem)
        return False

    return is_done


def _refuse_other_scale(out: str, path: Path, known: Mapping[str, Any], mpp: float | None) -> None:
    """Refuse a scale other than the one given before: with one of the two, every position in the store is wrong."""
    if known.get("mpp_source") in (GIVEN, LISTED) and mpp is not None and not math.isclose(known["mpp"], mpp):
        raise InputError(
            f"{path}: {out} holds it at {known['mpp']:g} µm/px ({known['mpp_source']}), now it is given {mpp:g}; give "
            "--overwrite to extract it again, or another --out"
        )


def _none_left(failures: list[Failure], path: str) -> str:
    if len(failures) == 1:
        return failures[0].reason
    states = ", ".join(sorted({failure.state for failure in failures}))
    return f"none of the {len(failures)} slides can be used ({states}), e.g. {failures[0].reason}; all in {path}"
