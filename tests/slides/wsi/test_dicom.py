"""DICOM through a whole extraction: the two levels of a real pair of files, with larger pictures put in."""

import struct

import numpy as np
import pytest
from drawn_slides import paint_tissue, write_slide
from PIL import Image

from dmml.slides.extraction.extract import extract
from dmml.store import FeatureStore

TILE = 256


def element(group, number, kind, value):
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


def replaced(content, group, number, kind, value):
    """The file with another value of a short element that occurs once."""
    start = content.index(struct.pack("<HH2s", group, number, kind))
    (length,) = struct.unpack_from("<H", content, start + 6)
    return content[:start] + element(group, number, kind, value) + content[start + 8 + length :]


def with_picture(template, picture):
    """A DICOM slide's file with other pixels in it, tile by tile."""
    import imagecodecs

    height, width = picture.shape[:2]
    frames = b""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            part = np.full((TILE, TILE, 3), 255, np.uint8)
            seen = picture[top : top + TILE, left : left + TILE]
            part[: seen.shape[0], : seen.shape[1]] = seen
            frame = imagecodecs.jpeg_encode(part, 95, colorspace="rgb", outcolorspace="rgb", subsampling="444")
            frame += b"\0" * (len(frame) % 2)
            frames += struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    count = -(-height // TILE) * -(-width // TILE)
    content = template[: template.rindex(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB"))]
    for group, number, kind, value in (
        (0x28, 0x08, b"IS", str(count).encode().ljust(2)),
        (0x28, 0x10, b"US", struct.pack("<H", TILE)),
        (0x28, 0x11, b"US", struct.pack("<H", TILE)),
        (0x48, 0x06, b"UL", struct.pack("<I", width)),
        (0x48, 0x07, b"UL", struct.pack("<I", height)),
    ):
        content = replaced(content, group, number, kind, value)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    return content + pixels + frames + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.fixture
def dicom(shared_data, tmp_path):
    """A folder with a slide of two levels, a file each; and its picture."""
    picture = paint_tissue(1796, 1344, ((224, 224, 896, 672),))
    half = np.asarray(Image.fromarray(picture).resize((898, 672), Image.Resampling.BOX))
    folder = tmp_path / "in" / "one_slide"
    folder.mkdir(parents=True)
    for i, pixels in enumerate((picture, half)):
        template = (shared_data / "slides" / "openslide_fixtures" / f"boxes_{i}.dcm").read_bytes()
        (folder / f"level_{i}.dcm").write_bytes(with_picture(template, pixels))
    return tmp_path / "in", picture


def test_a_dicom_series_is_one_slide_and_gives_the_features_of_its_picture(dicom, small_encoder, tmp_path):
    folder, picture = dicom
    result = extract([folder], "f.zarr", small_encoder)
    assert (result.written, result.failures) == (["level_0"], [])
    assert [path.name for path in result.ignored] == ["level_1.dcm"]
    store = FeatureStore("f.zarr")
    attributes = store.slide_attributes("level_0")
    assert (attributes["reader"], attributes["mpp"]) == ("openslide:dicom", pytest.approx(0.499))
    assert attributes["dimensions"] == [1796, 1344]
    write_slide(tmp_path / "same.tif", picture, 0.499, levels=(1, 2))
    extract([tmp_path / "same.tif"], "tiff.zarr", small_encoder)
    other = FeatureStore("tiff.zarr")
    for magnification in (10, 20):
        one, two = store.read("level_0", magnification), other.read("same", magnification)
        assert (one.position == two.position).all()
        assert len(one.features) > 4
        a, b = one.features.astype(float), two.features.astype(float)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.99
    # Once more: both files of the series are known.
    again = extract([folder], "f.zarr", small_encoder)
    assert (again.written, again.skipped) == ([], ["level_0"])
