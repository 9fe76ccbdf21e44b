"""A store of tile features: one zarr v3 group per slide.

Layout, with N tiles. The root attributes are `format`, `encoder`, `tile_px` and `magnifications`; `extraction`,
`content`, `dtype` and `feature_names` are written only if they differ from the defaults (see `FeatureStore.create`)::

    slides/<slide_id>/10x/features  (N10, D) float16, or float32 where the root attribute `dtype` says so
    slides/<slide_id>/10x/position  (N10, 2) float32, tile centre in µm from the slide's origin
    slides/<slide_id>/20x/features, 20x/position
    slides/<slide_id>/20x/parent    (N20,) int32, row of the 10x tile that covers the 20x tile, -1 = none
    slides/<slide_id>/thumbnail     (H, W, 3) uint8, optional

If `content` is `vectors`, N is the number of vectors per slide, positions have no meaning, and NaN is a missing value.

Readers see a group only if its attribute `complete` is true. In a local folder, a group is assembled in a temporary
folder and moved into place; behind a URL, the file that holds the attribute is written last. A writer that dies
therefore leaves nothing that a reader would mistake for a slide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store.checks import check_slide_attributes, checked_bags
from dmml.store.encoder_identity import checked_identity, complete_identity
from dmml.store.known_slides import KnownSlides
from dmml.store.places import Folder, Remote, is_plain_name, place_of
from dmml.store.plain_arrays import group_json, read_array
from dmml.store.root_attributes import VECTORS, checked_content, checked_tiling, differences
from dmml.store.root_group import is_store, root_group
from dmml.store.slide_features import SlideFeatures
from dmml.store.slide_files import slide_files

FORMAT = "dmml-features-1"
_ARRAYS = ("features", "position", "parent")


class FeatureStore:
    """An existing store of tile features, opened for reading or for reading and writing.

    Args:
        path: Folder or fsspec URL of the store.
        mode: `"r"` to read, `"r+"` to read and write.

    Raises:
        InputError: There is no feature store at `path`.
    """

    def __init__(self, path: str | Path, mode: str = "r"):
        self.path = str(path).removeprefix("file://")
        self.place: Folder | Remote = place_of(path)
        self._mode = mode
        self._slides = KnownSlides(self.place)
        root = root_group(self.place, path)
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
        content: str | None = None,
        dtype: str = "float16",
        feature_names: Sequence[str] | None = None,
    ) -> FeatureStore:
        """Open the store at `path` for writing, and create it if it does not exist.

        Args:
            path: Folder or fsspec URL.
            encoder: `name` and `dim` of the encoder; `weights` (hash) and `preprocessing` if they are known.
            magnifications: {magnification: µm per pixel}, e.g. {10: 1.0, 20: 0.5}.
            tile_px: Side of a tile in pixels of its magnification.
            extraction: Everything else that determines the features, e.g. tissue detection and encoder precision.
            content: `"vectors"` for a store of vectors without positions; None for tiles.
            dtype: Type in which features are kept, `"float16"` or `"float32"`.
            feature_names: Name of each feature; None if the features have no names.

        Raises:
            InputError: An argument is invalid, or a store already exists that was made with another encoder, grid or
                parameters; the message names each difference.
        """
        wanted = {
            "format": FORMAT,
            "encoder": (identity := checked_identity(encoder)),
            **checked_tiling(tile_px, magnifications),
            **checked_content(content, dtype, feature_names, identity["dim"]),
            **({} if extraction is None else {"extraction": dict(extraction)}),
        }
        if not is_store(path):
            place = place_of(path)
            # The root is written last and in one step: a writer that dies here leaves an empty store or none.
            place.write_new("slides/zarr.json", group_json({}))
            place.write_new("zarr.json", group_json(wanted))
        store = cls(path, mode="r+")
        store.check_same(wanted)
        return store

    def check_same(self, wanted: Mapping[str, Any], partly: Sequence[str] = ()) -> None:
        """Refuse root attributes that differ from the store's; attributes that only one side has are not compared.

        Args:
            wanted: Attributes in the form in which `create` writes them.
            partly: Attributes that `wanted` gives only in part; entries that it leaves out are not compared.

        Raises:
            InputError: The attributes differ; the message names each difference.
        """
        if lines := differences({**self._attributes, "encoder": self._encoder}, wanted, partly):
            raise InputError(
                f"--out {self.path}: was made otherwise ({lines}); write to another --out, or delete this store first"
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
        names = self.names()
        return [name for name, known in zip(names, self._slides.each(self._slides.look, names), strict=True) if known]

    def names(self) -> list[str]:
        """Sorted names of the slides' folders, which are not opened: some slides may be incomplete."""
        return sorted(filter(is_plain_name, self.place.folders("slides")))

    def whole(self, slide_ids: Iterable[str]) -> list[str]:
        """The given slides that exist and are complete; each process checks a complete slide only once."""
        ids = list(slide_ids)
        return [slide for slide, whole in zip(ids, self._slides.each(self._slides.is_whole, ids), strict=True) if whole]

    def sizes(self, slide_ids: Iterable[str], magnifications: Sequence[int]) -> dict[str, list[int]]:
        """{slide: number of tiles at each magnification}, read once per process, many at a time behind a URL."""
        ids = list(slide_ids)
        found = self._slides.each(lambda slide: [self.n_tokens(slide, m) for m in magnifications], ids)
        return dict(zip(ids, found, strict=True))

    def digest(self, slide_ids: Iterable[str] | None = None) -> str:
        """Hash of the root attributes and of each slide's id, attributes and numbers of tiles; features are not read.

        Args:
            slide_ids: Ids of complete slides; None = all complete slides.
        """
        sizes = self.sizes(self.slides() if slide_ids is None else slide_ids, sorted(self.attributes["magnifications"]))
        return self._slides.digest(self._attributes, sizes)

    def digests(self, slide_ids: Iterable[str]) -> dict[str, str]:
        """{path of the store: hash}, the form in which several stores that are read as one report their hashes."""
        return {self.path: self.digest(slide_ids)}

    def __contains__(self, slide_id: str) -> bool:
        """Whether the slide exists and is complete."""
        return self._slides.look(slide_id) is not None

    def slide_attributes(self, slide_id: str) -> dict[str, Any]:
        """Attributes of a slide, such as its source file's name and size, its dimensions, mpp and the mpp's origin."""
        known = self._slides.look(slide_id)
        if known is None:
            raise self._no_slide(slide_id)
        return dict(known)

    def written_at(self, slide_id: str) -> tuple[int, int] | None:
        """Stamp that changes when a slide is written again; None if the slide does not exist, or behind a URL."""
        return self.place.stamp(f"slides/{slide_id}/zarr.json")

    def _refuse_unknown(self, slide_id: str) -> None:
        if not self._slides.is_whole(slide_id):
            raise self._no_slide(slide_id)

    def _no_slide(self, slide_id: str) -> InputError:
        return InputError(
            f"{self.path}: no slide {slide_id!r}; `dmml features list {self.path}` shows those that are there"
        )

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        """Features of a slide at a magnification, or None if the slide has none at that magnification."""
        self._refuse_unknown(slide_id)
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
        self._refuse_unknown(slide_id)
        facts = self._slides.array(slide_id, f"{magnification}x/features")
        return 0 if facts is None else facts[1]

    def shapes(self, slide_id: str, magnification: int) -> dict[str, tuple[int, ...] | None]:
        """Shapes of `features`, `position` and `parent`, which are not read; None for an array that does not exist."""
        self._refuse_unknown(slide_id)
        facts = {name: self._slides.array(slide_id, f"{magnification}x/{name}") for name in _ARRAYS}
        return {name: None if its is None else tuple(its[1:]) for name, its in facts.items()}

    def undeclared(self, slide_id: str) -> list[str]:
        """Folders of a slide that look like magnifications but are not declared by the store, such as `40x`."""
        declared = {f"{m}x" for m in self.attributes["magnifications"]}
        return sorted(
            {f for f in self.place.folders(f"slides/{slide_id}") if f[:-1].isdecimal() and f[-1] == "x"} - declared
        )

    def thumbnail(self, slide_id: str) -> np.ndarray | None:
        """Picture of the slide, (H, W, 3) uint8, or None; the slide attribute `thumbnail_mpp` gives its scale."""
        return self.picture(slide_id, "thumbnail")

    def picture(self, slide_id: str, name: str) -> np.ndarray | None:
        """A picture that was written with a slide, or None if there is none of that name."""
        self._refuse_unknown(slide_id)
        return self._array(slide_id, name)

    def write(
        self,
        slide_id: str,
        bags: Mapping[int, SlideFeatures],
        attributes: Mapping[str, Any],
        thumbnail: np.ndarray | None = None,
        pictures: Mapping[str, np.ndarray] | None = None,
        durable: bool = False,
    ) -> None:
        """Write a whole slide; an existing group of that name, complete or not, is replaced.

        Args:
            slide_id: Id of the slide.
            bags: {magnification: features}.
            attributes: Facts about the slide; plain values.
            thumbnail: (H, W, 3) uint8.
            pictures: {name: further uint8 array}, such as the tissue mask.
            durable: Wait until everything is on the disk.

        Raises:
            InputError: The id cannot be a folder's name, or the features do not fit the store: an undeclared
                magnification, another width, unequal lengths, NaN (except in a store of vectors), infinity, values
                that the store's `dtype` cannot hold, or a parent that does not exist. Nothing is written in that case.
            OSError: The disk is full, or the store cannot be written.
            ValueError: The store was opened for reading.
        """
        if self._mode == "r":
            raise ValueError(f"{self.path}: opened for reading")
        if not isinstance(slide_id, str) or not is_plain_name(slide_id):
            raise InputError(
                f"{self.path}: {slide_id!r} cannot be the id of a slide; rename it, without path and leading dot"
            )
        where = f"{self.path}, slide {slide_id}"
        scales = self.attributes["magnifications"]
        checked = checked_bags(where, bags, self.n_features, scales, self.dtype, self.holds_vectors)
        check_slide_attributes(where, attributes)
        shown = {**({} if thumbnail is None else {"thumbnail": thumbnail}), **(pictures or {})}
        files = slide_files(checked, attributes, shown)
        self._slides.forget(slide_id)
        self.place.write_group("slides", slide_id, files, durable)

    def _array(self, slide_id: str, name: str) -> np.ndarray | None:
        remembered = self._slides.remembers(slide_id, name)
        facts = self._slides.array(slide_id, name)
        try:
            return None if facts is None else read_array(self.place, self.path, f"slides/{slide_id}/{name}", facts)
        except InputError:
            self._slides.forget(slide_id)
            if not remembered:
                raise
            return self._array(slide_id, name)  # another process has written the slide again
