"""Slides behind URLs, as paths in a staging folder to which they are downloaded shortly before they are read."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.staging.companions import companions_of, dicom_series
from dmml.slides.staging.download import Downloader, with_retries
from dmml.slides.staging.remote_files import RemoteFile, RemoteFolder, list_remote
from dmml.slides.staging.staging_folder import StagingFolder, remove_file
from dmml.slides.tiling.layout import Layout, SlideRequest
from dmml.slides.wsi.file_identity import content_hash

_THREADS = 64
"""Slides that wait for room, for their download or for their layout; more of them wait for a thread"""
_DOWNLOADS = 4
"""Slides that are downloaded at the same time"""


@dataclass(frozen=True)
class _Place:
    """Where a staged file comes from."""

    folder: RemoteFolder
    name: str
    """Key in `folder.files`"""

    @property
    def file(self) -> RemoteFile:
        return self.folder.files[self.name]


class StagedSlides:
    """The slides behind the URLs of a run.

    Args:
        parent: Folder for downloads; None means one in the system's temporary folder.
        limit_gib: GiB that downloads may take at the same time; None means a limit that follows from the disk.

    Raises:
        InputError: The folder cannot be used.
    """

    def __init__(self, parent: Path | None = None, limit_gib: float | None = None):
        self._folder = StagingFolder(parent, limit_gib)
        self._downloader = Downloader()
        self._places: dict[Path, _Place] = {}
        self._urls: dict[str, str] = {}
        self._series: dict[Path, str | None] = {}
        self._series_locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self._staged: dict[Path, tuple[int, list[Path]]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="slide-staging")
        self._downloads = threading.Semaphore(_DOWNLOADS)

    def __contains__(self, path: Path) -> bool:
        return path in self._places

    def find(self, url: str) -> tuple[Path, list[Path]]:
        """List a URL.

        Returns:
            The path that stands for the URL, and those of the files below it; a single file stands for itself.

        Raises:
            InputError: See `list_remote`.
        """
        folder = list_remote(url)
        root = self._folder.path / hashlib.sha256(folder.folder_url.encode()).hexdigest()[:16]
        self._urls[str(root)] = folder.folder_url
        self._places |= {root / name: _Place(folder, name) for name in folder.files}
        if folder.single is not None:
            return root / folder.single, [root / folder.single]
        return root, [root / name for name in folder.files]

    def with_urls(self, text: str) -> str:
        """Replace staged paths in a text by the URLs for which they stand."""
        for root, url in self._urls.items():
            text = text.replace(root, url)
        return text

    def is_same(self, path: Path, recorded: Mapping[str, Any]) -> bool:
        """Do what `is_same_file` does, without a download: a file of another time is compared by pieces of it."""
        place = self._places[path]
        if recorded.get("source_bytes") != place.file.size:
            return False
        companions = self._companion_names(place) if path.suffix.lower() == ".mrxs" else []
        if place.file.time_ns and recorded.get("source_time") == place.file.time_ns and not companions:
            return True
        if "source_hash" not in recorded:
            return True
        sizes = [(name.rpartition("/")[2], place.folder.files[name].size) for name in companions]

        def hash_now() -> str:
            with self._open(place) as file:
                return content_hash(file, place.file.size, sizes)

        return with_retries(path, hash_now) == recorded["source_hash"]

    def series(self, path: Path) -> str | None:
        """DICOM series of a file, read from its header; None for other formats."""
        if path.suffix.lower() != ".dcm":
            return None
        with self._series_locks[path.parent]:
            if path not in self._series:
                siblings = [p for p in list(self._places) if p.parent == path.parent and p.suffix.lower() == ".dcm"]
                openers = {p: partial(self._open, self._places[p]) for p in siblings}
                self._series |= with_retries(path, lambda: dicom_series(openers))
            return self._series[path]

    def is_reachable(self, path: Path) -> bool:
        """Whether the store answers when it is asked about a file."""
        place = self._places[path]
        try:
            place.folder.file_system.invalidate_cache()
            place.folder.file_system.info(place.file.name)
        except Exception:  # every file system raises its own types
            return False
        return True

    def keep_only(self, slides: list[Path]) -> None:
        """Remove downloads of a killed run that belong to none of these slides."""
        wanted = {path for path in slides if path in self}
        folders = {
            path.with_suffix("") if path.suffix.lower() == ".mrxs" else path.parent
            for path in wanted
            if _has_companions(path)
        }
        self._folder.keep_only(
            wanted | {path for path in self._places if not folders.isdisjoint((path.parent, *path.parents))}
        )

    def lay_out(self, request: SlideRequest, readers: ReaderPool) -> Future[Layout]:
        """Download a slide in the background, when there is room, and lay it out; other slides are laid out as they are.

        The future raises `SlideError` if the slide cannot be used, and `InputError` if the disk is full.
        """
        if request.path not in self:
            return readers.lay_out(request)
        ticket = self._folder.ticket()
        return self._threads.submit(self._download_and_lay_out, request, readers, ticket)

    def release(self, path: Path, was_read: bool = False) -> None:
        """Remove a slide's files.

        Args:
            path: The slide; nothing happens if it is not staged.
            was_read: Whether no reader needs them any more; otherwise one that has a file open can still read it.
        """
        with self._lock:
            size, files = self._staged.pop(path, (0, []))
        for file in files:
            remove_file(file, was_read)
        if files:
            self._folder.give_back(size)

    def close(self) -> None:
        """Remove all files, and stop waiting."""
        self._downloader.close()
        self._folder.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _download_and_lay_out(self, request: SlideRequest, readers: ReaderPool, ticket: object) -> Layout:
        try:
            files = with_retries(request.path, lambda: self._files(request.path))
            size = sum(place.file.size for place in files.values())
            self._folder.take(ticket, size, request.path)
        finally:
            self._folder.drop(ticket)
        with self._lock:
            self._staged[request.path] = size, list(files)
        try:
            with self._downloads:
                for path, place in files.items():
                    self._downloader.download(place.folder.file_system, place.file, path)
            return readers.lay_out(request).result()
        except BaseException:
            self.release(request.path)
            raise

    def _files(self, path: Path) -> dict[Path, _Place]:
        """All files of a slide."""
        place = self._places[path]
        if (series := self.series(path)) is not None:
            return {p: self._places[p] for p, its in self._series.items() if its == series and p.parent == path.parent}
        root = Path(str(path)[: -len(place.name)])
        names = [place.name, *self._companion_names(place)]
        return {root / name: _Place(place.folder, name) for name in names}

    def _companion_names(self, place: _Place) -> list[str]:
        return companions_of(place.name, place.folder.files, lambda name: self._open(_Place(place.folder, name)).read())

    def _open(self, place: _Place) -> BinaryIO:
        """Open a remote file, from which little is read at a time."""
        return cast(
            BinaryIO, place.folder.file_system.open(place.file.name, "rb", block_size=2**16, cache_type="readahead")
        )


def _has_companions(path: Path) -> bool:
    return path.suffix.lower() in (".dcm", ".mrxs", ".vms", ".vmu")


def same_file_test(
    staged: StagedSlides | None, local: Callable[[Path, Mapping[str, Any]], bool]
) -> Callable[[Path, Mapping[str, Any]], bool]:
    """Return a test of whether a file is the one that a slide's attributes record, whether staged or local."""
    if staged is None:
        return local
    return lambda path, recorded: staged.is_same(path, recorded) if path in staged else local(path, recorded)
