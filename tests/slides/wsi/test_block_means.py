"""Pictures are reduced by exact means of blocks."""

import numpy as np
import pytest
from PIL import Image

from dmml.slides.wsi.block_means import block_means


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16, 128, 256, 512])
def test_each_pixel_is_the_mean_of_its_block_rounded_once(factor):
    pixels = np.random.default_rng(factor).integers(0, 256, (2 * factor, 3 * factor, 3), np.uint8)
    mean = pixels.reshape(2, factor, 3, factor, 3).mean(axis=(1, 3))
    assert (block_means(pixels, factor) == np.floor(mean + 0.5)).all()
    assert (block_means(pixels, factor) == np.asarray(Image.fromarray(pixels).reduce(factor))).all()


@pytest.mark.parametrize("factor", [2, 16, 512])
def test_a_white_picture_stays_white(factor):
    assert (block_means(np.full((factor, 2 * factor, 3), 255, np.uint8), factor) == 255).all()
