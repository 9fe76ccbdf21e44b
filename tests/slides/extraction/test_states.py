"""Thirty kinds of bad input, each with its state and a reason that names the file; good slides are extracted."""

import csv
import errno
import gzip
import os
import shutil

import numpy as np
import pytest
import tifffile
from drawn_slides import paint_tissue, write_slide
from PIL import Image

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.slides.extraction.extract import extract
from dmml.store import FeatureStore, local_folder

SMALL = {"size": (448, 448), "boxes": ((64, 64, 320, 320),), "levels": (1,)}


def states(path="failures.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return {os.path.basename(row["file"]): row["state"] for row in csv.DictReader(file)}


def reasons(path="failures.csv"):
    with open(path, newline="", encoding="utf-8") as file:
        return {os.path.basename(row["file"]): row["reason"] for row in csv.DictReader(file)}


def tiff(path, pixels, **options):
    kind = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate", "metadata": None}
    tifffile.imwrite(path, pixels, **{**kind, **options})


CENTIMETRE = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}


def bad_files(folder, make_slide, break_tile):
    """Write one file of each kind; {name: state}."""
    picture = paint_tissue(448, 448, ((64, 64, 320, 320),))
    whole = write_slide(folder / "whole.tif", picture).read_bytes()
    (folder / "whole.tif").unlink()
    large = write_slide(folder / "l.tif", np.random.default_rng(0).integers(90, 200, (1792, 1344, 3), np.uint8))
    bytes_of_large = large.read_bytes()
    large.unlink()
    make_slide("in/empty_glass.tif", **{**SMALL, "boxes": ()})
    make_slide("in/no_mpp.tif", mpp=None, **SMALL)
    make_slide("in/72_dpi.tif", mpp=352.8, **SMALL)
    make_slide("in/absurdly_fine.tif", mpp=0.01, **SMALL)
    make_slide("in/too_coarse.tif", mpp=1.0, **SMALL)
    make_slide("in/too_small.tif", **{**SMALL, "size": (200, 200), "boxes": ((0, 0, 200, 200),)})
    make_slide("in/twin.tif", **SMALL)
    make_slide("in/b/twin.tiff", **SMALL)
    broken = make_slide("in/many_broken_tiles.tif", boxes=((224, 224, 896, 672),))
    for index in range(7, 28):
        break_tile(broken, index)
    tiff(folder / "not_square.tif", picture, resolution=(2e4, 3e4), resolutionunit="CENTIMETER")
    tiff(folder / "inches_as_dots.tif", picture, resolution=(300, 300), resolutionunit="INCH")
    tiff(folder / "zero_resolution.tif", picture, resolution=(0, 0), resolutionunit="CENTIMETER")
    blue = np.full((448, 448, 3), 243, np.uint8)
    blue[100:300, 100:300] = (40, 60, 200)
    tiff(folder / "pen_alone.tif", blue, **CENTIMETRE)
    tiff(folder / "all_black.tif", np.zeros((448, 448, 3), np.uint8), **CENTIMETRE)
    tiff(folder / "all_white.tif", np.full((448, 448, 3), 255, np.uint8), **CENTIMETRE)
    tiff(
        folder / "grey_dirt.tif",
        np.random.default_rng(1).integers(60, 240, (448, 448, 1), np.uint8).repeat(3, 2),
        **CENTIMETRE,
    )
    (folder / "nothing.svs").write_bytes(b"")
    (folder / "noise.ndpi").write_bytes(np.random.default_rng(2).bytes(5000))
    (folder / "login_page.svs").write_text("<!doctype html><html><body>Please log in</body></html>")
    (folder / "text.scn").write_text("no slide")
    (folder / "zipped.svs").write_bytes(gzip.compress(whole))
    (folder / "half_a_download.tif").write_bytes(bytes_of_large[: len(bytes_of_large) // 2])
    (folder / "header_alone.tif").write_bytes(whole[:8])
    (folder / "without_its_end.tif").write_bytes(whole[:-200])
    (folder / "no_companion.mrxs").write_bytes(b"\xff\xd8\xff")
    (folder / "no_dicom.dcm").write_bytes(bytes(132) + b"DICX")
    (folder / "no_images.vms").write_text("[Virtual Microscope Specimen]\nNoLayers=1\n")
    Image.fromarray(picture).save(folder / "a_picture.svs", "PNG")
    Image.fromarray(picture).save(folder / "a_photo.tif", "JPEG")
    (folder / "gone.svs").symlink_to(folder / "nowhere.svs")
    return {
        "empty_glass.tif": "no_tissue",
        "no_mpp.tif": "no_mpp",
        "72_dpi.tif": "no_mpp",
        "absurdly_fine.tif": "no_mpp",
        "too_coarse.tif": "too_coarse",
        "too_small.tif": "no_tissue",
        "twin.tif": "duplicate_stem",
        "twin.tiff": "duplicate_stem",
        "many_broken_tiles.tif": "unreadable",
        "not_square.tif": "not_square",
        "inches_as_dots.tif": "no_mpp",
        "zero_resolution.tif": "no_mpp",
        "pen_alone.tif": "no_tissue",
        "all_black.tif": "no_tissue",
        "all_white.tif": "no_tissue",
        "grey_dirt.tif": "no_tissue",
        "nothing.svs": "unopenable",
        "noise.ndpi": "unopenable",
        "login_page.svs": "unopenable",
        "text.scn": "unopenable",
        "zipped.svs": "unopenable",
        "half_a_download.tif": "unopenable",
        "header_alone.tif": "unopenable",
        "without_its_end.tif": "unopenable",
        "no_companion.mrxs": "unopenable",
        "no_dicom.dcm": "unopenable",
        "no_images.vms": "unopenable",
        "a_picture.svs": "unopenable",
        "a_photo.tif": "no_mpp",
        "gone.svs": "missing",
    }


def test_file_names_that_cannot_be_ids_are_a_recorded_state(make_slide, small_encoder, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("good.tif", "a\\b.tif", "two\nlines.tif", "zarr.json.tif", os.fsdecode(b"latin-\xe9.tif")):
        shutil.copy(make_slide("one.tif", **SMALL), tmp_path / "in" / name)
    shutil.copy(tmp_path / "one.tif", tmp_path / "...tif")  # hidden: found only where it is named
    for _ in range(2):
        extract(["in", "...tif"], "f.zarr", small_encoder)
        assert FeatureStore("f.zarr").slides() == ["good"]
        assert set(states().values()) == {"bad_name"}
        assert sorted(states()) == ["...tif", "a\\b.tif", "latin-\\udce9.tif", "two\\nlines.tif", "zarr.json.tif"]
    (tmp_path / "qc.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_thirty_kinds_of_bad_input_are_recorded(make_slide, break_tile, small_encoder, tmp_path):
    (tmp_path / "in").mkdir()
    wanted = bad_files(tmp_path / "in", make_slide, break_tile)
    make_slide("in/good.tif", **SMALL)
    result = extract(["in"], "f.zarr", small_encoder)
    assert FeatureStore("f.zarr").slides() == ["good"]
    assert len(wanted) == 30
    assert states() == wanted
    for name, reason in reasons().items():
        assert name in reason
        assert "\n" not in reason
    page = open("qc.html", encoding="utf-8").read()
    assert all(name in page for name in wanted)
    # The same list again, and nothing is done twice.
    again = extract(["in"], "f.zarr", small_encoder)
    assert (again.written, again.skipped) == ([], ["good"])
    assert states() == wanted
    assert len(result.failures) == 30


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_run_and_keeps_what_is_written(make_slide, small_encoder, monkeypatch, error):
    for name in "abc":
        make_slide(f"in/{name}.tif", **SMALL)
    real, written = local_folder._write, []

    def write(path, content, durable):
        if "/b/" in path and path.endswith("features/c/0/0"):
            raise OSError(error, os.strerror(error))
        written.append(path)
        real(path, content, durable)

    with monkeypatch.context() as patch:
        patch.setattr(local_folder, "_write", write)
        with pytest.raises(InputError, match=r"b\.tif: the disk is full .*make room.*[12] slides are in f\.zarr"):
            extract(["in"], "f.zarr", small_encoder)
    assert states() == {"b.tif": "disk_full"}
    kept = FeatureStore("f.zarr").slides()
    assert kept in (["a"], ["a", "c"])  # c is on its way at the same time
    assert FeatureStore("f.zarr").backend.unfinished_groups() == []  # what was half-written is gone from the full disk
    result = extract(["in"], "f.zarr", small_encoder)
    assert (result.written, result.skipped) == ([name for name in "bc" if name not in kept], kept)
    assert result.resumed_tiles == 0  # what was kept of them is gone, too: a full disk shall not stay full of it
    assert states() == {}


def test_a_store_that_cannot_be_written_is_reported_in_one_line(make_slide, small_encoder, monkeypatch):
    make_slide("in/a.tif", **SMALL)

    def refuse(path, content, durable):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(local_folder, "_write", refuse)
    with pytest.raises(InputError, match=r"--out: .*cannot be written \(f\.zarr/.*Permission denied"):
        extract(["in"], "f.zarr", small_encoder)


def test_changed_parameters_are_refused_and_each_is_named(make_slide, small_encoder):
    make_slide("in/a.tif", **SMALL)
    extract(["in"], "f.zarr", small_encoder)
    with pytest.raises(
        InputError,
        match=r"extraction\.least_tissue is 0\.25 in the store and 0\.5 now.*extraction\.precision is 32 in the store and bf16 now",
    ):
        extract(["in"], "f.zarr", small_encoder, min_tissue=0.5, precision="bf16")


def test_a_copied_slide_is_skipped_and_one_of_other_content_is_not(make_slide, small_encoder):
    path = make_slide("in/a.tif", **SMALL)
    extract(["in"], "f.zarr", small_encoder)
    os.utime(path, ns=(1, 1))
    assert extract(["in"], "f.zarr", small_encoder).skipped == ["a"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255  # same size, another time
    path.write_bytes(content)
    result = extract(["in"], "f.zarr", small_encoder)
    assert result.changed == ["a"]
    assert result.skipped == []


def test_a_manifest_selects_slides_and_gives_their_scale(make_slide, small_encoder, tmp_path):
    for name in "abc":
        make_slide(f"in/{name}.tif", mpp=None, **SMALL)
    (tmp_path / "m.csv").write_text("slide_id,mpp\na.tif,0.5\nb,0.4\nd,\n")
    result = extract(["in"], "f.zarr", small_encoder, manifest="m.csv")
    assert (result.written, result.missing, result.failures) == (["a", "b"], ["d"], [])
    store = FeatureStore("f.zarr")
    assert [store.slide_attributes(name)["mpp"] for name in "ab"] == [0.5, 0.4]
    for text, message in (
        ("name\na\n", "no column slide_id"),
        ("slide_id,mpp\na,40\n", r"line 2: mpp 40"),
        ("slide_id\n", "names no slide"),
        ("slide_id\nz\n", "none of the slides that it names was found"),
    ):
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            extract(["in"], "g.zarr", small_encoder, manifest="m.csv")
    with pytest.raises(InputError, match=r"--manifest nowhere\.csv: no such file"):
        extract(["in"], "g.zarr", small_encoder, manifest="nowhere.csv")


def test_a_dry_run_counts_and_writes_nothing(make_slide, small_encoder, tmp_path):
    for name in "ab":
        make_slide(f"in/{name}.tif", **SMALL)
    make_slide("in/empty.tif", **{**SMALL, "boxes": ()})
    before = sorted(path.name for path in tmp_path.iterdir())
    estimate = extract(["in"], "f.zarr", small_encoder, dry_run=True).estimate
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    extract(["in"], "f.zarr", small_encoder)
    store = FeatureStore("f.zarr")
    assert estimate.tiles == sum(store.n_tokens(s, m) for s in store.slides() for m in (10, 20))
    assert [failure.state for failure in estimate.failures] == ["no_tissue"]
    assert estimate.slides == 3
    assert estimate.hours == pytest.approx(estimate.tiles / estimate.tiles_per_second / 3600)
    assert any("free" in line for line in estimate.lines())
    assert "3 slides" in estimate.lines()[0]
    assert estimate.lines()[0].endswith("1 of 3 give none")


@pytest.mark.slow
def test_a_dry_run_names_slides_that_would_fail(make_slide, tmp_path, capsys):
    make_slide("in/a.tif", **SMALL)
    make_slide("in/empty.tif", **{**SMALL, "boxes": ()})
    (tmp_path / "in" / "broken.svs").write_bytes(b"no slide")
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    assert main(["extract", "in", "--out", "f.zarr", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 files would not be extracted" in printed
    assert "in/broken.svs: OpenSlide" in printed
    assert "in/empty.tif: none of" in printed
    assert "ignored 1 files" in printed


def test_tissue_can_be_found_by_a_user_s_function(make_slide, small_encoder, tmp_path, monkeypatch):
    make_slide("in/a.tif", **SMALL)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def everything(picture, mpp):\n    return np.ones(picture.shape[:2], bool)\n"
        "def wrong(picture, mpp):\n    return picture\n"
        "def fails(picture, mpp):\n    raise RuntimeError('no model')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    extract(["in"], "f.zarr", small_encoder, tissue="mine:everything")
    assert FeatureStore("f.zarr").n_tokens("a", 20) == 4
    assert FeatureStore("f.zarr").attributes["extraction"]["tissue"] == "mine:everything"
    for name, message in (
        ("wrong", r"returned .* must return a bool array of \(28, 28\)"),
        ("fails", "RuntimeError: no model"),
    ):
        with pytest.raises(InputError, match=message):
            extract(["in"], f"{name}.zarr", small_encoder, tissue=f"mine:{name}")
        assert states() == {"a.tif": "tissue_failed"}
    with pytest.raises(InputError, match=r"--tissue mine:nothing: mine has no function nothing"):
        extract(["in"], "g.zarr", small_encoder, tissue="mine:nothing")


@pytest.mark.parametrize(
    "option",
    [
        ["--precision", "8"], ["--min-tissue", "0"], ["--readers", "-1"], ["--batch-size", "0"], ["--mpp", "40"],
        ["--shard", "5/3"], ["--encoder", "UNI"], ["--magnifications", "10", "40"], ["--tissue", "nothing"],
    ],
)  # fmt: skip
def test_an_invalid_option_is_named_in_one_line(make_slide, capsys, option):
    make_slide("in/a.tif", **SMALL)
    assert main(["extract", "in", "--out", "f.zarr", *option]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"dmml: error: {option[0]}")
    assert printed.count("\n") == 1
