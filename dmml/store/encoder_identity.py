"""Identity of a store's encoder, in the same form for extracted, imported and custom features."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, SupportsIndex

from dmml.errors import InputError

UNKNOWN_WEIGHTS = "imported"
"""Stands in for the hash of the weights if features were made elsewhere and the weights are not known"""
STAINS = "stain_normalization"
"""Key of the identity that says how the stains of the tiles were normalised; absent for tiles as scanned"""
ENCODER_BACKEND = "encoder_backend"
"""Root attribute that names the library that ran the encoder. It is no part of the identity: features of the backends agree"""
BUILT_IN_TARGET = "built-in"
"""Target of a stain normalisation if the user gave none"""

_DEFAULTS: dict[str, Any] = {"weights": UNKNOWN_WEIGHTS, "preprocessing": {}}


def complete_identity(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of an encoder's identity, so that two stores of the same encoder compare equal."""
    stated = {key: value for key, value in encoder.items() if value is not None}
    return stated | {key: value for key, value in _DEFAULTS.items() if key not in stated}


def checked_identity(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Check the encoder of a new store, and return its complete identity.

    Args:
        encoder: `name` and `dim`; optionally `weights` (a hash), `preprocessing` and `stain_normalization`.

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


def same_stains(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two encoders read tiles whose stains were normalised by the same method to the same target.

    The version of the library is recorded, but does not count: only a store is not continued with another version.
    """
    choices = [encoder.get(STAINS) or {} for encoder in (first, second)]
    return all(choices[0].get(key) == choices[1].get(key) for key in ("method", "target", "target_stains"))


def describe_stains(encoder: Mapping[str, Any]) -> str:
    """Describe the stains of the tiles that an encoder read, for messages."""
    choice = encoder.get(STAINS)
    if not choice:
        return "as scanned"
    target = str(choice["target"])
    name = f"the {BUILT_IN_TARGET} target" if target == BUILT_IN_TARGET else f"the target {target[:12]}…"
    return f"stain-normalised ({choice['method']} by {choice['library']}, to {name})"
