"""Extraction restricted to regions that were drawn in QuPath."""

import argparse
import csv
import shutil

import numpy as np
import pytest
from drawn_slides import paint_tissue
from leica_slides import write_scn
from qupath_schema import annotation, square, write_annotations

from dmml.commands import extract as extract_command
from dmml.errors import InputError
from dmml.slides.extraction.extract import extract
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore

CORNER = (1000, 700)
"""Corner of the bounds; it lies on no multiple of a tile"""


@pytest.fixture
def scn(tmp_path):
    """Tissue everywhere in a scanned area of 2240 × 1792 pixels of 0.5 µm."""
    picture = paint_tissue(2240, 1792, ((0, 0, 2240, 1792),))
    picture[:60, :60] = 243  # some glass, by which tissue is recognised
    return write_scn(tmp_path / "a.scn", picture, CORNER, (4000, 3000))


def drawn(path, *boxes):
    """Boxes in pixels of the image that QuPath shows."""
    return write_annotations(path, *(annotation(square(*box)) for box in boxes))


def positions(store, slide="a", m=20):
    return set(map(tuple, FeatureStore(store).read(slide, m).position.tolist()))


def test_a_tile_is_kept_if_a_quarter_of_it_is_tissue_within_the_regions(scn, tmp_path):
    boxes = [(400, 300, 1030, 900), (1500, 1000, 1800, 1444)]
    roi = drawn(tmp_path / "roi.geojson", *boxes)
    with Slide(scn) as slide:
        whole = lay_out(slide, SlideRequest(scn, (10, 20)))
        inside = lay_out(slide, SlideRequest(scn, (10, 20), roi=roi))
    expected = set()
    for column, row in whole.tiles[20].cell.tolist():
        left, top = column * 224 - CORNER[0], row * 224 - CORNER[1]
        area = sum(
            max(0, min(r, left + 224) - max(x, left)) * max(0, min(b, top + 224) - max(y, top)) for x, y, r, b in boxes
        )
        share = area / 224**2
        assert abs(share - 0.25) > 0.03  # pixels of the mask are 16 pixels of the slide wide
        if share >= 0.25:
            expected.add((column, row))
    assert set(map(tuple, inside.tiles[20].cell.tolist())) == expected
    assert 5 < len(expected) < len(whole.tiles[20]) / 2
    assert set(map(tuple, inside.tiles[10].cell.tolist())) == {(x // 2, y // 2) for x, y in expected}
    area = sum((r - x) * (b - y) for x, y, r, b in boxes) * 0.5**2 / 1e6
    assert inside.attributes["tissue_mm2"] == pytest.approx(area, rel=0.03)


def test_tiles_within_the_regions_have_the_features_of_the_whole_slide(scn, tmp_path, small_encoder):
    roi = drawn(tmp_path / "roi.geojson", (400, 300, 1030, 900))
    extract([scn], tmp_path / "whole.zarr", small_encoder)
    extract([scn], tmp_path / "part.zarr", small_encoder, roi=roi)
    whole, part = (FeatureStore(tmp_path / f"{name}.zarr") for name in ("whole", "part"))
    for m in (10, 20):
        by_position = dict(zip(map(tuple, (bag := whole.read("a", m)).position.tolist()), bag.features, strict=True))
        few = part.read("a", m)
        assert 0 < len(few.features) < len(by_position)
        for position, features in zip(few.position.tolist(), few.features, strict=True):
            np.testing.assert_allclose(features, by_position[tuple(position)], atol=2e-3, rtol=2e-3)
    assert whole.slide_attributes("a")["bounds"] == [1000, 700, 2240, 1792]
    record = part.slide_attributes("a")["roi"]
    assert record["file"] == "roi.geojson"
    assert len(record["sha256"]) == 64
    assert part.attributes["extraction"]["roi"]
    assert "roi" not in whole.attributes["extraction"]


def test_a_store_is_continued_with_the_same_regions_alone(scn, tmp_path, small_encoder):
    out, roi = tmp_path / "a.zarr", drawn(tmp_path / "roi.geojson", (400, 300, 1030, 900))
    extract([scn], out, small_encoder, roi=roi)
    first = positions(out)
    assert extract([scn], out, small_encoder, roi=roi).skipped == ["a"]
    with pytest.raises(InputError, match=r"extraction\.roi is regions of each slide in the store and nothing now"):
        extract([scn], out, small_encoder)
    drawn(roi, (400, 300, 1500, 900))
    with pytest.raises(InputError, match="has changed since or is another; give --overwrite"):
        extract([scn], out, small_encoder, roi=roi)
    assert positions(out) == first
    assert extract([scn], out, small_encoder, roi=roi, overwrite=True).written == ["a"]
    assert positions(out) > first
    extract([scn], tmp_path / "whole.zarr", small_encoder)
    with pytest.raises(InputError, match=r"extraction\.roi is nothing in the store"):
        extract([scn], tmp_path / "whole.zarr", small_encoder, roi=roi)


def test_slides_without_usable_regions_are_listed_and_the_others_extracted(scn, tmp_path, small_encoder):
    folder = tmp_path / "rois"
    folder.mkdir()
    for name in "bcde":
        shutil.copy(scn, tmp_path / f"{name}.scn")
    drawn(folder / "a.geojson", (400, 300, 1030, 900))
    drawn(folder / "b.geojson", (90_000, 90_000, 90_500, 90_500))
    (folder / "c.geojson").write_text("{")
    drawn(folder / "d.geojson", (450, 350, 460, 360))
    slides = [tmp_path / f"{name}.scn" for name in "abcde"]
    result = extract(slides, tmp_path / "x.zarr", small_encoder, roi=folder)
    assert result.written == ["a"]
    with open(tmp_path / "failures.csv", newline="", encoding="utf-8") as file:
        rows = {row["file"][-5:-4]: (row["state"], row["reason"]) for row in csv.DictReader(file)}
    states = {name: state for name, (state, _) in rows.items()}
    assert states == {"b": "roi_outside", "c": "bad_roi", "d": "no_tissue", "e": "no_roi"}
    assert "within the regions of" in rows["d"][1]
    assert all("\n" not in reason for _, reason in rows.values())


def test_one_file_for_several_slides_is_refused_before_anything_is_written(scn, tmp_path, small_encoder):
    shutil.copy(scn, tmp_path / "b.scn")
    roi = drawn(tmp_path / "roi.geojson", (400, 300, 1030, 900))
    with pytest.raises(InputError, match=r"holds the regions of one slide, but there are 2 slides; name a folder"):
        extract([scn, tmp_path / "b.scn"], tmp_path / "x.zarr", small_encoder, roi=roi)
    assert not (tmp_path / "x.zarr").exists()


def test_the_command_takes_the_option_in_several_processes(scn, tmp_path):
    parser = argparse.ArgumentParser()
    extract_command.add_arguments(parser)
    roi = drawn(tmp_path / "roi.geojson", (400, 300, 1030, 900))
    argv = [scn, "--out", tmp_path / "x.zarr", "--roi", roi, "--readers", 1, "--backend", "torch"]
    extract_command.run(parser.parse_args([str(word) for word in argv]))
    with Slide(scn) as slide:
        layout = lay_out(slide, SlideRequest(scn, (10, 20), roi=roi))
    assert positions(tmp_path / "x.zarr") == set(map(tuple, layout.tiles[20].position.tolist()))


def test_a_missing_path_is_refused_at_once(scn, tmp_path):
    with pytest.raises(InputError, match=r"--roi .*none\.geojson: no such file or folder"):
        extract([scn], tmp_path / "x.zarr", roi=tmp_path / "none.geojson")
