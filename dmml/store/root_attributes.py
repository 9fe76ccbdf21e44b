"""Root attributes of a store: checks of their values, and a description of the differences between two stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dmml.errors import InputError
from dmml.store.checks import is_length

VECTORS = "vectors"
"""Value of `content` for a store that holds one or several vectors per slide, without positions, instead of tiles"""


def checked_tiling(tile_px: object, magnifications: Mapping[int, float]) -> dict[str, Any]:
    """Check the root attributes `tile_px` and `magnifications` of a new store, and return them in their stored form.

    Args:
        tile_px: Side of a tile in pixels of its magnification.
        magnifications: {magnification: µm per pixel}.

    Raises:
        InputError: `tile_px` or a magnification is not a positive whole number, a scale is not a positive number, or no
            magnification is given.
    """
    example = "give {magnification: µm per pixel}, e.g. {10: 1.0, 20: 0.5}"
    if not isinstance(magnifications, Mapping) or not magnifications:
        raise InputError(f"magnifications are {magnifications!r}; {example}")
    for magnification, mpp in magnifications.items():
        if not str(magnification).isdecimal() or not int(magnification):
            raise InputError(f"magnification {magnification!r} is not a positive whole number; {example}")
        if not is_length(mpp):
            raise InputError(f"magnification {magnification} has {mpp!r} µm per pixel; {example}")
    if not is_length(tile_px) or tile_px != int(tile_px):
        raise InputError(f"tile_px is {tile_px!r}; give the side of a tile in pixels as a whole number, e.g. 224")
    return {"tile_px": int(tile_px), "magnifications": {str(m): float(mpp) for m, mpp in magnifications.items()}}


def checked_content(content: str | None, dtype: str, feature_names: Sequence[str] | None, dim: int) -> dict[str, Any]:
    """Check the root attributes `content`, `dtype` and `feature_names` of a new store; default values are left out.

    Args:
        content: `"vectors"`, or None for tiles.
        dtype: `"float16"`, or `"float32"` for values that float16 cannot hold.
        feature_names: One name per feature, or None.
        dim: Number of features.

    Raises:
        InputError: A value is not one of these, or the number of names is not `dim`.
    """
    if content not in (None, VECTORS):
        raise InputError(f"content is {content!r}; give {VECTORS!r}, or leave it out for tiles")
    if dtype not in ("float16", "float32"):
        raise InputError(f"dtype is {dtype!r}; give 'float16' or 'float32'")
    if feature_names is not None and len(feature_names) != dim:
        raise InputError(f"{len(feature_names)} feature names for {dim} features; give one per feature")
    return {
        **({} if content is None else {"content": content}),
        **({} if dtype == "float16" else {"dtype": dtype}),
        **({} if feature_names is None else {"feature_names": list(map(str, feature_names))}),
    }


def differences(stored: Mapping[str, Any], requested: Mapping[str, Any], partial: Sequence[str] = ()) -> str:
    """Describe how the attributes of a store differ from those expected; empty if they agree.

    Attributes that only one side has are not compared.

    Args:
        stored: Attributes of a store.
        requested: Expected attributes.
        partial: Attributes that `requested` gives only in part; entries that it leaves out are not compared.
    """
    old, new = (dict(_flattened("", attributes)) for attributes in (stored, requested))
    changed = [key for key in new if key in old and old[key] != new[key]]
    sections = {key.split(".")[0] for key in old}
    changed += [key for key in new if key not in old and key.split(".")[0] in sections]
    changed += [key for key in old if key not in new and key.split(".")[0] in set(requested) - set(partial)]
    return "; ".join(f"{key} is {_short(old.get(key))} in the store and {_short(new.get(key))} now" for key in changed)


def _flattened(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield nested values under dotted names: {"a": {"b": 1}} → ("a.b", 1)."""
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            yield from _flattened(name, value)
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
