"""Fetches a cohort: lists what a server has, plans, downloads, and writes what the next commands read."""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dmml.cohort.fetch.cohort_files import next_commands, write_clinical, write_config, write_sample_sheet
from dmml.cohort.fetch.downloads import download_all
from dmml.cohort.fetch.fetch_manifest import CLINICAL, FetchManifest, ManifestWriter, read_manifest
from dmml.cohort.fetch.fetch_plan import FetchPlan, make_plan, missing_files
from dmml.cohort.fetch.folder_lock import folder_lock
from dmml.cohort.fetch.gdc_api import API, GdcApi
from dmml.cohort.fetch.http_client import HttpClient, HttpSettings
from dmml.cohort.fetch.idc import STORAGE, Series, find_series, index_path, list_objects, recorded_files
from dmml.cohort.fetch.release_changes import WITHDRAWN, ReleaseChanges, compare, forget, move_withdrawn
from dmml.cohort.fetch.remote_file import RemoteFile
from dmml.errors import InputError
from dmml.progress_bars import byte_bar

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchRequest:
    """What to fetch, from where, and to where."""

    project: str
    out: Path
    kinds: tuple[str, ...]
    """Of slides, rna and clinical"""
    n_slides: int | None = None
    """None for all slides. A larger number adds to the slides of a smaller one"""
    source: str = "gdc"
    """gdc or idc: where slides come from. RNA and clinical data come from the GDC"""
    api: str = API
    storage: str = STORAGE
    index: Path | None = None
    """The IDC's index; None for that of `idc-index-data`"""
    update: bool = False
    """Whether to follow a release that changed files of the folder"""
    http: HttpSettings = field(default_factory=HttpSettings)


@dataclass(frozen=True)
class PreparedFetch:
    """A download that has been planned."""

    request: FetchRequest
    manifest: FetchManifest
    files: list[RemoteFile]
    """Files to have, those of earlier runs included"""
    plan: FetchPlan
    changes: ReleaseChanges
    """What is to be moved away, because a release has withdrawn or changed it"""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files that the folder has in the end, in the order of `_ALL`."""
        earlier = {entry.kind for entry in self.manifest.entries.values()}
        return tuple(kind for kind in _ALL if kind in earlier or kind in self.request.kinds)


_ALL = ("slides", "rna", "clinical")


@dataclass(frozen=True)
class _Listing:
    """What the servers have."""

    releases: dict[str, str]
    files: Mapping[str, Sequence[RemoteFile]]
    """{kind: files}; for the IDC, those of the selected slides"""
    approximate: bool = False
    """Whether a file stands for a whole DICOM series, with the size of the index"""


def prepare(request: FetchRequest, dry_run: bool = False) -> PreparedFetch:
    """List what the servers have, compare it with the folder, and plan the download. Nothing is written.

    Args:
        request: What to fetch.
        dry_run: The IDC's bucket is not asked for its files; the plan has the sizes of the index.

    Raises:
        InputError: The server cannot be reached, does not have the project or any file, its release has changed files of
            the folder and `update` is off, or the folder holds another cohort.
    """
    manifest = read_manifest(request.out)
    if manifest is not None:
        _check_same_cohort(manifest, request)
        request = _with_earlier_slides(request, manifest)
    manifest = manifest or FetchManifest(request.project, request.source, n_slides=request.n_slides)
    listing = asyncio.run(_list(request, manifest, dry_run))
    for kind in request.kinds:
        if kind != "clinical" and not listing.files[kind]:
            server = "IDC" if kind == "slides" and request.source == "idc" else "GDC"
            raise InputError(f"{request.project}: the {server} has no open {kind} of this project")
    changes = ReleaseChanges() if listing.approximate else _follow_release(manifest, listing, request)
    manifest.source, manifest.n_slides = request.source, request.n_slides
    files = [file for kind in listing.files for file in _select(kind, listing.files[kind], manifest, request)]
    return PreparedFetch(request, manifest, files, make_plan(request.out, manifest, files), changes)


def download(prepared: PreparedFetch) -> list[str]:
    """Download what is missing, verify it, and write the files that the next commands read.

    Returns:
        The next commands.

    Raises:
        InputError: The disk is too small, another process downloads into the folder, or files could not be downloaded.
    """
    request, manifest = prepared.request, prepared.manifest
    prepared.plan.check_space(request.out)
    with folder_lock(request.out):
        move_withdrawn(prepared.changes, request.out)
        manifest.include(prepared.files)
        manifest.write(request.out)
        try:
            asyncio.run(_download(prepared))
        finally:
            manifest.write(request.out)
    rna = [file for file in prepared.files if file.kind == "rna"]
    if rna:
        write_sample_sheet(request.out, rna)
    if "clinical" in prepared.kinds:
        write_config(request.out, request.project, prepared.kinds)
    return next_commands(request.out, request.project, prepared.kinds)


def _check_same_cohort(manifest: FetchManifest, request: FetchRequest) -> None:
    if manifest.project != request.project:
        raise InputError(
            f"{request.out}: holds {manifest.project}, not {request.project}; name another folder with --out"
        )
    if manifest.source != request.source and "slides" in request.kinds and manifest.of_kind("slides"):
        raise InputError(
            f"{request.out}: its slides are from --source {manifest.source}; go on with it, or name another folder with --out"
        )


def _with_earlier_slides(request: FetchRequest, manifest: FetchManifest) -> FetchRequest:
    """The request with the slides of earlier runs: their source, and the largest number that was ever requested."""
    if not manifest.of_kind("slides"):
        return request
    if "slides" not in request.kinds:
        return replace(request, source=manifest.source, n_slides=manifest.n_slides)
    if request.n_slides is None or manifest.n_slides is None:
        return replace(request, n_slides=None)
    return replace(request, n_slides=max(request.n_slides, manifest.n_slides))


async def _list(request: FetchRequest, manifest: FetchManifest, dry_run: bool) -> _Listing:
    """Ask the servers for the release and for all files of the requested kinds, and of those in the folder."""
    kinds = {*request.kinds, *(entry.kind for entry in manifest.entries.values())}
    from_idc = "slides" in kinds and request.source == "idc"
    releases: dict[str, str] = {}
    files: dict[str, Sequence[RemoteFile]] = {}
    async with HttpClient(request.http) as client:
        if kinds - ({"slides"} if from_idc else set()):
            api = GdcApi(client, request.api)
            releases["gdc"] = await api.release()
            await _check_project(api, request.project)
            for kind in ("rna", "slides"):
                if kind in kinds and not (kind == "slides" and from_idc):
                    files[kind] = await api.files(request.project, kind)
        if from_idc:
            index, releases["idc"] = (request.index, request.index.stem) if request.index else index_path()
            series = find_series(index, request.project)[: request.n_slides]
            is_same = manifest.releases.get("idc") == releases["idc"]
            recorded = recorded_files(series, manifest, request.storage) if is_same else {}
            new = [one for one in series if one.uuid not in recorded]
            listed = [one.as_one_file() for one in new] if dry_run else await _list_series(client, new, request.storage)
            files["slides"] = [*(file for of_slide in recorded.values() for file in of_slide), *listed]
    return _Listing(releases, files, approximate=from_idc and dry_run)


async def _list_series(client: HttpClient, series: Sequence[Series], storage: str) -> list[RemoteFile]:
    if series:
        LOGGER.info("listing the files of %d slides in the bucket", len(series))
    limit = asyncio.Semaphore(client.settings.connections)

    async def list_one(one: Series) -> list[RemoteFile]:
        async with limit:
            return await list_objects(client, one, storage)

    return [file for files in await asyncio.gather(*map(list_one, series)) for file in files]


async def _check_project(api: GdcApi, project: str) -> None:
    projects = await api.projects()
    if project not in projects:
        near = difflib.get_close_matches(project.upper(), projects, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "https://portal.gdc.cancer.gov lists them"
        raise InputError(f"the GDC has no project {project!r}; {hint}")


def _follow_release(manifest: FetchManifest, listing: _Listing, request: FetchRequest) -> ReleaseChanges:
    """Notice that a release has changed files of the folder, and follow it if the user wants to."""
    changes = compare(manifest, listing.files)
    moved = " and ".join(
        f"{manifest.releases[name]!r} to {release!r}"
        for name, release in listing.releases.items()
        if manifest.releases.get(name, release) != release
    )
    if changes and not request.update:
        where = f"the data release has moved from {moved}" if moved else "the server lists other files"
        raise InputError(
            f"{request.out}: {where} ({changes.describe()}); add --update to follow it, which moves withdrawn and changed files "
            f"to {request.out / WITHDRAWN}"
        )
    clinical = manifest.entries.get(CLINICAL)
    if moved and clinical and request.update:
        clinical.is_complete = False  # the server states no md5 of clinical data, so they are fetched anew
    elif moved:
        kept = f"; {CLINICAL} is kept, and --update fetches it anew" if clinical else ""
        LOGGER.info("the data release has moved from %s: %s%s", moved, changes.describe(), kept)
    forget(manifest, changes)
    manifest.releases |= listing.releases
    return changes


def _select(
    kind: str, listed: Sequence[RemoteFile], manifest: FetchManifest, request: FetchRequest
) -> list[RemoteFile]:
    """The files to have: those of earlier runs, and those that are requested now.

    Slides are taken in the order of their ids, which are random, so that the first N come from many sites.
    """
    entries = manifest.of_kind(kind)
    if kind not in request.kinds:
        return [file for file in listed if file.id in entries]
    if kind != "slides" or request.source == "idc":
        return list(listed)
    return sorted(listed, key=lambda file: (file.id not in entries, file.id))[: manifest.n_slides]


async def _download(prepared: PreparedFetch) -> None:
    request, manifest = prepared.request, prepared.manifest
    writer = ManifestWriter(manifest, request.out)
    missing = missing_files(request.out, manifest, prepared.files)
    missing.sort(key=lambda file: file.kind)  # RNA first: small, and soon of use
    started = time.monotonic()
    async with HttpClient(request.http) as client:
        if "clinical" in prepared.kinds and not _has_clinical(prepared):
            cases = await GdcApi(client, request.api).cases(request.project)
            manifest.entries[CLINICAL] = write_clinical(request.out, cases)
        with byte_bar(sum(file.size for file in missing), "downloading") as bar:
            failures = await download_all(missing, request.out, client, bar.update, writer.complete)
    if failures:
        n_incomplete = sum(not manifest.entries[file.id].is_complete for file in missing)
        raise InputError(
            f"{n_incomplete} of {len(missing)} files could not be downloaded ({failures[0].file.name}: {failures[0].reason}); "
            "run the command again, which continues with them"
        )
    unverified = sum(file.md5 is None for file in missing)
    if unverified:
        LOGGER.warning("%d files have no md5 on the server; only their size was checked", unverified)
    if missing:
        size, seconds = sum(file.size for file in missing), time.monotonic() - started
        LOGGER.info("%d files, %.2f GB, verified in %.0f s", len(missing), size / 1e9, seconds)


def _has_clinical(prepared: PreparedFetch) -> bool:
    entry = prepared.manifest.entries.get(CLINICAL)
    return entry is not None and entry.is_present(prepared.request.out)
