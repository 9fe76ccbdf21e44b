"""Regions that a user drew in QuPath: the forms of the file, what is refused, and which part of a mask they cover."""

import itertools
import json

import numpy as np
import pytest
from drawn_slides import paint_tissue
from leica_slides import write_scn
from qupath_schema import annotation, square, write_annotations

from dmml.errors import InputError
from dmml.slides.geojson.reading import read_areas
from dmml.slides.geojson.roi import Roi, check_one_slide, check_roi, read_roi, roi_file, roi_mask
from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.slide import Slide

OUTER, HOLE = square(10, 20, 110, 220), square(30, 40, 60, 90)
HOLED = annotation(OUTER, HOLE)
COLLECTION = {"type": "FeatureCollection", "features": [HOLED]}
MULTI = {
    "type": "Feature",
    "geometry": {"type": "MultiPolygon", "coordinates": [[OUTER, HOLE], [square(300, 0, 310, 10)]]},
    "properties": {"objectType": "annotation", "name": "two parts"},
}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "area"),
    [
        (COLLECTION, 20_000 - 1500),
        ([HOLED], 20_000 - 1500),
        (HOLED, 20_000 - 1500),
        (HOLED["geometry"], 20_000 - 1500),
        (MULTI, 20_000 - 1500 + 100),
        ([HOLED, annotation(HOLE)], 20_000),
        ([HOLED, annotation(square(0, 0, 500, 500), kind="tile"), annotation(OUTER, kind="cell")], 20_000 - 1500),
        ({"type": "GeometryCollection", "geometries": [HOLED["geometry"]]}, 20_000 - 1500),
        ([annotation(OUTER), annotation(OUTER)], 20_000),
        (annotation([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]), 50),  # a line that crosses itself
    ],
)
def test_every_form_that_qupath_exports_is_read(tmp_path, content, area):
    assert read_areas(write(tmp_path / "roi.geojson", content)).area == pytest.approx(area)


def test_a_feature_without_a_type_is_an_annotation_as_in_qupath(tmp_path):
    feature = annotation(OUTER)
    for properties in (None, {}, {"name": "x"}):
        feature["properties"] = properties
        assert read_areas(write(tmp_path / "roi.geojson", feature)).area == 20_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "is not GeoJSON"),
        (b"\xff\xfe\x00", "is not GeoJSON"),
        (b'{"a": 1}', "is JSON, but not GeoJSON"),
        (b"3", "is JSON, but not GeoJSON"),
        (b"[[]]", "it is empty"),
        (b'{"type": "FeatureCollection", "features": []}', "it is empty"),
        (b'{"type": "Feature", "properties": {}}', "without a geometry"),
        (json.dumps([annotation(OUTER, kind="tile")] * 3).encode(), "3 of type tile"),
        (b'{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}', "1 of type linestring"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1], [0, 0]]]}', "shape 1 is no polygon"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "shape 1 is no polygon"),
        (b'{"type": "Polygon"}', "shape 1 is no polygon"),
        (b'{"type": "Polygon", "coordinates": []}', "without an area"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}', "without an area"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 1], [2, 0], [0, 0]]]}', "is not GeoJSON"),
        (b"[" * 100_000, "is not GeoJSON"),
    ],
)
def test_a_file_without_regions_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "roi.geojson"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_areas(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def even_odd(rings, x, y):
    """Whether a point is inside, by counting the edges to its right."""
    crossings = 0
    for ring in rings:
        for (x0, y0), (x1, y1) in itertools.pairwise(ring):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                crossings += 1
    return crossings % 2 == 1


def test_the_mask_holds_the_pixels_whose_centres_are_inside(tmp_path):
    rng = np.random.default_rng(5)
    angle = np.sort(rng.random(30)) * 2 * np.pi
    radius = rng.uniform(200, 380, (30, 1))
    star = (500, 400) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring = [*star.tolist(), star[0].tolist()]
    hole = square(480.3, 380.1, 520.7, 430.9)
    area = read_areas(write(tmp_path / "roi.geojson", annotation(ring, hole)))
    step = 13.7
    mask = roi_mask(Roi(tmp_path, "", area), (60, 80), step)
    expected = [[even_odd([ring, hole], (x + 0.5) * step, (y + 0.5) * step) for x in range(80)] for y in range(60)]
    np.testing.assert_array_equal(mask, np.array(expected))
    assert 0 < mask.sum() < mask.size


@pytest.fixture
def scn(tmp_path):
    return write_scn(tmp_path / "a.scn", paint_tissue(1024, 768, ((0, 0, 1024, 768),)), (3001, 2003), (6000, 4000))


def test_coordinates_count_from_the_corner_of_the_bounds(scn, tmp_path):
    with Slide(scn) as slide:
        roi = read_roi(write_annotations(tmp_path / "r.geojson", annotation(square(0, 0, 100, 50))), slide)
    assert roi.area.bounds == (3001, 2003, 3101, 2053)


@pytest.mark.parametrize("box", [(-3000, -2000, -100, -100), (50_000, 0, 60_000, 100), (0, 4000, 10, 4010)])
def test_regions_outside_the_slide_are_refused(scn, tmp_path, box):
    path = write_annotations(tmp_path / "r.geojson", annotation(square(*box)))
    with Slide(scn) as slide:
        if box[0] < 0:  # outside what QuPath shows, but glass of the slide
            assert read_roi(path, slide).area.area > 0
            return
        with pytest.raises(SlideError, match="outside the slide of 1,024 × 768 pixels") as caught:
            read_roi(path, slide)
    assert caught.value.state == "roi_outside"


def test_a_folder_holds_a_file_for_each_slide(tmp_path):
    from pathlib import Path

    folder = tmp_path / "rois"
    folder.mkdir()
    with pytest.raises(InputError, match=r"holds no file that ends in \.geojson"):
        check_roi(folder)
    for name in ("a.geojson", "b.svs.geojson"):
        write_annotations(folder / name, HOLED)
    check_roi(folder)
    assert roi_file(folder, Path("x/a.svs")).name == "a.geojson"
    assert roi_file(folder, Path("x/b.svs")).name == "b.svs.geojson"
    with pytest.raises(SlideError, match=r"holds no c\.geojson") as caught:
        roi_file(folder, Path("x/c.svs"))
    assert caught.value.state == "no_roi"
    check_one_slide(folder, 5)
    check_one_slide(folder / "a.geojson", 1)
    with pytest.raises(InputError, match="there are 2 slides"):
        check_one_slide(folder / "a.geojson", 2)
    with pytest.raises(InputError, match="no such file or folder"):
        check_roi(tmp_path / "none")
