"""Files that make up a slide in a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store.raw_arrays import array_files, group_json
from dmml.store.slide_features import SlideFeatures


def slide_files(
    bags: Mapping[int, SlideFeatures], attributes: Mapping[str, Any], pictures: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, bytes | memoryview]]:
    """Return (path, content) of each file of a slide; the last file makes the slide visible.

    Args:
        bags: {magnification: features}, as `checked_bags` returns them.
        attributes: Attributes of the slide; plain values.
        pictures: {name: (H, W) or (H, W, 3) uint8}.

    Raises:
        InputError: A picture is not uint8, or an attribute is not a plain value.
    """
    for name, picture in pictures.items():
        if np.asarray(picture).dtype != np.uint8:
            raise InputError(f"picture {name!r} is of type {np.asarray(picture).dtype}; give an array of uint8")
    try:
        group = group_json({**attributes, "complete": True})
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    return _files(bags, pictures, group)


def _files(
    bags: Mapping[int, SlideFeatures], pictures: Mapping[str, np.ndarray], group: bytes
) -> Iterator[tuple[str, bytes | memoryview]]:
    for magnification, bag in bags.items():
        yield f"{magnification}x/zarr.json", group_json({})
        yield from array_files(f"{magnification}x/features", bag.features)
        yield from array_files(f"{magnification}x/position", bag.position)
        if bag.parent is not None:
            yield from array_files(f"{magnification}x/parent", bag.parent)
    for name, picture in pictures.items():
        yield from array_files(name, np.asarray(picture))
    yield "zarr.json", group
