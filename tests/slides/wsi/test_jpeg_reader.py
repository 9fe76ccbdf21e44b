"""Slides of JPEG tiles are decoded without OpenSlide, and every pixel is OpenSlide's."""

import random

import numpy as np
import openslide
import pytest
from PIL import Image

from dmml.slides.wsi.jpeg_level import JpegLevel
from dmml.slides.wsi.jpeg_reader import JpegReader
from dmml.slides.wsi.tiff_pages import read_pages
from tests.support.drawn_slides import paint_tissue, write_slide


@pytest.fixture
def picture():
    return paint_tissue(700, 530, [(60, 50, 400, 380)])


def on_white(region):
    white = Image.new("RGB", region.size, "white")
    white.paste(region, mask=region.getchannel("A") if region.mode == "RGBA" else None)
    return np.asarray(white)


def open_both(path):
    return JpegReader(openslide.OpenSlide(path), path), openslide.OpenSlide(path)


def assert_same_regions(path, n=40, decoded=True):
    """Compare regions at random positions of every level with OpenSlide's."""
    reader, reference = open_both(path)
    rng = random.Random(0)
    for level, (width, height) in enumerate(reference.level_dimensions):
        ratio = round(reference.level_downsamples[level])
        for _ in range(n):
            size = (rng.randint(1, width), rng.randint(1, height))
            corner = (rng.randint(0, width - size[0]) * ratio, rng.randint(0, height - size[1]) * ratio)
            expected = on_white(reference.read_region(corner, level, size))
            assert np.array_equal(on_white(reader.read_region(corner, level, size)), expected), (level, corner, size)
            assert (reader.read_pixels(corner, level, size) is not None) == decoded
    reader.close()


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_regions_of_every_level_equal_openslide_s(picture, tmp_path, photometric, subsampling):
    import tifffile

    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, 2):
            tiff.write(
                picture[::factor, ::factor],
                tile=(128, 112),
                compression="jpeg",
                compressionargs={"outcolorspace": photometric},
                photometric=photometric,
                subsampling=subsampling if photometric == "ycbcr" else None,
                subfiletype=factor > 1,
                metadata=None,
            )
    assert_same_regions(path)


def test_regions_of_a_real_slide_with_shared_tables_equal_openslide_s(shared_data):
    assert_same_regions(shared_data / "slides" / "cmu_small_region.svs", n=25)


def test_other_compressions_are_left_to_openslide(picture, tmp_path):
    import tifffile

    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, tile=(128, 128), compression="zlib", photometric="rgb", metadata=None)
    assert_same_regions(path, n=5, decoded=False)


def test_a_page_that_shows_something_else_than_openslide_is_not_used(picture, tmp_path, monkeypatch):
    path = write_slide(tmp_path / "slide.tif", picture)
    decode = JpegLevel.decode

    def one_grey_level_off(self, file, index):
        pixels = decode(self, file, index)
        pixels[100, 30, 1] ^= 1
        return pixels

    monkeypatch.setattr(JpegLevel, "decode", one_grey_level_off)
    assert_same_regions(path, n=5, decoded=False)


def test_levels_that_lie_between_pixels_are_left_to_openslide(picture, tmp_path):
    path = write_slide(tmp_path / "slide.tif", picture[:501, :699], levels=(1, 4))
    reader, reference = open_both(path)
    assert reference.level_downsamples[1] != round(reference.level_downsamples[1])
    assert reader.read_pixels((0, 0), 1, (20, 20)) is None
    assert reader.read_pixels((0, 0), 0, (20, 20)) is not None
    assert reader.read_region((40, 40), 1, (20, 20)).tobytes() == reference.read_region((40, 40), 1, (20, 20)).tobytes()


def test_damaged_tiles_are_openslide_s_to_report(picture, tmp_path):
    """libjpeg only warns of most damage and makes up the rest of the tile."""
    import tifffile

    path = write_slide(tmp_path / "slide.tif", picture, levels=(1,))
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, size = page.dataoffsets[4], page.databytecounts[4]
    rng, n_unreadable = random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.choices(range(offset, offset + size), k=rng.choice([1, 4, 64])):
            damaged[position] = rng.randrange(256)
        path.write_bytes(damaged)
        reader, reference = open_both(path)
        corner, side = (256, 256), (256, 256)
        try:
            expected = on_white(reference.read_region(corner, 0, side))
        except openslide.OpenSlideError:
            n_unreadable += 1
            with pytest.raises(openslide.OpenSlideError):
                reader.read_region(corner, 0, side)
        else:
            assert np.array_equal(on_white(reader.read_region(corner, 0, side)), expected)
        reader.close()
    assert 10 < n_unreadable < 60


def test_a_damaged_header_does_not_ask_for_memory(picture, tmp_path):
    path = write_slide(tmp_path / "slide.tif", picture, levels=(1,))
    page = read_pages(path)[0]
    level = JpegLevel(page)
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0", int(level.offsets[0]))
    content[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # height and width
    path.write_bytes(content)
    with open(path, "rb") as file:
        assert level.decode(file, 0) is None
        assert level.decode(file, 1) is not None


def test_a_level_of_which_no_sample_can_be_compared_is_left_to_openslide(picture, tmp_path, monkeypatch):
    path = write_slide(tmp_path / "slide.tif", picture, levels=(1,))
    reader, _ = open_both(path)
    monkeypatch.setattr(JpegLevel, "decode", lambda self, file, index: None)
    assert reader._checked_level(0) is None


def test_a_damaged_length_does_not_ask_for_memory(picture, tmp_path):
    path = write_slide(tmp_path / "slide.tif", picture, levels=(1,))
    level = JpegLevel(read_pages(path)[0])
    level.lengths = level.lengths.copy()
    level.lengths[:2] = (2**31, 0)
    with open(path, "rb") as file:
        assert level.decode(file, 0) is None
        assert level.decode(file, 1) is None
        assert level.decode(file, 2) is not None


def test_what_is_kept_of_decoded_tiles_is_limited(picture, tmp_path, monkeypatch):
    path = write_slide(tmp_path / "slide.tif", picture, levels=(1,), tile=64)
    monkeypatch.setattr("dmml.slides.wsi.tiled_page._CACHE_BYTES", 5 * 64 * 64 * 3)
    reader, reference = open_both(path)
    size = reference.dimensions
    assert np.array_equal(
        on_white(reader.read_region((0, 0), 0, size)), on_white(reference.read_region((0, 0), 0, size))
    )
    assert len(reader._tiles) == 5
