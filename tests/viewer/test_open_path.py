"""Answers, runs and stores: their slides are found and checked, and their tiles lie in the slide's pixels."""

import json
import shutil

import numpy as np
import pytest
from viewed_answers import CORNER, GLASS, MARKED, SIDE, SIZE, write_answer, write_marked_slide

from dmml.errors import InputError
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore, SlideFeatures
from dmml.viewer.open_path import open_path
from dmml.viewer.page_data import PageData

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_marked_slide(tmp_path_factory.mktemp("scans") / "s17.scn")


@pytest.fixture(scope="module")
def layout(slide):
    with Slide(slide) as opened:
        return lay_out(opened, SlideRequest(slide, (10, 20)))


@pytest.fixture
def answer(slide, tmp_path):
    return write_answer(tmp_path / "answers" / "s17", slide)


@pytest.fixture(scope="module")
def store(layout, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "F.zarr"
    created = FeatureStore.create(path, {"name": "e", "dim": 4}, {10: 1.0, 20: 0.5})
    bags = {
        m: SlideFeatures(np.zeros((len(tiles), 4), np.float16), tiles.position, tiles.parent)
        for m, tiles in layout.tiles.items()
    }
    created.write("s17", bags, layout.attributes, layout.thumbnail)
    return path


def write_run(folder, layout, with_file=True):
    """The maps of one patient, as `dmml test` writes them."""
    test = folder / "test" / "held_out"
    test.mkdir(parents=True)
    (test / "predictions.csv").write_text("patient_id,risk\nP1,0.5\n")
    scale = {
        "slide_id": "s17",
        "thumbnail_mpp": layout.attributes["thumbnail_mpp"],
        "tile_um": {"10": 224.0, "20": 112.0},
    }
    meta = {"patient_id": "P1", "verdict": "right: 100 % of 3 pairs in order", "deep_share": 0.5, **scale}
    if with_file:
        meta["file"] = layout.attributes
    arrays = {"thumbnail_0": layout.thumbnail}
    for m, tiles in layout.tiles.items():
        n = len(tiles)
        arrays[f"position_0_{m}"] = tiles.position
        arrays[f"contribution_0_{m}"] = np.linspace(-1, 1, n, dtype=np.float32)
        arrays[f"attention_0_{m}_tumor"] = np.full(n, 1 / n, np.float32)
        arrays[f"attention_0_{m}_tme"] = np.full(n, 1 / n, np.float32)
    np.savez_compressed(test / "attention.npz", meta=np.array(json.dumps([meta])), **arrays)
    return folder


def columns_of(path, magnification, *slides, thumbnails=False):
    """The slide's JSON and its numbers, (columns, N)."""
    data = PageData(open_path(str(path), slides, thumbnails))
    described = data.slide(0)
    n = next(each["n"] for each in described["magnifications"] if each["magnification"] == magnification)
    numbers = np.frombuffer(data.numbers(0, magnification), "<f4").reshape(-1, n)
    data.close()
    return described, numbers


@pytest.mark.parametrize("kind", ["answer", "run", "run of an earlier version", "store"])
@pytest.mark.parametrize("thumbnails", [False, True])
def test_tiles_lie_in_the_pixels_that_the_slide_shows(request, kind, thumbnails, slide, layout, tmp_path):
    if kind.startswith("run"):
        path = write_run(tmp_path / "run", layout, with_file=kind == "run")
    else:
        path = request.getfixturevalue(kind)
    described, numbers = columns_of(path, 20, *([] if thumbnails else [slide]), thumbnails=thumbnails)
    cell, corner = layout.tiles[20].cell, CORNER
    if kind == "run of an earlier version" and thumbnails:  # nothing states the bounds, so the whole glass is shown
        mpp = layout.attributes["thumbnail_mpp"]
        assert (described["width"], described["height"]) == tuple(np.ceil(np.array(GLASS) * 0.5 / mpp).astype(int))
        expected, side = cell * 112 / mpp, 112 / mpp
    else:
        assert (described["width"], described["height"]) == pytest.approx(SIZE, abs=0 if thumbnails else 1)
        expected, side = cell * SIDE - np.array(corner), SIDE
    np.testing.assert_allclose(numbers[:2].T, expected, atol=0.02)
    np.testing.assert_array_equal(numbers[2:4].T, cell)
    assert next(e["side"] for e in described["magnifications"] if e["magnification"] == 20) == pytest.approx(side)
    assert MARKED in set(map(tuple, numbers[2:4].T.astype(int).tolist()))


def test_attention_of_a_run_is_in_multiples_of_the_average_tile(layout, tmp_path):
    described, numbers = columns_of(write_run(tmp_path / "run", layout), 10)
    assert [e["name"] for e in described["magnifications"][0]["measurements"]] == [
        "contribution, all parts",
        "attention, tumor",
        "attention, TME",
    ]
    np.testing.assert_allclose(numbers[6:], 1, rtol=1e-5)
    assert described["lines"] == ["Prediction right: 100 % of 3 pairs in order"]


def test_values_of_an_answer_are_those_of_its_file(answer):
    described, numbers = columns_of(answer, 20)
    features = json.loads((answer / "tiles.geojson").read_text())["features"]
    of_20x = [f["properties"] for f in features if f["properties"]["metadata"]["magnification"] == "20"]
    expected = [f["measurements"]["contribution, all parts"] for f in of_20x]
    np.testing.assert_allclose(numbers[5], expected, rtol=1e-6)
    fine = next(e for e in described["magnifications"] if e["magnification"] == 20)
    assert {e["name"]: e["n"] for e in fine["classes"]} == {"raises the risk": 1, "lowers the risk": len(of_20x) - 1}
    assert fine["measurements"][0]["limit"] == pytest.approx(np.percentile(np.abs(expected), 99))


def test_a_zipped_file_is_read_as_well(answer):
    import zipfile

    plain = columns_of(answer, 20)[1]
    with zipfile.ZipFile(answer / "tiles.geojson.zip", "w") as archive:
        archive.write(answer / "tiles.geojson", "tiles.geojson")
    (answer / "tiles.geojson").unlink()
    np.testing.assert_array_equal(columns_of(answer, 20)[1], plain)


def test_several_answers_are_a_list(answer, slide):
    shutil.copytree(answer, answer.parent / "another")
    collection = open_path(str(answer.parent))
    assert [each.path for each in collection.slides] == [slide, slide]
    assert collection.title == "Answers answers"


def test_the_slide_of_an_answer_is_where_the_command_read_it(answer, slide):
    assert open_path(str(answer)).slides[0].path == slide
    assert open_path(str(answer), thumbnails=True).slides[0].path is None


@pytest.mark.parametrize("how", ["folder", "renamed"])
def test_a_slide_that_was_moved_is_found_by_slides(answer, slide, tmp_path, how):
    (tmp_path / "moved").mkdir()
    copy = tmp_path / "moved" / ("s17.scn" if how == "folder" else "renamed.scn")
    shutil.copy(slide, copy)
    assert open_path(str(answer), [copy.parent if how == "folder" else copy]).slides[0].path == copy


@pytest.mark.parametrize("kind", ["answer", "run", "store"])
def test_another_file_is_refused_in_one_line(request, kind, slide, layout, tmp_path):
    path = write_run(tmp_path / "run", layout) if kind == "run" else request.getfixturevalue(kind)
    wrong = tmp_path / "other" / "s17.scn"
    wrong.parent.mkdir()
    content = bytearray(slide.read_bytes())
    content[len(content) // 2] ^= 1
    wrong.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match="is not the file that was read as slide 's17'") as error:
        open_path(str(path), [wrong.parent])
    assert "\n" not in str(error.value)


def test_without_file_and_thumbnail_tiles_lie_on_paper(answer):
    (answer / "thumbnail.jpg").unlink()
    described, _ = columns_of(answer, 20, thumbnails=True)
    assert "tiles lie on paper" in described["note"]
    assert (described["width"], described["height"]) == SIZE


def test_what_cannot_be_viewed_is_refused(answer, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_path(str(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds nothing to view"):
        open_path(str(tmp_path / "empty"))
    (answer / "tiles.geojson").write_text('{"type":"FeatureCollection","features":[\n{"type":"Feature",oops}\n]}')
    with pytest.raises(InputError, match="cannot be read as tiles of dmml"):
        columns_of(answer, 20)
    (answer / "tiles.geojson").unlink()
    with pytest.raises(InputError, match=r"tiles\.geojson: does not exist"):
        open_path(str(answer))
    FeatureStore.create(tmp_path / "V.zarr", {"name": "e", "dim": 4}, {20: 0.5}, content="vectors")
    with pytest.raises(InputError, match="holds vectors of whole slides"):
        open_path(str(tmp_path / "V.zarr"))
