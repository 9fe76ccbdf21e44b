"""Sheets show the tiles of the highest and lowest values, with the pixels of the right slide and place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_slides import write_slide

from dmml.experiment.predict_slide.explain.tile_sheets import extreme_tiles, tile_sheets
from dmml.types import Bag, Batch

UM = 112.0
"""Side of a tile at 20x, µm"""
N = 6
"""Tiles across a slide"""


def grey_of(slide: int, tile: int) -> int:
    return 60 + 90 * slide + 12 * tile


@pytest.fixture
def slides(tmp_path):
    """Two slides of one row of tiles, each tile in a grey of its own."""
    paths = []
    for slide in range(2):
        row = np.concatenate([np.full((224, 224, 3), grey_of(slide, tile), np.uint8) for tile in range(N)], axis=1)
        paths.append(write_slide(tmp_path / f"S{slide}.tif", row, mpp=0.5))
    return paths


@pytest.fixture
def batch():
    """The tiles of both slides, the second slide first."""
    x = (torch.arange(N) + 0.5) * UM
    position = torch.stack([x, torch.full((N,), UM / 2)], 1).repeat(2, 1)[None]
    slide = torch.tensor([1] * N + [0] * N)[None]
    bag = Bag(torch.zeros(1, 2 * N, 4), position, torch.ones(1, 2 * N, dtype=torch.bool), slide, 2)
    return Batch(["P"], {20: bag}, torch.full((1, 2 * N), -1), {}, torch.zeros(1, dtype=torch.bool))


def test_a_sheet_shows_the_pixels_of_its_tiles(slides, batch):
    values = np.random.default_rng(0).permutation(2 * N).astype(float) - N
    [sheet] = tile_sheets(slides, batch, {(20, "tumor"): values, (20, "tissue"): values}, {20: UM}, n=3, side=96)
    assert sheet.name == "tiles_20x_tumor"
    assert sheet.top.tolist() == sorted(range(2 * N), key=lambda i: -values[i])[:3]
    assert sheet.bottom.tolist() == sorted(range(2 * N), key=lambda i: values[i])[:3]
    pixels = np.asarray(sheet.image, int)
    for row, tiles in enumerate((sheet.top, sheet.bottom)):
        for column, tile in enumerate(tiles):
            y, x = 22 + 48 + row * (22 + 96 + 16 + 6), 6 + 48 + column * (96 + 6)
            slide = int(batch.bags[20].slide[0, tile])
            assert pixels[y, x, 0] == pytest.approx(grey_of(slide, tile % N), abs=4)


def test_a_subspace_to_which_no_tile_adds_has_no_sheet(slides, batch):
    values = np.arange(2.0 * N)
    sheets = tile_sheets(slides, batch, {(20, "tumor"): 0 * values, (20, "tme"): values}, {20: UM}, n=2, side=32)
    assert [sheet.name for sheet in sheets] == ["tiles_20x_tme"]


@pytest.mark.parametrize(("n_values", "n_top", "n_bottom"), [(1, 1, 0), (2, 1, 1), (5, 2, 2), (16, 8, 8), (40, 8, 8)])
def test_no_tile_is_in_both_rows(n_values, n_top, n_bottom):
    top, bottom = extreme_tiles(np.random.default_rng(1).normal(size=n_values), 8)
    assert (len(top), len(bottom)) == (n_top, n_bottom)
    assert not set(top) & set(bottom)
