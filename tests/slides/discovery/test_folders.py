"""Plain images in folders: slides if their scale is given, otherwise skipped by name; pictures by dmml are ignored."""

import csv
import os
import shutil

import numpy as np
import pytest
from drawn_slides import paint_tissue
from PIL import Image

from dmml.errors import InputError
from dmml.experiment.predict_slide.input import check_input
from dmml.slides.discovery.find import describe_unscaled, find_slides
from dmml.slides.extraction.extract import extract
from dmml.store import FeatureStore

PICTURE = paint_tissue(448, 448, ((64, 64, 320, 320),))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "deep/c.jpeg", "deep/d.bmp"):
        Image.fromarray(PICTURE).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    return tmp_path / "in"


def states(path="failures.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return {os.path.basename(row["file"]): row["state"] for row in csv.DictReader(file)}


def test_a_folder_of_images_is_extracted_if_their_scale_is_given(folder, small_encoder):
    result = extract(["in"], "f.zarr", small_encoder, mpp=0.5)
    assert result.written == ["a", "b", "c", "d"]
    assert [path.name for path in result.ignored] == ["notes.txt"]
    single = extract(["in/a.jpg"], "g.zarr", small_encoder, mpp=0.5)
    assert single.written == ["a"]
    first, second = (FeatureStore(f"{name}.zarr").read("a", 20) for name in "fg")
    np.testing.assert_array_equal(first.features, second.features)
    assert FeatureStore("f.zarr").slide_attributes("a")["mpp_source"] == "--mpp"


def test_a_manifest_gives_images_their_scale_one_by_one(folder, make_slide, small_encoder, tmp_path):
    make_slide("in/s.tif", size=(448, 448), boxes=((64, 64, 320, 320),), levels=(1,))
    (tmp_path / "m.csv").write_text("slide_id,mpp\na.jpg,0.5\nb,0.4\nc.jpeg,\nz.png,0.5\n")
    result = extract(["in"], "f.zarr", small_encoder, manifest="m.csv")
    assert result.written == ["a", "b"]
    assert [path.name for path in result.unscaled] == ["c.jpeg"], "listed, without a scale"
    assert result.missing == ["z"], "and d is not listed"
    store = FeatureStore("f.zarr")
    assert [store.slide_attributes(name)["mpp"] for name in "ab"] == [0.5, 0.4]
    (tmp_path / "m.csv").write_text("slide_id\nc.jpeg\n")
    with pytest.raises(InputError, match=r"can be used: 1 plain image skipped, .*: c\.jpeg; give it with --mpp"):
        extract(["in"], "f.zarr", small_encoder, manifest="m.csv")


def test_rows_that_give_one_image_two_scales_are_refused(folder, small_encoder, tmp_path):
    (tmp_path / "m.csv").write_text("slide_id,mpp\na,\na.jpg,0.5\na,0.50\n")
    assert extract(["in"], "f.zarr", small_encoder, manifest="m.csv").written == ["a"]
    (tmp_path / "m.csv").write_text("slide_id,mpp\na,0.5\na.jpg,\na,0.25\n")
    with pytest.raises(InputError, match=r"m\.csv, line 4: a has mpp 0\.25 here and 0\.5 above; remove one"):
        extract(["in"], "g.zarr", small_encoder, manifest="m.csv")


def test_images_missing_from_the_manifest_are_ignored(folder, make_slide, small_encoder, tmp_path):
    """Whether the manifest lists none of the images without a scale, or one of them in addition to slides."""
    make_slide("in/s.tif", size=(448, 448), boxes=((64, 64, 320, 320),), levels=(1,))
    (tmp_path / "m.csv").write_text("slide_id,mpp\na,0.5\ns,\nz,\n")
    result = extract(["in"], "f.zarr", small_encoder, manifest="m.csv")
    assert (result.written, result.unscaled, result.missing) == (["a", "s"], [], ["z"])
    (tmp_path / "m.csv").write_text("slide_id\nd\n")
    with pytest.raises(InputError, match=r"can be used: 1 plain image skipped, .*: d\.bmp; give it with --mpp"):
        extract(["in"], "g.zarr", small_encoder, manifest="m.csv")


def test_images_without_a_scale_are_skipped_by_name(folder, make_slide, small_encoder, capsys):
    from dmml.commands.extract import _report

    with pytest.raises(InputError, match=r"in: no slide found \(4 plain images skipped, .*a\.jpg, b\.PNG.*--mpp"):
        extract(["in"], "f.zarr", small_encoder)
    make_slide("in/s.tif", size=(448, 448), boxes=((64, 64, 320, 320),), levels=(1,))
    result = extract(["in"], "f.zarr", small_encoder)
    assert (result.written, result.failures) == (["s"], [])
    _report("f.zarr", result)
    printed = capsys.readouterr().out
    assert "4 plain images skipped, since nothing states the µm per pixel: a.jpg, b.PNG, c.jpeg, …" in printed
    assert "give it with --mpp, or in a manifest (column mpp)" in printed
    assert "ignored 1 files" in printed
    files = find_slides(["in", "in/a.jpg", "in/deep"])
    assert [path.name for path in files.slides] == ["s.tif", "a.jpg"], "one that is named itself is a slide"
    assert [path.name for path in files.unscaled] == ["b.PNG", "c.jpeg", "d.bmp"]


def test_two_images_of_the_same_name_are_refused(folder, small_encoder):
    shutil.copy(folder / "a.jpg", folder / "b.jpg")
    result = extract(["in"], "f.zarr", small_encoder, mpp=0.5)
    assert result.written == ["a", "c", "d"]
    assert states() == dict.fromkeys(("b.PNG", "b.jpg"), "duplicate_stem")


def test_an_image_with_the_name_of_a_slide_counts_as_its_thumbnail(folder, make_slide):
    """Many tools put `S1.png`, a thumbnail, next to `S1.svs` or into a folder of thumbnails."""
    make_slide("in/a.tif", size=(448, 448), boxes=((64, 64, 320, 320),), levels=(1,))
    make_slide("in/d.tif", size=(448, 448), boxes=((64, 64, 320, 320),), levels=(1,))
    files = find_slides(["in"], lambda path: True)
    assert {path.name for path in files.slides} == {"a.tif", "b.PNG", "c.jpeg", "d.tif"}
    assert {path.name for path in files.ignored} == {"a.jpg", "d.bmp", "notes.txt"}
    assert "a.jpg" in {path.name for path in find_slides(["in", "in/a.jpg"], lambda path: True).slides}


def test_pictures_written_by_dmml_are_not_slides(folder, small_encoder):
    """Answers of predict-slide, runs with their plots, simulated labels, and the store with the files next to it."""
    for place, mark in (("answers/S1", "prediction.json"), ("run", "provenance.json"), ("truth", "labels.json")):
        (folder / place / "plots").mkdir(parents=True)
        (folder / place / mark).write_text("{}")
        for name in (f"{place}/attention.png", f"{place}/plots/curve.png"):
            Image.fromarray(PICTURE).save(folder / name)
    for _ in range(2):
        result = extract(["in"], "in/f.zarr", small_encoder, mpp=0.5)
        assert sorted(result.written + result.skipped) == ["a", "b", "c", "d"]
        assert result.failures == []
    assert {path.name for path in result.ignored} >= {"attention.png", "curve.png", "qc.html"}
    Image.fromarray(PICTURE).save(folder / "f.zarr" / "slides" / "picture.png")
    assert not any("f.zarr/" in str(path) for path in find_slides(["in"], lambda path: True).slides)
    (folder / "run" / "real.svs").write_bytes(b"x")
    assert [path.name for path in find_slides([folder / "run"]).slides] == ["real.svs"], (
        "a slide is one wherever it lies"
    )


def test_predict_slide_treats_images_in_folders_alike(folder):
    assert [case.name for case in check_input(["in"], "out", mpp=0.5)] == ["a", "b", "c", "d"]
    with pytest.raises(InputError, match=r"no slide found \(4 plain images skipped"):
        check_input(["in"], "out")
    shutil.copy(folder / "a.jpg", folder / "a.png")
    with pytest.raises(InputError, match=r"a\.jpg, .*a\.png have the same name"):
        check_input(["in"], "out", mpp=0.5)
    assert describe_unscaled([]) == ""
