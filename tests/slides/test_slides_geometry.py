"""Places and scales: a checkerboard whose every square is known, and a slide far larger than memory is asked for."""

from pathlib import Path

import numpy as np
import pytest

from dmml.slides.extract import extract
from dmml.slides.grid import lay_tiles
from dmml.slides.layout import SlideRequest
from dmml.slides.reader import Slide
from dmml.slides.tile_reading import SlideSource, mean_of_quarters, units_of
from dmml.store import FeatureStore

SQUARE_UM = 28.0
"""Side of a square of the board: a quarter of a 20x tile"""
PINK, BLUE = np.array([236, 120, 170]), np.array([120, 70, 160])


def board(width, height, mpp):
    """Pixels of a slide whose squares are pink and blue by turns; each pixel is the mean over its own square of µm."""

    def share(n):  # of each pixel that lies in odd squares, exactly, by integrating the square wave
        edge = np.arange(n + 1) * mpp / SQUARE_UM
        whole = np.floor(edge)
        area = np.floor(whole / 2) + np.where(whole % 2 == 1, edge - whole, 0)
        return np.diff(area) / np.diff(edge)

    x, y = share(width)[None, :, None], share(height)[:, None, None]
    blue = x * (1 - y) + y * (1 - x)
    return (PINK + blue * (BLUE - PINK)).round().astype(np.uint8)


@pytest.mark.parametrize("mpp", [0.25, 0.2325, 0.5, 0.5016])
def test_every_scanner_lands_on_true_10x_and_20x(tmp_path, make_slide, mpp):
    """448 µm of a checkerboard: a tile read at 20x is the board at 0.5 µm/px there, whatever the scanner's pixel."""
    side = round(560 / mpp)
    path = tmp_path / "board.tif"
    write_lossless(path, board(side, side, mpp), mpp)
    source, request = SlideSource(), SlideRequest(path, (10, 20))
    layout = source.plan(request)
    truth = board(2240, 2240, 0.5)
    assert layout.attributes["mpp"] == pytest.approx(mpp, rel=1e-4)
    # 25 whole 20x tiles, or 16 where the slide ends a pixel early; every one is where the grid says, to the µm.
    size = layout.attributes["dimensions"][0] * layout.attributes["mpp"]
    n = int(np.floor(size / 112 + 1e-9))
    assert layout.tiles[20].position.tolist() == [[112 * x + 56.0, 112 * y + 56.0] for y in range(n) for x in range(n)]
    seen = 0
    for unit in units_of(layout.tiles):
        read = source.read(request, unit)
        for magnification, row, pixels in zip(read.magnification, read.row, read.pixels, strict=True):
            if magnification == 20:
                x, y = layout.tiles[20].cell[row] * 224
                inner = np.s_[8:-8, 8:-8]
                difference = np.abs(pixels[inner].astype(int) - truth[y : y + 224, x : x + 224][inner])
                # A resampled edge between two colours is soft over a pixel; a shift of one pixel would give 9.
                assert difference.mean() < 3.0
                seen += 1
    assert seen == n * n
    source.close()


def write_lossless(path, picture, mpp):
    import tifffile
    from PIL import Image

    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, 2, 4):
            size = (picture.shape[1] // factor, picture.shape[0] // factor)
            pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            resolution = (1e4 / mpp / factor,) * 2
            kind = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb", "metadata": None}
            unit = {"resolutionunit": "CENTIMETER", "subfiletype": int(factor > 1)}
            tiff.write(pixels, resolution=resolution, **kind, **unit)


def test_a_10x_tile_is_the_area_mean_of_its_four_children(make_slide):
    path = make_slide("a.tif", mpp=0.4, size=(2400, 1800), boxes=((300, 300, 1600, 1200),))
    source, request = SlideSource(), SlideRequest(path, (10, 20))
    layout = source.plan(request)
    tiles = {}
    for unit in units_of(layout.tiles):
        read = source.read(request, unit)
        tiles.update({(m, r): p for m, r, p in zip(read.magnification, read.row, read.pixels, strict=True)})
    parents, compared = layout.tiles[20].parent, 0
    for row, cell in enumerate(layout.tiles[10].cell):
        for child in np.flatnonzero(parents == row):
            x, y = (layout.tiles[20].cell[child] - 2 * cell) * 112
            mean = tiles[20, child].reshape(112, 2, 112, 2, 3).astype(float).mean(axis=(1, 3))
            assert np.abs(mean - tiles[10, row][y : y + 112, x : x + 112]).max() <= 0.5
            compared += 1
    assert compared == len(parents) > 20
    source.close()


def test_the_mean_of_four_is_rounded_once():
    block = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    mean = block.reshape(32, 2, 48, 2, 3).astype(float).mean(axis=(1, 3))
    assert (mean_of_quarters(block) == np.floor(mean + 0.5)).all()


@pytest.mark.parametrize("magnifications", [(10, 20), (20,)])
def test_units_hold_every_tile_once_and_children_with_their_parent(magnifications):
    share = np.random.default_rng(0).random((37, 53))
    tiles = lay_tiles(share, 20, magnifications, least=0.6)
    coarse, fine = magnifications[0], magnifications[-1]
    units = list(units_of(tiles))
    rows = np.concatenate([unit.row for unit in units])
    assert sorted(rows.tolist()) == list(range(len(tiles[coarse])))
    for unit in units:
        assert (unit.cell == tiles[coarse].cell[unit.row]).all()
        if fine != coarse:
            assert (unit.row[unit.child_of] == tiles[fine].parent[unit.child_row]).all()
            assert (unit.child_cell == tiles[fine].cell[unit.child_row]).all()
    children = np.concatenate([unit.child_row for unit in units])
    assert sorted(children.tolist()) == (list(range(len(tiles[fine]))) if fine != coarse else [])


def test_a_slide_of_eight_gigapixels_passes_in_flat_memory(tmp_path, monkeypatch, small_encoder):
    """100,000 × 80,000 px, 24 GB uncompressed, through `extract`: this process grows by less than half a gigabyte."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from large_slide import write_sparse
    from peak_memory import peak_above

    path = tmp_path / "large.tif"
    write_sparse(path, (100_000, 80_000), (40_320, 30_240, 46_144, 34_048))
    assert peak_above(lambda: extract([path], tmp_path / "f.zarr", small_encoder)) < 0.5
    store = FeatureStore(tmp_path / "f.zarr")
    attributes = store.slide_attributes("large")
    assert attributes["dimensions"] == [100_000, 80_000]
    assert attributes["tissue_mm2"] == pytest.approx(2.912 * 1.904, rel=0.03)
    position = store.read("large", 20).position
    assert np.abs(position.min(axis=0) - 56 - [20_160, 15_120]).max() <= 112
    # 26 × 17 tiles of 112 µm, exactly on the grid; the rim may gain or lose a row by the least share.
    assert len(position) == pytest.approx(26 * 17, rel=0.12)


def test_the_real_slide_s_tiles_equal_those_of_its_pyramid(shared_data):
    """Pixels, not only features: the same tile from the scanner's file and from a pyramid made of it."""
    tiles = []
    for name in ("cmu_small_region.svs", "cmu_small_pyramid.tif"):
        with Slide(shared_data / "slides" / name) as slide:
            tiles.append([slide.read(x * 112, y * 112, 224, 224, 0.5).astype(int) for x, y in ((4, 3), (5, 9), (2, 7))])
    assert max(np.abs(a - b).mean() for a, b in zip(*tiles, strict=True)) < 1.0
