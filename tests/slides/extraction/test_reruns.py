"""Second runs, second processes and logs of jobs: changed scales, up-to-date lists, slides that are done once."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.slides.discovery.discover import discover_slides
from dmml.slides.extraction import progress
from dmml.slides.extraction.extract import extract
from dmml.slides.extraction.progress import Progress
from dmml.slides.extraction.slide_locks import SlideLocks
from dmml.slides.failures import write_text
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import SlideRequest
from dmml.store import FeatureStore


def states(path="failures.csv"):
    """{file: state}."""
    table = pd.read_csv(path)
    return dict(zip(table["file"], table["state"], strict=True))


@pytest.fixture
def picture(make_slide, tmp_path):
    """A plain image, which does not state its scale."""
    with Image.open(make_slide("in/a.tif")) as image:
        image.save(tmp_path / "plain.png")
    return "plain.png"


def test_a_scale_other_than_the_earlier_one_is_refused(picture, small_encoder):
    extract([picture], "f.zarr", small_encoder, mpp=0.5)
    with pytest.raises(
        InputError, match=r"plain\.png: f\.zarr holds it at 0\.5 µm/px \(--mpp\), but its scale is now given as 0\.25"
    ):
        extract([picture], "f.zarr", small_encoder, mpp=0.25)
    assert extract([picture], "f.zarr", small_encoder, mpp=0.5).skipped == ["plain"]
    assert extract([picture], "f.zarr", small_encoder).skipped == ["plain"], "what it is known by is there"
    extract([picture], "f.zarr", small_encoder, mpp=0.25, overwrite=True)
    assert FeatureStore("f.zarr").slide_attributes("plain")["mpp"] == 0.25


def test_the_manifest_s_scale_takes_precedence_and_is_named_as_the_source(picture, make_slide, small_encoder):
    make_slide("in/b.tif", mpp=0.4)
    Path("m.csv").write_text("slide_id,mpp\nplain,0.3\nb,0.9\n")
    extract([picture, "in/b.tif"], "f.zarr", small_encoder, mpp=0.5, manifest="m.csv")
    attributes = {name: FeatureStore("f.zarr").slide_attributes(name) for name in ("plain", "b")}
    assert (attributes["plain"]["mpp"], attributes["plain"]["mpp_source"]) == (0.3, "manifest")
    assert attributes["b"]["mpp"] == pytest.approx(0.4, rel=1e-3), "a slide that tells its own is believed"
    Path("m.csv").write_text("slide_id,mpp\nplain,0.31\nb,0.8\n")
    with pytest.raises(InputError, match=r"0\.3 µm/px \(manifest\), but its scale is now given as 0\.31"):
        extract([picture, "in/b.tif"], "f.zarr", small_encoder, manifest="m.csv")


def test_features_that_are_not_finite_are_a_recorded_state(make_slide, small_encoder, monkeypatch):
    for name in "abc":
        make_slide(f"in/{name}.tif")
    finish, seen = type(small_encoder).finish, []

    def spoiled(self, started):
        values = finish(self, started).copy()
        seen.append(len(values))
        if len(seen) == 1:
            values[3, 5] = np.inf
        return values

    with monkeypatch.context() as patch:
        patch.setattr(type(small_encoder), "finish", spoiled)
        result = extract(["in"], "f.zarr", small_encoder, batch_size=8)
    assert result.written == ["b", "c"]
    assert states() == {"in/a.tif": "not_finite"}
    assert "another encoder" in result.failures[0].reason
    assert extract(["in"], "f.zarr", small_encoder).written == ["a"]
    assert states() == {}


def test_failures_of_renamed_files_are_removed_whatever_the_spelling_of_the_path(make_slide, small_encoder, tmp_path):
    good = make_slide("in/good.tif")
    Path("in/bad.svs").write_bytes(b"no slide")
    shutil.copy(good, "in/empty.svs")
    Path("in/empty.svs").write_bytes(b"")
    extract(["in"], "f.zarr", small_encoder)
    assert set(states()) == {"in/bad.svs", "in/empty.svs"}
    Path("in/bad.svs").rename("in/worse.svs")
    extract([tmp_path / "in"], "f.zarr", small_encoder)
    assert set(states()) == {str(tmp_path / "in" / name) for name in ("worse.svs", "empty.svs")}
    Path("in/empty.svs").unlink()
    make_slide("in/empty.tif")
    extract(["in"], "f.zarr", small_encoder)
    assert set(states()) == {"in/worse.svs"}


def test_failures_on_a_disk_that_is_not_mounted_are_kept(make_slide, small_encoder):
    make_slide("in/a.tif")
    row = ["elsewhere/b.svs", "unopenable", "elsewhere/b.svs: no slide"]
    pd.DataFrame([row], columns=["file", "state", "reason"]).to_csv("failures.csv", index=False)
    extract(["in"], "f.zarr", small_encoder)
    assert states() == {"elsewhere/b.svs": "unopenable"}


def test_the_precision_of_a_loaded_encoder_is_recorded(make_slide, small_encoder, monkeypatch):
    make_slide("in/a.tif")
    monkeypatch.setattr(small_encoder, "precision", "bf16")
    extract(["in"], "f.zarr", small_encoder)
    assert FeatureStore("f.zarr").attributes["extraction"]["precision"] == "bf16"
    monkeypatch.setattr(small_encoder, "precision", "32")
    with pytest.raises(InputError, match="precision"):
        extract(["in"], "f.zarr", small_encoder)


def test_the_failure_recorded_by_another_process_is_kept(make_slide, small_encoder, tmp_path):
    for name in ("a", "b"):
        make_slide(f"in/{name}.tif")
    pd.DataFrame([["in/a.tif", "unreadable", "in/a.tif: theirs"]], columns=["file", "state", "reason"]).to_csv(
        "failures.csv", index=False
    )
    code = "import sys,time\nfrom dmml.slides.extraction.slide_locks import SlideLocks\nlocks=SlideLocks('f.zarr')\nprint(locks.acquire('a'),flush=True)\ntime.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        assert extract(["in"], "f.zarr", small_encoder).locked == ["a"]
        assert states() == {"in/a.tif": "unreadable"}
    finally:
        other.kill()
        other.wait()


TWO = """
import sys, time
import timm, torch
from dmml.slides.encoders.torch_encoder import TorchEncoder
from dmml.slides.extraction.extract import extract

torch.manual_seed(1)
model = timm.create_model("test_efficientnet", num_classes=0)
encoder = TorchEncoder("small", model, {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 96}, device="cpu")
print("ready", flush=True)
sys.stdin.readline()
print(*sorted(extract(["in"], "f.zarr", encoder, batch_size=16).written))
"""


@pytest.mark.slow
def test_two_extractions_at_the_same_time_do_every_slide_once(make_slide, small_encoder, tmp_path):
    """Into a store that neither has created yet."""
    for i in range(8):
        make_slide(f"in/s{i}.tif")
    runs = [
        subprocess.Popen([sys.executable, "-c", TWO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.stdout.readline() for run in runs] == ["ready\n"] * 2
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    written = [run.communicate(timeout=120)[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(written[0] + written[1]) == [f"s{i}" for i in range(8)]
    assert FeatureStore("f.zarr").slides() == [f"s{i}" for i in range(8)]


def test_two_extractions_that_overwrite_do_every_slide_once(make_slide, small_encoder, monkeypatch):
    """The other one runs between this one's first check and its first lock, and extracts one slide of two."""
    for name in "ab":
        make_slide(f"in/{name}.tif")
    extract(["in"], "f.zarr", small_encoder)
    real, once = SlideLocks.acquire, []

    def acquire(self, slide_id):
        if not once:
            once.append(slide_id)
            assert extract(["in/b.tif"], "f.zarr", small_encoder, overwrite=True).written == ["b"]
        return real(self, slide_id)

    monkeypatch.setattr(SlideLocks, "acquire", acquire)
    result = extract(["in"], "f.zarr", small_encoder, overwrite=True)
    assert (result.written, result.skipped) == (["a"], ["b"])
    assert extract(["in"], "f.zarr", small_encoder, overwrite=True).written == ["a", "b"]


def test_a_rank_without_a_usable_slide_does_not_end_the_others(make_slide, small_encoder):
    make_slide("in/a.tif")
    Path("in/b.svs").write_bytes(b"no slide")
    shares = {name: 0 for name in ("1/2", "2/2")}
    for shard in shares:
        shares[shard] = len(extract(["in/b.svs", "in/a.tif"], f"{shard[0]}.zarr", small_encoder, shard=shard).failures)
    assert sum(shares.values()) == 1
    alone = next(shard for shard, failures in shares.items() if failures)
    result = extract(["in/b.svs"], "alone.zarr", small_encoder, shard=alone)
    assert (result.written, len(result.failures)) == ([], 1)
    with pytest.raises(InputError, match="--strict"):
        extract(["in/b.svs"], "alone.zarr", small_encoder, shard=alone, strict=True)


def test_without_a_terminal_the_log_shows_the_progress(monkeypatch, caplog):
    caplog.set_level("INFO", "dmml")
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(10, interval=60) as progress_of_run:
        progress_of_run.slide(600)
        now[0] += 30
        progress_of_run.tile("b", 100, 0, 600)
        now[0] += 60
        progress_of_run.tile("b", 300, 0, 600)
        progress_of_run.tile("b", 301, 0, 600)
        now[0] += 60
        progress_of_run.tile(
            "c", 500, 350, 600
        )  # an earlier run had encoded 350 of its tiles, which says nothing of the speed
    lines = caplog.messages
    assert [line.partition(", about")[0] for line in lines] == [
        "slides: 1 of 10, 10 tiles/s",
        "slides: 1 of 10, 5 tiles/s",
    ]
    assert lines[0].endswith("about 8 min left")


def test_an_encoder_pre_trained_on_the_slides_is_reported_at_the_start(make_slide, capsys):
    make_slide("in/TCGA-05-4244-01Z-00-DX1.tif")
    try:
        main(["extract", "in", "--out", "f.zarr", "--encoder", "ctranspath", "--dry-run"])
    except SystemExit:
        pass
    assert "ctranspath was pre-trained on TCGA" in capsys.readouterr().err


def test_a_path_that_cannot_be_written_is_reported_in_one_line(make_slide, small_encoder, tmp_path):
    make_slide("in/a.tif")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out: the lock file .*claims cannot be written"):
        extract(["in"], "file/f.zarr", small_encoder)


def test_a_full_disk_leaves_no_partial_list(tmp_path, monkeypatch):
    def full(self, *args, **options):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left"):
        write_text(str(tmp_path / "failures.csv"), "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_reported(make_slide, small_encoder, monkeypatch):
    import fcntl

    make_slide("in/a.tif")
    monkeypatch.setattr(
        fcntl, "lockf", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks available"))
    )
    result = extract(["in"], "f.zarr", small_encoder)
    assert result.written == ["a"]
    assert any("--shard" in warning for warning in result.warnings)
    with SlideLocks("g.zarr") as locks:
        assert locks.acquire("a")
        locks.release("a")


def test_a_changed_slide_that_fails_is_reported_as_outdated(make_slide, capsys, shared_data):
    path = make_slide("in/a.tif")
    make_slide("in/b.tif")
    assert main(["extract", "in", "--out", "f.zarr", "--readers", "0"]) == 0
    path.write_bytes(b"no slide any more")
    capsys.readouterr()
    assert main(["extract", "in", "--out", "f.zarr", "--readers", "0"]) == 0
    out = capsys.readouterr().out
    assert "the store still holds their earlier features: a" in out
    assert "extracted again" not in out


def test_a_reader_that_cannot_start_does_not_keep_the_others_waiting(monkeypatch):
    from dmml.slides.reading import reader_pool as module

    begun = []

    class Fails(module.ReaderProcess):
        def __init__(self):
            begun.append(1)
            if len(begun) == 1:
                raise OSError("no more processes")
            super().__init__()

    monkeypatch.setattr(module, "ReaderProcess", Fails)
    with ReaderPool(2) as readers:
        readers.start()
    assert len(begun) == 2
    begun.clear()
    with ReaderPool(1) as readers, pytest.raises(SlideError, match="fewer --readers"):
        readers.lay_out(SlideRequest(Path("a.tif"), (20,))).result()


def test_dicom_series_in_two_folders_are_compared_as_series(shared_data, tmp_path):
    """Every file of a series opens the whole slide; equal names of files of two series do not matter."""
    source = shared_data / "slides" / "openslide_fixtures"
    for i in (0, 1):
        (tmp_path / "one").mkdir(exist_ok=True)
        shutil.copy(source / f"boxes_{i}.dcm", tmp_path / "one" / f"DCM_{i}.dcm")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    with ReaderPool() as readers:
        discovery = discover_slides([tmp_path], lambda path: 0.5, (20,), readers)
    assert [path.name for path in discovery.usable] == ["DCM_0.dcm"], "the copy is of the same series"
    assert not [failure for failure in discovery.failures if failure.state == "duplicate_stem"]
