"""The files for QuPath of an answer, as a user types it: tiles, regions and overlays, and a region that comes back."""

from __future__ import annotations

import json
import shutil

import numpy as np
import openslide
import pytest
import shapely
import tifffile
from drawn_slides import paint_tissue
from leica_slides import write_scn
from qupath_schema import annotation, checked_features, square, write_annotations

from dmml.__main__ import main

pytestmark = pytest.mark.slow
PATIENT, DATE = "DOE JANE 1961", "2011-05-04T10:21:33.000Z"


def predict(*argv) -> int:
    return main(["predict-slide", *[str(word) for word in argv]])


def tiles_of(folder, name="tiles.geojson"):
    return checked_features((folder / name).read_text())


@pytest.fixture(scope="module")
def scn(tmp_path_factory):
    """A slide with bounds whose metadata hold a name, a date and a label."""
    picture = paint_tissue(2240, 1792, ((300, 200, 1500, 1300),))
    path = tmp_path_factory.mktemp("SCANS_OF_JANE") / "s17.scn"
    return write_scn(path, picture, (1000, 700), (4000, 3000), patient=PATIENT, date=DATE)


@pytest.fixture(scope="module")
def exported(models, scn, tmp_path_factory):
    """The answer on that slide, with all files."""
    out = tmp_path_factory.mktemp("exported")
    argv = (scn, "--ckpt_path", models.best("student"), "--out", out, "--regions", "--overlay", "ome-tiff")
    assert predict(*argv) == 0
    return out / "s17"


def test_every_tile_is_exported_with_what_it_adds(whole_slide):
    features, record = tiles_of(whole_slide.folder), whole_slide.record
    for m in ("10", "20"):
        of_magnification = [
            each["properties"] for each in features if each["properties"]["metadata"]["magnification"] == m
        ]
        assert len(of_magnification) == record["slides"][0]["tiles"][m]
        assert all(each["classification"]["name"].startswith(f"{m}x: ") for each in of_magnification)
        for part, name in (("tumor", "tumor"), ("tme", "TME"), ("tissue", "tissue-specific part")):
            total = sum(each["measurements"].get(f"contribution, {name}", 0.0) for each in of_magnification)
            assert total == pytest.approx(record["backbone"]["tiles"].get(f"{m}x_{part}", 0.0), abs=1e-4)
        for each in of_magnification:
            value = each["measurements"]["contribution, all parts"]
            red, _, blue = each["color"]
            assert (red - blue) * value >= 0 or abs(red - blue) < 12
            if "raises" in each["classification"]["name"]:
                assert value > 0
            if "lowers" in each["classification"]["name"]:
                assert value < 0


def test_tiles_lie_where_the_tissue_is_in_the_image_of_qupath(scn, exported):
    with openslide.OpenSlide(scn) as slide:
        image = np.asarray(slide.read_region((1000, 700), 0, (2240, 1792)).convert("RGB"))
    is_tissue = image[..., 1] < 200
    read = np.zeros(is_tissue.shape, bool)
    for each in tiles_of(exported):
        if each["properties"]["metadata"]["magnification"] == "20":
            ring = np.array(each["geometry"]["coordinates"][0])
            (left, top), (right, bottom) = ring.min(axis=0).astype(int), ring.max(axis=0).astype(int)
            assert is_tissue[max(top, 0) : bottom, max(left, 0) : right].mean() > 0.2
            read[max(top, 0) : bottom, max(left, 0) : right] = True
    assert (is_tissue & read).sum() > 0.95 * is_tissue.sum()


def test_nothing_of_the_metadata_is_exported(scn, exported):
    with openslide.OpenSlide(scn) as slide:
        properties = dict(slide.properties)
        macro = slide.associated_images["macro"].convert("RGB").tobytes()
    assert PATIENT in properties["openslide.barcode"]  # the slide does hold them
    assert DATE in properties["leica.creation-date"]
    assert set(macro) == {200}
    names = {"tiles.geojson", "regions.geojson", "heatmap_10x.ome.tif", "heatmap_20x.ome.tif"}
    assert names == {path.name for path in exported.iterdir() if path.suffix in (".geojson", ".tif")}
    secrets = [PATIENT, "JANE", DATE, "2011-05-04", "SCN400", "s17", str(scn), str(scn.parent)]
    for name in names:
        content = (exported / name).read_bytes()
        text = content.decode("latin-1")
        assert [secret for secret in secrets if secret in text] == []
    for m in (10, 20):
        with tifffile.TiffFile(exported / f"heatmap_{m}x.ome.tif") as tiff:
            tags = {tag.name: str(tag.value) for page in tiff.pages for tag in page.tags}
            assert len(tiff.pages) == 1  # no page for a label or a macro image
            assert "DateTime" not in tags
            assert not any(secret in value for value in tags.values() for secret in secrets)
            colours = tiff.series[0].levels[0].asarray().reshape(-1, 3)
            allowed = {tuple(each["properties"]["color"]) for each in tiles_of(exported)} | {(255, 255, 255)}
            assert set(map(tuple, np.unique(colours, axis=0).tolist())) <= allowed


def test_regions_cover_the_tiles_of_their_class(exported):
    tiles, regions = tiles_of(exported), tiles_of(exported, "regions.geojson")
    classes = {each["properties"]["classification"]["name"] for each in regions}
    assert classes
    for name in classes:
        of_tiles, of_regions = (
            [shapely.geometry.shape(f["geometry"]) for f in each if f["properties"]["classification"]["name"] == name]
            for each in (tiles, regions)
        )
        assert shapely.union_all(of_tiles).symmetric_difference(shapely.union_all(of_regions)).area < 1
        n = [
            f["properties"]["measurements"]["tiles"]
            for f in regions
            if f["properties"]["classification"]["name"] == name
        ]
        assert sum(n) == len(of_tiles)
    with_effect = {each["properties"]["classification"]["name"] for each in tiles}
    assert classes == {name for name in with_effect if "little effect" not in name}


def test_two_slides_of_a_patient_have_a_file_each(models, tmp_path):
    shutil.copy(models.plain, tmp_path / "twin.jpg")
    argv = (
        models.plain,
        tmp_path / "twin.jpg",
        "--mpp",
        0.5,
        "--ckpt_path",
        models.best("grade"),
        "--out",
        tmp_path / "o",
    )
    assert predict(*argv, "--one-patient", "--regions") == 0
    folder = tmp_path / "o" / "histo_500x300"
    both = [tiles_of(folder, f"tiles_{name}.geojson") for name in ("histo_500x300", "twin")]
    assert [len(each) for each in both] == [3, 3]
    first, second = ([f["geometry"] for f in each] for each in both)
    assert first == second
    assert (folder / "regions_twin.geojson").is_file()
    assert {f["properties"]["classification"]["name"][5:] for f in both[0]} <= {
        "little effect",
        *(f"{word} G{n}" for word in ("for", "against") for n in (2, 3, 4)),
    }


def test_a_region_of_an_answer_can_be_read_back(models, scn, exported, tmp_path):
    regions = exported / "regions.geojson"
    argv = (scn, "--ckpt_path", models.best("student"), "--out", tmp_path / "o", "--roi", regions)
    assert predict(*argv) == 0
    answer = json.loads((tmp_path / "o" / "s17" / "prediction.json").read_text())
    union = shapely.union_all(
        [shapely.geometry.shape(each["geometry"]) for each in tiles_of(exported, "regions.geojson")]
    )
    read, whole = (
        [f for f in tiles_of(folder) if f["properties"]["name"].startswith("20x")]
        for folder in (tmp_path / "o" / "s17", exported)
    )
    names = {each["properties"]["name"] for each in read}
    inside = {
        f["properties"]["name"]
        for f in whole
        if shapely.geometry.shape(f["geometry"]).intersection(union).area > 0.95 * 224**2
    }
    assert inside <= names < {f["properties"]["name"] for f in whole}
    assert answer["tiles_chosen"]["roi"] == str(regions)
    assert not answer["tiles_chosen"]["as_in_training"]
    assert answer["slides"][0]["roi"]["file"] == "regions.geojson"
    notes = " ".join(answer["notes"])
    assert "only tiles within the regions of regions.geojson were read" in notes
    assert "--roi" in answer["command"]
    assert "regions.geojson, sha256" in (tmp_path / "o" / "s17" / "report.html").read_text()


def test_the_tiles_of_a_region_are_those_of_extract(models, scn, tmp_path):
    from dmml.store import FeatureStore

    roi = write_annotations(tmp_path / "s17.geojson", annotation(square(500, 400, 1100, 1000)))
    argv = (scn, "--ckpt_path", models.best("student"), "--out", tmp_path / "o", "--roi", tmp_path)
    assert predict(*argv) == 0
    assert main(["extract", str(scn), "--out", str(tmp_path / "x.zarr"), "--roi", str(roi), "--backend", "torch"]) == 0
    tiles = tiles_of(tmp_path / "o" / "s17")
    for m in (10, 20):
        side = 2240 // m * 2  # pixels of 0.5 µm
        expected = {tuple(p) for p in (FeatureStore(tmp_path / "x.zarr").read("s17", m).position / 0.5).tolist()}
        corners = [f["geometry"]["coordinates"][0][0] for f in tiles if f["properties"]["name"].startswith(f"{m}x")]
        assert {(x + 1000 + side / 2, y + 700 + side / 2) for x, y in corners} == expected


@pytest.mark.parametrize(
    ("roi", "reason"),
    [
        ("none.geojson", "no such file or folder"),
        ("text.geojson", "is not GeoJSON"),
        ("tiles.geojson", "holds no annotation with an area (1 of type tile)"),
        ("outside.geojson", "outside the slide"),
        ("folder", "holds no s17.geojson"),
    ],
)
def test_unusable_regions_are_refused_in_one_line(models, scn, tmp_path, capsys, roi, reason):
    (tmp_path / "text.geojson").write_text("x")
    write_annotations(tmp_path / "tiles.geojson", annotation(square(0, 0, 10, 10), kind="tile"))
    write_annotations(tmp_path / "outside.geojson", annotation(square(80_000, 0, 90_000, 10)))
    (tmp_path / "folder").mkdir()
    write_annotations(tmp_path / "folder" / "s18.geojson", annotation(square(0, 0, 10, 10)))
    argv = (scn, "--ckpt_path", models.best("student"), "--out", tmp_path / "o", "--roi", tmp_path / roi)
    assert predict(*argv) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_one_file_for_two_slides_and_an_unknown_overlay_are_refused(models, scn, tmp_path, capsys):
    roi = write_annotations(tmp_path / "roi.geojson", annotation(square(500, 400, 1100, 1000)))
    argv = ("--ckpt_path", models.best("student"), "--out", tmp_path / "o")
    assert predict(scn, models.svs, *argv, "--roi", roi) == 2
    assert "holds the regions of one slide, but there are 2 slides" in capsys.readouterr().err
    assert predict(scn, *argv, "--overlay", "png") == 2
    assert "--overlay png: must be one of ome-tiff, dicom" in capsys.readouterr().err


def test_overlays_of_an_answer_are_no_slides(exported, scn, tmp_path):
    from dmml.slides.discovery.find import find_slides

    shutil.copytree(exported, tmp_path / "folder" / "answer")
    shutil.copy(scn, tmp_path / "folder")
    shutil.copy(exported / "heatmap_10x.ome.tif", tmp_path / "folder" / "scan.ome.tif")
    found_files = find_slides([tmp_path / "folder"])
    assert {path.name for path in found_files.slides} == {"s17.scn", "scan.ome.tif"}


def test_a_dicom_slide_gets_a_parametric_map_and_others_are_refused(models, scn, shared_data, tmp_path, capsys):
    import pydicom
    from dicom_slides import write_dicom

    header = shared_data / "slides" / "openslide_fixtures" / "boxes_0.dcm"
    (tmp_path / "scan").mkdir()
    picture = paint_tissue(2240, 1792, ((300, 200, 1500, 1300),))
    dicom = write_dicom(tmp_path / "scan" / "slide.dcm", picture, header, patient=PATIENT)
    argv = ("--ckpt_path", models.best("student"), "--out", tmp_path / "o", "--overlay", "dicom")
    assert predict(dicom, *argv) == 0
    folder = tmp_path / "o" / "slide"
    tiles = tiles_of(folder)
    for m in (10, 20):
        data = pydicom.dcmread(folder / f"heatmap_{m}x.dcm")
        first = np.frombuffer(data.FloatPixelData, np.float32).reshape(-1, data.Rows, data.Columns)[0]
        for each in tiles:
            if each["properties"]["name"].startswith(f"{m}x "):
                column, row = map(int, each["properties"]["name"].split()[1].split(","))
                value = each["properties"]["measurements"]["contribution, all parts"]
                assert first[row, column] == pytest.approx(value, rel=1e-4)
    assert PATIENT not in (folder / "tiles.geojson").read_text()
    assert predict(scn, *argv) == 2
    assert "s17.scn is no DICOM slide" in capsys.readouterr().err
