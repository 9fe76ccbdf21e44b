"""An interrupted run: tiles that it had encoded are not encoded again, and incomplete data are never used."""

import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmml.slides.discovery.discover import discover_slides
from dmml.slides.extraction import slide_writer
from dmml.slides.extraction.extract import extract
from dmml.slides.extraction.partial_features import PartialFeatures
from dmml.slides.extraction.slide_writer import SlideWriter
from dmml.slides.extraction.stream import EncodedSlide, encode_slides
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.tiling.layout import SlideRequest
from dmml.store import FeatureStore, SlideFeatures

DIGEST = bytes(range(32))
COUNTS, DIM = {10: 6, 20: 20}, 4


def files(folder):
    """{file: bytes} of a folder, including hidden files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def counted(small_encoder, monkeypatch):
    """Tiles of each batch that the encoder takes; `dies_at` is the batch at which the run is interrupted."""

    class Counted(list):
        dies_at = None

    batches, start = Counted(), type(small_encoder).start

    def counting(self, tiles):
        if len(batches) + 1 == batches.dies_at:
            batches.dies_at = None
            raise KeyboardInterrupt
        batches.append(len(tiles))
        return start(self, tiles)

    monkeypatch.setattr(type(small_encoder), "start", counting)
    return batches


def cut(counted, small_encoder, at, **options):
    """Extract until the encoder is given batch `at`."""
    counted.dies_at = at
    with pytest.raises(KeyboardInterrupt):
        extract(["in"], "cut.zarr", small_encoder, batch_size=8, **options)
    counted.clear()


@pytest.mark.slow
@pytest.mark.parametrize("readers", [0, 1])
def test_encoded_tiles_of_an_interrupted_slide_are_not_encoded_again(make_slide, small_encoder, counted, readers):
    for name in "ab":
        make_slide(f"in/{name}.tif")  # 18 tiles each
    extract(["in"], "whole.zarr", small_encoder)
    counted.clear()
    cut(counted, small_encoder, 5, readers=readers)
    # The fourth batch was on its way: three of 8 are known, all of the first slide and 6 tiles of the second.
    result = extract(["in"], "cut.zarr", small_encoder, batch_size=8, readers=readers)
    assert (result.skipped, result.written, result.resumed_tiles, sum(counted)) == (["a"], ["b"], 6, 12)
    assert files("whole.zarr") == files("cut.zarr")


def test_a_slide_that_was_encoded_but_not_written_is_only_written(make_slide, small_encoder, counted, monkeypatch):
    make_slide("in/a.tif")
    extract(["in"], "whole.zarr", small_encoder)
    with monkeypatch.context() as patch:
        patch.setattr(SlideWriter, "write", lambda *slide: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(["in"], "cut.zarr", small_encoder)
    assert list(files("cut.zarr")) == [".writing/.drafts/a"]
    counted.clear()
    result = extract(["in"], "cut.zarr", small_encoder)
    assert (result.written, result.resumed_tiles, result.tiles, sum(counted)) == (["a"], 18, 18, 0)
    assert files("whole.zarr") == files("cut.zarr")


@pytest.mark.slow
def test_unreadable_tiles_are_counted_alike_with_and_without_an_interruption(
    make_slide, small_encoder, counted, break_tile
):
    path = make_slide("in/a.tif", size=(2464, 1792), boxes=((0, 0, 2464, 1792),))
    break_tile(path, 24)
    extract(["in"], "whole.zarr", small_encoder)
    counted.clear()
    cut(counted, small_encoder, 9)
    result = extract(["in"], "cut.zarr", small_encoder)
    assert (result.written, result.resumed_tiles) == (["a"], 56)
    assert FeatureStore("cut.zarr").slide_attributes("a")["tiles_unreadable"] > 0
    assert files("whole.zarr") == files("cut.zarr")


def test_the_last_line_names_resumed_tiles_and_the_speed_of_the_others(capsys):
    from dmml.commands.extract import _report
    from dmml.slides.extraction.result import ExtractionResult

    _report("f.zarr", ExtractionResult(written=["a"], tiles=1800, resumed_tiles=1200, seconds=10))
    assert "1,800 tiles (1,200 of them kept from an interrupted run) at 60 per second" in capsys.readouterr().out
    _report("f.zarr", ExtractionResult(written=["a"], tiles=1800, seconds=10))
    assert "1,800 tiles at 180 per second" in capsys.readouterr().out


def change_slide(make_slide, small_encoder, monkeypatch):
    make_slide("in/a.tif", boxes=((448, 224, 896, 672),))
    return {}


def change_tiles(make_slide, small_encoder, monkeypatch):
    return {"magnifications": (20,)}


def change_encoder(make_slide, small_encoder, monkeypatch):
    monkeypatch.setattr(small_encoder, "weights", "other")
    return {}


def change_precision(make_slide, small_encoder, monkeypatch):
    monkeypatch.setattr(small_encoder, "precision", "bf16")
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("change", [change_slide, change_tiles, change_encoder, change_precision])
def test_partial_features_of_other_inputs_are_not_used(make_slide, small_encoder, counted, monkeypatch, change):
    make_slide("in/a.tif")
    cut(counted, small_encoder, 3)  # before any slide is whole, so that there is no store that would refuse
    options = change(make_slide, small_encoder, monkeypatch)
    result = extract(["in"], "cut.zarr", small_encoder, **options)
    assert (result.written, result.resumed_tiles) == (["a"], 0)
    assert sum(counted) == result.tiles > 0
    assert not Path("cut.zarr/.writing").exists()


def test_a_failing_slide_leaves_no_files(make_slide, small_encoder, monkeypatch):
    """Nor does a run without any usable slide leave a folder."""
    make_slide("in/a.tif")
    finish, calls = type(small_encoder).finish, []

    def nan_at_last(self, started):
        calls.append(1)
        return finish(self, started) * (np.nan if len(calls) == 3 else 1)

    monkeypatch.setattr(type(small_encoder), "finish", nan_at_last)
    with pytest.raises(Exception, match="gave NaN"):
        extract(["in"], "f.zarr", small_encoder, batch_size=8)
    assert not Path("f.zarr").exists()


def test_failures_are_listed_before_the_end(make_slide, small_encoder, counted, tmp_path):
    """When a run is interrupted: the failures of the first check, and those since."""
    for name in "bc":
        make_slide(f"in/{name}.tif")
    make_slide("in/a.tif", boxes=())
    (tmp_path / "in" / "broken.svs").write_bytes(b"nothing")
    cut(counted, small_encoder, 4)
    table = pd.read_csv("failures.csv")
    assert dict(zip(table["file"], table["state"], strict=True)) == {
        "in/a.tif": "no_tissue",
        "in/broken.svs": "unopenable",
    }


def test_a_shard_removes_only_its_own_leftovers(make_slide, small_encoder):
    """On a file system whose locks other machines do not see, a half-written slide may be another shard's work."""
    from dmml.slides.discovery.shards import Shard

    names = [f"s{i}" for i in range(8)]
    of_shard, of_other_shard = (next(name for name in names if Shard(i, 2).has(name)) for i in (0, 1))
    for name in (of_shard, of_other_shard):
        make_slide(f"in/{name}.tif")
    for name in (of_shard, of_other_shard, "gone"):
        (Path("f.zarr/.writing") / name / "10x").mkdir(parents=True)
    assert extract(["in"], "f.zarr", small_encoder, shard="1/2").written == [of_shard]
    assert FeatureStore("f.zarr").backend.unfinished_groups() == sorted(["gone", of_other_shard])
    assert extract(["in"], "f.zarr", small_encoder).written == [of_other_shard]
    assert FeatureStore("f.zarr").backend.unfinished_groups() == []


def parts(seed=0):
    """Rows and features of some tiles, in three parts."""
    rng = np.random.default_rng(seed)
    return [
        (m, np.array(rows), rng.standard_normal((len(rows), DIM)).astype(np.float16))
        for m, rows in ((10, [0, 3]), (20, [7, 8, 9]), (10, [5]))
    ]


def partial_features(path, digest=DIGEST):
    """Partial features, and the records that the file already held."""
    records = []
    return PartialFeatures(path, digest, COUNTS, DIM, lambda *part: records.append(part)), records


def written(path):
    """Write a file of three records, as a killed run leaves it."""
    partial, _ = partial_features(path)
    for part in parts():
        partial.add(*part)
    return path


def assert_same(records, expected):
    assert len(records) == len(expected)
    for (m, rows, features), (wanted_m, wanted_rows, wanted) in zip(records, expected, strict=True):
        assert m == wanted_m
        np.testing.assert_array_equal(rows, wanted_rows)
        np.testing.assert_array_equal(features, wanted)


def test_partial_features_continue_after_the_last_complete_record(tmp_path):
    whole = written(tmp_path / "whole").read_bytes()
    ends = [32, 32 + 12 + 2 * 12, 32 + 24 + 5 * 12, 32 + 36 + 6 * 12]
    assert len(whole) == ends[-1]
    for cut_at in range(len(whole) + 1):
        path = tmp_path / "cut"
        path.write_bytes(whole[:cut_at])
        (partial, records), kept = partial_features(path), sum(end <= cut_at for end in ends[1:])
        assert_same(records, parts()[:kept])
        for part in parts()[kept:]:
            partial.add(*part)
        assert path.read_bytes() == whole
        assert_same(partial_features(path)[1], parts())


def test_a_flipped_bit_is_detected(tmp_path):
    whole = written(tmp_path / "whole").read_bytes()
    for place in range(len(whole)):
        path = tmp_path / "flipped"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        _, records = partial_features(path)
        # A flipped magnification that there is not, or too few tiles: the record goes, and all after it.
        assert_same(records, parts()[: len(records)])
        assert len(records) < 3


def test_partial_features_of_another_slide_are_discarded(tmp_path):
    path = written(tmp_path / "a")
    partial, records = partial_features(path, digest=bytes(32))
    assert records == []
    assert path.read_bytes() == bytes(32)
    partial.remove()
    assert not path.exists()


@pytest.mark.parametrize("room", [0, 10, 32, 40])
def test_partial_features_that_cannot_be_written_are_given_up(tmp_path, room):
    partial, _ = partial_features(tmp_path / "no folder" / "a")
    partial.add(*parts()[0])
    path = tmp_path / "full"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # as a disk that is full after so many bytes
    try:
        partial, _ = partial_features(path)
        assert path.exists() == (room >= 32)
        partial.add(*parts()[0])
        assert not path.exists()
        partial.add(*parts()[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not path.exists()


def test_behind_a_url_no_partial_features_are_kept(make_slide, small_encoder, counted):
    make_slide("in/a.tif")
    counted.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        extract(["in"], "memory://cut/f.zarr", small_encoder, batch_size=8)
    counted.clear()
    result = extract(["in"], "memory://cut/f.zarr", small_encoder, batch_size=8)
    assert (result.resumed_tiles, sum(counted)) == (0, 18)


def test_encoding_works_where_no_partial_features_can_be_kept(make_slide, small_encoder):
    """As in a folder without permissions."""

    def nowhere(slide_id):
        raise PermissionError(13, "Permission denied")

    with ReaderPool() as readers:
        request = SlideRequest(make_slide("a.tif"), (10, 20))
        (slide,) = encode_slides([request], small_encoder, readers, partial_file_of=nowhere)
    assert slide.error is None
    assert slide.partial is None


@pytest.mark.parametrize(("tiles", "at_once"), [(10, slide_writer._MAX_PENDING), (10_000, 1)])
def test_small_slides_are_written_together_and_large_ones_one_by_one(tmp_path, monkeypatch, tiles, at_once):
    encoder = {"name": "x", "weights": "", "dim": 1024, "preprocessing": {}}
    store = FeatureStore.create(tmp_path / "f.zarr", encoder, {20: 0.5})
    lock, real, now, most, order = threading.Lock(), FeatureStore.write, [0], [0], []

    def slowly(*arguments, **options):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        real(*arguments, **options)
        with lock:
            now[0] -= 1

    class Laid:
        thumbnail, mask = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)

    monkeypatch.setattr(FeatureStore, "write", slowly)
    bag = SlideFeatures(np.zeros((tiles, 1024), np.float16), np.zeros((tiles, 2), np.float32))
    writer = SlideWriter(lambda: store, lambda slide: order.append(slide.request.path.stem))
    for i in range(8):
        writer.write(EncodedSlide(SlideRequest(Path(f"{i}.svs"), (20,)), {20: bag}, Laid))
    writer.finish()
    writer.close()
    assert most[0] == at_once
    assert order == store.slides() == [str(i) for i in range(8)]


@pytest.mark.slow
def test_a_file_that_stalls_at_opening_is_given_up_and_the_next_is_checked(make_slide, tmp_path):
    """A pipe that nobody writes to, as a mount that does not answer."""
    os.mkfifo(tmp_path / "stalled.svs")
    make_slide("in/a.tif")
    with ReaderPool(1, timeout=4.0) as readers:
        discovery = discover_slides([tmp_path / "stalled.svs", tmp_path / "in"], lambda path: None, (10, 20), readers)
    assert [path.name for path in discovery.usable] == ["a.tif"]
    assert [(Path(failure.file).name, failure.state) for failure in discovery.failures] == [
        ("stalled.svs", "no_answer")
    ]
