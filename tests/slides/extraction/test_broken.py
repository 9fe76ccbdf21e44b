"""A partly damaged slide: readable tiles are kept, others are counted, and a slide with too many of them is refused."""

import numpy as np
import pytest

from dmml.errors import InputError
from dmml.slides.tokens import tokens_of_slide

LARGE = {"size": (2816, 2048), "boxes": ((224, 224, 2240, 1568),)}
"""A slide with 10 × 7 tiles of 20x, in 256-px JPEG tiles, 11 a row"""


@pytest.mark.slow
def test_a_tile_that_cannot_be_decoded_is_dropped_and_counted(make_slide, break_tile, small_encoder):
    path = make_slide("a.tif", **LARGE)
    whole, _, _ = tokens_of_slide(path, small_encoder)
    break_tile(path, 11 * 2 + 2)  # the 256-px JPEG tile at (512, 512), under four 20x tiles of two 10x tiles
    bags, _, attributes = tokens_of_slide(path, small_encoder)
    lost = len(whole[20].features) - len(bags[20].features)
    assert 4 <= lost <= 9
    assert "unreadable" not in attributes["findings"]  # the tissue was looked for on a level that is whole
    assert attributes["tiles_unreadable"] == lost + len(whole[10].features) - len(bags[10].features)
    alive = bags[20].parent >= 0
    offset = np.abs(bags[20].position[alive] - bags[10].position[bags[20].parent[alive]])
    assert (offset == 56).all()


@pytest.mark.slow
def test_an_unreadable_area_without_a_pyramid_stays_white(make_slide, break_tile, small_encoder):
    path = make_slide("a.tif", levels=(1,), **LARGE)
    break_tile(
        path, 11 * 2 + 2
    )  # px 512 to 768: all of the 20x tile whose centre is at 280 µm lies within or beside it
    bags, thumbnail, attributes = tokens_of_slide(path, small_encoder)
    # No tile is laid there, so none is missed; what tells of it is the area: 256² px of 0.25 µm² and blocks at its edge.
    assert attributes["tiles_unreadable"] == 0
    assert 256**2 * 0.25e-6 <= attributes["findings"]["unreadable"] <= 4 * 256**2 * 0.25e-6
    assert [280.0, 280.0] not in bags[20].position.tolist()
    assert 70 - 9 <= len(bags[20].features) <= 70 - 4
    assert thumbnail[..., 1].min() < 150  # the rest of the tissue is in the picture


def test_a_slide_with_many_broken_tiles_is_refused(make_slide, break_tile, small_encoder):
    path = make_slide("a.tif")
    for index in range(7, 28):
        break_tile(path, index)
    with pytest.raises(InputError, match=r"a\.tif: .*cannot be decoded") as caught:
        tokens_of_slide(path, small_encoder)
    assert caught.value.state == "unreadable"


@pytest.mark.parametrize("mpp", [0.25, 0.5016])
def test_the_size_of_a_tile_is_kept_in_um_and_in_pixels_of_the_slide(make_slide, small_encoder, mpp):
    _, _, attributes = tokens_of_slide(make_slide("a.tif", mpp=mpp), small_encoder)
    assert attributes["tile_um"] == {"10": 224.0, "20": 112.0}
    assert attributes["tile_level0_px"] == pytest.approx({"10": 224 / mpp, "20": 112 / mpp}, rel=1e-4)
