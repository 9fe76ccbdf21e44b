"""The tissue mask, on painted pictures of known tissue and on a real slide."""

import numpy as np
import pytest

from dmml.slides.tiling.tissue import find_tissue, glass_colour, mask_scale, otsu, tissue_mask
from dmml.slides.wsi.slide import Slide


@pytest.fixture
def picture(paint):
    return paint(200, 160, [(60, 40, 80, 70)])


def inside(shape, box):
    mask = np.zeros(shape, bool)
    x, y, w, h = box
    mask[y : y + h, x : x + w] = True
    return mask


def agreement(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def test_tissue_is_distinguished_from_glass(picture):
    assert agreement(tissue_mask(picture), inside(picture.shape[:2], (60, 40, 80, 70))) > 0.93


@pytest.mark.parametrize("glass", [(0.90, 0.95, 1.0), (1.0, 0.97, 0.88), (0.85, 0.85, 0.85)])
def test_tinted_or_dim_glass_does_not_change_the_tissue(picture, glass):
    tinted = (picture * np.array(glass)).astype(np.uint8)
    assert agreement(tissue_mask(tinted), tissue_mask(picture)) > 0.97


@pytest.mark.parametrize(
    "ink",
    [(79, 89, 207), (40, 60, 190), (60, 150, 90), (20, 120, 60), (30, 30, 35)],
    ids=["blue", "strong blue", "green", "dark green", "black"],
)
def test_pen_is_left_out(picture, ink):
    truth = tissue_mask(picture)
    marked = picture.copy()
    marked[20:140, 10:18] = ink
    mask = tissue_mask(marked)
    assert not mask[:, :30].any()
    assert agreement(mask, truth) > 0.97


@pytest.mark.parametrize("stain", [(120, 70, 150), (90, 70, 150), (235, 205, 225), (200, 60, 110)])
def test_stains_from_dark_haematoxylin_to_pale_eosin_are_tissue(picture, stain):
    stained = picture.copy()
    stained[60:90, 80:120] = stain
    assert tissue_mask(stained)[60:90, 80:120].all()


def test_small_holes_are_filled_and_large_ones_are_not(picture):
    holed = picture.copy()
    holed[50:60, 70:80] = 243  # 100 pixels of 64 µm² = 6,400 µm²
    holed[70:100, 85:115] = 243  # 57,600 µm²
    mask = tissue_mask(holed)
    assert mask[50:60, 70:80].all()
    assert not mask[73:97, 88:112].any()


def test_specks_are_dropped(picture):
    dusty = picture.copy()
    dusty[10:14, 10:14] = (214, 140, 180)
    assert not tissue_mask(dusty)[:30, :30].any()


def test_empty_glass_and_grey_dirt_hold_no_tissue(paint):
    glass = paint(200, 160, [])
    assert not tissue_mask(glass).any()
    glass[30:80, 30:90] = 150
    assert not tissue_mask(glass).any()


def test_a_slide_full_of_tissue_is_recognised_as_such(paint):
    assert tissue_mask(paint(120, 100, [(0, 0, 120, 100)])).mean() > 0.99


def test_otsu_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.1, 0.03, 700), rng.normal(0.6, 0.1, 300)])

    def between(threshold):
        low, high = values[values < threshold], values[values >= threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(np.linspace(0.05, 0.8, 400), key=between)
    assert between(otsu(values)) > 0.999 * between(best)


def test_the_tissue_of_a_real_slide_agrees_with_a_saturation_threshold(shared_data):
    """Against a mask made another way, from HSV saturation."""
    from PIL import Image

    with Slide(shared_data / "slides" / "cmu_small_region.svs") as slide:
        picture = slide.overview(8.0)
    saturation = np.asarray(Image.fromarray(picture).convert("HSV"))[..., 1]
    mask = tissue_mask(picture)
    assert agreement(mask, saturation > 25) > 0.85
    assert mask[saturation > 60].mean() > 0.98
    assert mask[saturation < 8].mean() < 0.03


def test_a_fold_is_left_out_and_dense_nuclei_are_not(paint):
    """Both dyes doubled in a strip is a fold; haematoxylin alone doubled, or a round dense patch, is tissue."""
    picture = paint(200, 150, ((20, 20, 160, 110),))
    glass = 243.0
    folded, nuclei = picture.astype(float), picture.astype(float)
    strip = np.s_[40:120, 90:96]
    folded[strip] = glass * (folded[strip] / glass) ** 2.0
    nuclei[strip] = glass * (nuclei[strip] / glass) * 10 ** -np.array([0.45, 0.30, 0.10])
    fold = tissue_mask(folded.clip(0, 255).astype(np.uint8))
    assert fold[strip].mean() < 0.3
    assert fold[20:130, 20:85].mean() > 0.95
    assert tissue_mask(picture)[strip].mean() > 0.95
    assert tissue_mask(nuclei.clip(0, 255).astype(np.uint8))[strip].mean() > 0.95
    mask, findings = find_tissue("colour", folded.clip(0, 255).astype(np.uint8))
    np.testing.assert_array_equal(mask, fold)
    assert findings["fold"] == pytest.approx(80 * 6 * 64 / 1e6, rel=0.4)


def test_cover_glass_edges_and_bubbles_are_not_tissue(paint):
    picture = paint(200, 150, ((20, 20, 60, 60),)).astype(float)
    picture[:, 120:122] *= (0.72, 0.66, 0.75)  # a tinted line across the whole slide
    y, x = np.mgrid[:150, :200]
    ring = np.abs(np.hypot(x - 160, y - 80) - 25) < 3
    picture[ring] *= 0.45  # a grey ring
    mask = tissue_mask(picture.clip(0, 255).astype(np.uint8))
    assert mask[22:78, 22:78].mean() > 0.95
    assert not mask[:, 85:].any()


@pytest.mark.parametrize(("size", "tile", "scale"), [
    ((1e4, 1e4), 112.0, 8.0),
    ((5e4, 4e4), 112.0, 16.0),
    ((5e4, 4e4), 56.0, 28.0),
    ((1e6, 1e6), 112.0, 56.0),
])  # fmt: skip
def test_masks_of_large_slides_are_coarser_with_whole_pixels_per_tile(size, tile, scale):
    assert mask_scale(size, tile) == scale
    assert (tile / scale).is_integer()


@pytest.mark.parametrize("ink", [(210, 30, 40), (225, 20, 30), (240, 90, 30)], ids=["red", "bright red", "orange"])
def test_red_ink_is_left_out(picture, ink):
    truth = tissue_mask(picture)
    marked = picture.copy()
    marked[20:140, 6:40] = (226, 140, 145)  # a soft edge
    marked[20:140, 7:39] = ink
    mask, findings = find_tissue("colour", marked)
    assert not mask[:, :50].any()
    assert findings["pen"] == pytest.approx(120 * 32 * 64 / 1e6, rel=0.1)
    assert agreement(mask, truth) > 0.97


@pytest.mark.parametrize("stain", [(200, 90, 120), (200, 60, 60), (190, 60, 80), (220, 60, 80), (185, 40, 60)])
def test_blood_and_muscle_are_not_red_ink(picture, stain):
    stained = picture.copy()
    stained[60:90, 80:120] = stain
    assert tissue_mask(stained)[60:90, 80:120].all()


@pytest.mark.parametrize("glass", [(243, 236, 206), (243, 243, 243)])
def test_unscanned_areas_do_not_count_as_glass(paint, glass):
    """MIRAX and sparse scans are pure white where nothing was scanned."""
    scan = (paint(200, 160, [(60, 40, 80, 70)]) * (np.array(glass) / 243)).round().astype(np.uint8)
    half = np.concatenate([scan, np.full_like(scan, 255)], axis=1)
    np.testing.assert_array_equal(tissue_mask(half)[:, :200], tissue_mask(scan))
    assert not tissue_mask(half)[:, 200:].any()


def test_pale_tissue_on_pure_white_glass_does_not_count_as_glass():
    picture = np.full((160, 200, 3), 255.0)
    picture[40:110, 60:100] = np.random.default_rng(0).normal((236, 208, 226), 6, (70, 40, 3))
    picture = picture.clip(0, 255).astype(np.uint8)
    assert glass_colour(picture).tolist() == [255] * 3
    assert tissue_mask(picture)[42:108, 62:98].all()
