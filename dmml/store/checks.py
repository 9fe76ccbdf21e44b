"""Checks of a slide's arrays, shared by writing, verification and the check before a run."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.store.slide_features import SlideFeatures


def checked_bags(
    where: str,
    bags: Mapping[int, SlideFeatures],
    width: int,
    magnifications: Iterable[int],
    dtype: np.dtype | str = "float16",
    may_miss: bool = False,
) -> dict[int, SlideFeatures]:
    """Check all arrays of a slide before any is written, and convert them to the types that a store keeps.

    Args:
        where: Store and slide, for messages.
        bags: {magnification: features}; arrays of any real type, or anything that NumPy converts to an array.
        width: Feature width D of the store's encoder.
        magnifications: Magnifications that the store declares.
        dtype: Type in which the store keeps features.
        may_miss: Whether NaN stands for a missing value.

    Raises:
        InputError: An array does not fit; the message names the magnification, the array and the first wrong row.
    """
    if not isinstance(bags, Mapping):
        raise InputError(f"{where}: {type(bags).__name__} instead of {{magnification: SlideFeatures}}")
    declared = sorted(magnifications)
    if undeclared := [str(m) for m in bags if m not in declared]:
        raise InputError(
            f"{where}: {', '.join(undeclared)} is none of the store's magnifications "
            f"({', '.join(f'{m}x' for m in declared)}), which FeatureStore.create declares"
        )
    kind = np.dtype(dtype)
    made = {int(m): _as_kept(f"{where}, {m}x", bag, kind) for m, bag in bags.items()}
    for magnification, bag in made.items():
        coarser = next((made[m] for m in declared[::-1] if m < magnification and m in made), None)
        problems = [
            *bag_problems(bag, width, may_miss),
            *parent_problems(bag, None if coarser is None else len(coarser.features)),
        ]
        if problems:
            raise InputError(f"{where}, {magnification}x: {'; '.join(problems)}; nothing was written")
    return made


def _as_kept(where: str, bag: SlideFeatures, dtype: np.dtype) -> SlideFeatures:
    """Convert features to the store's type, positions to float32 and parents to int32."""
    if not isinstance(bag, SlideFeatures):
        raise InputError(f"{where}: {type(bag).__name__} instead of SlideFeatures(features, position)")
    features = _numbers(f"{where}: features", bag.features)
    with np.errstate(over="ignore", invalid="ignore"):
        kept = features.astype(dtype, copy=False)
        position = _numbers(f"{where}: positions", bag.position).astype(np.float32, copy=False)
    if kept.ndim == 2 and features.dtype != dtype and not _finite_rows(kept).all():
        beyond = (np.isfinite(features) & ~np.isfinite(kept)).any(axis=1)
        if beyond.any():
            row = int(beyond.argmax())
            raise InputError(
                f"{where}: {int(beyond.sum())} tiles hold features beyond ±{np.finfo(dtype).max:,.0f}, which {dtype} cannot "
                f"hold, first row {row} ({np.nanmax(np.abs(features[row])):.4g}); scale the features down"
            )
    return SlideFeatures(
        kept, position, None if bag.parent is None else _whole_numbers(f"{where}: parents", bag.parent)
    )


def check_slide_attributes(where: str, attributes: Mapping[str, Any]) -> None:
    """Refuse attributes of a slide that should be lengths but are not.

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


def is_length(value: Any) -> bool:
    """Whether a value is a positive, finite number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < value < np.inf


def _numbers(where: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # other libraries raise exceptions of any type, e.g. for a tensor on a GPU
        raise InputError(f"{where} cannot be read as an array ({reason_of(error)}); give a NumPy array") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{where} are of type {array.dtype}; give an array of numbers")
    return array


def _whole_numbers(where: str, values: Any) -> np.ndarray:
    array = _numbers(where, values)
    limits = np.iinfo(np.int32)
    wrong = ~((array == np.floor(array)) & (array >= limits.min) & (array <= limits.max))
    if wrong.any():
        raise InputError(f"{where} hold {array[wrong][0]}, which is not a row number; give whole numbers, -1 for none")
    return array.astype(np.int32)


def bag_problems(bag: SlideFeatures, width: int, may_miss: bool = False) -> list[str]:
    """List problems with the features and positions of one magnification: wrong shapes, and values that are not finite.

    Args:
        bag: Features, in the types that a store keeps.
        width: Feature width D of the encoder.
        may_miss: Whether NaN stands for a missing value; infinity and rows without any value are problems either way.
    """
    problems, n = [], len(bag.features)
    if bag.features.ndim != 2 or bag.features.shape[1] != width:
        problems.append(f"features are {bag.features.shape}, not (N, {width})")
    elif may_miss:
        problems += _missing_problems(bag.features)
    elif not (finite := _finite_rows(bag.features)).all():
        problems.append(f"{int((~finite).sum())} tiles hold NaN or infinity, first row {int(finite.argmin())}")
    if bag.position.shape != (n, 2):
        problems.append(f"positions are {bag.position.shape}, not ({n}, 2)")
    elif not np.isfinite(bag.position).all():
        rows = np.flatnonzero(~np.isfinite(bag.position).all(axis=1))
        problems.append(f"{len(rows)} positions hold NaN or infinity, first row {rows[0]}")
    return problems


def _missing_problems(features: np.ndarray) -> list[str]:
    """List problems with vectors in which some values may be missing."""
    infinite, empty = np.isinf(features).any(axis=1), np.isnan(features).all(axis=1)
    wrong = {"hold infinity": infinite, "hold no value": empty & (features.shape[1] > 0)}
    return [f"{int(w.sum())} vectors {what}, first row {int(w.argmax())}" for what, w in wrong.items() if w.any()]


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
    wrong = np.flatnonzero((bag.parent < -1) | (False if n_coarse is None else bag.parent >= n_coarse))
    if len(wrong):
        there = "" if n_coarse is None else f" ({n_coarse} there)"
        return [f"parent {bag.parent[wrong[0]]} of row {wrong[0]} does not exist{there}"]
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
