"""Pictures of the QC page: the slide with its tiles, and its tissue."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

_LINE_COLOUR = (0, 110, 90)
_TISSUE_COLOUR = (120, 170, 150)


def outlined(thumbnail: np.ndarray, mpp: float, position: np.ndarray, tile_um: float, max_px: int) -> Image.Image:
    """Draw the slide with a line around the tiles that were kept.

    Args:
        thumbnail: (H, W, 3) uint8.
        mpp: µm per pixel of the thumbnail.
        position: (N, 2) µm, centres of the tiles.
        tile_um: Side of a tile, µm.
        max_px: Maximum long side of the result, px.
    """
    picture = Image.fromarray(thumbnail)
    scale = min(1.0, max_px / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    cells = {(round(x / tile_um - 0.5), round(y / tile_um - 0.5)) for x, y in position.tolist()}
    step = tile_um / mpp * scale
    for x, y in cells:
        left, top, right, bottom = x * step, y * step, (x + 1) * step, (y + 1) * step
        for neighbour, line in (
            ((x - 1, y), (left, top, left, bottom)),
            ((x + 1, y), (right, top, right, bottom)),
            ((x, y - 1), (left, top, right, top)),
            ((x, y + 1), (left, bottom, right, bottom)),
        ):
            if neighbour not in cells:
                draw.line(line, fill=_LINE_COLOUR, width=2)
    return picture


def mask_picture(mask: np.ndarray) -> Image.Image:
    """Draw tissue in green on white; (H, W) uint8, 255 = tissue."""
    share = mask.astype(np.float32)[..., None] / 255
    colours = 255 - share * (255 - np.array(_TISSUE_COLOUR, np.float32))
    return Image.fromarray(colours.round().astype(np.uint8))
