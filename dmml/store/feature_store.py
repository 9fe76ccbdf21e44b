"""One zarr v3 group a slide.

Layout (N tiles; root attributes: `format`, `encoder`, `tile_px`, `magnifications`, `extraction`, and where they differ
from a store of tiles in float16 `content`, `dtype`, `feature_names`)::

    slides/<slide_id>/10x/features  (N10, D) float16, or float32 where the root attribute `dtype` says so
    slides/<slide_id>/10x/position  (N10, 2) float32, µm of the tile's centre from the slide's origin
    slides/<slide_id>/20x/features, 20x/position
    slides/<slide_id>/20x/parent    (N20,) int32, row of the 10x tile that covers the 20x tile, -1 = none
    slides/<slide_id>/thumbnail     (H, W, 3) uint8, optional

Where `content` is `vectors`, N is the number of vectors of a slide, positions mean nothing, and NaN is a missing value.

A group is visible only when its attribute `complete` is true. In a folder it is put together aside and moved to its
place; behind a URL the file that holds the attribute is written last. A writer that dies leaves nothing that a reader
would take for a slide.
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
        """Open the store at `path` for writing, making it where there is none.

        Args:
            path: Folder or fsspec URL.
            encoder: `name` and `dim` of the encoder; `weights` (hash) and `preprocessing` where they are known.
            magnifications: {magnification: µm per pixel}, e.g. {10: 1.0, 20: 0.5}.
            tile_px: Side of a tile in pixels of its magnification.
            extraction: All else that decides what stands in the store: how tissue was found, in what precision tiles
                were encoded.
            content: `"vectors"` for a store of vectors without positions; None for tiles.
            dtype: In which features are kept, `"float16"` or `"float32"`.
            feature_names: What each feature is called, where they have names.

        Raises:
            InputError: An argument is not what it should be, or a store exists already and was made with another encoder,
                grid or parameters; the message names each difference.
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
        if lines := differences({**self._attributes, "encoder": self._encoder}, wanted, partly):
            raise InputError(
                f"--out {self.path}: was made otherwise ({lines}); write to another --out, or delete this store first"
            )

    @property
    def attributes(self) -> dict[str, Any]:
        """Root attributes: `format`, `encoder`, `tile_px`, `magnifications` (with integer keys)."""
        magnifications = {int(m): mpp for m, mpp in self._attributes["magnifications"].items()}
        return {**self._attributes, "encoder": self._encoder, "magnifications": magnifications}

    @property
    def _encoder(self) -> dict[str, Any]:
        return complete_identity(self._attributes["encoder"])

    @property
    def n_features(self) -> int:
        """Width D of the encoder."""
        return int(self._attributes["encoder"]["dim"])

    @property
    def dtype(self) -> np.dtype:
        """In which features are kept."""
        return np.dtype(self._attributes.get("dtype", "float16"))

    @property
    def holds_vectors(self) -> bool:
        """Whether slides are vectors without positions, in which NaN is a missing value, and not tiles."""
        return self._attributes.get("content") == VECTORS

    def slides(self) -> list[str]:
        """Ids of the slides that are complete, sorted."""
        names = self.names()
        return [name for name, known in zip(names, self._slides.each(self._slides.look, names), strict=True) if known]

    def names(self) -> list[str]:
        """Names of the slides' folders, sorted, without a look into them: not each need be complete."""
        return sorted(filter(is_plain_name, self.place.folders("slides")))

    def whole(self, slide_ids: Iterable[str]) -> list[str]:
        """Those slides that are there and complete; a complete slide is looked at once by a process."""
        ids = list(slide_ids)
        return [slide for slide, whole in zip(ids, self._slides.each(self._slides.is_whole, ids), strict=True) if whole]

    def sizes(self, slide_ids: Iterable[str], magnifications: Sequence[int]) -> dict[str, list[int]]:
        """{slide: tiles at each magnification}, read once by a process, and many at once behind a URL."""
        ids = list(slide_ids)
        found = self._slides.each(lambda slide: [self.n_tokens(slide, m) for m in magnifications], ids)
        return dict(zip(ids, found, strict=True))

    def digest(self, slide_ids: Iterable[str] | None = None) -> str:
        """Hash of root attributes, and of slides' ids, attributes and numbers of tiles; features are not read.

        Args:
            slide_ids: Of complete slides; None = all that are complete.
        """
        sizes = self.sizes(self.slides() if slide_ids is None else slide_ids, sorted(self.attributes["magnifications"]))
        return self._slides.digest(self._attributes, sizes)

    def digests(self, slide_ids: Iterable[str]) -> dict[str, str]:
        """{path: hash}, as of several stores that are read as one."""
        return {self.path: self.digest(slide_ids)}

    def __contains__(self, slide_id: str) -> bool:
        """Whether the slide is there and complete."""
        return self._slides.look(slide_id) is not None

    def slide_attributes(self, slide_id: str) -> dict[str, Any]:
        """What is known of a slide: source name, size, dimensions, mpp, where the mpp came from."""
        known = self._slides.look(slide_id)
        if known is None:
            raise self._no_slide(slide_id)
        return dict(known)

    def written_at(self, slide_id: str) -> tuple[int, int] | None:
        """What changes when a slide is written again; None where there is none, or the place does not tell."""
        return self.place.stamp(f"slides/{slide_id}/zarr.json")

    def _refuse_unknown(self, slide_id: str) -> None:
        if not self._slides.is_whole(slide_id):
            raise self._no_slide(slide_id)

    def _no_slide(self, slide_id: str) -> InputError:
        return InputError(
            f"{self.path}: no slide {slide_id!r}; `dmml features list {self.path}` shows those that are there"
        )

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        """Features of a slide at a magnification, or None where the slide has none at it."""
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
        """Number of tiles of a slide at a magnification, without reading them."""
        self._refuse_unknown(slide_id)
        facts = self._slides.array(slide_id, f"{magnification}x/features")
        return 0 if facts is None else facts[1]

    def shapes(self, slide_id: str, magnification: int) -> dict[str, tuple[int, ...] | None]:
        """Shapes of `features`, `position` and `parent` without reading them; None for an array that is not there."""
        self._refuse_unknown(slide_id)
        facts = {name: self._slides.array(slide_id, f"{magnification}x/{name}") for name in _ARRAYS}
        return {name: None if its is None else tuple(its[1:]) for name, its in facts.items()}

    def undeclared(self, slide_id: str) -> list[str]:
        """Folders of a slide that look like magnifications and that the store does not declare, such as `40x`."""
        declared = {f"{m}x" for m in self.attributes["magnifications"]}
        return sorted(
            {f for f in self.place.folders(f"slides/{slide_id}") if f[:-1].isdecimal() and f[-1] == "x"} - declared
        )

    def thumbnail(self, slide_id: str) -> np.ndarray | None:
        """(H, W, 3) uint8 picture of the slide, or None; its scale stands in the attribute `thumbnail_mpp`."""
        return self.picture(slide_id, "thumbnail")

    def picture(self, slide_id: str, name: str) -> np.ndarray | None:
        """A picture that was written with a slide, or None."""
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
        """Write a slide whole; a group of that name that is there (complete or not) is replaced.

        Args:
            slide_id: Its name.
            bags: {magnification: features}.
            attributes: What is to be known of it.
            thumbnail: (H, W, 3) uint8.
            pictures: More arrays of uint8 by name, such as the tissue mask.
            durable: Wait until all is on the disk.

        Raises:
            InputError: The name would lead out of the store, or the features are not what the store holds: an undeclared
                magnification, another width, lengths that disagree, NaN (but in a store of vectors), infinity, more than
                the store's `dtype` holds, a parent that does not exist. Nothing is written then.
            OSError: The disk is full, or the place cannot be written.
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
            return self._array(slide_id, name)  # the slide was written again by somebody else
