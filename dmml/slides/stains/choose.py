"""Makes a stain normalisation of a user's options."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dmml.errors import InputError, reason_of
from dmml.slides.stains.stains import StainNormalization
from dmml.store.encoder_identity import BUILT_IN_TARGET

_MAX_TARGET_PIXELS = 2_000_000
"""Number of pixels of a target that are read; of a larger image, evenly spaced ones"""


def stain_normalization(method: str | None, target: str | Path | None = None) -> StainNormalization | None:
    """Check a user's choice, and fit the stains of the target.

    Args:
        method: One of `METHODS`, or None for tiles as scanned.
        target: Image whose stains all slides receive; None means the built-in target.

    Returns:
        The normalisation; None without a method.

    Raises:
        InputError: The method is unknown, its library is not installed, or the target cannot be used.
    """
    if method is None:
        if target is not None:
            raise InputError("--stain-target: needs a method; add --stain-normalization macenko or vahadane")
        return None
    from dmml.slides.stains.fit_stains import StainsNotFitted, built_in_target, fit_stains, library_of

    library = library_of(method)
    if target is None:
        return StainNormalization(method, BUILT_IN_TARGET, built_in_target(), library)
    picture = _read_image(Path(target))
    pixels = picture.reshape(-1, 3)
    try:
        stains = fit_stains(method, pixels[:: -(-len(pixels) // _MAX_TARGET_PIXELS)])
    except StainsNotFitted as error:
        raise InputError(f"--stain-target {target}: {error}; give an image of stained tissue") from error
    digest = hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest()
    return StainNormalization(method, digest, stains, library)


def _read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise InputError(f"--stain-target {path}: cannot be read ({reason_of(error)}); give a PNG or JPEG") from error
