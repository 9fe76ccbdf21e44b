"""Packs long lists into strings: a config parser visits thousands of genes one by one, which takes many seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

SHORT = 16
_STRINGS, _NUMBERS = "strings| ", "numbers| "


@overload
def pack(value: Mapping[str, Any]) -> dict[str, Any]: ...


@overload
def pack(value: object) -> object: ...


def pack(value: object) -> object:
    """Replace each list that is longer than `SHORT`, if it holds floats or strings without blanks, by one string.

    `unpack` restores the lists exactly.
    """
    if isinstance(value, Mapping):
        return {key: pack(item) for key, item in value.items()}
    if not isinstance(value, list | tuple) or len(value) <= SHORT:
        return value
    if all(isinstance(item, str) and item and not any(c.isspace() for c in item) for item in value):
        return _STRINGS + " ".join(value)
    if all(isinstance(item, float) for item in value):
        return _NUMBERS + " ".join(map(repr, value))
    return value


@overload
def unpack(value: Mapping[str, Any]) -> dict[str, Any]: ...


@overload
def unpack(value: Mapping[str, Any] | None) -> dict[str, Any] | None: ...


@overload
def unpack(value: object) -> object: ...


def unpack(value: object) -> object:
    """Restore the lists that `pack` replaced."""
    if isinstance(value, Mapping):
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(_STRINGS):
        return value.removeprefix(_STRINGS).split(" ")
    if isinstance(value, str) and value.startswith(_NUMBERS):
        return [float(item) for item in value.removeprefix(_NUMBERS).split(" ")]
    return value
