"""Polygons, overlays and tiles show the same place in the image that QuPath shows, also on a slide with bounds."""

import json
import uuid

import numpy as np
import openslide
import pytest
from drawn_slides import paint_tissue
from leica_slides import write_scn

import dmml.slides.ome_tiff as ome_tiff
from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.tile_layer import TileClass, TileLayer, tile_features
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.wsi.mpp import pixel_um
from dmml.slides.wsi.slide import Slide

CORNER, GLASS = (5001, 3003), (9000, 7000)
NAMESPACE = uuid.UUID(int=0)


def scanned(tmp_path, mpp=0.5):
    """A slide whose tissue fills the far corner of its scanned area, which begins on no multiple of a tile."""
    picture = paint_tissue(2048, 1536, ((100, 100, 400, 300), (1200, 900, 848, 636)))
    return write_scn(tmp_path / "slide.scn", picture, CORNER, GLASS, mpp)


def layers_of(path):
    """Tiles of the slide in different colours, and the image that QuPath shows of it."""
    with Slide(path) as slide:
        layout = lay_out(slide, SlideRequest(path, (10, 20)))
    layers = []
    for m, tiles in layout.tiles.items():
        n = np.arange(len(tiles))
        colour = np.stack([n % 250, 40 + n // 250, np.full(len(n), m)], axis=1).astype(np.uint8)
        layers.append(
            TileLayer(m, tile_um(m, DEFAULT_TILE_PX), tiles.cell, colour, [TileClass("all", (1, 2, 3))], n * 0, "none")
        )
    return layers, SlideFrame.of(layout.attributes)


def corners(layer, frame):
    """(N, 4) left, top, right, bottom of the polygons."""
    rings = [json.loads(each)["geometry"]["coordinates"][0] for each in tile_features(layer, frame, NAMESPACE)]
    return np.array([(*np.min(ring, axis=0), *np.max(ring, axis=0)) for ring in rings])


def qupath_image(path):
    """What QuPath shows: the region of the bounds."""
    with openslide.OpenSlide(path) as slide:
        x, y, w, h = (int(slide.properties[f"openslide.bounds-{key}"]) for key in ("x", "y", "width", "height"))
        assert (x, y) == CORNER
        return np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB"))


def overlay_of(path, layer, frame):
    import tifffile

    ome_tiff.write_ome_tiff(path, layer, frame, NAMESPACE)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        return [level.asarray() for level in tiff.series[0].levels], tiff.ome_metadata


def test_the_pixels_in_a_polygon_are_those_that_the_model_reads(tmp_path):
    path = scanned(tmp_path)
    layers, frame = layers_of(path)
    image, fine = qupath_image(path), layers[1]
    n_compared = 0
    with Slide(path) as slide:
        for (column, row), box in zip(fine.cell.tolist(), corners(fine, frame), strict=True):
            left, top, right, bottom = box.astype(int)
            assert (box == box.astype(int)).all()  # 112 µm are 224 pixels of 0.5 µm
            if left < 0 or top < 0 or right > image.shape[1] or bottom > image.shape[0]:
                continue
            tile = slide.read(column * 112.0, row * 112.0, DEFAULT_TILE_PX, DEFAULT_TILE_PX, pixel_um(20))
            np.testing.assert_array_equal(tile, image[top:bottom, left:right])
            n_compared += 1
    assert n_compared > 10
    far = corners(fine, frame)[:, 2:].max(axis=0)
    assert (np.array([2048, 1536]) - far < 224).all()  # the far corner is among them


@pytest.mark.parametrize("mpp", [0.5, 0.4973])
def test_the_overlay_has_the_colour_of_each_tile_within_its_polygon(tmp_path, mpp):
    layers, frame = layers_of(scanned(tmp_path, mpp))
    for layer in layers:
        levels, metadata = overlay_of(tmp_path / f"{layer.magnification}.ome.tif", layer, frame)
        assert levels[0].shape == (1536, 2048, 3)
        assert f'PhysicalSizeX="{frame.mpp}"' in metadata
        assert [level.shape[:2] for level in levels[1:]] == [(768, 1024), (384, 512)]
        for box, colour in zip(corners(layer, frame), layer.colour, strict=True):
            same = (levels[0] == colour).all(axis=2)
            expected = [max(box[0], 0), max(box[1], 0), min(box[2], 2048), min(box[3], 1536)]
            rows, columns = np.flatnonzero(same.any(axis=1)), np.flatnonzero(same.any(axis=0))
            found_box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(np.subtract(found_box, expected)).max() <= 0.5 + 0.01  # coordinates have two decimals
        covered = (levels[0] != 255).any(axis=2).sum()
        areas = [(min(r, 2048) - max(left, 0)) * (min(b, 1536) - max(t, 0)) for left, t, r, b in corners(layer, frame)]
        assert covered == pytest.approx(sum(areas), rel=0.01)


def test_a_reduced_overlay_agrees_to_one_of_its_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(ome_tiff, "MAX_PIXELS", 300_000)
    layers, frame = layers_of(scanned(tmp_path))
    assert ome_tiff.reduction(frame) == 4
    levels, metadata = overlay_of(tmp_path / "x.ome.tif", layers[1], frame)
    assert levels[0].shape == (384, 512, 3)
    assert 'PhysicalSizeX="2.0"' in metadata
    for box, colour in zip(corners(layers[1], frame) / 4, layers[1].colour, strict=True):
        rows, columns = np.nonzero((levels[0] == colour).all(axis=2))
        expected = [max(box[0], 0), max(box[1], 0), min(box[2], 512), min(box[3], 384)]
        assert np.abs(np.subtract([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], expected)).max() <= 1


@pytest.mark.parametrize(
    ("size", "expected"), [((8000, 8000), 1), ((8001, 8000), 2), ((100_000, 80_000), 16), ((16_000, 16_000), 2)]
)
def test_an_overlay_is_reduced_no_more_than_its_limit_demands(size, expected):
    from dmml.slides.wsi.bounds import Bounds

    assert ome_tiff.reduction(SlideFrame(0.25, Bounds(0, 0, *size))) == expected
    assert np.prod(size) / expected**2 <= ome_tiff.MAX_PIXELS


def test_the_same_answer_gives_the_same_file_to_the_byte(tmp_path):
    layers, frame = layers_of(scanned(tmp_path))
    for name in "ab":
        ome_tiff.write_ome_tiff(tmp_path / name / "x.ome.tif", layers[0], frame, NAMESPACE)
    assert (tmp_path / "a" / "x.ome.tif").read_bytes() == (tmp_path / "b" / "x.ome.tif").read_bytes()


def test_a_slide_without_bounds_is_shown_whole(tmp_path):
    from drawn_slides import write_slide

    path = write_slide(tmp_path / "plain.tif", paint_tissue(1792, 1344, ((224, 224, 896, 672),)))
    layers, frame = layers_of(path)
    assert frame.bounds.plain == [0, 0, 1792, 1344]
    np.testing.assert_array_equal(corners(layers[1], frame)[:, :2], layers[1].cell * 224)


@pytest.mark.parametrize("missing", ["x", "width"])
def test_incomplete_bounds_count_as_none_as_in_qupath(missing):
    from dmml.slides.wsi.bounds import bounds_of

    properties = {f"openslide.bounds-{key}": "7" for key in ("x", "y", "width", "height")}
    assert bounds_of(properties, (50, 40)).plain == [7, 7, 7, 7]
    properties.pop(f"openslide.bounds-{missing}")
    assert bounds_of(properties, (50, 40)).plain == [0, 0, 50, 40]
