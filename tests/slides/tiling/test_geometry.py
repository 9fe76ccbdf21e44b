"""Positions and scales of tiles: a checkerboard of known squares, and a slide far larger than the memory."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmml.slides.extraction.extract import extract
from dmml.slides.reading.tile_reading import SlideSource
from dmml.slides.tiling.grid import lay_tiles
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_groups import tile_groups
from dmml.slides.wsi.slide import Slide
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


def tiles_of(path, magnifications=(10, 20)):
    """The layout of a slide, and {(magnification, column, row): pixels}."""
    source, request = SlideSource(), SlideRequest(path, magnifications)
    layout, tiles = source.lay_out(request), {}
    for group in tile_groups(layout.tiles):
        read = source.read(request, group)
        for magnification, row, pixels in zip(read.magnification, read.row, read.pixels, strict=True):
            tiles[int(magnification), *layout.tiles[magnification].cell[row].tolist()] = pixels
    source.close()
    return layout, tiles


def edge_shifts(got, truth, side):
    """By how many pixels the edges between squares lie elsewhere, across and down.

    Whatever a resampling does to an edge, it keeps the sum over it; a sum that is off by a contrast is a pixel's shift.
    """
    shifts = []
    for a, b in ((got, truth), (got.swapaxes(0, 1), truth.swapaxes(0, 1))):
        rows = np.s_[side // 4 : 3 * side // 4]  # within the first line of squares
        for edge in range(side, a.shape[1], side):
            around_edge = np.s_[rows, edge - side // 2 : edge + side // 2, 0]
            shifts.append((a[around_edge].astype(float) - b[around_edge]).sum(axis=1).mean() / (PINK - BLUE)[0])
    return np.abs(shifts)


@pytest.mark.slow
@pytest.mark.parametrize("mpp", [0.25, 0.2325, 0.5, 0.5016])
def test_tiles_of_every_scanner_are_true_10x_and_20x(tmp_path, mpp):
    """560 µm of a checkerboard: a tile is the board at 0.5 or 1 µm/px there, whatever the scanner's pixel."""
    path = tmp_path / "board.tif"
    write_lossless(path, board(round(560 / mpp), round(560 / mpp), mpp), mpp)
    layout, tiles = tiles_of(path)
    assert layout.attributes["mpp"] == pytest.approx(mpp, rel=1e-4)
    # 25 whole 20x tiles, or 16 where the slide ends a pixel early; every one is where the grid says, to the µm.
    size = layout.attributes["dimensions"][0] * layout.attributes["mpp"]
    n = int(np.floor(size / 112 + 1e-9))
    assert layout.tiles[20].position.tolist() == [[112 * x + 56.0, 112 * y + 56.0] for y in range(n) for x in range(n)]
    whole = {key: pixels for key, pixels in tiles.items() if (max(key[1:]) + 1) * 2240 / key[0] <= size}
    assert len(whole) == n * n + (n // 2) ** 2
    for (magnification, column, row), pixels in whole.items():
        um = 10 / magnification
        truth = board(round(560 / um), round(560 / um), um)
        truth = truth[row * 224 : row * 224 + 224, column * 224 : column * 224 + 224]
        error, side = np.abs(pixels.astype(int) - truth), round(SQUARE_UM / um)
        if mpp in (0.25, 0.5):  # squares are whole pixels of the scan, and so are those of the tile
            assert error.max() == 0
            continue
        # The filter reaches two wanted pixels; beyond three from an edge nothing but two roundings is left of it.
        place = np.arange(224) % side
        deep = np.minimum(place, side - 1 - place) >= 3
        assert error[deep][:, deep].max() <= 1
        assert edge_shifts(pixels, truth, side).max() < 0.05


def write_lossless(path, picture, mpp, levels=(1, 2, 4)):
    """A pyramid of exact area means; remaining pixels at the right and the lower edge are dropped, as by scanners."""
    import tifffile

    with tifffile.TiffWriter(path) as tiff:
        for factor in levels:
            size = (picture.shape[1] // factor, picture.shape[0] // factor)
            whole = picture[: size[1] * factor, : size[0] * factor]
            pixels = np.asarray(Image.fromarray(whole).reduce(factor))
            resolution = (1e4 / mpp / factor,) * 2
            kind = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb", "metadata": None}
            unit = {"resolutionunit": "CENTIMETER", "subfiletype": int(factor > 1)}
            tiff.write(pixels, resolution=resolution, **kind, **unit)


def test_a_10x_tile_is_the_area_mean_of_its_four_children(make_slide):
    path = make_slide("a.tif", mpp=0.4, size=(2400, 1800), boxes=((300, 300, 1600, 1200),))
    layout, tiles = tiles_of(path)
    children = [key[1:] for key in tiles if key[0] == 20]
    for x, y in children:
        left, top = x % 2 * 112, y % 2 * 112
        mean = tiles[20, x, y].reshape(112, 2, 112, 2, 3).astype(float).mean(axis=(1, 3))
        assert np.abs(mean - tiles[10, x // 2, y // 2][top : top + 112, left : left + 112]).max() <= 0.5
    assert len(children) == len(layout.tiles[20]) > 20


@pytest.mark.parametrize("magnifications", [(10, 20), (20,)])
def test_groups_hold_every_tile_once_and_children_with_their_parent(magnifications):
    share = np.random.default_rng(0).random((37, 53))
    tiles = lay_tiles(share, 20, magnifications, min_tissue=0.6)
    coarse, fine = magnifications[0], magnifications[-1]
    groups = list(tile_groups(tiles))
    rows = np.concatenate([group.row for group in groups])
    assert sorted(rows.tolist()) == list(range(len(tiles[coarse])))
    for group in groups:
        assert (group.cell == tiles[coarse].cell[group.row]).all()
        if fine != coarse:
            assert (group.row[group.child_of] == tiles[fine].parent[group.child_row]).all()
            assert (group.child_cell == tiles[fine].cell[group.child_row]).all()
    children = np.concatenate([group.child_row for group in groups])
    assert sorted(children.tolist()) == (list(range(len(tiles[fine]))) if fine != coarse else [])


@pytest.mark.slow
def test_a_slide_of_eight_gigapixels_passes_in_flat_memory(tmp_path, monkeypatch, small_encoder):
    """100,000 × 80,000 px, 24 GB uncompressed, through `extract`: this process grows by less than half a gigabyte."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
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
    # 26 × 17 tiles of 112 µm exactly: the mask of 16 µm may reach a pixel further, a seventh of a tile, and a quarter
    # is wanted.
    assert position.min(axis=0).tolist() == [20_160 + 56, 15_120 + 56]
    assert position.max(axis=0).tolist() == [20_160 + 25 * 112 + 56, 15_120 + 16 * 112 + 56]
    assert len(position) == 26 * 17


@pytest.mark.slow
def test_the_real_slide_and_its_pyramid_give_the_same_tiles_and_features(shared_data, small_encoder, tmp_path):
    """The finest levels have the same pixels, so the tiles must be the same although tissue is found on other levels."""
    paths = [shared_data / "slides" / f"cmu_small_{name}" for name in ("region.svs", "pyramid.tif")]
    extract(paths, tmp_path / "f.zarr", small_encoder)
    store = FeatureStore(tmp_path / "f.zarr")
    for magnification in (10, 20):
        one, two = (store.read(path.stem, magnification) for path in paths)
        assert len(one.position) > 15
        assert (one.position == two.position).all()
        assert (one.features == two.features).all()
    (_, scan), (_, pyramid) = (tiles_of(path) for path in paths)
    assert scan.keys() == pyramid.keys()
    assert all((scan[key] == pyramid[key]).all() for key in scan)


@pytest.mark.parametrize("mpp", [0.25, 0.2325, 0.31])
def test_a_slide_gives_the_same_tiles_with_levels_and_without(tmp_path, mpp):
    """A tile consists of area means, as levels do, so it does not depend on the level from which it is read."""
    picture = np.random.default_rng(0).integers(60, 200, (80, 64, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    picture ^= np.random.default_rng(1).integers(0, 32, picture.shape, np.uint8)
    write_lossless(tmp_path / "levels.tif", picture, mpp)
    write_lossless(tmp_path / "alone.tif", picture, mpp, levels=(1,))
    for magnification in (10, 20):
        reads = []
        for name in ("levels.tif", "alone.tif"):
            with Slide(tmp_path / name) as slide:
                reads.append(slide.read(37 * 10 / magnification, 12.0, 224, 150, 10 / magnification).astype(int))
        assert reads[0].std() > 10
        # A level of levels is rounded once more than a mean of all its pixels.
        assert np.abs(reads[0] - reads[1]).max() <= 1


@pytest.mark.slow
def test_10x_tiles_from_another_tool_s_level_are_within_half_a_pixel(shared_data, lite0):
    """The real slide's pyramid was fitted to whole pixels (2,967 to 1,483), which shifts tiles by half a pixel at most."""
    paths = [shared_data / "slides" / f"cmu_small_{name}" for name in ("region.svs", "pyramid.tif")]
    (_, scan), (_, pyramid) = (tiles_of(path, (10,)) for path in paths)
    assert scan.keys() == pyramid.keys()
    with Slide(paths[0]) as slide:
        moved = [slide.read(x * 224 + 0.5, y * 224 + 0.5, 224, 224, 1.0) for _, x, y in scan]
    a, b, c = (np.stack(list(tiles)).astype(int) for tiles in (scan.values(), pyramid.values(), moved))
    assert np.abs(a - b).mean() < np.abs(a - c).mean()
    one, two = (lite0(np.stack(list(tiles.values()))) for tiles in (scan, pyramid))
    one, two = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (one, two))
    similarity = one @ two.T
    assert np.diag(similarity).min() > 0.95
    assert (similarity - 2 * np.eye(len(one))).max() < 0.85  # any other tile of the slide
