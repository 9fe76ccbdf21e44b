"""Decides where the tiles of a slide lie, from its tissue and the grid over it, and collects the slide's attributes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dmml.errors import InputError
from dmml.slides.geojson.roi import Roi, read_roi, roi_mask
from dmml.slides.slide_error import SlideError
from dmml.slides.stains.stains import StainNormalization, Stains
from dmml.slides.tiling.damaged_levels import ignore_damaged_levels
from dmml.slides.tiling.grid import (
    DEFAULT_TILE_PX,
    DEFAULT_TISSUE,
    MIN_TISSUE,
    TISSUE_MAGNIFICATION,
    Tiles,
    lay_tiles,
    tile_um,
    tissue_share,
)
from dmml.slides.wsi.file_identity import fingerprint
from dmml.slides.wsi.mpp import FROM_OPTION, pixel_um
from dmml.slides.wsi.slide import Slide

THUMBNAIL_PX = 512
MASK_PX = 256
_MAX_BLACK = 32
"""Brightness that almost no pixel of a black picture reaches"""
_MAX_GREY = 3
"""Largest difference between the channels of a grey picture after JPEG compression, in grey levels"""
_MIN_CONTRAST = 30
"""Difference between dark and bright, in grey levels, from which a picture shows more than glass"""


@dataclass(frozen=True)
class SlideRequest:
    """A slide to encode, with all settings that a reading process needs."""

    path: Path
    magnifications: tuple[int, ...]
    mpp: float | None = None
    """µm per pixel from the user, used only if the slide does not state it"""
    min_tissue: float = MIN_TISSUE
    """Smallest share of tissue of a tile that is kept"""
    tissue: str = DEFAULT_TISSUE
    """Name of the method that finds tissue"""
    mpp_from: str = FROM_OPTION
    """Where the user specified `mpp`"""
    stain_normalization: StainNormalization | None = None
    """How the stains of its tiles are normalised; None leaves the tiles as scanned"""
    slide_stains: Stains | None = None
    """The slide's stains, which its layout determines; tiles are normalised only if they are stated"""
    roi: Path | None = None
    """GeoJSON file of the slide's regions of interest, or folder with one file per slide; None means the whole slide"""
    damaged_levels: tuple[int, ...] = ()
    """Levels of the slide that are damaged, which its layout determines; no tile is read from them"""
    is_listed: bool = False
    """Whether the file was found when its folder was listed, so that it has vanished since if it is missing"""
    laid_out_on: tuple[int, int] | None = None
    """Bytes and time (ns) of the file on which the tiles were laid; tiles are not read from another"""
    tile_px: int = DEFAULT_TILE_PX
    """Side of a tile in pixels of its magnification"""

    def tile_um(self, magnification: int) -> float:
        """Side of a tile, µm."""
        return tile_um(magnification, self.tile_px)


@dataclass
class Layout:
    """Positions of the tiles of a slide, determined before any tile is read."""

    tiles: dict[int, Tiles]
    thumbnail: np.ndarray
    """(H, W, 3) uint8, long side at most 512 px"""
    mask: np.ndarray
    """(H, W) uint8, 255 = tissue, long side at most 256 px"""
    attributes: dict[str, Any]
    """Attributes of the slide that the store keeps"""
    stains: Stains | None = None
    """The slide's stains; None without stain normalisation"""
    damaged_levels: tuple[int, ...] = ()
    """Levels of the slide that are damaged, so that finer ones are read in their place"""


def lay_out(slide: Slide, request: SlideRequest) -> Layout:
    """Find the tissue of a slide and lay tiles on it.

    Stains are fitted to all tissue of the slide, so that a region of interest changes which tiles are read and not
    what they look like.

    Raises:
        SlideError: No tile holds tissue (state `no_tissue`), the method that finds tissue failed (`tissue_failed`), the
            stains cannot be fitted (`no_stains`), or the region of interest cannot be used (see `read_roi`).
    """
    from dmml.slides.tiling.tissue import (  # imports scipy, which a mere check of a file does not need
        find_tissue,
        mask_scale,
    )

    roi = None if request.roi is None else read_roi(request.roi, slide)
    tissue_magnification = max(TISSUE_MAGNIFICATION, *request.magnifications)
    scale = mask_scale(slide.size_um, request.tile_um(tissue_magnification))
    picture = slide.overview(scale)
    unreadable = round(slide.unreadable_um2 / 1e6, 4)
    try:
        mask, findings = find_tissue(request.tissue, picture, scale)
    except InputError as error:
        raise SlideError("tissue_failed", f"{slide.path}: {error}") from error
    if unreadable:
        findings["unreadable"] = unreadable  # recorded, since these white areas get no tiles and nobody would notice
    read_mask = mask if roi is None else mask & roi_mask(roi, mask.shape, scale / slide.mpp)
    share = tissue_share(read_mask, scale, request.tile_um(tissue_magnification), slide.size_um)
    tiles = lay_tiles(share, tissue_magnification, request.magnifications, request.min_tissue, request.tile_px)
    if not len(tiles[max(request.magnifications)]):
        raise _no_tissue(slide, request, share, tissue_magnification, picture, unreadable, roi)
    ignore_damaged_levels(slide, tiles, request.tile_px)
    stains = None
    if request.stain_normalization is not None:
        from dmml.slides.stains.slide_stains import fit_slide_stains

        side = request.tile_um(TISSUE_MAGNIFICATION)
        fields = tissue_share(mask, scale, side, slide.size_um)
        stains = fit_slide_stains(slide, request.stain_normalization.method, fields, side)
    thumbnail, mpp = _thumbnail(slide, picture, scale)
    slide.compare_levels([pixel_um(magnification) for magnification in request.magnifications])
    attributes = {
        "source": slide.path.name,
        **fingerprint(slide.path),
        "dimensions": list(slide.dimensions),
        **({} if slide.bounds.size == slide.dimensions else {"bounds": slide.bounds.plain}),
        "mpp": slide.mpp,
        "mpp_source": request.mpp_from if slide.mpp_source == FROM_OPTION else slide.mpp_source,
        "reader": slide.reader,
        **({"notes": slide.notes} if slide.notes else {}),
        "tile_um": {str(m): request.tile_um(m) for m in tiles},
        "tile_level0_px": {str(m): request.tile_um(m) / slide.mpp for m in tiles},
        "thumbnail_mpp": mpp,
        "tissue_mm2": round(float(read_mask.sum()) * scale**2 / 1e6, 4),
        "findings": findings,
        **({} if stains is None else {"stains": stains.plain()}),
        **({} if roi is None else {"roi": roi.record}),
    }
    return Layout(tiles, thumbnail, _small_mask(read_mask), attributes, stains, slide.levels.damaged)


def _no_tissue(
    slide: Slide,
    request: SlideRequest,
    share: np.ndarray,
    magnification: int,
    picture: np.ndarray,
    unreadable_mm2: float,
    roi: Roi | None,
) -> SlideError:
    """Explain why no tile of a slide was kept; `share` is the share of tissue of the tiles of `magnification`."""
    where = "" if roi is None else f" within the regions of {roi.path}"
    reason = f"none of its {share.size} {magnification}x tiles holds {request.min_tissue:.0%} tissue{where}"
    if not share.size:
        reason = f"{slide.size_um[0]:.0f} × {slide.size_um[1]:.0f} µm is too small for one {magnification}x tile of {request.tile_px} px"
    if unreadable_mm2:
        reason += f", and {unreadable_mm2:.2f} mm² cannot be decoded"
    remedy = f"leave it out, or check its µm per pixel ({slide.mpp:.4g})"
    if roi is not None and share.size:
        remedy = "leave it out, or draw the regions on tissue and larger than a tile"
    remedy = _advice_if_colourless(picture) or remedy
    return SlideError("no_tissue", f"{slide.path}: {reason}; {remedy}")


def _advice_if_colourless(picture: np.ndarray) -> str:
    """Advice about a slide without any stain, such as a single channel of several; empty for other slides."""
    low, high = np.quantile(picture.max(axis=2), (0.05, 0.95))
    if high < _MAX_BLACK:
        return (
            "it is black throughout, as with 16-bit pixels that use few of their bits; convert it to 8 bits per channel"
        )
    if high - low > _MIN_CONTRAST and int(np.ptp(picture, axis=2).max(initial=0)) <= _MAX_GREY:
        return "it shows shades of grey only, and tissue is found by its colours; give an image in colour"
    return ""


def _small_mask(mask: np.ndarray) -> np.ndarray:
    scale = min(1.0, MASK_PX / max(mask.shape))
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX))


def _thumbnail(slide: Slide, picture: np.ndarray, picture_mpp: float) -> tuple[np.ndarray, float]:
    """Return a picture of at most 512 px a side, and its µm/px; a small slide is read again at a finer scale."""
    longest = max(slide.size_um)
    mpp = max(longest / THUMBNAIL_PX, slide.mpp)
    if mpp < picture_mpp:
        return slide.overview(mpp, from_finest=False), mpp
    width, height = (max(1, math.ceil(um / mpp - 1e-6)) for um in slide.size_um)
    box = (
        0.0,
        0.0,
        min(width * mpp / picture_mpp, picture.shape[1]),
        min(height * mpp / picture_mpp, picture.shape[0]),
    )
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX, box=box)
    return np.asarray(image), mpp
