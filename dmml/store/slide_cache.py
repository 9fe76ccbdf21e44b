"""A process's cache of what a store's slides contain: a few numbers per slide, read once and only when needed."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from sys import intern
from typing import Any, TypeVar

from dmml.store.backends import Backend
from dmml.store.folder_names import is_folder_name
from dmml.store.local_folder import LocalFolder
from dmml.store.raw_arrays import ArrayHeader, read_array_header, read_zarr_json
from dmml.store.remote_folder import RemoteFolder

_THREADS = 32
"""Number of threads that read from a URL: each file is a request, which spends most of its time waiting"""
_MAX_PENDING = 4096
"""Number of slides whose results from a URL may be in memory together"""
Result = TypeVar("Result")


class SlideCache:
    """Cache of which slides are complete, and of the data types and shapes of their arrays.

    A parsed `zarr.json` takes some 3 kB of memory, the header of an array some 100 bytes. This matters because every
    worker process has a cache, and a store may hold 100,000 slides.

    Args:
        backend: Backend of the store.
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self._complete: dict[str, int | None] = {}  # slide → checksum of its attributes, once it was needed
        self._headers: dict[str, dict[str, ArrayHeader | None]] = {}
        self._shared: dict[ArrayHeader, ArrayHeader] = {}  # equal headers share one tuple

    def read_attributes(self, slide_id: str) -> dict[str, Any] | None:
        """Read the current attributes of a slide; None if it does not exist or is incomplete."""
        metadata = read_zarr_json(self._backend, f"slides/{slide_id}") if is_folder_name(slide_id) else None
        attributes: dict[str, Any] = {} if metadata is None else metadata.get("attributes", {})
        if not attributes.get("complete"):
            return None
        self._complete[slide_id] = None
        return attributes

    def is_complete(self, slide_id: str) -> bool:
        """Whether a slide is complete, or was complete when it was last read."""
        return slide_id in self._complete or self._checksum(slide_id) is not None

    def _checksum(self, slide_id: str) -> int | None:
        """Checksum of a slide's attributes, for `digest`; None if it is incomplete."""
        if (checksum := self._complete.get(slide_id)) is None and (attributes := self.read_attributes(slide_id)):
            checksum = zlib.crc32(json.dumps(attributes, sort_keys=True).encode())
            self._complete[slide_id] = checksum
        return checksum

    def header(self, slide_id: str, name: str) -> ArrayHeader | None:
        """Data type and shape of a slide's array, or None if the slide has no array of that name."""
        headers = self._headers.setdefault(slide_id, {})
        if name not in headers:
            header = read_array_header(self._backend, f"slides/{slide_id}/{name}")
            headers[intern(name)] = None if header is None else self._shared.setdefault(header, header)
        return headers[name]

    def has_header(self, slide_id: str, name: str) -> bool:
        """Whether the header of an array is cached from an earlier read."""
        return name in self._headers.get(slide_id, {})

    def forget(self, slide_id: str) -> None:
        """Drop what is cached of a slide, so that it is read again when it is next needed."""
        self._complete.pop(slide_id, None)
        self._headers.pop(slide_id, None)

    def map(self, function: Callable[[str], Result], slide_ids: Iterable[str]) -> Iterator[Result]:
        """Apply a function to each slide, and yield the results in order; many slides at a time behind a URL."""
        if isinstance(self._backend, LocalFolder) or _keeps_a_list(self._backend):
            yield from map(function, slide_ids)
            return
        slides = iter(slide_ids)
        with ThreadPoolExecutor(_THREADS) as pool:
            while batch := list(islice(slides, _MAX_PENDING)):
                yield from pool.map(function, batch)

    def digest(self, root: Mapping[str, Any], sizes: Mapping[str, Iterable[int]]) -> str:
        """Hash of the root attributes and of each slide's id, attributes and numbers of tiles.

        Args:
            root: Root attributes of the store.
            sizes: {slide: number of tiles at each magnification} of complete slides.
        """
        digest = hashlib.sha256(json.dumps(root, sort_keys=True).encode())
        slides = sorted(sizes)
        for slide, checksum in zip(slides, self.map(self._checksum, slides), strict=True):
            digest.update(f"\n{slide}|{checksum}|{','.join(map(str, sizes[slide]))}".encode())
        return digest.hexdigest()[:16]


def _keeps_a_list(backend: RemoteFolder) -> bool:
    """Whether fsspec lists its cached files (`filecache`), which threads would corrupt; `simplecache` has no list."""
    from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem

    return isinstance(backend.files, CachingFileSystem) and not isinstance(backend.files, SimpleCacheFileSystem)
