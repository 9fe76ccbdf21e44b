"""Storage that fails: slides are tried again, recorded if they stay lost, and a folder that is gone stops the run."""

import errno
import os
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from dmml.errors import InputError
from dmml.slides.extraction.extract import extract
from dmml.slides.reading import storage_watch
from dmml.slides.reading.tile_reading import SlideSource
from dmml.slides.slide_error import SlideError
from dmml.slides.storage import lost_storage
from dmml.slides.storage.lost_storage import StorageProbe, lost_errno
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_groups import tile_groups
from dmml.slides.wsi.slide import Slide

SMALL = {"size": (448, 448), "boxes": ((64, 64, 320, 320),), "levels": (1,)}
DOES_NOT_ANSWER = "/proc/self/mem"
"""A file whose first byte cannot be read: the kernel answers with EIO"""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(lost_storage, "RETRY_WAITS_S", (0.05, 0.1))
    monkeypatch.setattr(storage_watch, "_POLL_S", 0.05)


def states():
    table = pd.read_csv("failures.csv")
    return {Path(file).name: state for file, state in zip(table["file"], table["state"], strict=True)}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_file_that_gives_input_output_errors_is_recorded_and_the_others_are_extracted(make_slide, small_encoder):
    make_slide("in/a.tif", **SMALL)
    os.symlink(DOES_NOT_ANSWER, "in/b.tif")
    make_slide("in/c.tif", **SMALL)
    result = extract(["in"], "f.zarr", small_encoder)
    assert result.written == ["a", "c"]
    assert states() == {"b.tif": "storage_lost"}
    assert os.strerror(errno.EIO) in result.failures[0].reason
    os.unlink("in/b.tif")
    make_slide("in/b.tif", **SMALL)
    assert extract(["in"], "f.zarr", small_encoder).written == ["b"]
    assert states() == {}


def test_errors_of_storage_are_found_among_the_causes_of_an_error():
    with (
        pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught,
        open(DOES_NOT_ANSWER, "rb", buffering=0) as file,
    ):
        file.read(1)
    outer = ValueError("not a TIFF")
    outer.__cause__ = caught.value
    assert lost_errno(outer) is caught.value
    assert lost_errno(ValueError("not a TIFF")) is None
    assert lost_errno(PermissionError(errno.EACCES, "no")) is None


def test_a_damaged_file_on_sound_storage_is_not_called_lost(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"no slide")
    StorageProbe(tmp_path / "a.svs").check(ValueError("damaged"), is_thorough=True)


def test_a_slide_that_vanishes_while_it_is_read_is_lost_and_read_again_when_it_is_back(make_slide, tmp_path):
    path = make_slide("a.tif")
    request = SlideRequest(path, (10, 20), is_listed=True)
    source = SlideSource()
    layout = source.lay_out(request)
    group = next(tile_groups(layout.tiles))
    source.close()
    path.rename(tmp_path / "away")
    with pytest.raises(SlideError, match="the file has vanished") as caught:
        source.read(request, group)
    assert caught.value.state == "storage_lost"
    threading.Timer(0.06, (tmp_path / "away").rename, [path]).start()
    assert source.read(request, group).n_unreadable == 0
    source.close()


def test_an_open_slide_whose_file_is_gone_is_lost_and_can_be_closed(make_slide):
    """What is still open shows nothing any more, as after a folder was unmounted."""
    path = make_slide("a.tif")
    slide = Slide(path)
    os.truncate(path, 0)
    path.unlink()
    with pytest.raises(SlideError, match="the file has vanished") as caught:
        slide.read(112, 112, 224, 224, 0.5)
    assert caught.value.state == "storage_lost"
    slide.close()
    slide.close()


def test_a_file_that_is_cut_while_it_is_open_gives_no_tiles(make_slide):
    """Not those of two different files."""
    from dataclasses import replace

    path = make_slide("a.tif")
    request = SlideRequest(path, (10, 20), is_listed=True)
    source = SlideSource()
    layout = source.lay_out(request)
    laid = layout.attributes["source_bytes"], layout.attributes["source_time"]
    os.truncate(path, laid[0] // 2)
    other_reader = SlideSource()
    with pytest.raises(SlideError, match="has changed while it was read") as caught:
        other_reader.read(replace(request, laid_out_on=laid), next(tile_groups(layout.tiles)))
    assert caught.value.state == "storage_lost"


@pytest.mark.slow
def test_a_folder_that_is_away_for_a_while_changes_nothing(make_slide, small_encoder, monkeypatch):
    """The store is that of an undisturbed run, and no slide is recorded as missing."""
    for name in "abcdef":
        make_slide(f"in/{name}.tif", **SMALL)
    extract(["in"], "whole.zarr", small_encoder)
    start, calls = type(small_encoder).start, []

    def moves_the_folder(self, tiles):
        calls.append(1)
        if len(calls) == 1:
            os.rename("in", "away")
            threading.Timer(1.0, os.rename, ["away", "in"]).start()
        return start(self, tiles)

    monkeypatch.setattr(type(small_encoder), "start", moves_the_folder)
    result = extract(["in"], "f.zarr", small_encoder, batch_size=4)
    assert (sorted(result.written), result.failures) == (list("abcdef"), [])
    assert contents("whole.zarr") == contents("f.zarr")
    assert not Path("f.failures.csv").exists() or pd.read_csv("f.failures.csv").empty


@pytest.mark.slow
def test_a_folder_that_stays_away_stops_the_run_and_marks_no_slide_as_missing(make_slide, small_encoder, monkeypatch):
    names = [f"s{number:02}" for number in range(40)]
    slide = make_slide("s.tif", **SMALL)
    os.mkdir("in")
    for name in names:
        os.link(slide, f"in/{name}.tif")
    start, moved = type(small_encoder).start, []

    def moves_the_folder(self, tiles):
        if not moved:
            os.rename("in", "away")
            os.mkdir("in")  # a folder that was unmounted still exists, empty
            moved.append(1)
        return start(self, tiles)

    with monkeypatch.context() as patch:
        patch.setattr(type(small_encoder), "start", moves_the_folder)
        begin = time.monotonic()
        with pytest.raises(InputError, match=r"in: its slides could not be reached for 0\.02 min; no slide is lost"):
            extract(["in"], "f.zarr", small_encoder, batch_size=4, storage_wait=0.02)
        assert time.monotonic() - begin >= 1.2
    assert "missing" not in states().values()
    assert len(states()) <= 3
    os.rmdir("in")
    os.rename("away", "in")
    result = extract(["in"], "f.zarr", small_encoder)
    assert sorted([*result.written, *result.skipped]) == names
    assert states() == {}


def test_a_folder_that_goes_away_during_the_first_check_stops_the_run(make_slide, small_encoder, monkeypatch):
    for name in "abc":
        make_slide(f"in/{name}.tif", **SMALL)
    check = SlideSource.check

    def moves_the_folder(self, request):
        if Path("in").exists():
            os.rename("in", "away")
        return check(self, request)

    monkeypatch.setattr(SlideSource, "check", moves_the_folder)
    with pytest.raises(InputError, match="could not be reached for 0 min"):
        extract(["in"], "f.zarr", small_encoder, storage_wait=0)
    assert not Path("failures.csv").exists()
    assert not Path("f.zarr").exists()
