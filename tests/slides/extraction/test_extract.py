"""Extraction: real slides against an independent count, and everything that can go wrong."""

import argparse
import csv
import os
import subprocess
import sys
import time

import numpy as np
import openslide
import pytest

from dmml.commands import extract as extract_command
from dmml.errors import InputError
from dmml.slides.extraction.extract import extract
from dmml.slides.tiling.tissue import tissue_mask
from dmml.slides.tokens import tokens_of_slide
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore


def command(*argv):
    parser = argparse.ArgumentParser()
    extract_command.add_arguments(parser)
    extract_command.run(parser.parse_args([str(word) for word in argv]))


def states(path="failures.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return {os.path.basename(row["file"]): row["state"] for row in csv.DictReader(file)}


def count_by_hand(mask, size_um):
    """Centres of kept 20x tiles and of the 10x tiles over them, one mask pixel at a time."""
    fine = []
    for y in range(100):
        for x in range(100):
            if (x + 1) * 112 > size_um[0] or (y + 1) * 112 > size_um[1]:
                continue
            hits = sum(bool(mask[v, u]) for v in range(14 * y, 14 * y + 14) for u in range(14 * x, 14 * x + 14))
            if hits >= 49:
                fine.append((x * 112 + 56, y * 112 + 56))
    return fine, sorted({(y // 224 * 224 + 112, x // 224 * 224 + 112) for x, y in fine})


@pytest.mark.slow
def test_the_command_extracts_a_real_slide(shared_data, capsys):
    """The default encoder on a real Aperio slide: the tiles are those of the grid rule, counted another way."""
    path = shared_data / "slides" / "cmu_small_region.svs"
    command(path, "--out", "f.zarr")
    store = FeatureStore("f.zarr")
    assert store.slides() == ["cmu_small_region"]
    with Slide(path) as slide:
        fine, coarse = count_by_hand(tissue_mask(slide.overview(8.0)), slide.size_um)
    bags = {m: store.read("cmu_small_region", m) for m in (10, 20)}
    assert bags[20].position.tolist() == [list(map(float, centre)) for centre in fine]
    assert bags[10].position.tolist() == [[float(x), float(y)] for y, x in coarse]
    assert f"{len(fine) + len(coarse)} tiles" in capsys.readouterr().out
    for bag in bags.values():
        assert bag.features.shape == (len(bag.position), 1280)
        assert bag.features.dtype == np.float16
        assert np.isfinite(bag.features).all()
        assert bag.features.astype(np.float32).std(axis=0).max() > 0.1
    attributes = store.slide_attributes("cmu_small_region")
    assert attributes["source"] == "cmu_small_region.svs"
    assert attributes["source_bytes"] == path.stat().st_size
    assert (attributes["dimensions"], attributes["mpp"], attributes["mpp_source"]) == (
        [2220, 2967],
        0.499,
        "openslide.mpp-x",
    )
    assert store.attributes["magnifications"] == {10: 1.0, 20: 0.5}
    assert store.thumbnail("cmu_small_region").shape[0] == 512
    assert states() == {}
    assert "data:image/jpeg;base64," in open("qc.html", encoding="utf-8").read()


def test_kept_tiles_are_tissue_by_an_independent_measure(shared_data, small_encoder):
    """Colour of the full-resolution pixels, no mask involved: clear tiles are all kept, empty ones none."""
    path = shared_data / "slides" / "cmu_small_region.svs"
    bags, _, _ = tokens_of_slide(path, small_encoder)
    kept = {tuple(centre) for centre in bags[20].position.tolist()}
    handle = openslide.OpenSlide(path)
    pixels = np.asarray(handle.read_region((0, 0), 0, handle.dimensions).convert("RGB"), np.int16)
    coloured = (pixels.max(axis=2) - pixels.min(axis=2)) > 30
    side = 112 / 0.499
    for y in range(13):
        for x in range(9):
            share = coloured[round(y * side) : round((y + 1) * side), round(x * side) : round((x + 1) * side)].mean()
            centre = (x * 112 + 56.0, y * 112 + 56.0)
            if share > 0.6:
                assert centre in kept
            if share < 0.1:
                assert centre not in kept


def test_a_pyramid_gives_the_same_grid_and_features(shared_data, small_encoder):
    names = ("cmu_small_region.svs", "cmu_small_pyramid.tif")
    one, two = (tokens_of_slide(shared_data / "slides" / name, small_encoder)[0] for name in names)
    np.testing.assert_array_equal(one[20].parent, two[20].parent)
    for m in (10, 20):
        np.testing.assert_array_equal(one[m].position, two[m].position)
        a, b = one[m].features.astype(np.float32), two[m].features.astype(np.float32)
        assert np.abs(a - b).max() < 0.01 * a.std()


def test_tokens_equal_the_encoder_s_output_for_the_tiles(make_slide, small_encoder):
    """Each stored feature against the tile read alone and encoded alone."""
    path = make_slide("a.tif")
    bags, _, _ = tokens_of_slide(path, small_encoder, batch_size=3)
    assert bags[20].position.tolist() == [[x * 112 + 56.0, y * 112 + 56.0] for y in (1, 2, 3) for x in (1, 2, 3, 4)]
    with Slide(path) as slide:
        for magnification, side in ((20, 112.0), (10, 224.0)):
            for centre, feature in zip(
                *(getattr(bags[magnification], f) for f in ("position", "features")), strict=True
            ):
                tile = slide.read(centre[0] - side / 2, centre[1] - side / 2, 224, 224, side / 224)
                want = small_encoder(tile[None])[0]
                relative = np.abs(feature - want).max() / np.abs(want).max()
                assert relative < (0.01 if magnification == 20 else 0.05)


def test_the_result_does_not_depend_on_the_batch_size(make_slide, small_encoder):
    path = make_slide("a.tif")
    bags = [tokens_of_slide(path, small_encoder, batch_size=n)[0][20].features for n in (1, 5, 64)]
    for other in bags[1:]:  # half precision: a last bit may differ
        np.testing.assert_allclose(bags[0], other, atol=2e-3, rtol=2e-3)


def test_bad_slides_are_recorded_and_the_others_extracted(make_slide, small_encoder, shared_data, tmp_path):
    good = make_slide("in/good.tif")
    make_slide("in/empty.tif", boxes=())
    make_slide("in/unknown.tif", mpp=None)
    make_slide("in/coarse.tif", mpp=1.0)
    make_slide("in/twin.tif")
    make_slide("in/b/twin.tif")
    fixtures = shared_data / "slides" / "openslide_fixtures"
    (tmp_path / "in" / "notes.txt").write_text("x")
    result = extract(
        ["in", fixtures / "unopenable.tiff", fixtures / "unreadable.svs", fixtures / "boxes.tiff"],
        "f.zarr",
        small_encoder,
    )
    assert result.written == ["good"]
    assert [path.name for path in result.ignored] == ["notes.txt"]
    assert states() == {
        "empty.tif": "no_tissue",
        "unknown.tif": "no_mpp",
        "coarse.tif": "too_coarse",
        "twin.tif": "duplicate_stem",
        "unopenable.tiff": "unopenable",
        "unreadable.svs": "unreadable",
        "boxes.tiff": "no_mpp",
    }
    assert sum(failure.state == "duplicate_stem" for failure in result.failures) == 2
    for failure in result.failures:
        assert os.path.basename(failure.file) in failure.reason
        assert "\n" not in failure.reason
    assert FeatureStore("f.zarr").slide_attributes("good")["source_bytes"] == good.stat().st_size
    page = open("qc.html", encoding="utf-8").read()
    assert "unopenable.tiff" in page


def test_strict_raises_an_error_after_all_other_slides_are_done(make_slide, small_encoder):
    make_slide("in/good.tif")
    make_slide("in/empty.tif", boxes=())
    with pytest.raises(InputError, match=r"1 of 2 slides failed.*empty\.tif"):
        extract(["in"], "f.zarr", small_encoder, strict=True)
    assert FeatureStore("f.zarr").slides() == ["good"]


def test_a_second_run_skips_done_slides_and_updates_the_failures(make_slide, small_encoder, monkeypatch):
    make_slide("in/a.tif")
    make_slide("in/b.tif", mpp=None)
    extract(["in"], "f.zarr", small_encoder)
    assert states() == {"b.tif": "no_mpp"}
    encoded = []
    real = type(small_encoder).start
    monkeypatch.setattr(
        type(small_encoder), "start", lambda self, tiles: encoded.append(len(tiles)) or real(self, tiles)
    )
    result = extract(["in"], "f.zarr", small_encoder, mpp=0.5)
    assert (result.skipped, result.written) == (["a"], ["b"])
    assert states() == {}
    assert sum(encoded) == sum(FeatureStore("f.zarr").n_tokens("b", m) for m in (10, 20))
    encoded.clear()
    assert extract(["in"], "f.zarr", small_encoder, mpp=0.5).written == []
    assert encoded == []
    assert extract(["in"], "f.zarr", small_encoder, mpp=0.5, overwrite=True).written == ["a", "b"]


def test_a_changed_file_is_extracted_again_and_another_of_the_same_name_is_refused(make_slide, small_encoder):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", small_encoder)
    make_slide("in/a.tif", boxes=((224, 224, 448, 448),))
    assert extract(["in"], "f.zarr", small_encoder).written == ["a"]
    assert FeatureStore("f.zarr").n_tokens("a", 20) == 4
    make_slide("other/a.tiff")
    with pytest.raises(InputError, match=r"the store holds 'a' from a\.tif"):
        extract(["other/a.tiff"], "f.zarr", small_encoder)
    with pytest.raises(InputError, match=r"none of the 2 slides can be used \(duplicate_stem\)"):
        extract(["in", "other/a.tiff"], "f.zarr", small_encoder)
    assert states() == {"a.tif": "duplicate_stem", "a.tiff": "duplicate_stem"}
    assert FeatureStore("f.zarr").slides() == ["a"]


def test_a_run_after_a_kill_gives_the_same_store(make_slide, small_encoder, monkeypatch):
    for name in "ab":
        make_slide(f"in/{name}.tif")
    extract(["in"], "whole.zarr", small_encoder)
    calls = []
    real = type(small_encoder).start

    def dies(self, tiles):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, tiles)

    with monkeypatch.context() as patch:
        patch.setattr(type(small_encoder), "start", dies)
        with pytest.raises(KeyboardInterrupt):
            extract(["in"], "cut.zarr", small_encoder, batch_size=8)
    done = FeatureStore("cut.zarr").slides()
    assert done == ["a"]  # 18 tiles a slide: the third batch of 8 has its last, and is taken when the fourth is started
    result = extract(["in"], "cut.zarr", small_encoder, batch_size=8)
    assert (result.skipped, result.written) == (["a"], ["b"])
    for name in "ab":
        for m in (10, 20):
            a, b = (FeatureStore(store).read(name, m) for store in ("whole.zarr", "cut.zarr"))
            np.testing.assert_array_equal(a.features, b.features)
            np.testing.assert_array_equal(a.position, b.position)


def test_another_encoder_or_grid_is_refused_by_the_store(make_slide, small_encoder):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", small_encoder)
    with pytest.raises(
        InputError, match=r"encoder\.name is test_efficientnet in the store and tf_efficientnet_lite0 now"
    ):
        extract(["in"], "f.zarr")
    with pytest.raises(InputError, match=r"magnifications\.10 is 1\.0 in the store and nothing now"):
        extract(["in"], "f.zarr", small_encoder, magnifications=(20,))


def test_stores_are_not_searched_for_slides_and_links_are_followed_once(make_slide, small_encoder, tmp_path):
    make_slide("in/deep/a.tif")
    (tmp_path / "in" / ".hidden").mkdir()
    for name in ("notes.txt", ".hidden/b.tif"):
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in")
    make_slide("elsewhere/c.tif")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    for skipped in ([], ["a", "c"]):
        result = extract(["in"], "in/f.zarr", small_encoder)
        assert result.skipped == skipped
        assert [path.name for path in result.ignored if path.suffix not in (".csv", ".html")] == ["notes.txt"]


def test_a_folder_that_is_not_a_store_is_left_alone(make_slide, small_encoder, tmp_path):
    make_slide("in/a.tif")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not a feature store"):
        extract(["in"], "mine", small_encoder)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_store_can_be_written_through_a_url(make_slide, small_encoder):
    make_slide("in/a.tif")
    result = extract(["in"], "memory://bucket/f.zarr", small_encoder)
    assert result.qc == "memory://bucket/qc.html"
    assert FeatureStore("memory://bucket/f.zarr").n_tokens("a", 20) == 12
    assert extract(["in"], "memory://bucket/f.zarr", small_encoder).skipped == ["a"]


def test_no_store_is_created_without_a_usable_slide(make_slide, small_encoder, tmp_path):
    make_slide("in/a.tif", mpp=None)
    make_slide("in/b.tif", mpp=None)
    with pytest.raises(InputError, match=r"none of the 2 slides can be used \(no_mpp\)"):
        extract(["in"], "f.zarr", small_encoder)
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["failures.csv", "in"]
    (tmp_path / "void").mkdir()
    with pytest.raises(InputError, match="no slide found"):
        extract(["void"], "f.zarr", small_encoder)
    with pytest.raises(InputError, match="nowhere: no such file"):
        extract(["in", "nowhere"], "f.zarr", small_encoder)


def test_an_input_error_is_reported_before_heavy_imports(shared_data):
    """What makes the answer come within a second: neither torch, timm, zarr nor scipy was imported."""
    code = (
        "import sys, dmml.__main__ as m; rc = m.main(sys.argv[1:]); "
        "print([n for n in ('torch', 'timm', 'zarr', 'scipy', 'matplotlib') if n in sys.modules]); sys.exit(rc)"
    )
    argv = ["extract", str(shared_data / "slides" / "histo_500x300.jpg"), "--out", "f.zarr"]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert time.perf_counter() - start < 10  # a machine under load; alone it takes about half a second
    assert done.returncode == 2
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("dmml: error: ")
    assert "histo_500x300.jpg" in done.stderr
    assert "--mpp" in done.stderr
    assert done.stderr.count("\n") == 1
