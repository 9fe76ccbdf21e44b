"""TIFF files of several pages: the largest tiled page is the slide, with the pixel size that it states itself."""

import numpy as np
import pytest
from drawn_slides import paint_tissue
from pyramids import page, shrunk, slide, strips, write_pages

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.predict_slide.input import check_input
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.tokens import tokens_of_slide
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore

OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image><Pixels SizeX="250" SizeY="200" PhysicalSizeX="1.5" PhysicalSizeY="1.5"/></Image>'
    '<Image><Pixels SizeX="896" SizeY="672" PhysicalSizeX="500" PhysicalSizeXUnit="nm" PhysicalSizeY="500" '
    'PhysicalSizeYUnit="nm"/></Image></OME>'
)


@pytest.fixture(scope="module")
def picture():
    return paint_tissue(896, 672, ((100, 90, 500, 400),))


@pytest.fixture(scope="module")
def macro():
    return paint_tissue(250, 200, ((20, 20, 100, 80),))


def tiles(path):
    with Slide(path) as opened:
        return {m: t.position for m, t in lay_out(opened, SlideRequest(path, (10, 20))).tiles.items()}


def around(picture, macro):
    """{what was done: the pages of the file}."""
    levels = [page(shrunk(picture, 2), 1.0), page(shrunk(picture, 4), 2.0)]
    label = np.full((120, 120, 3), 230, np.uint8)
    return {
        "a macro in strips first": [strips(macro), slide(picture), *levels],
        "a tiled macro first": [slide(macro, None), slide(picture), *levels],
        "a macro first that states a scale": [strips(macro, 1.5), slide(picture), *levels],
        "a tiled macro first that states a scale": [slide(macro, 1.5), slide(picture), *levels],
        "a label and a macro first": [strips(label), slide(macro, None), slide(picture), *levels],
        "a reduced macro after": [slide(picture), *levels, strips(label), page(macro)],
        "a thumbnail in between": [slide(picture), strips(shrunk(picture, 3)), *levels],
        "a reduced thumbnail in between": [slide(picture), page(shrunk(picture, 3)), *levels],
        "levels before the slide": [page(shrunk(picture, 4), 2.0), page(shrunk(picture, 2), 1.0), slide(picture)],
    }


def test_the_slide_is_found_among_macros_labels_and_thumbnails(picture, macro, tmp_path):
    path = tmp_path / "S.tif"
    alone = tiles(write_pages(path, slide(picture)))
    for what, pages in around(picture, macro).items():
        for form in ({}, {"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"}):
            features = tiles(write_pages(path, *pages, **form))
            assert all(np.array_equal(features[m], alone[m]) for m in alone), (what, form)
            with Slide(path) as opened:
                assert (opened.mpp, opened.dimensions) == (0.5, (896, 672))
                first = opened.notes[0] if opened.notes else ""
            assert ("is read, the largest tiled page; page 1" in first) == (pages[0][0].shape != picture.shape), what


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "deflate"},
        {"compression": "deflate", "predictor": True},
        {"compression": "lzw"},
        {"compression": None},
        {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_page_after_a_macro_image_is_read_exactly(picture, macro, tmp_path, how, byteorder):
    path = write_pages(tmp_path / "S.tif", strips(macro), slide(picture, **how), byteorder=byteorder)
    with Slide(path) as opened:
        assert opened.reader == "tiff:page 2"
        np.testing.assert_array_equal(opened.read(0, 0, 896, 672, 0.5), picture)
        inside = opened.read(50.0, 25.0, 300, 300, 0.5)
        np.testing.assert_array_equal(inside, picture[50:350, 100:400])
        assert (opened.read(-50, -50, 100, 100, 0.5) == 255).all(), "white outside"


def test_separate_planes_and_jpeg_are_read_as_by_openslide_and_pillow(picture, macro, tmp_path):
    apart = slide(picture.transpose(2, 0, 1), planarconfig="separate", compression="deflate")
    with Slide(write_pages(tmp_path / "S.tif", strips(macro), apart)) as opened:
        np.testing.assert_array_equal(opened.read(0, 0, 896, 672, 0.5), picture)
    first, second = (write_pages(tmp_path / f"{n}.tif", *pages) for n, pages in enumerate(
        ([slide(picture)], [strips(macro), slide(picture)])
    ))  # fmt: skip
    with Slide(first) as first_slide, Slide(second) as second_slide:
        assert (first_slide.reader, second_slide.reader) == ("openslide:generic-tiff", "tiff:page 2")
        difference = first_slide.read(0, 0, 896, 672, 0.5).astype(int) - second_slide.read(0, 0, 896, 672, 0.5)
        assert np.abs(difference).max() <= 1


def test_missing_tiles_are_white_and_damaged_ones_unreadable(picture, macro, tmp_path):
    import tifffile

    path = write_pages(tmp_path / "S.tif", strips(macro), slide(picture))
    with tifffile.TiffFile(path) as tiff:
        counts = tiff.pages[1].tags[325]
        where = counts.valueoffset
        offset, size = tiff.pages[1].dataoffsets[5], tiff.pages[1].databytecounts[5]
        width = 2 if counts.dtype == 3 else 4
    with open(path, "r+b") as file:
        file.seek(where)
        file.write(bytes(width))  # the first tile has no bytes
        file.seek(offset)
        file.write(bytes(size))
    with Slide(path) as opened:
        assert (opened.read(0, 0, 128, 128, 0.5) == 255).all()
        with pytest.raises(InputError, match=r"S\.tif: cannot be decoded"):
            opened.read(140, 140, 100, 100, 0.5)
        assert opened.read(280, 20, 100, 100, 0.5).mean() < 255, "and the rest is read"


def test_other_pages_that_could_be_slides_are_named(picture, tmp_path):
    with Slide(
        write_pages(tmp_path / "S.tif", slide(picture), slide(picture[::-1]), slide(picture[:, ::-1]))
    ) as opened:
        (note,) = opened.notes
    assert "3 pages are equally large; only page 1 (896 × 672 px) is read, not page 2" in note
    with Slide(write_pages(tmp_path / "S.tif", slide(picture[:600, :800]), slide(picture))) as opened:
        assert opened.dimensions == (896, 672)
        assert "page 1 (800 × 600 px) may show other tissue and is not read" in opened.notes[1]
    with Slide(write_pages(tmp_path / "S.tif", slide(picture), slide(shrunk(picture, 2)))) as opened:
        assert opened.notes == [], "a level that does not call itself reduced is no other slide"


def test_a_scale_that_another_page_states_is_named_and_not_used(picture, macro, tmp_path):
    path = tmp_path / "S.tif"
    for pages, stated in (
        ([strips(macro, 1.5), slide(picture, None)], r"page 1 \(250 × 200 px, not tiled\) states 1\.5 µm/px"),
        ([slide(picture, None), page(shrunk(picture, 4), 2.0)], r"page 2 \(224 × 168 px\) states 2 µm/px"),
    ):
        with pytest.raises(
            InputError, match=rf"the slide, states no plausible µm per pixel, while {stated}.*--mpp"
        ) as caught:
            Slide(write_pages(path, *pages))
        assert caught.value.state == "no_mpp"
        with Slide(path, mpp=0.25) as opened:
            assert (opened.mpp, opened.mpp_source) == (0.25, "--mpp")


@pytest.mark.parametrize(
    ("description", "pages_own", "source"),
    [
        ("Aperio Image Library v11\nx|AppMag = 20|MPP = 0.5000", True, "aperio.MPP"),
        (OME, False, "ome.PhysicalSizeX"),
        (OME.replace('500" PhysicalSizeXUnit="nm"', '0.5" PhysicalSizeXUnit="µm"'), True, "ome.PhysicalSizeX"),
        (OME.replace('500" PhysicalSizeXUnit="nm"', '0.00005" PhysicalSizeXUnit="cm"'), True, "ome.PhysicalSizeX"),
    ],
)
def test_a_scale_in_the_description_is_used(picture, macro, tmp_path, description, pages_own, source):
    """OME writes one text into the first page, which states the size of each page."""
    description_tag = {"description": description.encode()}
    first = strips(macro) if pages_own else strips(macro, **description_tag)
    path = write_pages(tmp_path / "S.tif", first, slide(picture, None, **(description_tag if pages_own else {})))
    with Slide(path) as opened:
        assert (opened.mpp, opened.mpp_source) == (0.5, source)


def test_the_largest_page_in_strips_is_read_with_its_own_scale(picture, macro, tmp_path):
    path = write_pages(tmp_path / "S.tif", strips(macro, 1.5), strips(picture, 0.5))
    with Slide(path) as opened:
        assert (opened.mpp, opened.reader) == (0.5, "pillow")
        np.testing.assert_array_equal(opened.read(0, 0, 896, 672, 0.5), picture)
        assert "page 2 (896 × 672 px, not tiled) of 2 is read, the largest page" in opened.notes[0]
    with Slide(write_pages(path, slide(macro[:64, :64], None), strips(picture, 0.5))) as opened:
        assert opened.dimensions == (896, 672), "a tiled label does not make the slide beside it a macro image"


@pytest.mark.parametrize("compression", ["webp", "jpegxl"])
def test_a_page_that_cannot_be_decoded_is_named_with_advice(picture, macro, tmp_path, compression):
    path = write_pages(tmp_path / "S.tif", strips(macro), slide(picture, compression=compression))
    with pytest.raises(
        InputError,
        match=r"S\.tif: page 2 \(896 × 672 px\) of 2, the slide, .*method 5000.*vips copy 'S\.tif\[page=1\]'",
    ) as caught:
        Slide(path)
    assert caught.value.state == "unopenable"


def test_a_macro_that_openslide_cannot_decode_does_not_hide_the_slide(picture, macro, tmp_path):
    """OpenSlide refuses the whole file because of the compression of its first page."""
    path = write_pages(tmp_path / "S.tif", slide(macro, None, compression="jpeg2000"), slide(picture))
    with Slide(path) as opened:
        assert (opened.reader, opened.mpp) == ("tiff:page 2", 0.5)
    exact = slide(picture, compression="jpeg2000", compressionargs={"reversible": True})
    with Slide(write_pages(path, exact)) as opened:
        assert (opened.reader, opened.mpp) == ("tiff:page 1", 0.5)
        np.testing.assert_array_equal(opened.read(0, 0, 896, 672, 0.5), picture)


def test_a_circular_or_broken_chain_of_pages_ends(picture, macro, tmp_path):
    import tifffile

    path = write_pages(tmp_path / "S.tif", strips(macro), slide(picture))
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        first, second = (page.offset for page in tiff.pages)
    count = int.from_bytes(whole[second : second + 2], "little")
    for target, state in ((first, None), (len(whole) + 10, "unopenable")):
        damaged = bytearray(whole)
        damaged[second + 2 + 12 * count :][:4] = b""
        damaged[second + 2 + 12 * count : second + 6 + 12 * count] = target.to_bytes(4, "little")
        path.write_bytes(damaged)
        if state is None:
            Slide(path).close()
        else:
            with pytest.raises(InputError, match=r"S\.tif: is not a complete TIFF") as caught:
                Slide(path)
            assert caught.value.state == state


def test_every_command_chooses_the_same_page(picture, macro, small_encoder, tmp_path):
    path = write_pages(tmp_path / "S.tif", strips(macro, 1.5), slide(picture))
    assert [case.name for case in check_input([path], "out")] == ["S"]
    bags, thumbnail, attributes = tokens_of_slide(path, small_encoder)
    np.testing.assert_array_equal(bags[20].position, tiles(path)[20])
    assert thumbnail.shape == (384, 512, 3), "of the slide, not of its macro image"
    assert attributes["notes"] == Slide(path).notes
    assert attributes["mpp"] == 0.5


@pytest.mark.slow
def test_extract_finds_the_slide_after_a_macro_image(shared_faults, capsys):
    """A real slide on page 2, of 0.5 µm/px; the macro on page 1 would have given 6 tiles."""
    assert main(["extract", str(shared_faults / "macro_page_first" / "macrofirst.tif"), "--out", "a.zarr"]) == 0
    store = FeatureStore("a.zarr")
    assert store.n_tokens("macrofirst", 10) + store.n_tokens("macrofirst", 20) == 78
    attributes = store.slide_attributes("macrofirst")
    assert (attributes["mpp"], attributes["dimensions"], attributes["reader"]) == (0.5, [2220, 2967], "tiff:page 2")
    message = (
        "page 2 (2220 × 2967 px) of 2 is read, the largest tiled page; page 1 (555 × 742 px, not tiled) is taken for"
    )
    assert f"note: macrofirst: {message}" in capsys.readouterr().out
    assert message in open("qc.html", encoding="utf-8").read()
