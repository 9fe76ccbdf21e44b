"""Tiles and merged regions as GeoJSON: the schema, the file, and regions against a slow count."""

import json
import uuid
import zipfile

import numpy as np
import pytest
import shapely
from qupath_schema import checked_features

import dmml.slides.geojson.writing as writing
from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.regions import merged_regions, region_features
from dmml.slides.geojson.tile_layer import TileClass, TileLayer, cells_of, tile_features
from dmml.slides.geojson.writing import write_features
from dmml.slides.wsi.bounds import Bounds

NAMESPACE = uuid.UUID(int=7)
FRAME = SlideFrame(0.25, Bounds(400, 300, 5000, 4000))
CLASSES = [TileClass("raises", (200, 0, 0)), TileClass("lowers", (0, 0, 200))]


def random_layer(seed, n_columns=14, n_rows=11, share=0.8):
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((n_rows, n_columns)) < share)
    n = len(rows)
    cell = np.stack([columns + 3, rows + 2], axis=1)
    return TileLayer(
        20,
        112.0,
        cell,
        rng.integers(0, 256, (n, 3)).astype(np.uint8),
        CLASSES,
        rng.integers(-1, 2, n),
        "little effect",
        {"contribution": rng.normal(size=n), "attention": rng.random(n)},
        {"cluster": ["tumor"] * n},
    )


def flooded(cells):
    """Groups of cells that are connected by sides."""
    rest, groups = set(cells), []
    while rest:
        group, border = set(), [rest.pop()]
        while border:
            x, y = border.pop()
            group.add((x, y))
            for other in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                if other in rest:
                    rest.remove(other)
                    border.append(other)
        groups.append(frozenset(group))
    return set(groups)


def test_every_tile_is_a_feature_of_the_schema():
    layer = random_layer(0)
    features = checked_features(
        json.dumps(
            {"type": "FeatureCollection", "features": [json.loads(f) for f in tile_features(layer, FRAME, NAMESPACE)]}
        )
    )
    assert len(features) == len(layer)
    for each, (column, row), colour, class_index, i in zip(
        features, layer.cell.tolist(), layer.colour.tolist(), layer.class_index.tolist(), range(len(layer)), strict=True
    ):
        left, top = column * 112 / 0.25 - 400, row * 112 / 0.25 - 300
        ring = each["geometry"]["coordinates"][0]
        assert ring == [[left, top], [left + 448, top], [left + 448, top + 448], [left, top + 448], [left, top]]
        properties = each["properties"]
        assert properties["objectType"] == "tile"
        assert properties["color"] == colour
        assert properties["classification"]["name"] == "20x: " + ["raises", "lowers", "little effect"][class_index]
        assert properties["measurements"]["contribution"] == pytest.approx(
            layer.measurements["contribution"][i], rel=1e-5
        )
        assert properties["metadata"] == {"magnification": "20", "cluster": "tumor"}


def test_a_measurement_that_is_no_number_is_left_out():
    layer = random_layer(1)
    layer.measurements["contribution"][[0, 1]] = np.nan, np.inf
    first, second, third = (json.loads(each) for each in list(tile_features(layer, FRAME, NAMESPACE))[:3])
    assert set(first["properties"]["measurements"]) == set(second["properties"]["measurements"]) == {"attention"}
    assert set(third["properties"]["measurements"]) == {"attention", "contribution"}


def test_ids_are_repeated_by_the_same_answer_alone():
    layer = random_layer(2)
    ids = [
        [json.loads(f)["id"] for each in (tile_features, region_features) for f in each(layer, FRAME, uuid.UUID(int=n))]
        for n in (1, 1, 2)
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])


@pytest.mark.parametrize("seed", range(6))
def test_regions_are_the_connected_tiles_of_a_class(seed):
    layer = random_layer(seed)
    regions = list(merged_regions(layer))
    for class_index in (0, 1):
        cells = [tuple(cell) for cell in layer.cell[layer.class_index == class_index].tolist()]
        of_class = [region for region in regions if region.class_index == class_index]
        assert {frozenset(map(tuple, layer.cell[r.tiles].tolist())) for r in of_class} == flooded(cells)
    for region in regions:
        polygon = shapely.Polygon(region.rings[0], region.rings[1:])
        assert shapely.is_valid(polygon)
        assert polygon.area == len(region.tiles)
        inside = {(x, y) for x in range(20) for y in range(15) if polygon.contains(shapely.Point(x + 0.5, y + 0.5))}
        assert inside == set(map(tuple, layer.cell[region.tiles].tolist()))
        for ring in region.rings:  # no corner is on a straight line
            steps = np.sign(np.diff(np.vstack([ring, ring[1]]), axis=0))
            assert (steps[1:] != steps[:-1]).any(axis=1).all()


def test_a_ring_of_tiles_has_a_hole_and_corners_do_not_connect():
    cell = np.array([(x, y) for y in range(3) for x in range(3) if (x, y) != (1, 1)] + [(3, 3)])
    n = len(cell)
    layer = TileLayer(
        10, 224.0, cell, np.zeros((n, 3), np.uint8), CLASSES, np.zeros(n, int), "none", {"a": np.arange(n) * 1.0}
    )
    ring, single = merged_regions(layer)
    assert [len(each) for each in ring.rings] == [5, 5]
    assert single.tiles.tolist() == [8]
    whole = FRAME.bounds
    features = [
        json.loads(each) for each in region_features(layer, SlideFrame(0.5, Bounds(0, 0, whole.width, 900)), NAMESPACE)
    ]
    measurements = features[0]["properties"]["measurements"]
    assert measurements == {"tiles": 8, "area mm²": pytest.approx(8 * 0.224**2), "mean a": 3.5}
    assert features[0]["properties"]["objectType"] == "annotation"
    assert features[0]["properties"]["isLocked"]
    assert shapely.geometry.shape(features[0]["geometry"]).area == 8 * 448**2


def test_regions_fit_the_schema(tmp_path):
    layer = random_layer(3)
    features = list(region_features(layer, FRAME, NAMESPACE))
    write_features(tmp_path / "regions.geojson", features, len(features))
    assert len(checked_features((tmp_path / "regions.geojson").read_text())) == len(features) > 5


def test_many_shapes_are_zipped_with_the_same_content(tmp_path, monkeypatch):
    features = list(tile_features(random_layer(4), FRAME, NAMESPACE))
    assert writing.MAX_UNZIPPED == 100_000
    monkeypatch.setattr(writing, "MAX_UNZIPPED", len(features))
    plain = write_features(tmp_path / "a" / "tiles.geojson", features, len(features))
    monkeypatch.setattr(writing, "MAX_UNZIPPED", len(features) - 1)
    zipped = [write_features(tmp_path / name / "tiles.geojson", features, len(features)) for name in "bc"]
    assert plain.name == "tiles.geojson"
    assert [path.name for path in zipped] == ["tiles.geojson.zip"] * 2
    with zipfile.ZipFile(zipped[0]) as archive:
        assert archive.namelist() == ["tiles.geojson"]  # QuPath reads entries that end so
        assert archive.read("tiles.geojson") == plain.read_bytes()
    assert zipped[0].read_bytes() == zipped[1].read_bytes()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["tiles.geojson.zip"]


def test_an_interrupted_file_does_not_exist(tmp_path):
    def features():
        yield "{}"
        raise RuntimeError("stop")

    for n in (1, 200_000):
        with pytest.raises(RuntimeError, match="stop"):
            write_features(tmp_path / "x" / "tiles.geojson", features(), n)
    assert list((tmp_path / "x").iterdir()) == []


def test_cells_survive_the_rounding_of_stored_positions():
    cell = np.random.default_rng(0).integers(0, 2000, (1000, 2))
    for side in (112.0, 224.0, 56.0):
        position = ((cell + 0.5) * side).astype(np.float32)
        np.testing.assert_array_equal(cells_of(position, side), cell)
