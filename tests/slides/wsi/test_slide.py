"""Reading by µm, compared with pixels read directly through OpenSlide and with the picture that was written."""

import numpy as np
import openslide
import pytest
from PIL import Image

from dmml.errors import InputError
from dmml.slides.wsi.slide import Slide


def box_mean(picture, x, y, width, height, mpp, slide_mpp):
    """Slow area average over the pixels whose centres lie in each wanted pixel."""
    out = np.zeros((height, width, 3))
    step = mpp / slide_mpp
    for row in range(height):
        for column in range(width):
            top, left = y / slide_mpp + row * step, x / slide_mpp + column * step
            rows = slice(round(top), max(round(top) + 1, round(top + step)))
            columns = slice(round(left), max(round(left) + 1, round(left + step)))
            out[row, column] = picture[rows, columns].mean(axis=(0, 1))
    return out


def test_native_resolution_gives_the_slide_s_own_pixels(shared_data):
    path = shared_data / "slides" / "cmu_small_region.svs"
    raw = np.asarray(openslide.OpenSlide(path).read_region((700, 900), 0, (300, 200)).convert("RGB"))
    with Slide(path) as slide:
        assert (slide.mpp, slide.mpp_source, slide.reader) == (0.499, "openslide.mpp-x", "openslide:aperio")
        read = slide.read(700 * 0.499, 900 * 0.499, 300, 200, 0.499)
    assert (read == raw).all()


@pytest.mark.parametrize("level", [0, 1])
def test_whole_pixels_are_read_as_resampling_would_give_them(make_slide, monkeypatch, level):
    """Reading without resampling equals reading with it, bit for bit, inside, across the edge and outside."""
    mpp = 0.5 * 4**level
    places = [(40, 70), (-8, -8), (1792 // 4**level - 30, 60), (10**5, 10**5)]
    with Slide(make_slide("a.tif", levels=(1, 4))) as slide:
        assert slide._covers_whole_pixels(level, [40.0, 70.0, 160.0, 160.0], 120, 90)
        assert not slide._covers_whole_pixels(level, [40.1, 70.0, 160.1, 160.0], 120, 90)
        reads = []
        for _ in range(2):
            reads.append([slide.read(x * mpp, y * mpp, 120, 90, mpp) for x, y in places])
            monkeypatch.setattr(Slide, "_covers_whole_pixels", lambda *_: False)
    assert reads[0][0].min() < 240
    assert all((a == b).all() for a, b in zip(*reads, strict=True))


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "cmu_small_pyramid.tif"])
@pytest.mark.parametrize("mpp", [0.998, 1.996, 7.984])
def test_coarse_reading_averages_the_right_pixels(shared_data, name, mpp):
    path = shared_data / "slides" / name
    handle = openslide.OpenSlide(path)
    raw = np.asarray(handle.read_region((0, 0), 0, handle.dimensions).convert("RGB"), float)
    x, y = 700 * 0.499, 900 * 0.499
    want = box_mean(raw, x, y, 60, 50, mpp, 0.499)
    with Slide(path) as slide:
        read = slide.read(x, y, 60, 50, mpp).astype(float)
    error = np.abs(read - want)[1:-1, 1:-1].mean()
    moved = [np.abs(np.roll(read, s, axis) - want)[2:-2, 2:-2].mean() for axis in (0, 1) for s in (-1, 1)]
    assert error < 0.45 * min(moved)  # a pixel's shift in any direction is at least twice as wrong


def test_reading_at_negative_coordinates_is_not_shifted(shared_data):
    """OpenSlide shifts regions with a negative corner by up to a pixel; a tile read with a margin must not be shifted."""
    with Slide(shared_data / "slides" / "cmu_small_pyramid.tif") as slide:
        inside = slide.read(16.0, 16.0, 130, 180, 8.0).astype(int)
        across = slide.read(-16.0, -16.0, 134, 184, 8.0).astype(int)
    assert np.abs(inside - across[4:, 4:]).mean() < 0.7
    assert (across[:1] == 255).all()


def test_everything_outside_the_slide_is_white(shared_data):
    with Slide(shared_data / "slides" / "cmu_small_region.svs") as slide:
        width, height = slide.size_um
        assert (slide.read(width + 50, 0, 30, 30, 0.5) == 255).all()
        corner = slide.read(width - 50, height - 50, 200, 200, 0.5)
    assert (corner[110:, 110:] == 255).all()
    assert corner[:90, :90].mean() < 250


def test_overview_in_blocks_equals_one_reading(shared_data, monkeypatch):
    with Slide(shared_data / "slides" / "cmu_small_region.svs") as slide:
        whole = slide.read(0, 0, 139, 186, 8.0)
        monkeypatch.setattr("dmml.slides.wsi.slide._BLOCK_PX", 400)
        blocks = slide.overview(8.0)
    assert blocks.shape == (186, 139, 3)
    assert np.abs(blocks.astype(int) - whole).mean() < 1.0


def test_a_shift_of_less_than_a_pixel_is_kept(tmp_path):
    """A linear ramp: the mean of the pixels shows their position to a hundredth of a pixel."""
    ramp = np.repeat(np.linspace(0, 255, 512)[None, :, None], 512, axis=0).repeat(3, axis=2)
    Image.fromarray(ramp.round().astype(np.uint8)).save(tmp_path / "ramp.png")
    with Slide(tmp_path / "ramp.png", mpp=0.5) as slide:
        means = [slide.read(60.0 + shift, 60.0, 100, 100, 0.7).mean() for shift in (0.0, 0.125, 0.25)]
    slope = 255 / 511 / 0.5  # grey levels per µm
    assert np.diff(means) == pytest.approx([0.125 * slope] * 2, abs=0.03)


def test_plain_image_needs_an_mpp(shared_data):
    path = shared_data / "slides" / "histo_500x300.jpg"
    with pytest.raises(InputError, match=r"histo_500x300\.jpg: a plain image.*--mpp") as caught:
        Slide(path)
    assert caught.value.state == "no_mpp"
    with Slide(path, mpp=0.5) as slide:
        assert (slide.mpp, slide.mpp_source, slide.reader) == (0.5, "--mpp", "pillow")
        raw = np.asarray(Image.open(path).convert("RGB"), int)
        assert np.abs(slide.read(0, 0, 500, 300, 0.5).astype(int) - raw).max() <= 1


@pytest.mark.parametrize(
    ("file", "state"),
    [("unopenable.tiff", "unopenable"), ("boxes.tiff", "no_mpp"), ("boxes.png", "no_mpp"), ("none.svs", "missing")],
)
def test_files_that_cannot_be_opened_are_refused_with_the_reason(shared_data, file, state):
    with pytest.raises(InputError, match=file) as caught:
        Slide(shared_data / "slides" / "openslide_fixtures" / file)
    assert caught.value.state == state
    assert "\n" not in str(caught.value)


def test_reading_continues_after_an_area_that_cannot_be_decoded(make_slide, break_tile):
    path = make_slide("broken.tif")
    break_tile(path, 0)
    with Slide(path) as slide:
        with pytest.raises(InputError, match=r"broken\.tif: cannot be decoded") as caught:
            slide.read(0, 0, 100, 100, 0.5)
        assert caught.value.state == "unreadable"
        assert slide.read(300, 300, 100, 100, 0.5).mean() > 100


@pytest.mark.parametrize(("mpp", "fits"), [(0.499, True), (0.62, True), (0.7, False), (1.0, False)])
def test_a_coarse_scan_is_not_enlarged(make_slide, mpp, fits):
    with Slide(make_slide("s.tif", mpp=mpp)) as slide:
        slide.check_scale((10,))
        if fits:
            slide.check_scale((10, 20))
        else:
            with pytest.raises(InputError, match=r"too coarse for 20x.*--magnifications 10"):
                slide.check_scale((10, 20))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[:, :40] = (120, 120, 120, 255)
    Image.fromarray(pixels).convert(mode).save(path := tmp_path / "a.png")
    with Slide(path, mpp=0.5) as slide:
        read = slide.read(0, 0, 80, 60, 0.5)
    np.testing.assert_array_equal(read[:, :40], 120)
    np.testing.assert_array_equal(read[:, 40:], 255)
