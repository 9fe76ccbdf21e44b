"""The stains of a slide or of a target, and the choice of a normalisation, as a store and a checkpoint keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METHODS = ("macenko", "vahadane")
"""Methods that estimate stains"""
_DIGITS = 5
"""Decimals that are kept, so that the last bits of a sum, which depend on the machine, change no pixel"""


@dataclass(frozen=True)
class Stains:
    """Hematoxylin and eosin as they absorb light.

    Attributes:
        hematoxylin: (3,) unit vector, optical density of red, green and blue.
        eosin: The same for eosin.
        strength: (2,) 99th percentile of the concentration of each stain.
    """

    hematoxylin: tuple[float, ...]
    eosin: tuple[float, ...]
    strength: tuple[float, ...]

    def plain(self) -> dict[str, list[float]]:
        """Return the stains as JSON keeps them."""
        return {"hematoxylin": list(self.hematoxylin), "eosin": list(self.eosin), "strength": list(self.strength)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Stains:
        """Read what `plain` returned, or any three lists of numbers; numbers are rounded to five decimals."""
        parts = (values[name] for name in ("hematoxylin", "eosin", "strength"))
        return cls(*(tuple(round(float(value), _DIGITS) for value in part) for part in parts))


@dataclass(frozen=True)
class StainNormalization:
    """What a user chose, and the target's stains.

    Attributes:
        method: One of `METHODS`.
        target: `built-in`, or the SHA-256 of the target's pixels.
        target_stains: Stains of the target.
        library: Name and version of the library that estimates the stains.
    """

    method: str
    target: str
    target_stains: Stains
    library: str

    @property
    def identity(self) -> dict[str, Any]:
        """What a store records; a prediction needs nothing else to normalise a further slide in the same way."""
        return {
            "method": self.method,
            "target": self.target,
            "target_stains": self.target_stains.plain(),
            "library": self.library,
        }

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> StainNormalization:
        """Read what `identity` returned."""
        stains = Stains.from_plain(identity["target_stains"])
        return cls(str(identity["method"]), str(identity["target"]), stains, str(identity["library"]))
