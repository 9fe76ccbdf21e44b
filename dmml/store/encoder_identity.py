"""Identity of a store's encoder, in the same form for extracted, imported and custom features."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, SupportsIndex

from dmml.errors import InputError

UNKNOWN_WEIGHTS = "imported"
"""Stands in for the hash of the weights if features were made elsewhere and the weights are not known"""


_DEFAULTS: dict[str, Any] = {"weights": UNKNOWN_WEIGHTS, "preprocessing": {}}


def complete_identity(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of an encoder's identity, so that two stores of the same encoder compare equal."""
    stated = {key: value for key, value in encoder.items() if value is not None}
    return stated | {key: value for key, value in _DEFAULTS.items() if key not in stated}


def checked_identity(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Check the encoder of a new store, and return its complete identity.

    Args:
        encoder: `name` and `dim`; optionally `weights` (a hash) and `preprocessing`.

    Raises:
        InputError: The encoder has no name, or its width is not a positive whole number.
    """
    if not isinstance(encoder, Mapping):
        raise InputError(f"encoder is {encoder!r}; give a mapping, e.g. {{'name': 'uni', 'dim': 1024}}")
    name, dim = encoder.get("name"), encoder.get("dim")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"encoder {dict(encoder)} has no name; give e.g. {{'name': 'uni', 'dim': 1024}}")
    if not isinstance(dim, SupportsIndex) or isinstance(dim, bool) or index(dim) < 1:
        raise InputError(f"encoder {name}: dim is {dim!r}; give the number of features per tile, e.g. {{'dim': 1024}}")
    return complete_identity({**encoder, "dim": index(dim)})
