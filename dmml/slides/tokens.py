"""Turns one raw slide into tokens: find tissue, lay tiles, read them in the background, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.slides.extraction.stream import encode_slides
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.grid import DEFAULT_TISSUE, MIN_TISSUE, check_magnifications
from dmml.slides.tiling.layout import SlideRequest

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.stains.stains import StainNormalization
    from dmml.store import SlideFeatures


def tokens_of_slide(
    path: str | Path,
    encoder: Encoder,
    mpp: float | None = None,
    magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    tissue: str = DEFAULT_TISSUE,
    min_tissue: float = MIN_TISSUE,
    stain_normalization: StainNormalization | None = None,
    roi: Path | None = None,
) -> tuple[dict[int, SlideFeatures], np.ndarray, dict[str, Any]]:
    """Encode the tissue of one slide.

    Args:
        path: The slide.
        encoder: As returned by `load_encoder`.
        mpp: µm per pixel, used only if the slide does not state it.
        magnifications: One, or two of which the finer is twice the coarser.
        batch_size: Tiles per call of the encoder; None means the encoder's choice.
        progress: Called with (tiles done, tiles of the slide) after every batch.
        tissue: Name of the method that finds tissue: `colour`, or `module:function`.
        min_tissue: Smallest share of tissue of a tile that is kept, above 0 and at most 1.
        stain_normalization: How the stains of the tiles are normalised; None leaves them as scanned.
        roi: GeoJSON file of the regions whose tiles are read, or folder with one per slide; None means the whole slide.

    Returns:
        {magnification: features}, the thumbnail (H, W, 3) uint8, and attributes: `source`, `source_bytes`,
        `dimensions`, `mpp`, `mpp_source`, `reader`, `thumbnail_mpp`, `tissue_mm2`, `tiles`, `tiles_unreadable` and
        more.

    Raises:
        SlideError: The slide cannot be used; `state` is the keyword for the reason.
    """
    request = SlideRequest(
        Path(path),
        check_magnifications(magnifications),
        mpp,
        min_tissue,
        tissue,
        stain_normalization=stain_normalization,
        roi=roi,
    )
    previous_size = encoder.batch_size
    encoder.batch_size = batch_size or previous_size
    report = (lambda slide, done, resumed, total: progress(done, total)) if progress else None
    try:
        with ReaderPool() as readers:
            (slide,) = encode_slides([request], encoder, readers, report)
    finally:
        # A size that proved too large for the memory stays reduced, unless the caller chose it.
        encoder.batch_size = min(previous_size, encoder.batch_size) if batch_size is None else previous_size
    if slide.error is not None or slide.layout is None:
        raise slide.error or SlideError("unreadable", f"{path}: gave no features; check the file")
    return slide.bags, slide.layout.thumbnail, slide.attributes
