"""A process's cache of facts about a store's slides: a few numbers per slide, read once and only when needed."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from sys import intern
from typing import Any

from dmml.store.places import Folder, Remote, is_plain_name
from dmml.store.plain_arrays import ArrayFacts, array_facts, describe

_AT_ONCE = 32
"""Number of threads that read from a URL: each file is a request, which spends most of its time waiting"""


class KnownSlides:
    """Cache of which slides are complete, and of the facts of their arrays.

    A parsed `zarr.json` takes some 3 kB of memory, the facts of an array some 100 bytes. This matters because every
    worker process has a cache, and a store may hold 100,000 slides.

    Args:
        place: Backend of the store.
    """

    def __init__(self, place: Folder | Remote):
        self._place = place
        self._whole: dict[str, int] = {}  # slide → checksum of its attributes
        self._arrays: dict[str, dict[str, ArrayFacts | None]] = {}
        self._same: dict[ArrayFacts, ArrayFacts] = {}  # equal facts share one tuple

    def look(self, slide_id: str) -> dict[str, Any] | None:
        """Read the current attributes of a slide; None if it does not exist or is incomplete."""
        known = describe(self._place, f"slides/{slide_id}") if is_plain_name(slide_id) else None
        attributes = {} if known is None else known.get("attributes", {})
        if not attributes.get("complete"):
            return None
        self._whole[slide_id] = zlib.crc32(json.dumps(attributes, sort_keys=True).encode())
        return attributes

    def is_whole(self, slide_id: str) -> bool:
        """Whether a slide is complete, or was complete when it was last read."""
        return slide_id in self._whole or self.look(slide_id) is not None

    def array(self, slide_id: str, name: str) -> ArrayFacts | None:
        """Facts of a slide's array, or None if the slide has no array of that name."""
        arrays = self._arrays.setdefault(slide_id, {})
        if name not in arrays:
            facts = array_facts(self._place, f"slides/{slide_id}/{name}")
            arrays[intern(name)] = None if facts is None else self._same.setdefault(facts, facts)
        return arrays[name]

    def remembers(self, slide_id: str, name: str) -> bool:
        """Whether the facts of an array are cached from an earlier read."""
        return name in self._arrays.get(slide_id, {})

    def forget(self, slide_id: str) -> None:
        """Drop what is cached of a slide, so that it is read again when it is next needed."""
        self._whole.pop(slide_id, None)
        self._arrays.pop(slide_id, None)

    def each(self, work: Callable[[str], Any], slide_ids: Iterable[str]) -> list[Any]:
        """Apply `work` to each slide, and return the results in order; many slides at a time behind a URL."""
        if isinstance(self._place, Folder) or _keeps_a_list(self._place):
            return [work(slide) for slide in slide_ids]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, slide_ids))

    def digest(self, root: Mapping[str, Any], sizes: Mapping[str, Iterable[int]]) -> str:
        """Hash of the root attributes and of each slide's id, attributes and numbers of tiles.

        Args:
            root: Root attributes of the store.
            sizes: {slide: number of tiles at each magnification} of complete slides, whose attributes have been read.
        """
        digest = hashlib.sha256(json.dumps(root, sort_keys=True).encode())
        for slide, tiles in sorted(sizes.items()):
            digest.update(f"\n{slide}|{self._whole[slide]}|{','.join(map(str, tiles))}".encode())
        return digest.hexdigest()[:16]


def _keeps_a_list(place: Remote) -> bool:
    """Whether fsspec lists its cached files (`filecache`), which threads would corrupt; `simplecache` has no list."""
    from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem

    return isinstance(place.files, CachingFileSystem) and not isinstance(place.files, SimpleCacheFileSystem)
