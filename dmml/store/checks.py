"""Checks of a slide's arrays, shared by writing, verification and the check before a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.store.slide_features import SlideFeatures


def checked_bags(
    where: str,
    bags: Mapping[int, SlideFeatures],
    width: int,
    magnifications: Iterable[int],
    dtype: np.dtype | str = "float16",
    allow_nan: bool = False,
) -> dict[int, SlideFeatures]:
    """Check all arrays of a slide before any is written, and convert them to the types that a store keeps.

    Args:
        where: Store and slide, for messages.
        bags: {magnification: features}; arrays of any real type, or anything that NumPy converts to an array.
        width: Feature width D of the store's encoder.
        magnifications: Magnifications that the store declares.
        dtype: Type in which the store keeps features.
        allow_nan: Whether NaN stands for a missing value.

    Raises:
        InputError: An array does not fit; the message names the magnification, the array and the first wrong row.
    """
    if not isinstance(bags, Mapping):
        raise InputError(f"{where}: {type(bags).__name__} instead of {{magnification: SlideFeatures}}")
    declared = sorted(magnifications)
    if undeclared := [str(m) for m in bags if m not in declared]:
        raise InputError(
            f"{where}: {', '.join(undeclared)} is not among the store's magnifications "
            f"({', '.join(f'{m}x' for m in declared)}), which are declared in FeatureStore.create"
        )
    target = np.dtype(dtype)
    converted = {int(m): _as_stored(f"{where}, {m}x", bag, target) for m, bag in bags.items()}
    for magnification, bag in converted.items():
        coarser = next((converted[m] for m in declared[::-1] if m < magnification and m in converted), None)
        problems = [
            *bag_problems(bag, width, allow_nan),
            *parent_problems(bag, None if coarser is None else len(coarser.features)),
        ]
        if problems:
            raise InputError(f"{where}, {magnification}x: {'; '.join(problems)}; nothing was written")
    return converted


def _as_stored(where: str, bag: SlideFeatures, dtype: np.dtype) -> SlideFeatures:
    """Convert features to the store's type, positions to float32 and parents to int32."""
    if not isinstance(bag, SlideFeatures):
        raise InputError(f"{where}: {type(bag).__name__} instead of SlideFeatures(features, position)")
    features = _numbers(f"{where}: features", bag.features)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = features.astype(dtype, copy=False)
        position = _numbers(f"{where}: positions", bag.position).astype(np.float32, copy=False)
    if stored.ndim == 2 and features.dtype != dtype and not _finite_rows(stored).all():
        overflowing = (np.isfinite(features) & ~np.isfinite(stored)).any(axis=1)
        if overflowing.any():
            row = int(overflowing.argmax())
            raise InputError(
                f"{where}: {int(overflowing.sum())} tiles have features beyond ±{np.finfo(dtype).max:,.0f}, which {dtype} cannot "
                f"hold, first in row {row} ({np.nanmax(np.abs(features[row])):.4g}); scale the features down"
            )
    return SlideFeatures(
        stored, position, None if bag.parent is None else _whole_numbers(f"{where}: parents", bag.parent)
    )


def check_slide_attributes(where: str, attributes: Mapping[str, Any]) -> None:
    """Check that the attributes of a slide that should be lengths are lengths.

    Args:
        where: Store and slide, for messages.
        attributes: `mpp` in µm per pixel and `tile_um` as {magnification: µm} are both optional; other attributes are
            not checked.

    Raises:
        InputError: An attribute is invalid; the message names it.
    """
    if not isinstance(attributes, Mapping):
        raise InputError(f"{where}: {type(attributes).__name__} instead of a mapping of attributes, such as {{}}")
    mpp, tile_um = attributes.get("mpp"), attributes.get("tile_um", {})
    if mpp is not None and not is_length(mpp):
        raise InputError(f"{where}: its attribute mpp is {mpp!r}; give µm per pixel as a number, e.g. 0.25")
    if not isinstance(tile_um, Mapping) or not all(map(is_length, tile_um.values())):
        raise InputError(f"{where}: its attribute tile_um is {tile_um!r}; give e.g. {{'20': 128.0}}")


def is_length(value: object) -> TypeGuard[float]:
    """Whether a value is a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(0 < value < np.inf)


def _numbers(where: str, values: object) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # other libraries raise exceptions of any type, e.g. for a tensor on a GPU
        raise InputError(f"{where} cannot be read as an array ({reason_of(error)}); give a NumPy array") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{where} are of type {array.dtype}; give an array of numbers")
    return array


def _whole_numbers(where: str, values: object) -> np.ndarray:
    array = _numbers(where, values)
    limits = np.iinfo(np.int32)
    invalid = ~((array == np.floor(array)) & (array >= limits.min) & (array <= limits.max))
    if invalid.any():
        raise InputError(
            f"{where} hold {array[invalid][0]}, which is not a row number; give whole numbers, -1 for none"
        )
    return array.astype(np.int32)


def bag_problems(bag: SlideFeatures, width: int, allow_nan: bool = False) -> list[str]:
    """List problems with the features and positions of one magnification: wrong shapes, and values that are not finite.

    Args:
        bag: Features, in the types that a store keeps.
        width: Feature width D of the encoder.
        allow_nan: Whether NaN stands for a missing value; infinity and rows without any value are problems either way.
    """
    problems, n = [], len(bag.features)
    if bag.features.ndim != 2 or bag.features.shape[1] != width:
        problems.append(f"features are {bag.features.shape}, not (N, {width})")
    elif allow_nan:
        problems += _missing_problems(bag.features)
    elif not (finite := _finite_rows(bag.features)).all():
        problems.append(f"{int((~finite).sum())} tiles hold NaN or infinity, first in row {int(finite.argmin())}")
    if bag.position.shape != (n, 2):
        problems.append(f"positions are {bag.position.shape}, not ({n}, 2)")
    elif not np.isfinite(bag.position).all():
        rows = np.flatnonzero(~np.isfinite(bag.position).all(axis=1))
        problems.append(f"{len(rows)} positions hold NaN or infinity, first in row {rows[0]}")
    return problems


def _missing_problems(features: np.ndarray) -> list[str]:
    """List problems with vectors in which some values may be missing."""
    infinite, empty = np.isinf(features).any(axis=1), np.isnan(features).all(axis=1)
    invalid = {"hold infinity": infinite, "hold no value": empty & (features.shape[1] > 0)}
    return [
        f"{int(rows.sum())} vectors {what}, first in row {int(rows.argmax())}"
        for what, rows in invalid.items()
        if rows.any()
    ]


def parent_problems(bag: SlideFeatures, n_coarse: int | None) -> list[str]:
    """List problems with the parents of one magnification.

    Args:
        bag: Features, in the types that a store keeps.
        n_coarse: Number of tiles at the next coarser magnification. None if the slide has none; parents are then only
            checked not to be below −1.
    """
    if bag.parent is None:
        return []
    if bag.parent.shape != (len(bag.features),):
        return [f"parents are {bag.parent.shape}, not ({len(bag.features)},)"]
    invalid = np.flatnonzero((bag.parent < -1) | (False if n_coarse is None else bag.parent >= n_coarse))
    if len(invalid):
        available = "" if n_coarse is None else f" (the coarser magnification has {n_coarse} tiles)"
        return [f"parent {bag.parent[invalid[0]]} of row {invalid[0]} does not exist{available}"]
    return []


def zero_rows(features: np.ndarray) -> int:
    """Number of tiles whose features are all zero, as after an interrupted extraction; (N, D) → count."""
    return 0 if features.ndim != 2 or not features.shape[1] else int((~features.any(axis=1)).sum())


def _finite_rows(features: np.ndarray) -> np.ndarray:
    """Whether each row is finite; (N, D) → (N,) bool."""
    if features.dtype == np.float16:  # only NaN and infinity have all exponent bits set; ten times faster than isfinite
        bits = features.view(np.uint16)
        return ((bits & 0x7C00) != 0x7C00).all(axis=1)
    return np.isfinite(features).all(axis=1)
