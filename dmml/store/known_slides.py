"""What a process remembers of a store's slides: a few numbers each, read once, of those alone that are asked for."""

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
"""Threads that wait for answers of a URL: each file is a request, and most of its time is waiting"""


class KnownSlides:
    """Remembers which slides are whole, and the facts of their arrays.

    A parsed `zarr.json` takes some 3 kB of memory, the facts of an array some 100 bytes; every process that reads ahead
    keeps its own, of up to 100,000 slides.

    Args:
        place: Of the store.
    """

    def __init__(self, place: Folder | Remote):
        self._place = place
        self._whole: dict[str, int] = {}  # slide → checksum of its attributes
        self._arrays: dict[str, dict[str, ArrayFacts | None]] = {}
        self._same: dict[ArrayFacts, ArrayFacts] = {}  # equal facts are kept once

    def look(self, slide_id: str) -> dict[str, Any] | None:
        """Attributes of a complete slide, as they are now; None where there is no such slide."""
        known = describe(self._place, f"slides/{slide_id}") if is_plain_name(slide_id) else None
        attributes = {} if known is None else known.get("attributes", {})
        if not attributes.get("complete"):
            return None
        self._whole[slide_id] = zlib.crc32(json.dumps(attributes, sort_keys=True).encode())
        return attributes

    def is_whole(self, slide_id: str) -> bool:
        """Whether a slide is complete, or was when it was looked at."""
        return slide_id in self._whole or self.look(slide_id) is not None

    def array(self, slide_id: str, name: str) -> ArrayFacts | None:
        """Facts of an array of a slide, None where it has none of that name."""
        arrays = self._arrays.setdefault(slide_id, {})
        if name not in arrays:
            facts = array_facts(self._place, f"slides/{slide_id}/{name}")
            arrays[intern(name)] = None if facts is None else self._same.setdefault(facts, facts)
        return arrays[name]

    def remembers(self, slide_id: str, name: str) -> bool:
        """Whether the facts of an array are those of an earlier reading."""
        return name in self._arrays.get(slide_id, {})

    def forget(self, slide_id: str) -> None:
        """Look at a slide anew when it is asked for."""
        self._whole.pop(slide_id, None)
        self._arrays.pop(slide_id, None)

    def each(self, work: Callable[[str], Any], slide_ids: Iterable[str]) -> list[Any]:
        """`work` on each slide, in their order; several at once where the store is behind a URL."""
        if isinstance(self._place, Folder) or _keeps_a_list(self._place):
            return [work(slide) for slide in slide_ids]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, slide_ids))

    def digest(self, root: Mapping[str, Any], sizes: Mapping[str, Iterable[int]]) -> str:
        """Hash of root attributes and of slides: their ids, attributes and numbers of tiles.

        Args:
            root: Attributes of the store.
            sizes: {slide: tiles at each magnification}; the slides are complete.
        """
        digest = hashlib.sha256(json.dumps(root, sort_keys=True).encode())
        for slide, tiles in sorted(sizes.items()):
            digest.update(f"\n{slide}|{self._whole[slide]}|{','.join(map(str, tiles))}".encode())
        return digest.hexdigest()[:16]


def _keeps_a_list(place: Remote) -> bool:
    """Whether fsspec keeps a list of what it has cached, which threads break (`filecache`); `simplecache` has none."""
    from fsspec.implementations.cached import CachingFileSystem, SimpleCacheFileSystem

    return isinstance(place.files, CachingFileSystem) and not isinstance(place.files, SimpleCacheFileSystem)
