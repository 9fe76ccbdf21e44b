"""Downloads over a real HTTP server that breaks off, lies, or is away for a while; and a disk that is full."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dmml.errors import InputError
from dmml.slides.extraction.extract import extract
from dmml.slides.reading import storage_watch
from dmml.slides.slide_error import SlideError
from dmml.slides.staging.companions import companions_of
from dmml.slides.staging.download import Downloader
from dmml.slides.staging.remote_files import RemoteFile, list_remote
from dmml.slides.storage import lost_storage

SMALL = {"size": (448, 448), "boxes": ((64, 64, 320, 320),), "levels": (1,)}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(lost_storage, "RETRY_WAITS_S", (0.05, 0.1))
    monkeypatch.setattr(storage_watch, "_POLL_S", 0.05)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; `n_cut` responses to come end after half of the file, and `etag` is that of every file."""

    n_cut = 0
    cut_name = ""
    etag = ""

    def log_message(self, *arguments):
        pass

    def end_headers(self):
        if Handler.etag:
            self.send_header("ETag", f'"{Handler.etag}"')
        super().end_headers()

    def copyfile(self, source, outputfile):
        content = source.read()
        if Handler.n_cut and self.path.endswith(Handler.cut_name):
            Handler.n_cut -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        outputfile.write(content)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """URL of the working folder."""
    monkeypatch.setattr(Handler, "n_cut", 0)
    monkeypatch.setattr(Handler, "etag", "")
    monkeypatch.setattr(Handler, "cut_name", ".tif")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_of_a_web_server_is_read_and_broken_downloads_are_repeated(make_slide, small_encoder, web):
    for name in "ab":
        make_slide(f"in/{name}.tif", **SMALL)
    Handler.n_cut = 2
    result = extract([f"{web}/in/"], "f.zarr", small_encoder, staging="staging")
    assert (sorted(result.written), result.failures, Handler.n_cut) == (["a", "b"], [], 0)
    assert extract([f"{web}/in/"], "f.zarr", small_encoder, staging="staging").skipped == ["a", "b"]


def test_a_slide_that_cannot_be_downloaded_is_recorded_and_the_others_are_extracted(make_slide, small_encoder, web):
    for name in "abc":
        make_slide(f"in/{name}.tif", **SMALL)
    Handler.n_cut, Handler.cut_name = 1000, "b.tif"
    result = extract([f"{web}/in/"], "f.zarr", small_encoder, staging="staging")
    assert sorted(result.written) == ["a", "c"]
    (failure,) = result.failures
    assert (failure.file, failure.state) == (f"{web}/in/b.tif", "not_downloaded")
    assert failure.reason.startswith(f"{web}/in/b.tif: cannot be downloaded")
    Handler.n_cut = 0
    assert extract([f"{web}/in/"], "f.zarr", small_encoder, staging="staging").written == ["b"]


def test_a_file_that_differs_from_its_md5_is_refused(tmp_path, web):
    (tmp_path / "x.bin").write_bytes(b"content")
    files = list_remote(f"{web}/x.bin").file_system
    certain = RemoteFile(f"{web}/x.bin", 7, 10**9, hashlib.md5(b"another").hexdigest())
    with pytest.raises(SlideError, match=r"its MD5 is .* instead of") as caught:
        Downloader().download(files, certain, tmp_path / "out" / "x.bin")
    assert caught.value.state == "not_downloaded"
    assert list((tmp_path / "out").iterdir()) == []


def test_an_etag_that_is_no_md5_costs_one_more_download_only(tmp_path, web):
    """As with objects that a store encrypts with keys of its own."""
    Handler.etag = "0" * 32
    for name in ("x.bin", "y.bin"):
        (tmp_path / name).write_bytes(b"content")
    folder, downloader = list_remote(f"{web}/x.bin"), Downloader()
    assert not folder.files["x.bin"].is_md5_certain
    downloader.download(folder.file_system, folder.files["x.bin"], tmp_path / "out" / "x.bin")
    assert (tmp_path / "out" / "x.bin").read_bytes() == b"content"
    assert not downloader._are_etags_md5


def test_a_full_staging_disk_is_one_line_and_stops_the_run(tmp_path, web):
    (tmp_path / "x.bin").write_bytes(bytes(100_000))
    folder = list_remote(f"{web}/x.bin")
    # A device on which every write fails with ENOSPC stands where the file would be written.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.bin.part").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"--staging .*out: the disk is full \(No space left on device\); make room"):
        Downloader().download(folder.file_system, folder.files["x.bin"], tmp_path / "out" / "x.bin")


def test_names_that_lead_out_of_the_folder_are_not_listed(tmp_path):
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("in/a.tif", "in/../b.tif", "in//c.tif"):
        files.pipe_file(f"/names/{name}", b"x")
    assert set(list_remote("memory://names/in").files) == {"a.tif"}


def test_files_that_belong_to_a_slide_of_several_files():
    names = ["s.mrxs", "s/Slidedat.ini", "s/Data0000.dat", "t/Data0000.dat", "k.vms", "k_map.jpg", "k.jpg", "other.jpg"]
    key = b"[Virtual Microscope Specimen]\r\nImageFile=k.jpg\r\nMapFile=k_map.jpg\r\nNoLayers=1\r\n"
    assert companions_of("s.mrxs", names, lambda name: b"") == ["s/Data0000.dat", "s/Slidedat.ini"]
    assert companions_of("k.vms", names, lambda name: key) == ["k.jpg", "k_map.jpg"]
    assert companions_of("a.svs", names, lambda name: b"") == []
