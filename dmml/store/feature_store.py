"""One zarr v3 group a slide.

Layout (N tiles; root attributes: `format`, `encoder`, `tile_px`, `magnifications`, `extraction`)::

    slides/<slide_id>/10x/features  (N10, D) float16
    slides/<slide_id>/10x/position  (N10, 2) float32, µm of the tile's centre from the slide's origin
    slides/<slide_id>/20x/features, 20x/position
    slides/<slide_id>/20x/parent    (N20,) int32, row of the 10x tile that covers the 20x tile, -1 = none
    slides/<slide_id>/thumbnail     (H, W, 3) uint8, optional

A group is visible only when its attribute `complete` is true. In a folder it is put together aside and moved to its
place; behind a URL the file that holds the attribute is written last. A writer that dies leaves nothing that a reader
would take for a slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store.places import Folder, Remote, is_plain_name, place_of
from dmml.store.plain_arrays import array_files, describe, group_json, read_array

FORMAT = "dmml-features-1"


@dataclass
class SlideFeatures:
    """Features of one slide at one magnification. As read, the arrays are read-only: they may be mapped files."""

    features: np.ndarray
    """(N, D) float16"""
    position: np.ndarray
    """(N, 2) float32 µm"""
    parent: np.ndarray | None = None
    """(N,) int32 row in the next coarser magnification, -1 = none; None where there is no coarser one"""


def is_store(path: str | Path) -> bool:
    """Whether there is a zarr group at a folder or fsspec URL, of whatever kind."""
    return _reachable(place_of(path), path) is not None


class FeatureStore:
    """Reads and writes a store of tile features.

    Args:
        path: Folder or fsspec URL of an existing store.
        mode: `"r"` or `"r+"`.

    Raises:
        InputError: There is no feature store at `path`.
    """

    def __init__(self, path: str | Path, mode: str = "r"):
        self.path = str(path).removeprefix("file://")
        self.place: Folder | Remote = place_of(path)
        self._mode = mode
        self._known: dict[str, dict[str, Any]] = {}  # attributes of the slides that were looked at
        self._arrays: dict[str, dict[str, Any] | None] = {}  # descriptions of arrays that were read
        root = _reachable(self.place, path)
        if root is None:
            raise InputError(f"{path}: no feature store here; make one with `dmml extract SLIDES --out {path}`")
        self._attributes: dict[str, Any] = root.get("attributes", {})
        if self._attributes.get("format") != FORMAT:
            raise InputError(
                f"{path}: a zarr group but no dmml feature store (format {self._attributes.get('format')!r}, expected "
                f"{FORMAT!r}); make one with `dmml extract`"
            )

    @classmethod
    def create(
        cls,
        path: str | Path,
        encoder: Mapping[str, Any],
        magnifications: Mapping[int, float],
        tile_px: int = 224,
        extraction: Mapping[str, Any] | None = None,
    ) -> FeatureStore:
        """Open the store at `path` for writing, making it where there is none.

        Args:
            path: Folder or fsspec URL.
            encoder: `name`, `weights` (hash), `dim` and `preprocessing` of the encoder.
            magnifications: {magnification: µm per pixel}, e.g. {10: 1.0, 20: 0.5}.
            tile_px: Side of a tile in pixels of its magnification.
            extraction: All else that decides what stands in the store: how tissue was found, in what precision tiles
                were encoded.

        Raises:
            InputError: A store is there already and was made with another encoder, grid or parameters; the message
                names each difference.
        """
        wanted = {
            "format": FORMAT,
            "encoder": dict(encoder),
            "tile_px": tile_px,
            "magnifications": {str(m): float(mpp) for m, mpp in magnifications.items()},
            **({} if extraction is None else {"extraction": dict(extraction)}),
        }
        if not is_store(path):
            place = place_of(path)
            # The root comes last and whole: a writer that dies here leaves an empty store or none.
            place.write_new("slides/zarr.json", group_json({}))
            place.write_new("zarr.json", group_json(wanted))
        store = cls(path, mode="r+")
        store.check_same(wanted)
        return store

    def check_same(self, wanted: Mapping[str, Any], partly: Sequence[str] = ()) -> None:
        """Refuse root attributes that differ from those of the store; what either side lacks is not compared.

        Args:
            wanted: Attributes as `create` writes them.
            partly: Those of which only a part is given.

        Raises:
            InputError: Names each difference.
        """
        there, given = (dict(_flat("", attributes)) for attributes in (self._attributes, wanted))
        changed = [key for key in given if key in there and there[key] != given[key]]
        tops = {key.split(".")[0] for key in there}
        changed += [key for key in given if key not in there and key.split(".")[0] in tops]
        changed += [key for key in there if key not in given and key.split(".")[0] in set(wanted) - set(partly)]
        if changed:
            lines = "; ".join(f"{key}: {_short(there.get(key))} there, {_short(given.get(key))} now" for key in changed)
            raise InputError(
                f"--out {self.path}: was made otherwise ({lines}); write to another --out, or delete this store first"
            )

    @property
    def attributes(self) -> dict[str, Any]:
        """Root attributes: `format`, `encoder`, `tile_px`, `magnifications` (with integer keys)."""
        magnifications = {int(m): mpp for m, mpp in self._attributes["magnifications"].items()}
        return {**self._attributes, "magnifications": magnifications}

    @property
    def n_features(self) -> int:
        """Width D of the encoder."""
        return int(self._attributes["encoder"]["dim"])

    def slides(self) -> list[str]:
        """Ids of the slides that are complete, sorted."""
        return sorted(name for name in self.place.folders("slides") if name in self)

    def __contains__(self, slide_id: str) -> bool:
        """Whether the slide is there and complete."""
        return self._look(slide_id) is not None

    def slide_attributes(self, slide_id: str) -> dict[str, Any]:
        """What is known of a slide: source name, size, dimensions, mpp, where the mpp came from."""
        return dict(self._visible(slide_id))

    def _visible(self, slide_id: str) -> dict[str, Any]:
        known = self._known.get(slide_id) or self._look(slide_id)
        if known is None:
            raise InputError(
                f"{self.path}: no slide {slide_id!r}; `dmml features list {self.path}` shows those that are there"
            )
        self._known[slide_id] = known
        return known

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        """Features of a slide at a magnification, or None where the slide has none at it."""
        self._visible(slide_id)
        scale = f"slides/{slide_id}/{magnification}x"
        features, position, parent = (self._array(f"{scale}/{name}") for name in ("features", "position", "parent"))
        if features is None:
            return None
        if position is None:
            raise InputError(f"{self.path}/{scale}: has no positions; extract this slide again with --overwrite")
        return SlideFeatures(features, position, parent)

    def n_tokens(self, slide_id: str, magnification: int) -> int:
        """Number of tiles of a slide at a magnification, without reading them."""
        self._visible(slide_id)
        known = describe(self.place, f"slides/{slide_id}/{magnification}x/features")
        return 0 if known is None else int(known["shape"][0])

    def thumbnail(self, slide_id: str) -> np.ndarray | None:
        """(H, W, 3) uint8 picture of the slide, or None; its scale stands in the attribute `thumbnail_mpp`."""
        return self.picture(slide_id, "thumbnail")

    def picture(self, slide_id: str, name: str) -> np.ndarray | None:
        """A picture that was written with a slide, or None."""
        self._visible(slide_id)
        return self._array(f"slides/{slide_id}/{name}")

    def write(
        self,
        slide_id: str,
        bags: Mapping[int, SlideFeatures],
        attributes: Mapping[str, Any],
        thumbnail: np.ndarray | None = None,
        pictures: Mapping[str, np.ndarray] | None = None,
        durable: bool = False,
    ) -> None:
        """Write a slide whole; a group of that name that is there (complete or not) is replaced.

        Args:
            slide_id: Its name.
            bags: {magnification: features}.
            attributes: What is to be known of it.
            thumbnail: (H, W, 3) uint8.
            pictures: More arrays of uint8 by name, such as the tissue mask.
            durable: Wait until all is on the disk.

        Raises:
            InputError: The name would lead out of the store.
            OSError: The disk is full, or the place cannot be written.
        """
        if self._mode == "r":
            raise ValueError(f"{self.path}: opened for reading")
        if not is_plain_name(slide_id):
            raise InputError(
                f"{self.path}: {slide_id!r} cannot be the id of a slide; rename it, without path and leading dot"
            )
        self._known.pop(slide_id, None)
        self._arrays = {
            name: known for name, known in self._arrays.items() if not name.startswith(f"slides/{slide_id}/")
        }
        shown = {**({} if thumbnail is None else {"thumbnail": thumbnail}), **(pictures or {})}
        self.place.write_group("slides", slide_id, _slide_files(bags, attributes, shown), durable)

    def _array(self, name: str) -> np.ndarray | None:
        return read_array(self.place, self.path, name, self._arrays)

    def _look(self, slide_id: str) -> dict[str, Any] | None:
        """Attributes of a complete slide, as they are now."""
        known = describe(self.place, f"slides/{slide_id}") if is_plain_name(slide_id) else None
        attributes = {} if known is None else known.get("attributes", {})
        return attributes if attributes.get("complete") else None


def _slide_files(
    bags: Mapping[int, SlideFeatures], attributes: Mapping[str, Any], pictures: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, bytes | memoryview]]:
    """(path, content) of the files of a slide; the one that makes it visible is the last."""
    for magnification, bag in bags.items():
        yield f"{magnification}x/zarr.json", group_json({})
        yield from array_files(f"{magnification}x/features", np.asarray(bag.features, dtype=np.float16))
        yield from array_files(f"{magnification}x/position", np.asarray(bag.position, dtype=np.float32))
        if bag.parent is not None:
            yield from array_files(f"{magnification}x/parent", np.asarray(bag.parent, dtype=np.int32))
    for name, picture in pictures.items():
        yield from array_files(name, np.asarray(picture, dtype=np.uint8))
    yield "zarr.json", group_json({**attributes, "complete": True})


def _reachable(place: Folder | Remote, path: str | Path) -> dict[str, Any] | None:
    """`zarr.json` of the root, None where there is none."""
    try:
        root = describe(place, "")
    except InputError:
        raise
    except Exception as error:  # every kind of remote file system has its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be reached ({reason}); check the path and the access to it") from error
    return root if root is not None and root.get("node_type") == "group" else None


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """{"a": {"b": 1}} → ("a.b", 1)."""
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            yield from _flat(name, value)
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
