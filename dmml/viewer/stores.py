"""Reads the tiles of a feature store, which have positions and no values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store import FeatureStore
from dmml.viewer.slide_files import SlideFiles
from dmml.viewer.tile_set import TileSet, plain_tiles
from dmml.viewer.viewed_slide import Picture, ViewedSlide


def slides_of_store(path: str, files: SlideFiles | None) -> list[ViewedSlide]:
    """Return the slides of a store.

    Args:
        path: Folder or URL of the store.
        files: Slides that the user named; None = do not look for the slides' files.

    Raises:
        InputError: There is no store, it holds no slide, or vectors of whole slides, which have no place on a slide.
    """
    store = FeatureStore(path)
    if store.holds_vectors:
        raise InputError(
            f"{path}: holds vectors of whole slides, which have no place on a slide; view a store of tiles"
        )
    slides = []
    for name in store.slides():
        attributes = store.slide_attributes(name)
        slides.append(
            ViewedSlide(
                name,
                "",
                (),
                "",
                attributes,
                None if files is None else files.find(name, attributes),
                partial(_tile_sets, store, name, attributes),
                partial(_thumbnail, store, name, attributes),
            )
        )
    if not slides:
        raise InputError(f"{path}: holds no complete slide; run `dmml extract` again")
    return slides


def _tile_sets(store: FeatureStore, name: str, attributes: Mapping[str, Any]) -> list[TileSet]:
    sets = []
    for m, mpp in sorted(store.attributes["magnifications"].items()):
        features = store.read(name, m)  # features are mapped and not loaded
        if features is None:
            continue
        tile_um = float(attributes.get("tile_um", {}).get(str(m), store.attributes["tile_px"] * mpp))
        sets.append(plain_tiles(m, tile_um, features.position))
    return sets


def _thumbnail(store: FeatureStore, name: str, attributes: Mapping[str, Any]) -> Picture | None:
    pixels = store.thumbnail(name)
    if pixels is None or not attributes.get("thumbnail_mpp"):
        return None
    return Picture(np.ascontiguousarray(pixels[..., :3]), float(attributes["thumbnail_mpp"]))
