"""Tile features on disk: one zarr v3 group a slide. The seam between pixels and learning.

Layout (N tiles; root attributes: `format`, `encoder`, `tile_px`, `magnifications`)::

    slides/<slide_id>/10x/features  (N10, D) float16
    slides/<slide_id>/10x/position  (N10, 2) float32, µm of the tile's centre from the slide's origin
    slides/<slide_id>/20x/features, 20x/position
    slides/<slide_id>/20x/parent    (N20,) int32, row of the 10x tile that covers the 20x tile, -1 = none
    slides/<slide_id>/thumbnail     (H, W, 3) uint8, optional

A group is visible only when its attribute `complete` is true; it is written last, so a writer that dies leaves
nothing that a reader would take for a slide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from dmml.errors import InputError

FORMAT = "dmml-features-1"


@dataclass
class SlideFeatures:
    """Features of one slide at one magnification."""

    features: np.ndarray
    """(N, D) float16"""
    position: np.ndarray
    """(N, 2) float32 µm"""
    parent: np.ndarray | None = None
    """(N,) int32 row in the next coarser magnification, -1 = none; None where there is no coarser one"""


def is_store(path: str | Path) -> bool:
    """Whether there is a zarr group at a folder or fsspec URL, of whatever kind."""
    location = _location(path)
    if "://" not in location:
        return (Path(location) / "zarr.json").is_file()
    try:
        zarr.open_group(location, mode="r")
    except (FileNotFoundError, ValueError, KeyError):
        return False
    except ImportError as error:
        raise InputError(f"{path}: this kind of URL needs another package ({error})") from error
    return True


class FeatureStore:
    """Reads and writes a store of tile features.

    Args:
        path: Folder or fsspec URL of an existing store.
        mode: `"r"` or `"r+"`.

    Raises:
        InputError: There is no feature store at `path`.
    """

    def __init__(self, path: str | Path, mode: str = "r"):
        self.path = _location(path)
        self._groups: dict[str, zarr.Group] = {}  # opened once: each opening reads metadata files
        if not is_store(path):
            raise InputError(f"{path}: no feature store here; make one with `dmml extract SLIDES --out {path}`")
        try:
            self._root = zarr.open_group(self.path, mode=mode)
        except (FileNotFoundError, ValueError, OSError) as error:
            raise InputError(
                f"{path}: cannot be opened as a feature store ({error}); make one with `dmml extract`"
            ) from error
        if self._root.attrs.get("format") != FORMAT:
            raise InputError(
                f"{path}: a zarr group but no dmml feature store (format {self._root.attrs.get('format')!r}, expected "
                f"{FORMAT!r}); make one with `dmml extract`"
            )

    @classmethod
    def create(
        cls, path: str | Path, encoder: Mapping[str, Any], magnifications: Mapping[int, float], tile_px: int = 224
    ) -> FeatureStore:
        """Open the store at `path` for writing, making it where there is none.

        Args:
            path: Folder or fsspec URL.
            encoder: `name`, `weights` (hash), `dim` and `preprocessing` of the encoder.
            magnifications: {magnification: µm per pixel}, e.g. {10: 1.0, 20: 0.5}.
            tile_px: Side of a tile in pixels of its magnification.

        Raises:
            InputError: A store is there already and was made with another encoder, grid or magnifications.
        """
        attributes = {
            "format": FORMAT,
            "encoder": dict(encoder),
            "tile_px": tile_px,
            "magnifications": {str(m): float(mpp) for m, mpp in magnifications.items()},
        }
        if not is_store(path):
            # Attributes come with the group itself: a writer that dies here leaves a whole, empty store or none.
            zarr.open_group(_location(path), mode="w-", attributes=attributes).require_group("slides")
            return cls(path, mode="r+")
        store = cls(path, mode="r+")
        for name, wanted in attributes.items():
            if store._root.attrs.get(name) != wanted:
                raise InputError(
                    f"{path}: holds features with {name} = {store._root.attrs.get(name)}, not {wanted}; "
                    "write to another --out, or delete this store first"
                )
        return store

    @property
    def attributes(self) -> dict[str, Any]:
        """Root attributes: `format`, `encoder`, `tile_px`, `magnifications` (with integer keys)."""
        attributes = dict(self._root.attrs)
        attributes["magnifications"] = {int(m): mpp for m, mpp in attributes["magnifications"].items()}
        return attributes

    @property
    def n_features(self) -> int:
        """Width D of the encoder."""
        return int(self._root.attrs["encoder"]["dim"])

    def slides(self) -> list[str]:
        """Ids of the slides that are complete, sorted."""
        slides = self._root.get("slides")
        return [] if slides is None else sorted(n for n, group in slides.groups() if group.attrs.get("complete"))

    def __contains__(self, slide_id: str) -> bool:
        """Whether the slide is there and complete."""
        group = self._root.get(f"slides/{slide_id}")
        return group is not None and bool(group.attrs.get("complete"))

    def slide_attributes(self, slide_id: str) -> dict[str, Any]:
        """What is known of a slide: source name, size, dimensions, mpp, where the mpp came from."""
        return dict(self._group(slide_id).attrs)

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        """Features of a slide at a magnification, or None where the slide has none at it."""
        group = self._group(slide_id).get(f"{magnification}x")
        if group is None:
            return None
        parent = group.get("parent")
        return SlideFeatures(group["features"][:], group["position"][:], None if parent is None else parent[:])

    def n_tokens(self, slide_id: str, magnification: int) -> int:
        """Number of tiles of a slide at a magnification, without reading them."""
        group = self._group(slide_id).get(f"{magnification}x")
        return 0 if group is None else group["features"].shape[0]

    def thumbnail(self, slide_id: str) -> np.ndarray | None:
        """(H, W, 3) uint8 picture of the slide, or None; its scale stands in the attribute `thumbnail_mpp`."""
        array = self._group(slide_id).get("thumbnail")
        return None if array is None else array[:]

    def write(
        self,
        slide_id: str,
        bags: Mapping[int, SlideFeatures],
        attributes: Mapping[str, Any],
        thumbnail: np.ndarray | None = None,
    ) -> None:
        """Write a slide whole; a group of that name that is there (complete or not) is replaced.

        Features are stored as one uncompressed chunk: half-precision features barely compress, and reading is
        what training waits for.
        """
        self._groups.pop(slide_id, None)
        group = self._root.require_group("slides").create_group(slide_id, overwrite=True)
        for magnification, bag in bags.items():
            scale = group.create_group(f"{magnification}x")
            _write_array(scale, "features", np.asarray(bag.features, dtype=np.float16))
            _write_array(scale, "position", np.asarray(bag.position, dtype=np.float32))
            if bag.parent is not None:
                _write_array(scale, "parent", np.asarray(bag.parent, dtype=np.int32))
        if thumbnail is not None:
            group.create_array("thumbnail", data=np.ascontiguousarray(thumbnail))
        group.attrs.update({**attributes, "complete": True})

    def _group(self, slide_id: str) -> zarr.Group:
        if slide_id not in self._groups:
            if slide_id not in self:
                raise InputError(
                    f"{self.path}: no slide {slide_id!r}; `dmml features list {self.path}` shows those that are there"
                )
            self._groups[slide_id] = self._root[f"slides/{slide_id}"]
        return self._groups[slide_id]


def _location(path: str | Path) -> str:
    """A folder where the path or URL means a local one, the URL otherwise."""
    return str(path).removeprefix("file://")


def _write_array(group: zarr.Group, name: str, values: np.ndarray) -> None:
    chunks = tuple(max(1, size) for size in values.shape)
    group.create_array(name, data=np.ascontiguousarray(values), chunks=chunks, compressors=None)
