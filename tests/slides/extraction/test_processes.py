"""Several processes and machines: no slide is written twice, and a reader that dies fails one slide only."""

import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from dmml.errors import InputError
from dmml.slides.discovery.shards import Shard, shard_of
from dmml.slides.extraction.extract import extract
from dmml.slides.extraction.slide_locks import SlideLocks
from dmml.slides.reading.reader_pool import ReaderPool
from dmml.slides.slide_error import SlideError
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_groups import tile_groups
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from dmml.slides.extraction.slide_locks import SlideLocks
locks = SlideLocks(sys.argv[1])
print(locks.acquire("a"), locks.acquire("b"), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked the slides a and b."""
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "f.zarr")], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True True\n"
    yield other
    other.kill()
    other.wait()


def test_a_slide_locked_elsewhere_is_skipped_until_that_process_is_killed(make_slide, small_encoder, holder):
    for name in "abc":
        make_slide(f"in/{name}.tif")
    result = extract(["in"], "f.zarr", small_encoder)
    assert (result.locked, result.written) == (["a", "b"], ["c"])
    assert FeatureStore("f.zarr").slides() == ["c"]
    holder.kill()
    holder.wait()
    result = extract(["in"], "f.zarr", small_encoder)
    assert (result.locked, result.written, result.skipped) == ([], ["a", "b"], ["c"])


def test_a_slide_written_meanwhile_is_not_written_again(make_slide, small_encoder, monkeypatch):
    """Another process finishes a slide between the first check and the lock."""
    make_slide("in/a.tif")
    make_slide("in/b.tif")
    real, once = SlideLocks.acquire, []

    def acquire(self, slide_id):
        if slide_id == "b" and not once:
            once.append(1)
            extract(["in/b.tif"], "g.zarr", small_encoder)
            os.rename("g.zarr/slides/b", "f.zarr/slides/b")
        return real(self, slide_id)

    extract(["in/a.tif"], "f.zarr", small_encoder)
    monkeypatch.setattr(SlideLocks, "acquire", acquire)
    result = extract(["in"], "f.zarr", small_encoder)
    assert (result.written, sorted(result.skipped)) == ([], ["a", "b"])


def test_shards_are_disjoint_and_complete(make_slide, small_encoder):
    names = [f"s{i}" for i in range(6)]
    for name in names:
        make_slide(f"in/{name}.tif", size=(448, 448), boxes=((0, 0, 448, 448),), levels=(1,))
    written = []
    for part in ("1/3", "2/3", "3/3"):
        written += extract(["in"], "f.zarr", small_encoder, shard=part).written
    assert sorted(written) == names
    assert FeatureStore("f.zarr").slides() == names
    ids = [f"slide-{i}" for i in range(3000)]
    counts = [sum(Shard(i, 3).has(name) for name in ids) for i in range(3)]
    assert sum(counts) == 3000
    assert min(counts) > 900


def test_ranks_of_torchrun_and_srun_are_shards():
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}
    assert shard_of(None, torchrun) == Shard(3, 8, 1, "torchrun")
    srun = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0"}
    assert shard_of(None, srun) == Shard(2, 4, 0, "srun")
    assert shard_of("2/5", torchrun) == Shard(1, 5)
    # A batch script that runs once has SLURM_NTASKS too, and must not do a quarter of the work in silence.
    assert shard_of(None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}) is None
    assert shard_of(None, {**torchrun, "WORLD_SIZE": "1"}) is None
    for wrong in ("0/3", "4/3", "a/b", "3", "1/0"):
        with pytest.raises(InputError, match=r"--shard .*i/n"):
            shard_of(wrong, {})


def test_the_ranks_of_torchrun_share_the_slides(make_slide):
    """Two processes as torchrun starts them, each with the command's own encoder: one store, every slide once."""
    names = [f"s{i}" for i in range(6)]
    for name in names:
        make_slide(f"in/{name}.tif", size=(448, 448), boxes=((0, 0, 448, 448),), levels=(1,))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "dmml", "extract", "in", "--out", "f.zarr", "--readers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    written = [int(n) for n in re.findall(r"f\.zarr: (\d+) slides written", done.stdout)]
    shares = [sum(Shard(i, 2).has(name) for name in names) for i in range(2)]
    assert sorted(written) == sorted(shares)
    assert min(shares) > 0
    assert sorted(re.findall(r"part (\d) of 2 \(by torchrun\)", done.stdout)) == ["1", "2"]
    assert FeatureStore("f.zarr").slides() == names


def test_the_tasks_of_srun_share_the_slides(make_slide, small_encoder, monkeypatch):
    names = [f"s{i}" for i in range(6)]
    for name in names:
        make_slide(f"in/{name}.tif", size=(448, 448), boxes=((0, 0, 448, 448),), levels=(1,))
    written = []
    for task in "01":
        for name, value in {"PROCID": task, "STEP_NUM_TASKS": "2", "LOCALID": task, "STEP_ID": "0"}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        result = extract(["in"], "f.zarr", small_encoder)
        assert result.shard == Shard(int(task), 2, int(task), "srun")
        written += result.written
    assert sorted(written) == FeatureStore("f.zarr").slides() == names


def test_reading_processes_give_the_same_store(make_slide, small_encoder, tmp_path):
    for name in "abc":
        make_slide(f"in/{name}.tif")
    make_slide("in/empty.tif", boxes=())
    for readers in (0, 2):
        result = extract(["in"], f"{readers}.zarr", small_encoder, readers=readers)
        assert result.written == ["a", "b", "c"]
        assert [failure.state for failure in result.failures] == ["no_tissue"]
    files = [path for path in (tmp_path / "0.zarr").rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert (tmp_path / "2.zarr" / path.relative_to(tmp_path / "0.zarr")).read_bytes() == path.read_bytes()


def test_a_reader_that_dies_or_hangs_gives_up_one_slide(make_slide):
    """Killed from outside, as a decoder that crashes would: the call fails with a reason, the next one is answered."""
    path = make_slide("a.tif")
    request = SlideRequest(path, (10, 20))
    with ReaderPool(1) as readers:
        layout = readers.lay_out(request).result()
        readers._readers[0].process.kill()
        readers._readers[0].process.wait()
        group = next(tile_groups(layout.tiles))
        with pytest.raises(SlideError, match=r"a\.tif: the process that read it died") as caught:
            readers.read(request, group).result()
        assert caught.value.state == "reader_died"
        assert len(readers.read(request, group).result().row) > 0
        readers.timeout = 0.0
        with pytest.raises(SlideError, match="did not answer") as caught:
            readers.read(request, group).result()
        assert caught.value.state == "no_answer"


def test_the_encoder_never_waits_at_a_slide_s_end(make_slide, small_encoder, monkeypatch):
    """Batches run on across slides: all but the last are full."""
    for name in "abcd":
        make_slide(f"in/{name}.tif")  # 18 tiles each
    sizes, real = [], type(small_encoder).start
    monkeypatch.setattr(type(small_encoder), "start", lambda self, tiles: sizes.append(len(tiles)) or real(self, tiles))
    extract(["in"], "f.zarr", small_encoder, batch_size=7)
    assert sizes == [7] * 10 + [2]


def test_kills_at_random_moments_end_with_the_same_store(make_slide, tmp_path, repository, monkeypatch):
    """The short form of benchmarks/extraction_kills.py: the command is killed, run again, and the store is the same."""
    for name in "abcd":
        make_slide(f"in/{name}.tif")
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    from extraction_kills import MEAN_COLOUR

    code = "SECONDS = 0.02\n" + MEAN_COLOUR + "extract(['in'], sys.argv[1], MeanColour(), batch_size=4)\n"

    def start(out):
        return subprocess.Popen([sys.executable, "-c", code, out], stderr=subprocess.DEVNULL)

    assert start("whole.zarr").wait() == 0
    killed = 0
    for wanted in (0, 1, 2, 3):  # as soon as so many slides are visible
        process = start("cut.zarr")
        while process.poll() is None:
            folder = tmp_path / "cut.zarr" / "slides"
            if folder.is_dir() and len([p for p in folder.iterdir() if p.is_dir()]) >= wanted:
                process.kill()
                killed += 1
                break
            time.sleep(0.005)
        process.wait()
    assert killed == 4
    assert start("cut.zarr").wait() == 0
    files = [p.relative_to(tmp_path / "whole.zarr") for p in (tmp_path / "whole.zarr").rglob("*") if p.is_file()]
    files_after_kills = [
        p.relative_to(tmp_path / "cut.zarr") for p in (tmp_path / "cut.zarr").rglob("*") if p.is_file()
    ]
    assert sorted(files) == sorted(files_after_kills)
    for file in files:
        assert (tmp_path / "whole.zarr" / file).read_bytes() == (tmp_path / "cut.zarr" / file).read_bytes()
    assert np.isfinite(FeatureStore("cut.zarr").read("a", 20).features).all()


SCRIPT = """
from pathlib import Path
from dmml.slides.tiling.layout import SlideRequest
from dmml.slides.tiling.tile_groups import tile_groups
from dmml.slides.reading.reader_pool import ReaderPool
print("begun")
with ReaderPool(2) as readers:
    readers.start()
    print(len(readers.lay_out(SlideRequest(Path("a.tif"), (10, 20))).result().tiles[20]))
"""


def test_reading_processes_do_not_run_the_user_s_script(make_slide, tmp_path):
    """As `multiprocessing` would, if the script has no guard of its own."""
    make_slide("a.tif")
    (tmp_path / "numpy.py").write_text("raise SystemExit('a file of the working folder took the place of a package')")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "home/mine.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "begun\n12\n"), done.stderr
