"""Names, dates, barcodes and paths in a slide's metadata, and its macro image, are in nothing that dmml writes."""

import io
import json
import re
import zipfile
from base64 import b64decode

import numpy as np
import openslide
import pytest
from drawn_slides import paint_tissue
from leica_slides import write_scn
from PIL import Image

from dmml.__main__ import main

pytestmark = pytest.mark.slow
PATIENT, DATE = "DOE JANE 1944-03-02", "2011-05-04T10:21:33.000Z"
SECRETS = ("DOE", "JANE", "1944-03-02", "2011-05-04", "10:21:33", "SCN400")
MACRO_GREY = 200
"""The macro image of the fixture is of this grey throughout"""


@pytest.fixture(scope="module")
def scn(tmp_path_factory):
    """A slide with a patient's name as name and barcode, and a macro image."""
    picture = np.asarray(paint_tissue(1792, 1344, ((224, 224, 896, 672),)))[..., :3]
    path = tmp_path_factory.mktemp("slides") / "s17.scn"
    return write_scn(path, picture, corner=(2000, 3000), glass=(20_000, 30_000), patient=PATIENT, date=DATE)


@pytest.fixture(scope="module")
def written(scn, models, tmp_path_factory):
    """Folders that dmml wrote: an answer with all its files, and a store with its QC page."""
    out = tmp_path_factory.mktemp("written")
    words = ["--regions", "--overlay", "ome-tiff"]
    answer = ["predict-slide", str(scn), "--ckpt_path", models.best("student"), "--out", str(out / "answers"), *words]
    assert main(answer) == 0
    assert main(["extract", str(scn), "--out", str(out / "store" / "f.zarr")]) == 0
    return out


def contents(folder):
    """{name: bytes} of all files in a folder, those in archives and pictures in pages among them."""
    files = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        files[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                files |= {f"{path.name}/{name}": archive.read(name) for name in archive.namelist()}
    return files


def pictures(files):
    """Pictures among files, and those that pages embed."""
    for name, content in files.items():
        if name.endswith((".png", ".jpg")):
            yield name, Image.open(io.BytesIO(content))
        if name.endswith(".html"):
            for embedded in re.findall(rb"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)", content):
                yield name, Image.open(io.BytesIO(b64decode(embedded)))


def test_the_slide_does_hold_them(scn):
    with openslide.OpenSlide(scn) as slide:
        text = " ".join(slide.properties.values())
        assert all(secret in text for secret in SECRETS)
        assert set(slide.associated_images["macro"].convert("RGB").tobytes()) == {MACRO_GREY}


def test_no_file_holds_a_name_a_date_or_a_barcode(written):
    files = contents(written)
    kinds = {name.rpartition(".")[2] for name in files}
    assert {"json", "html", "geojson", "png", "csv", "tif"} <= kinds
    for name, content in files.items():
        assert [secret for secret in SECRETS if secret.encode() in content or secret in name] == [], name


def test_no_picture_shows_the_macro_image(written):
    n = 0
    for name, picture in pictures(contents(written)):
        n += 1
        pixels = np.asarray(picture.convert("RGB"))
        assert (np.abs(pixels.astype(int) - MACRO_GREY).max(axis=2) <= 1).mean() < 0.5, name
    assert n > 10


def test_pages_and_tables_hold_no_path_of_the_slide_but_that_in_the_typed_command(written, scn):
    for name, content in contents(written).items():
        if name.endswith((".geojson", ".tif", ".png", ".jpg")):
            assert str(scn.parent).encode() not in content, name


def test_metadata_that_are_asked_for_stand_in_the_record_alone(scn, models, tmp_path):
    words = ["--ckpt_path", models.best("student"), "--out", str(tmp_path), "--explain", "none", "--slide-metadata"]
    assert main(["predict-slide", str(scn), *words]) == 0
    record = tmp_path / "s17" / "prediction.json"
    [slide] = json.loads(record.read_text())["slides"]
    assert slide["metadata"]["leica.creation-date"] == DATE
    files = contents(tmp_path)
    written = {name for name, content in files.items() if any(secret.encode() in content for secret in SECRETS)}
    assert written == {"s17/prediction.json"}
