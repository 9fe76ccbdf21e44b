"""Pixel sizes of OME-XML: the image of the page that is read, in any unit of length, as tifffile and others write it."""

import numpy as np
import pytest
from drawn_slides import paint_tissue

from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.slide import Slide
from dmml.slides.wsi.tiff_scale import described_scale

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@pytest.fixture(scope="module")
def picture():
    return paint_tissue(640, 512, ((100, 100, 300, 200),))


def write_ome(path, *images, tile=(256, 256), **options):
    """An OME-TIFF of tifffile: one image for each (pixels, metadata), tiled, with a smaller level in a sub-IFD."""
    import tifffile

    with tifffile.TiffWriter(path, ome=True, **options) as tiff:
        for pixels, metadata in images:
            kind = {"photometric": "rgb", "compression": "deflate", "tile": tile}
            tiff.write(pixels, subifds=1, metadata={"axes": "YXS", **metadata}, **kind)
            tiff.write(np.ascontiguousarray(pixels[::2, ::2]), subfiletype=1, **kind)
    return path


def sizes(x, y=None, unit="µm"):
    return {
        "PhysicalSizeX": x,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": x if y is None else y,
        "PhysicalSizeYUnit": unit,
    }


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(
    ("size", "unit"),
    [(0.25, "µm"), (250.0, "nm"), (0.00025, "mm"), (2500.0, "Å"), (0.25, "um"), (9.842519685e-6, "in")],
)
def test_the_pixel_size_of_an_ome_tiff_is_read_in_any_unit(tmp_path, picture, size, unit, bigtiff):
    path = write_ome(tmp_path / "a.ome.tif", (picture, sizes(size, unit=unit)), bigtiff=bigtiff)
    with Slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25, rel=1e-6)
        assert slide.mpp_source == "ome.PhysicalSizeX"
        np.testing.assert_array_equal(slide.read(0, 0, 640, 512, slide.mpp), picture)


def test_of_several_images_the_one_of_the_page_is_meant(tmp_path, picture):
    """A macro image comes first, and two scans of the same size have different scales."""
    macro = (np.ascontiguousarray(picture[::4, ::4]), sizes(4.0))
    scans = [(picture, sizes(0.25)), (picture, sizes(0.5))]
    for name, order in (("a", scans), ("b", scans[::-1])):
        path = write_ome(tmp_path / f"{name}.ome.tif", macro, *order, tile=(64, 64))
        with Slide(path) as slide:
            assert slide.reader == "tiff:page 2"
            assert slide.mpp == order[0][1]["PhysicalSizeX"]


def test_ome_xml_in_any_tiff_counts_more_than_its_resolution_tags(tmp_path, picture):
    import tifffile

    text = xml(pixels(640, 512, 0.25)).encode()
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None, "description": text}
    for name, unit in (("a", "CENTIMETER"), ("b", "NONE")):
        tifffile.imwrite(tmp_path / f"{name}.tif", picture, resolution=(1e4, 1e4), resolutionunit=unit, **options)
        with Slide(tmp_path / f"{name}.tif") as slide:
            assert (slide.mpp, slide.mpp_source) == (0.25, "ome.PhysicalSizeX")


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "furlong", "pc"])
def test_what_is_no_length_is_refused_in_one_line(tmp_path, picture, unit):
    path = write_ome(tmp_path / "a.ome.tif", (picture, sizes(1.0, unit=unit)))
    with pytest.raises(
        SlideError, match=f"ome.PhysicalSizeX says '1.0 {unit}', which is not a length.*--mpp"
    ) as refusal:
        Slide(path)
    assert "\n" not in str(refusal.value)
    assert refusal.value.state == "no_mpp"
    with Slide(path, mpp=0.5) as slide:
        assert slide.mpp == 0.5


def test_pixels_that_are_not_square_are_refused(tmp_path, picture):
    path = write_ome(tmp_path / "a.ome.tif", (picture, sizes(0.25, 0.5)))
    with pytest.raises(SlideError, match=r"not square \(ome.PhysicalSizeX: 0.25 × 0.5 µm\)"):
        Slide(path)


def test_an_impossible_size_is_not_taken(tmp_path, picture):
    path = write_ome(tmp_path / "a.ome.tif", (picture, sizes(0.25, unit="mm")))
    with pytest.raises(SlideError, match=r"ome\.PhysicalSizeX says 250 µm/px, outside"):
        Slide(path)


def pixels(width, height, size, *data, unit="µm", y=True):
    physical = f'PhysicalSizeX="{size}" PhysicalSizeXUnit="{unit}" '
    physical += f'PhysicalSizeY="{size}" PhysicalSizeYUnit="{unit}"' if y else ""
    return f'<Image ID="Image:0"><Pixels SizeX="{width}" SizeY="{height}" {physical}>{"".join(data)}</Pixels></Image>'


def xml(*images, attributes="", start='<?xml version="1.0" encoding="UTF-8"?>'):
    return f'{start}<OME xmlns="{SCHEMA}" {attributes}>{"".join(images)}</OME>'


def scale(text, number=1, size=(640, 512)):
    return described_scale(text, size, (0.0, 0.0), number).get("ome.PhysicalSizeX")


def test_images_are_told_apart_by_their_pages():
    first, rest = '<TiffData IFD="0" PlaneCount="1"/>', '<TiffData IFD="1"/><TiffData IFD="2" PlaneCount="2"/>'
    text = xml(pixels(640, 512, 0.25, first), pixels(640, 512, 0.5, rest))
    assert [scale(text, number) for number in (1, 2, 3, 4)] == ["0.25", "0.5", "0.5", "0.5"]
    assert "0.25 or 0.5, for images of the same size" in scale(text, 5)
    all_pages = xml(pixels(640, 512, 0.25, "<TiffData/>"), pixels(9, 9, 4.0, '<TiffData IFD="7"/>'))
    assert scale(all_pages, 6) == "0.25"


def test_an_image_of_another_file_is_not_that_of_the_page():
    def of_file(name):
        return f'<TiffData IFD="0"><UUID FileName="{name}.ome.tif">urn:uuid:{name}</UUID></TiffData>'

    text = xml(
        pixels(640, 512, 0.5, of_file("b")), pixels(640, 512, 0.25, of_file("a")), attributes='UUID="urn:uuid:a"'
    )
    assert scale(text) == "0.25"


def test_an_image_of_another_size_is_not_that_of_the_page():
    """Programs that resample a picture may keep its description."""
    assert scale(xml(pixels(1280, 1024, 0.25))) is None


@pytest.mark.parametrize(
    "text",
    [
        xml(pixels(640, 512, 0.25, unit="&#181;m")),
        xml(pixels(640, 512, 0.25)).replace('"', "'"),
        xml(pixels(640, 512, 0.25, unit="\N{REPLACEMENT CHARACTER}m")),
        xml(pixels(640, 512, 0.25, y=False)),
        xml(pixels(640, 512, 0.25)).replace(' PhysicalSizeXUnit="µm"', "").replace(' PhysicalSizeYUnit="µm"', ""),
        xml(pixels(640, 512, 0.25), start="") + "\0",
        xml(pixels(640, 512, 0.25)).replace("<", "<ome:").replace("<ome:/", "</ome:").replace("<ome:?", "<?")
        .replace("xmlns=", "xmlns:ome="),
    ],
)  # fmt: skip
def test_every_spelling_of_the_same_is_understood(text):
    assert scale(text) == "0.25"


def test_damaged_and_hostile_xml_is_refused():
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "0.25">]>' + xml(pixels(640, 512, "&a;"), start="")
    for text in (xml(pixels(640, 512, 0.25))[:-20], bomb):
        assert scale(text) == "damaged OME-XML"
