"""A store of tile features: one zarr v3 group per slide.

Layout, with N tiles. The root attributes are `format`, `encoder`, `tile_px` and `magnifications`; `extraction`,
`content`, `dtype`, `feature_names` and `encoder_backend` are written only if they differ from the defaults (see
`FeatureStore.create`)::

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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store.backends import backend_of
from dmml.store.checks import check_slide_attributes, checked_bags
from dmml.store.encoder_identity import ENCODER_BACKEND, checked_identity
from dmml.store.feature_reader import FORMAT, FeatureReader
from dmml.store.folder_names import is_folder_name
from dmml.store.raw_arrays import group_json
from dmml.store.root_attributes import checked_content, checked_tiling, differences
from dmml.store.root_group import is_store
from dmml.store.slide_features import SlideFeatures
from dmml.store.slide_files import slide_files


class FeatureStore(FeatureReader):
    """An existing store of tile features, opened for reading or for reading and writing.

    Args:
        path: Folder or fsspec URL of the store.
        mode: `"r"` to read, `"r+"` to read and write.

    Raises:
        InputError: There is no feature store at `path`.
    """

    def __init__(self, path: str | Path, mode: str = "r"):
        super().__init__(path)
        self._mode = mode

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
        encoder_backend: str | None = None,
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
            encoder_backend: Library that runs the encoder, which an existing store may have in another form; None if it
                is not known.

        Raises:
            InputError: An argument is invalid, or a store already exists that was made with another encoder, grid or
                parameters; the message names each difference.
        """
        requested = {
            "format": FORMAT,
            "encoder": (identity := checked_identity(encoder)),
            **checked_tiling(tile_px, magnifications),
            **checked_content(content, dtype, feature_names, identity["dim"]),
            **({} if extraction is None else {"extraction": dict(extraction)}),
        }
        if not is_store(path):
            backend = backend_of(path)
            # The root is written last and in one step: a writer that dies here leaves an empty store or none.
            backend.write_new("slides/zarr.json", group_json({}))
            made_by = {} if encoder_backend is None else {ENCODER_BACKEND: encoder_backend}
            backend.write_new("zarr.json", group_json({**requested, **made_by}))
        store = cls(path, mode="r+")
        store.check_same(requested)
        return store

    def check_same(self, requested: Mapping[str, Any], partial: Sequence[str] = ()) -> None:
        """Check that root attributes are those of the store; attributes that only one side has are not compared.

        Args:
            requested: Attributes in the form in which `create` writes them.
            partial: Attributes that `requested` gives only in part; entries that it leaves out are not compared.

        Raises:
            InputError: The attributes differ; the message names each difference.
        """
        if lines := differences({**self._attributes, "encoder": self._encoder}, requested, partial):
            raise InputError(
                f"--out {self.path}: was made with other settings ({lines}); write to another --out, or delete this store first"
            )

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
            attributes: Attributes of the slide; plain values.
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
        if not isinstance(slide_id, str) or not is_folder_name(slide_id):
            raise InputError(
                f"{self.path}: {slide_id!r} cannot be the id of a slide; rename it, without a path or a leading dot"
            )
        where = f"{self.path}, slide {slide_id}"
        scales = self.attributes["magnifications"]
        checked = checked_bags(where, bags, self.n_features, scales, self.dtype, self.holds_vectors)
        check_slide_attributes(where, attributes)
        all_pictures = {**({} if thumbnail is None else {"thumbnail": thumbnail}), **(pictures or {})}
        files = slide_files(checked, attributes, all_pictures)
        self._cache.forget(slide_id)
        self.backend.write_group("slides", slide_id, files, durable)
