"""Which files for QuPath are written, checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass

from dmml.errors import InputError

OVERLAYS = ("ome-tiff",)
"""Formats of overlays"""


@dataclass(frozen=True)
class QuPathFiles:
    """Which files are written besides the tiles.

    Attributes:
        regions: Whether adjacent tiles of the same class are also written as regions.
        overlay: Format of overlays, one of `OVERLAYS`; None = no overlay.

    Raises:
        InputError: The format does not exist, or its library is not installed.
    """

    regions: bool = False
    overlay: str | None = None

    def __post_init__(self) -> None:
        if self.overlay is None:
            return
        if self.overlay not in OVERLAYS:
            raise InputError(f"--overlay {self.overlay}: must be one of {', '.join(OVERLAYS)}")
        from importlib.util import find_spec

        if find_spec("tifffile") is None:
            raise InputError(f"--overlay {self.overlay}: needs tifffile; install it with pip install 'dmml[overlay]'")
