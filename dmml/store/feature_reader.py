"""Reading from a store of tile features: what it holds, and the features of each slide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmml.errors import InputError
from dmml.store.backends import backend_of
from dmml.store.encoder_identity import complete_identity
from dmml.store.folder_names import is_folder_name
from dmml.store.raw_arrays import read_array
from dmml.store.root_attributes import VECTORS
from dmml.store.root_group import read_root_group
from dmml.store.slide_cache import SlideCache
from dmml.store.slide_features import SlideFeatures

FORMAT = "dmml-features-1"
_ARRAYS = ("features", "position", "parent")


class SlideSummary(NamedTuple):
    """What a complete slide states."""

    slide_id: str
    attributes: dict[str, Any]
    tiles: list[int]
    """Number of tiles at each of the magnifications that were asked for"""


def recorded_tiles(attributes: Mapping[str, Any]) -> dict[str, int] | None:
    """{magnification: number of tiles} as an extraction records it in a slide's attributes; None without a record."""
    tiles = attributes.get("tiles")
    is_record = isinstance(tiles, dict) and all(type(n) is int and n >= 0 for n in tiles.values())
    return tiles if is_record else None


class FeatureReader:
    """An existing store of tile features, opened for reading. `FeatureStore` adds writing, and describes the layout.

    Args:
        path: Folder or fsspec URL of the store.

    Raises:
        InputError: There is no feature store at `path`.
    """

    def __init__(self, path: str | Path):
        self.path = str(path).removeprefix("file://")
        self.backend = backend_of(path)
        self._cache = SlideCache(self.backend)
        root = read_root_group(self.backend, path)
        if root is None:
            raise InputError(f"{path}: no feature store here; make one with `dmml extract SLIDES --out {path}`")
        self._attributes: dict[str, Any] = root.get("attributes", {})
        if self._attributes.get("format") != FORMAT:
            raise InputError(
                f"{path}: a zarr group, but not a dmml feature store (its format is {self._attributes.get('format')!r} "
                f"instead of {FORMAT!r}); make one with `dmml extract`"
            )

    @property
    def attributes(self) -> dict[str, Any]:
        """All root attributes, with the encoder's identity completed and integer keys in `magnifications`."""
        magnifications = {int(m): mpp for m, mpp in self._attributes["magnifications"].items()}
        return {**self._attributes, "encoder": self._encoder, "magnifications": magnifications}

    @property
    def _encoder(self) -> dict[str, Any]:
        return complete_identity(self._attributes["encoder"])

    @property
    def n_features(self) -> int:
        """Feature width D of the encoder."""
        return int(self._attributes["encoder"]["dim"])

    @property
    def dtype(self) -> np.dtype:
        """Type in which features are kept."""
        return np.dtype(self._attributes.get("dtype", "float16"))

    @property
    def holds_vectors(self) -> bool:
        """Whether slides hold vectors without positions, in which NaN is a missing value, instead of tiles."""
        return self._attributes.get("content") == VECTORS

    def slides(self) -> list[str]:
        """Sorted ids of the complete slides."""
        return [slide.slide_id for slide in self.summaries([])]

    def summaries(self, magnifications: Sequence[int]) -> Iterator[SlideSummary]:
        """Yield what each complete slide states, sorted by id; memory does not grow with their number.

        Numbers of tiles are those that the slide's attributes record, as after an extraction; the headers of the arrays
        are read only where there is no record, since they take most of the time if the disk is slow. `dmml features
        verify` compares both.

        Args:
            magnifications: Magnifications whose numbers of tiles are wanted.

        Raises:
            InputError: A `zarr.json` is damaged.
        """

        def summary(slide_id: str) -> SlideSummary | None:
            attributes = self._cache.read_attributes(slide_id)
            if attributes is None:
                return None
            recorded = recorded_tiles(attributes)
            if recorded is None:
                return SlideSummary(slide_id, attributes, [self.n_tokens(slide_id, m) for m in magnifications])
            return SlideSummary(slide_id, attributes, [recorded.get(str(m), 0) for m in magnifications])

        return (slide for slide in self._cache.map(summary, self.names()) if slide is not None)

    def names(self) -> list[str]:
        """Sorted names of the slides' folders, which are not opened: some slides may be incomplete."""
        return sorted(filter(is_folder_name, self.backend.subfolders("slides")))

    def whole(self, slide_ids: Iterable[str]) -> list[str]:
        """The given slides that exist and are complete; each process checks a complete slide only once."""
        ids = list(slide_ids)
        complete = self._cache.map(self._cache.is_complete, ids)
        return [slide for slide, is_complete in zip(ids, complete, strict=True) if is_complete]

    def sizes(self, slide_ids: Iterable[str], magnifications: Sequence[int]) -> dict[str, list[int]]:
        """{slide: number of tiles at each magnification}, read once per process, many at a time behind a URL."""
        ids = list(slide_ids)
        sizes = self._cache.map(lambda slide: [self.n_tokens(slide, m) for m in magnifications], ids)
        return dict(zip(ids, sizes, strict=True))

    def digest(self, slide_ids: Iterable[str] | None = None) -> str:
        """Hash of the root attributes and of each slide's id, attributes and numbers of tiles; features are not read.

        Args:
            slide_ids: Ids of complete slides; None = all complete slides.
        """
        slides = self.whole(self.names()) if slide_ids is None else slide_ids
        sizes = self.sizes(slides, sorted(self.attributes["magnifications"]))
        return self._cache.digest(self._attributes, sizes)

    def digests(self, slide_ids: Iterable[str]) -> dict[str, str]:
        """{path of the store: hash}, the form in which several stores that are read as one report their hashes."""
        return {self.path: self.digest(slide_ids)}

    def __contains__(self, slide_id: str) -> bool:
        """Whether the slide exists and is complete."""
        return self._cache.read_attributes(slide_id) is not None

    def slide_attributes(self, slide_id: str) -> dict[str, Any]:
        """Attributes of a slide, such as its source file's name and size, its dimensions, mpp and the mpp's origin."""
        attributes = self._cache.read_attributes(slide_id)
        if attributes is None:
            raise self._no_slide(slide_id)
        return dict(attributes)

    def written_at(self, slide_id: str) -> tuple[int, int] | None:
        """Stamp that changes when a slide is written again; None if the slide does not exist, or behind a URL."""
        return self.backend.stamp(f"slides/{slide_id}/zarr.json")

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        """Features of a slide at a magnification, or None if the slide has none at that magnification."""
        self._check_exists(slide_id)
        scale = f"{magnification}x"
        features, position, parent = (self._array(slide_id, f"{scale}/{name}") for name in _ARRAYS)
        if features is None:
            return None
        if position is None:
            raise InputError(
                f"{self.path}/slides/{slide_id}/{scale}: has no positions; extract this slide again with --overwrite"
            )
        return SlideFeatures(features, position, parent)

    def n_tokens(self, slide_id: str, magnification: int) -> int:
        """Number of tiles of a slide at a magnification; the features are not read."""
        self._check_exists(slide_id)
        header = self._cache.header(slide_id, f"{magnification}x/features")
        return 0 if header is None else header[1][0]

    def shapes(self, slide_id: str, magnification: int) -> dict[str, tuple[int, ...] | None]:
        """Shapes of `features`, `position` and `parent`, which are not read; None for an array that does not exist."""
        self._check_exists(slide_id)
        headers = {name: self._cache.header(slide_id, f"{magnification}x/{name}") for name in _ARRAYS}
        return {name: None if header is None else header[1] for name, header in headers.items()}

    def undeclared(self, slide_id: str) -> list[str]:
        """Folders of a slide that look like magnifications but are not declared by the store, such as `40x`."""
        declared = {f"{m}x" for m in self.attributes["magnifications"]}
        folders = self.backend.subfolders(f"slides/{slide_id}")
        return sorted({name for name in folders if name[:-1].isdecimal() and name[-1] == "x"} - declared)

    def thumbnail(self, slide_id: str) -> np.ndarray | None:
        """Picture of the slide, (H, W, 3) uint8, or None; the slide attribute `thumbnail_mpp` gives its scale."""
        return self.picture(slide_id, "thumbnail")

    def picture(self, slide_id: str, name: str) -> np.ndarray | None:
        """A picture that was written with a slide, or None if there is none of that name."""
        self._check_exists(slide_id)
        return self._array(slide_id, name)

    def forget(self, slide_id: str) -> None:
        """Free the little memory that a slide takes once it was read, after a pass over all slides of a store."""
        self._cache.forget(slide_id)

    def _check_exists(self, slide_id: str) -> None:
        if not self._cache.is_complete(slide_id):
            raise self._no_slide(slide_id)

    def _no_slide(self, slide_id: str) -> InputError:
        return InputError(f"{self.path}: no slide {slide_id!r}; `dmml features list {self.path}` lists its slides")

    def _array(self, slide_id: str, name: str) -> np.ndarray | None:
        was_cached = self._cache.has_header(slide_id, name)
        header = self._cache.header(slide_id, name)
        try:
            return None if header is None else read_array(self.backend, self.path, f"slides/{slide_id}/{name}", header)
        except InputError:
            self._cache.forget(slide_id)
            if not was_cached:
                raise
            return self._array(slide_id, name)  # another process has written the slide again
