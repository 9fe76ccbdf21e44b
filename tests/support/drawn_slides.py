"""Slides drawn for tests: boxes of tissue on glass, written as pyramids."""

import numpy as np


def paint_tissue(width, height, boxes, seed=0):
    """Glass with noise, and boxes (x, y, w, h) of eosin and haematoxylin colours."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(243, 1.5, (height, width, 3))
    for x, y, w, h in boxes:
        stain = np.array([214.0, 140.0, 180.0])
        picture[y : y + h, x : x + w] = stain + rng.normal(0, 6, (h, w, 1)) + rng.normal(0, 2, (h, w, 3))
    return picture.clip(0, 255).astype(np.uint8)


def write_slide(path, picture, mpp=0.5, levels=(1, 4), tile=256):
    """A tiled JPEG TIFF pyramid that OpenSlide opens as generic-tiff."""
    import tifffile
    from PIL import Image

    resolution = None if mpp is None else (1e4 / mpp, 1e4 / mpp)
    with tifffile.TiffWriter(path) as tiff:
        for factor in levels:
            size = (picture.shape[1] // factor, picture.shape[0] // factor)
            pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            scaled = None if resolution is None else tuple(r / factor for r in resolution)
            tiff.write(
                pixels,
                tile=(tile, tile),
                compression="jpeg",
                compressionargs={"level": 92},
                photometric="rgb",
                resolution=scaled,
                resolutionunit=None if mpp is None else "CENTIMETER",
                subfiletype=0 if factor == 1 else 1,
                metadata=None,
            )
    return path
