"""The end of an extraction: the list of failures, the QC page, and the removal of what dead writers left behind."""

from __future__ import annotations

from pathlib import Path

from dmml.errors import InputError
from dmml.slides.companion_files import FAILURES, companion_path
from dmml.slides.discovery.discover import Discovery
from dmml.slides.extraction.job import ExtractionJob
from dmml.slides.extraction.result import ExtractionResult
from dmml.slides.extraction.slide_locks import SlideLocks
from dmml.slides.failures import Failure, record_failures, remove
from dmml.store import FeatureStore
from dmml.store.backends import Backend, backend_of


def record_failures_so_far(result: ExtractionResult, locks: SlideLocks) -> None:
    """Add the failures so far to their list: a run of days may be inspected, or interrupted, before its end.

    A list that carries the store's name is created at once, so that another store in the folder does not conclude that
    it shares `failures.csv` with this one.
    """
    if result.failures or Path(result.failures_file).name != FAILURES:
        with locks.companion_files():
            record_failures(result.failures_file, result.failures, ())


def finish(store: FeatureStore | None, discovery: Discovery, job: ExtractionJob, locks: SlideLocks) -> None:
    """Write `failures.csv` and `qc.html`, and remove what writers that died left behind.

    Raises:
        InputError: The disk was full, or nothing could be extracted.
    """
    result = job.result
    examined = [job.with_urls(file) for file in discovery.examined_files()]
    with locks.companion_files():
        slide_ids = None if job.shard is None else {Path(file).stem for file in examined}
        _clean_up(backend_of(job.out), slide_ids, locks)
        if store is None and job.shard is None:
            _move_list_without_store(job)
        locked = set(result.locked)  # another process extracts these, and its rows must stay
        examined = [file for file in examined if Path(file).stem not in locked]
        all_failures = record_failures(result.failures_file, result.failures, examined)
        disk_full = next((failure for failure in result.failures if failure.state == "disk_full"), None)
        if disk_full is not None:
            done = len(result.written) + len(result.skipped)
            raise InputError(f"{disk_full.reason} ({done} slides are in {job.out}, none is lost)")
        if store is None:
            if job.shard is not None:
                return  # this rank has no usable slide; an error would end the other ranks, too
            raise InputError(_nothing_extracted(result))
        if job.shard is None and not (result.written or result.skipped or result.locked) and result.failures:
            raise InputError(_nothing_extracted(result))
        from dmml.slides.qc.page import write_qc

        result.qc = write_qc(store, all_failures, result.qc_file)


def _move_list_without_store(job: ExtractionJob) -> None:
    """Move the list to `failures.csv` if nothing could be extracted: then there is no store that it could belong to."""
    default = companion_path(job.out, FAILURES)
    if job.result.failures_file != default:
        remove(job.result.failures_file)
        job.result.failures_file = default


def _clean_up(backend: Backend, slide_ids: set[str] | None, locks: SlideLocks) -> None:
    """Remove what dead writers, or this one on a full disk, left behind; with a shard, only of its slides.

    Other shards may be at work on other machines, and not every network file system shows their locks here.
    """
    for name in backend.unfinished_groups():
        if (slide_ids is None or name in slide_ids) and locks.acquire(name):
            backend.clean_up(name)
            locks.release(name)
    backend.clean_up()


def _nothing_extracted(result: ExtractionResult) -> str:
    failures: list[Failure] = result.failures
    if len(failures) == 1:
        return failures[0].reason
    states = ", ".join(sorted({failure.state for failure in failures}))
    return (
        f"none of the {len(failures)} slides can be used ({states}), e.g. {failures[0].reason}; {result.failures_file} "
        "lists all"
    )
