"""Writes large slides: sparse pyramids far larger than memory, and mosaics of many small slides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

GLASS, STAIN = 243, (214, 140, 180)


def write_sparse(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], mpp: float = 0.5) -> None:
    """Write a sparse slide.

    Args:
        path: The TIFF.
        size: Width and height, px.
        box: Left, top, right and bottom of the tissue, px. Tiles that it does not touch are missing from the file,
            which OpenSlide reads as empty.
        mpp: µm per pixel.
    """
    import tifffile

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for factor, side in ((1, 1024), (8, 256), (32, 256)):
            width, height = (-(-v // factor) for v in size)
            tiff.write(
                _tiles(tuple(v // factor for v in box), side, width, height),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(side, side),
                compression="jpeg",
                photometric="rgb",
                resolution=(1e4 / mpp / factor,) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=int(factor > 1),
                metadata=None,
            )


def write_mosaic(path: Path, slides: Sequence[Path], side: int, mpp: float = 0.5) -> None:
    """Write `side` × `side` slides of equal size side by side as one, from the first on and again from the start.

    Args:
        path: The TIFF.
        slides: Pyramids whose levels are equal in number and size.
        side: Slides in a row.
        mpp: µm per pixel of their finest level.
    """
    import tifffile

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(3):
            picture = [tifffile.imread(slides[i % len(slides)], key=level) for i in range(side * side)]
            rows = [np.concatenate(picture[i : i + side], axis=1) for i in range(0, len(picture), side)]
            tiff.write(
                np.concatenate(rows),
                tile=(256, 256),
                compression="jpeg",
                photometric="rgb",
                resolution=(1e4 / mpp / 2**level,) * 2,
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                metadata=None,
            )


def _tiles(box: tuple[int, ...], side: int, width: int, height: int) -> Iterator[bytes]:
    made: dict[tuple[int, ...], bytes] = {}
    for top in range(0, height, side):
        for left in range(0, width, side):
            x0, y0 = (max(0, v - e) for v, e in zip(box[:2], (left, top), strict=True))
            x1, y1 = (min(side, v - e) for v, e in zip(box[2:], (left, top), strict=True))
            if x1 <= x0 or y1 <= y0:
                yield b""
                continue
            part = (x0, y0, x1, y1)
            if part not in made:
                made[part] = _jpeg(side, part)
            yield made[part]


def _jpeg(side: int, part: tuple[int, ...]) -> bytes:
    import imagecodecs

    x0, y0, x1, y1 = part
    pixels = np.full((side, side, 3), GLASS, np.uint8)
    pixels[y0:y1, x0:x1] = STAIN
    return imagecodecs.jpeg_encode(pixels, 90, colorspace="rgb", outcolorspace="ycbcr", subsampling="444")
