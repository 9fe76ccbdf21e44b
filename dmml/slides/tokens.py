"""Turns one raw slide into tokens: find tissue, lay tiles, read them in the background, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.slides.extraction.encoded_slide import EncodedSlide
from dmml.slides.extraction.stream import ReportProgress, encode_layout, encode_slides
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.grid import DEFAULT_TISSUE, MIN_TISSUE, Tiles, check_magnifications
from dmml.slides.tiling.layout import Layout, SlideRequest

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.slides.stains.stains import StainNormalization
    from dmml.store import SlideFeatures

ChooseParents = Callable[["SlideFeatures"], np.ndarray]
"""Function of the features of a slide's N coarse tiles; returns (k,) rows of those whose fine tiles are encoded"""


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
    choose_parents: ChooseParents | None = None,
) -> tuple[dict[int, SlideFeatures], np.ndarray, dict[str, Any]]:
    """Encode the tissue of one slide.

    Args:
        path: The slide.
        encoder: As returned by `load_encoder`; tiles have the size for which it was loaded.
        mpp: µm per pixel, used only if the slide does not state it.
        magnifications: One, or two of which the finer is twice the coarser.
        batch_size: Tiles per call of the encoder; None means the encoder's choice.
        progress: Called with (tiles done, tiles of the slide) after every batch.
        tissue: Name of the method that finds tissue: `colour`, or `module:function`.
        min_tissue: Smallest share of tissue of a tile that is kept, above 0 and at most 1.
        stain_normalization: How the stains of the tiles are normalised; None leaves them as scanned.
        roi: GeoJSON file of the regions whose tiles are read, or folder with one per slide; None means the whole slide.
        choose_parents: Chooses the coarse tiles whose fine tiles are encoded, once all coarse tiles are; None means all.

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
        tile_px=encoder.tile_px,
    )
    previous_size = encoder.batch_size
    encoder.batch_size = batch_size or previous_size
    report = (lambda slide, done, resumed, total: progress(done, total)) if progress else None
    try:
        with ReaderPool() as readers:
            if choose_parents is None or len(request.magnifications) == 1:
                (slide,) = encode_slides([request], encoder, readers, report)
            else:
                slide = _encode_in_part(request, encoder, readers, choose_parents, report)
    finally:
        # A size that proved too large for the memory stays reduced, unless the caller chose it.
        encoder.batch_size = min(previous_size, encoder.batch_size) if batch_size is None else previous_size
    if slide.error is not None or slide.layout is None:
        raise slide.error or SlideError("unreadable", f"{path}: gave no features; check the file")
    return slide.bags, slide.layout.thumbnail, slide.attributes


def _encode_in_part(
    request: SlideRequest,
    encoder: Encoder,
    readers: ReaderPool,
    choose_parents: ChooseParents,
    report: ReportProgress | None,
) -> EncodedSlide:
    """Encode all coarse tiles of a slide, and then the fine tiles of those that are chosen."""
    coarse, fine = request.magnifications
    layout = readers.lay_out(request).result()
    n_tiles = sum(len(tiles) for tiles in layout.tiles.values())
    n_fine = len(layout.tiles[fine])
    first = encode_layout(request, _of_parents(layout, None), encoder, readers, _shifted(report, 0, n_fine))
    if first.error is not None or first.attributes["tiles_unreadable"]:
        # Without a damaged coarse tile, rows would no longer be those of the layout.
        return first if first.error is not None else encode_layout(request, layout, encoder, readers, report)
    parents = np.sort(choose_parents(first.bags[coarse]))
    encoded = {coarse: first.bags[coarse].features[parents]}
    n_others = n_tiles - n_fine - len(parents)
    progress = _shifted(report, n_others, n_others)
    second = encode_layout(request, _of_parents(layout, parents), encoder, readers, progress, encoded)
    if second.error is not None:
        return second
    bag = second.bags[fine]
    bags = {coarse: first.bags[coarse], fine: replace(bag, parent=parents[bag.parent].astype(np.int32))}
    counts = {
        "tiles": {str(m): len(bag.features) for m, bag in bags.items()},
        "tiles_skipped": n_tiles
        - sum(len(bag.features) for bag in bags.values())
        - second.attributes["tiles_unreadable"],
    }
    return EncodedSlide(request, bags, layout, second.attributes | counts)


def _of_parents(layout: Layout, parents: np.ndarray | None) -> Layout:
    """Keep some coarse tiles, (k,) rows in order, with their fine tiles; None keeps all coarse tiles and no fine one."""
    coarse, fine = sorted(layout.tiles)
    tiles, children = layout.tiles[coarse], layout.tiles[fine]
    if parents is None:
        return replace(layout, tiles={coarse: tiles, fine: _some(children, np.zeros(0, np.int64), None)})
    parent = np.asarray(children.parent)
    kept = np.flatnonzero(np.isin(parent, parents))
    new_parent = np.searchsorted(parents, parent[kept])
    return replace(layout, tiles={coarse: _some(tiles, parents, None), fine: _some(children, kept, new_parent)})


def _some(tiles: Tiles, rows: np.ndarray, parent: np.ndarray | None) -> Tiles:
    if tiles.parent is not None and parent is None:
        parent = tiles.parent[rows]
    return Tiles(tiles.cell[rows], tiles.position[rows], None if parent is None else parent.astype(np.int32))


def _shifted(report: ReportProgress | None, done: int, total: int) -> ReportProgress | None:
    """Add tiles of the slide that are encoded before or after to what is reported."""
    return report and (lambda slide, n, resumed, of: report(slide, n + done, resumed, of + total))
