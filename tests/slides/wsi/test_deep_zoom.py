"""Deep zoom of every reader: OpenSlide's own pixels, cropped to the bounds; no level that shows something else."""

import numpy as np
import openslide
import pytest
from drawn_slides import paint_tissue, write_slide
from leica_slides import write_scn
from openslide.deepzoom import DeepZoomGenerator

from dmml.slides.wsi.deep_zoom import DeepZoomSlide, deep_zoom
from dmml.slides.wsi.slide import Slide


def every_tile(zoom):
    for level, (columns, rows) in enumerate(zoom.level_tiles):
        for address in np.ndindex(columns, rows):
            yield level, address


@pytest.mark.slow
def test_tiles_are_those_of_openslide(tmp_path):
    picture = paint_tissue(2240, 1792, ((300, 200, 1500, 1300),))
    path = write_scn(tmp_path / "s.scn", picture, (1000, 700), (4000, 3000))
    with Slide(path) as slide, openslide.OpenSlide(path) as opened:
        zoom, reference = deep_zoom(DeepZoomSlide(slide)), DeepZoomGenerator(opened, limit_bounds=True)
        assert zoom.level_dimensions == reference.level_dimensions
        assert zoom.level_dimensions[-1] == pytest.approx((2240, 1792), abs=1)  # OpenSlide rounds up
        for level, address in every_tile(zoom):
            np.testing.assert_array_equal(*(np.asarray(z.get_tile(level, address)) for z in (zoom, reference)))


@pytest.mark.slow
def test_a_slide_without_levels_is_read_by_an_overview(tmp_path):
    picture = paint_tissue(5200, 4300, ((300, 200, 3500, 3300),))
    path = write_slide(tmp_path / "flat.tif", picture, levels=(1,))
    with Slide(path) as slide:
        adapter = DeepZoomSlide(slide)
        assert adapter.level_dimensions == ((5200, 4300), (1300, 1075))
        zoom = deep_zoom(adapter)
        args, _ = zoom.get_tile_coordinates(zoom.level_count - 4, (0, 0)), None
        assert args[2][0] <= 600  # a tile at an eighth reads the overview, not 2048 px of the slide
        tile = np.asarray(zoom.get_tile(zoom.level_count - 4, (1, 1))).astype(int)
        expected = picture[253 * 8 : 509 * 8, 253 * 8 : 509 * 8].reshape(256, 8, 256, 8, 3).mean(axis=(1, 3))
        assert np.abs(tile - expected).mean() < 3


@pytest.mark.slow
def test_a_level_that_shows_something_else_is_not_used(tmp_path):
    import tifffile

    picture = paint_tissue(2400, 2000, ((300, 200, 700, 900),))
    path = tmp_path / "mirrored.tif"
    kind = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    kind |= {"compressionargs": {"level": 95}, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(picture, resolution=(2e4, 2e4), **kind)
        tiff.write(picture[::-4, ::-4].copy(), resolution=(5e3, 5e3), subfiletype=1, **kind)
    with Slide(path) as slide:
        zoom = deep_zoom(DeepZoomSlide(slide))
        small = np.asarray(zoom.get_tile(zoom.level_count - 5, (0, 0))).astype(int)
        box = small[200 // 16 + 2 : 1100 // 16 - 2, 300 // 16 + 2 : 1000 // 16 - 2]
        assert box[..., 1].max() < 170  # the tissue is where the finest level has it


def test_nothing_but_the_bounds_is_revealed(tmp_path):
    picture = paint_tissue(600, 500, ((100, 100, 300, 300),))
    path = write_scn(tmp_path / "s.scn", picture, (500, 200), (1500, 900), patient="DOE JANE")
    with Slide(path) as slide:
        adapter = DeepZoomSlide(slide)
        assert dict(adapter.associated_images) == {}
        assert adapter.properties == {
            "openslide.bounds-x": "500",
            "openslide.bounds-y": "200",
            "openslide.bounds-width": "600",
            "openslide.bounds-height": "500",
        }
