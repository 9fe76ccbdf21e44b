"""Slides without a stain: the message says what they show, and not that tissue is missing."""

import numpy as np
import pytest
from drawn_slides import paint_tissue
from pyramids import slide, strips, write_pages

from dmml.errors import InputError
from dmml.slides.tokens import tokens_of_slide
from dmml.slides.wsi.mpp import resolve_mpp

PICTURE = paint_tissue(896, 672, ((100, 90, 500, 400),))
GREY = PICTURE.mean(axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (GREY, {"photometric": "minisblack"}, "it shows shades of grey only, .*; give an image in colour"),
        (np.stack([GREY] * 3, axis=2), {}, "it shows shades of grey only"),
        (PICTURE.astype(np.uint16) * 16, {}, "it is black throughout, .*; convert it to 8 bits per channel"),
        (np.full_like(PICTURE, 243), {}, "leave it out, or check its µm per pixel"),
        (paint_tissue(896, 672, ()), {}, "leave it out, or check its µm per pixel"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_a_colourless_slide_is_distinguished_from_one_without_tissue(
    tmp_path, small_encoder, pixels, options, message, behind
):
    page = slide(pixels, compression="deflate", **options)
    before = [strips(PICTURE[:100, :100])] if behind else []
    with pytest.raises(InputError, match=rf"tiles holds 25% tissue; {message}"):
        tokens_of_slide(write_pages(tmp_path / "S.tif", *before, page), small_encoder)


def test_unsupported_pixel_types_are_named(tmp_path, small_encoder):
    page = slide(PICTURE.astype(np.float32) / 255, compression="deflate")
    path = write_pages(tmp_path / "S.tif", strips(PICTURE[:100, :100]), page)
    with pytest.raises(InputError, match="it has 32 bits per channel; only whole numbers of 8 or 16 bits can be read"):
        tokens_of_slide(path, small_encoder)


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (
            {"tiff.XResolution": "20000.0", "tiff.ResolutionUnit": "none"},
            "tiff.XResolution says '20000.0' without a unit",
        ),
        ({"ome.PhysicalSizeX": "1 pixel"}, "ome.PhysicalSizeX says '1 pixel', which is not a length"),
        ({"aperio.MPP": "0,25"}, "aperio.MPP says '0,25', which is not a length"),
    ],
)
def test_a_scale_that_is_not_a_length_is_quoted(properties, message):
    with pytest.raises(InputError, match=rf"µm per pixel unknown \({message}"):
        resolve_mpp("s", properties)
