"""Slides on object storage: the store is that of the local folder, and the staging folder stays small."""

import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from s3_server import BUCKET, empty_bucket, s3_server, upload

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.slides.extraction.extract import extract
from dmml.slides.extraction.slide_writer import SlideWriter
from dmml.slides.reading import storage_watch
from dmml.slides.staging import download, staged_slides
from dmml.slides.staging.staging_folder import StagingFolder
from dmml.slides.storage import lost_storage

SMALL = {"size": (448, 448), "boxes": ((64, 64, 320, 320),), "levels": (1,)}


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    monkeypatch.setattr(lost_storage, "RETRY_WAITS_S", (0.05, 0.1))
    monkeypatch.setattr(storage_watch, "_POLL_S", 0.05)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    with empty_bucket(server, monkeypatch) as files:
        yield files


@pytest.fixture
def were_complete(monkeypatch):
    """Whether each file that was about to be downloaded was there already."""
    real, answers = download.is_complete, []

    def noted(path, file):
        answers.append(real(path, file))
        return answers[-1]

    monkeypatch.setattr(download, "is_complete", noted)
    return answers


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def states(path="failures.csv"):
    table = pd.read_csv(path)
    return dict(zip(table["file"], table["state"], strict=True))


def left_over(folder="staging"):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


@pytest.mark.slow
def test_the_store_is_that_of_the_local_folder_byte_for_byte(make_slide, small_encoder, s3):
    for name in ("a", "sub/b", "sub/c"):
        make_slide(f"in/{name}.tif", **SMALL)
    make_slide("in/glass.tif", **{**SMALL, "boxes": ()})
    Path("in/broken.svs").write_bytes(b"no slide")
    Path("in/notes.txt").write_text("no slide, either")
    url = upload(s3, "in")
    local = extract(["in"], "local.zarr", small_encoder)
    for readers in (0, 2):
        result = extract([url], f"s3_{readers}.zarr", small_encoder, staging="staging", readers=readers)
        assert contents(f"s3_{readers}.zarr") == contents("local.zarr")
        assert (sorted(result.written), [path.name for path in result.ignored]) == (["a", "b", "c"], ["notes.txt"])
        assert left_over() == []
    assert {file.replace(url, "in"): state for file, state in states("s3_0.failures.csv").items()} == {
        failure.file: failure.state for failure in local.failures
    }
    assert f"{url}/broken.svs" in states("s3_0.failures.csv")
    reasons = pd.read_csv("s3_0.failures.csv")["reason"]
    assert not reasons.str.contains("staging").any()
    # The store of the folder is continued from the bucket, and the other way round.
    assert sorted(extract([url], "local.zarr", small_encoder, staging="staging").skipped) == ["a", "b", "c"]
    assert sorted(extract(["in"], "s3_0.zarr", small_encoder).skipped) == ["a", "b", "c"]


def test_a_changed_object_is_extracted_again_and_one_of_another_time_is_not(
    make_slide, small_encoder, s3, were_complete
):
    path = make_slide("in/a.tif", **SMALL)
    url = upload(s3, "in")
    extract([url], "f.zarr", small_encoder)
    os.utime(path, (1, 1))
    time.sleep(1.1)  # objects have times in whole seconds
    upload(s3, "in")
    were_complete.clear()
    assert extract([url], "f.zarr", small_encoder).skipped == ["a"]
    assert were_complete == []
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    time.sleep(1.1)
    upload(s3, "in")
    assert extract([url], "f.zarr", small_encoder).changed == ["a"]
    assert were_complete == [False]


@pytest.mark.slow
def test_slides_are_downloaded_ahead_within_the_limit(make_slide, small_encoder, s3, monkeypatch):
    for name in "abcdef":
        make_slide(f"in/{name}.tif", **SMALL)
    url, size = upload(s3, "in"), max(path.stat().st_size for path in Path("in").iterdir())
    start, seen = type(small_encoder).start, []

    def watched(self, tiles):
        time.sleep(0.2)
        seen.append(sum(path.stat().st_size for path in left_over() if path.name != ".lock"))
        return start(self, tiles)

    monkeypatch.setattr(type(small_encoder), "start", watched)
    for n_slides in (1, 2):
        seen.clear()
        limit = (n_slides + 0.5) * size / 2**30
        result = extract([url], f"{n_slides}.zarr", small_encoder, staging="staging", staging_gib=limit, batch_size=4)
        assert sorted(result.written) == list("abcdef")
        assert 0 < max(seen) <= limit * 2**30
    assert max(seen) > size  # two at the same time: one while the other is encoded
    assert contents("1.zarr") == contents("2.zarr")
    result = extract([url, "in/a.tif"], "none.zarr", small_encoder, staging_gib=0.5 * size / 2**30, shard="1/1")
    assert {failure.state for failure in result.failures} >= {"duplicate_stem", "too_large"}


def test_what_a_killed_run_left_is_used_again_or_removed(make_slide, small_encoder, s3, were_complete, monkeypatch):
    make_slide("in/a.tif", **SMALL)
    make_slide("in/b.tif", **SMALL)
    url = upload(s3, "in")
    with monkeypatch.context() as patch:
        patch.setattr(
            StagingFolder, "close", lambda self: os.close(self._lock)
        )  # as the kernel does with a dead process
        patch.setattr(staged_slides, "remove_file", lambda path, was_read: None)
        extract([url], "f.zarr", small_encoder, staging="staging")
    (left,) = Path("staging").glob("run-*/[!.]*")
    (left / "gone.tif").write_bytes(b"of another run")
    (left / "c.tif.part").write_bytes(b"half")
    shutil.copytree(left.parent, "staging/run-zzz")
    assert {path.name for path in left_over(left)} == {"a.tif", "b.tif", "gone.tif", "c.tif.part"}
    names, start = [], type(small_encoder).start

    def watched(self, tiles):
        names.append({path.name for path in left_over() if path.name != ".lock"})
        return start(self, tiles)

    monkeypatch.setattr(type(small_encoder), "start", watched)
    were_complete.clear()
    result = extract([url], "g.zarr", small_encoder, staging="staging")
    assert sorted(result.written) == ["a", "b"]
    assert were_complete == [True, True]  # nothing is downloaded again
    assert set().union(*names) <= {"a.tif", "b.tif"}
    assert left_over() == []


def test_a_slide_that_only_has_to_be_written_makes_room_for_the_next(make_slide, small_encoder, s3, monkeypatch):
    """A run died between the encoder and the store; nothing is read of this slide, so no last tile gives room back."""
    for name in "ab":
        make_slide(f"in/{name}.tif", **SMALL)
    url, size = upload(s3, "in"), max(path.stat().st_size for path in Path("in").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(SlideWriter, "write", lambda *slide: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract([url], "f.zarr", small_encoder, staging_gib=1.5 * size / 2**30)
    result = extract([url], "f.zarr", small_encoder, staging_gib=1.5 * size / 2**30)
    assert (sorted(result.written), result.resumed_tiles > 0) == (["a", "b"], True)


def test_a_folder_in_use_is_left_alone(tmp_path):
    one = StagingFolder(tmp_path, 1)
    two = StagingFolder(tmp_path, 1)
    assert one.path != two.path
    one.close()
    assert two.path.is_dir()
    two.close()


def test_room_is_given_in_the_order_of_tickets(tmp_path):
    """A later slide that took the room of an earlier one would wait for it for ever."""
    folder = StagingFolder(tmp_path, 100 / 2**30)
    tickets, order = [folder.ticket() for _ in range(4)], []

    def take(number):
        folder.take(tickets[number], 60, Path("s.svs"))
        order.append(number)
        time.sleep(0.02)
        folder.give_back(60)

    threads = [threading.Thread(target=take, args=[number]) for number in (3, 2, 1, 0)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3]
    folder.close()


def test_shards_divide_a_bucket(make_slide, small_encoder, s3):
    names = [f"s{number}" for number in range(6)]
    for name in names:
        make_slide(f"in/{name}.tif", **SMALL)
    url = upload(s3, "in")
    local = extract(["in"], "local.zarr", small_encoder, shard="1/2").written
    parts = [extract([url], "f.zarr", small_encoder, shard=part).written for part in ("1/2", "2/2")]
    assert sorted(parts[0]) == sorted(local)
    assert sorted([*parts[0], *parts[1]]) == names


def test_a_single_object_and_a_manifest(make_slide, small_encoder, s3, tmp_path):
    for name in "ab":
        make_slide(f"in/{name}.tif", mpp=None, **SMALL)
    url = upload(s3, "in")
    (tmp_path / "m.csv").write_text("slide_id,mpp\nb,0.5\n")
    assert extract([url], "f.zarr", small_encoder, manifest="m.csv").written == ["b"]
    assert extract([f"{url}/a.tif"], "f.zarr", small_encoder, mpp=0.5).written == ["a"]


@pytest.mark.slow
def test_dicom_files_of_a_series_are_one_slide(small_encoder, s3, shared_data):
    from dicom_slides import write_dicom
    from drawn_slides import paint_tissue

    header = next((shared_data / "slides").rglob("*.dcm"))
    os.mkdir("in")
    picture = paint_tissue(512, 512, ((64, 64, 384, 384),))
    for name in ("one", "two"):
        write_dicom(Path("in", f"{name}.dcm"), picture, header)
    url = upload(s3, "in")
    local, remote = (extract([where], f"{name}.zarr", small_encoder) for where, name in (("in", "l"), (url, "r")))
    assert local.written == remote.written
    assert [path.name for path in local.ignored] == [path.name for path in remote.ignored]
    assert contents("l.zarr") == contents("r.zarr")
    assert extract([url], "r.zarr", small_encoder).skipped == local.written


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://nowhere/in", r"s3://nowhere/in: no such bucket, folder or file .*bucket does not exist"),
        (f"s3://{BUCKET}/nothing", r"no such bucket, folder or file"),
        ("ftpx://host/in", r"ftpx://host/in: cannot be listed .*ftpx"),
        ("http://127.0.0.1:9/in/", r"http://127\.0\.0\.1:9/in/: cannot be listed"),
    ],
)
def test_urls_that_cannot_be_listed_are_one_line(s3, capsys, url, message):
    assert main(["extract", url, "--out", "f.zarr"]) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(message, error)
    assert len(error.splitlines()) == 1
    assert not Path("f.zarr").exists()


def test_wrong_credentials_are_one_line(make_slide, small_encoder, s3, monkeypatch):
    from moto import settings
    from moto.core.responses import ActionAuthenticatorMixin

    make_slide("in/a.tif", **SMALL)
    url = upload(s3, "in")
    s3.clear_instance_cache()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    with pytest.raises(InputError, match=r"access is refused .*check the credentials"):
        extract([url], "f.zarr", small_encoder)


def test_a_missing_package_is_one_line(s3, small_encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(InputError, match=r"a package to read s3:// is missing .*pip install 'dmml\[s3\]'"):
        extract(["s3://slides/in"], "f.zarr", small_encoder)
    assert not Path("f.zarr").exists()
