"""Tiles of any size: the grids nest, every tile shows its square of the slide, and a store keeps one size."""

import numpy as np
import pytest

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.encoder import Encoder
from dmml.slides.extraction.extract import extract
from dmml.slides.reading.tile_reading import SlideSource
from dmml.slides.tiling.grid import check_tile_px
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_groups import tile_groups
from dmml.slides.tiling.tissue import mask_scale
from dmml.slides.tokens import tokens_of_slide
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore

SIZES = (97, 256, 512)


class MeanColour(Encoder):
    """The mean of each channel of a tile, and its side."""

    name, dim, weights, preprocessing = "mean", 4, "none", {}
    backend, precision, batch_size = "torch", "32", 8

    def __init__(self, tile_px):
        self.tile_px = tile_px

    def start(self, tiles):
        sides = np.full((len(tiles), 1), tiles.shape[1], np.float32)
        return [np.concatenate([tiles.mean(axis=(1, 2), dtype=np.float64).astype(np.float32), sides], axis=1)]

    def finish(self, started):
        return started[0]


@pytest.fixture
def slide(make_slide):
    """1.2 × 1 mm with tissue in the middle and in the far corner."""
    return make_slide("a.tif", boxes=((300, 200, 1200, 1100), (1900, 1500, 500, 500)), size=(2400, 2000))


@pytest.mark.parametrize(("tile_px", "readers"), [*((size, 0) for size in SIZES), (512, 1)])
def test_every_tile_shows_its_square_of_the_slide_and_four_fill_a_coarse_one(slide, tile_px, readers):
    extract([slide], "f.zarr", MeanColour(tile_px), readers=readers)
    store = FeatureStore("f.zarr")
    assert store.attributes["tile_px"] == tile_px
    bags = {m: store.read("a", m) for m in (10, 20)}
    assert len(bags[20].features) >= 4
    with Slide(slide) as opened:
        for m, mpp in ((10, 1.0), (20, 0.5)):
            assert set(bags[m].features[:, 3].tolist()) == {tile_px}
            for centre, features in zip(bags[m].position, bags[m].features, strict=True):
                left, top = (centre - tile_px * mpp / 2).tolist()
                expected = opened.read(left, top, tile_px, tile_px, mpp).mean(axis=(0, 1))
                np.testing.assert_allclose(features[:3], expected, atol=0.6)
    offset = bags[20].position - bags[10].position[bags[20].parent]
    assert set(np.abs(offset).ravel().tolist()) == {tile_px / 4}
    attributes = store.slide_attributes("a")
    assert attributes["tile_um"] == {"10": tile_px, "20": tile_px / 2}
    assert attributes["tile_level0_px"] == {"10": 2 * tile_px, "20": tile_px}
    assert main(["features", "verify", "f.zarr"]) == 0


@pytest.mark.parametrize("tile_px", SIZES)
def test_tiles_are_kept_by_their_share_of_tissue(slide, tile_px):
    """Against the colour of the pixels of each tile: clear tiles are all kept, empty ones none."""
    bags, _, _ = tokens_of_slide(slide, MeanColour(tile_px))
    kept = {tuple(centre) for centre in bags[20].position.tolist()}
    side, centres = tile_px / 2, set()
    with Slide(slide) as opened:
        for y in range(int(opened.size_um[1] // side)):
            for x in range(int(opened.size_um[0] // side)):
                tile = opened.read(x * side, y * side, tile_px, tile_px, 0.5).astype(int)
                share = (np.ptp(tile, axis=2) > 30).mean()
                centre = ((x + 0.5) * side, (y + 0.5) * side)
                centres.add(centre)
                assert (share > 0.2) or centre not in kept
                assert (share < 0.3) or centre in kept
    assert kept <= centres


def test_a_group_of_large_tiles_needs_no_more_memory_than_one_of_small_tiles(slide):
    source, largest = SlideSource(), {}
    for tile_px in (64, 224, 512):
        request = SlideRequest(slide, (10, 20), tile_px=tile_px)
        groups = tile_groups(source.lay_out(request).tiles, tile_px)
        largest[tile_px] = max(source.read(request, group).pixels.nbytes for group in groups)
    source.close()
    assert max(largest.values()) <= 40 * 224**2 * 3


@pytest.mark.parametrize("tile", [16.0, 48.5, 56.0, 112.0, 125.0, 128.0, 256.0])
@pytest.mark.parametrize("slide_mm", [5, 40, 200])
def test_a_tile_spans_whole_pixels_of_the_picture_in_which_tissue_is_found(tile, slide_mm):
    scale = mask_scale((1000.0 * slide_mm, 1000.0 * slide_mm), tile)
    assert tile / scale == pytest.approx(round(tile / scale), abs=1e-9)
    assert 0.6 * min(8, tile) <= scale <= max(64.0, tile)


def test_tissue_is_found_on_tiles_of_224_px_as_before():
    sizes = [(1e3 * mm, 1e3 * mm) for mm in (5, 30, 60, 100, 300)]
    assert [mask_scale(size, 112.0) for size in sizes] == [8, 16, 28, 56, 56]
    assert [mask_scale(size, 56.0) for size in sizes] == [8, 28, 28, 56, 56]


def test_a_store_is_continued_with_its_tile_size_alone(slide, capsys):
    extract([slide], "f.zarr", MeanColour(256))
    assert extract([slide], "f.zarr", MeanColour(256)).skipped == ["a"]
    with pytest.raises(InputError, match="tile_px is 256 in the store and 224 now") as refusal:
        extract([slide], "f.zarr", MeanColour(224))
    assert "\n" not in str(refusal.value)
    assert main(["extract", str(slide), "--out", "f.zarr", "--tile-px", "512"]) == 2
    assert "f.zarr" in capsys.readouterr().err


def test_a_loaded_encoder_and_the_option_must_agree(slide):
    with pytest.raises(InputError, match="loaded for tiles of 256 px; load it with tile_px=512"):
        extract([slide], "f.zarr", MeanColour(256), tile_px=512)


@pytest.mark.parametrize("tile_px", [0, 31, 2049, -224])
def test_an_impossible_size_is_refused(slide, tile_px, capsys):
    assert main(["extract", str(slide), "--out", "f.zarr", "--tile-px", str(tile_px)]) == 2
    assert f"--tile-px {tile_px}: must be between 32 and 2048" in capsys.readouterr().err
    with pytest.raises(InputError):
        check_tile_px(tile_px)


@pytest.mark.slow
def test_the_command_extracts_tiles_of_512_px(slide, capsys):
    """The default encoder has an input of 224 px, to which tiles are resized."""
    argv = ["extract", str(slide), "--out", "f.zarr", "--tile-px", "512", "--backend", "torch"]
    assert main([*argv, "--dry-run"]) == 0
    assert main(argv) == 0
    assert "look at qc.html" in capsys.readouterr().out
    store, encoder = FeatureStore("f.zarr"), load_encoder(device="cpu", backend="torch", tile_px=512)
    assert store.attributes["tile_px"] == 512
    assert store.attributes["encoder"]["preprocessing"]["size"] == 224
    bag = store.read("a", 10)
    with Slide(slide) as opened:
        tiles = np.stack([opened.read(*(centre - 256).tolist(), 512, 512, 1.0) for centre in bag.position])
    np.testing.assert_allclose(bag.features, encoder(tiles), atol=0.05)
