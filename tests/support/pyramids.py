"""TIFF files as they are found: levels that were padded, cropped or turned, and slides behind macro images and labels."""

import numpy as np
from PIL import Image


def shrunk(picture, factor, size=None):
    """A picture so many times smaller, or of a given (width, height)."""
    size = size or (picture.shape[1] // factor, picture.shape[0] // factor)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def padded(picture, tile=256, value=255):
    """A picture that was filled up to whole tiles."""
    height, width = picture.shape[:2]
    filled = np.full((-(-height // tile) * tile, -(-width // tile) * tile, 3), value, np.uint8)
    filled[:height, :width] = picture
    return filled


def page(picture, mpp=None, **options):
    """A tiled page that calls itself reduced, as levels do, unless `subfiletype=0` is given."""
    kind = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None, "subfiletype": 1}
    if mpp is not None:
        kind |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    return np.ascontiguousarray(picture), {**kind, **options}


def slide(picture, mpp=0.5, **options):
    """A tiled page of full resolution."""
    return page(picture, mpp, subfiletype=0, **options)


def strips(picture, mpp=None, **options):
    """A page in strips, as macro images and labels come."""
    pixels, kind = page(picture, mpp, subfiletype=0, compression="deflate", rowsperstrip=16, **options)
    return pixels, {key: value for key, value in kind.items() if key != "tile"}


def write_pages(path, *pages, **options):
    """Write a TIFF of these pages."""
    import tifffile

    with tifffile.TiffWriter(path, **options) as tiff:
        for pixels, kind in pages:
            tiff.write(pixels, **kind)
    return path
