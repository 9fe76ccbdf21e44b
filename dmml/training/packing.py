"""Long lists as text. A config parser walks every element of a list: thousands of genes would cost it many seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHORT = 16
_STRINGS, _NUMBERS = "strings| ", "numbers| "


def pack(value: Any) -> Any:
    """Replace every long list of strings without blanks, or of numbers, by one text; `unpack` gives it back exactly."""
    if isinstance(value, Mapping):
        return {key: pack(item) for key, item in value.items()}
    if not isinstance(value, list | tuple) or len(value) <= SHORT:
        return value
    if all(isinstance(item, str) and item and not any(c.isspace() for c in item) for item in value):
        return _STRINGS + " ".join(value)
    if all(isinstance(item, float) for item in value):
        return _NUMBERS + " ".join(map(repr, value))
    return value


def unpack(value: Any) -> Any:
    """The lists again."""
    if isinstance(value, Mapping):
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(_STRINGS):
        return value.removeprefix(_STRINGS).split(" ")
    if isinstance(value, str) and value.startswith(_NUMBERS):
        return [float(item) for item in value.removeprefix(_NUMBERS).split(" ")]
    return value
