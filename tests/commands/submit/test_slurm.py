"""Under a real SLURM, whatever happens to the jobs of `dmml submit`, the result is that of an undisturbed run."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cohorts import section_of, simulated
from crossvals import write_config
from drawn_slides import paint_tissue, write_slide
from interrupted_fits import differences
from slurm_cluster import slurm_cluster, titles

from dmml.__main__ import main
from dmml.experiment.cluster.records import PartFiles, find_submission
from dmml.experiment.cluster.states import states_of
from dmml.slides.discovery.shards import Shard

pytestmark = pytest.mark.slow

PARTS = [Shard(i, 4) for i in range(4)]
SLIDES = [name for part in PARTS for name in [f"s{i:02}" for i in range(60) if part.has(f"s{i:02}")][:3]]
"""Twelve slides, three in each of four parts"""
SLOW_TISSUE = """
import os, time
from pathlib import Path
from dmml.slides.tiling.tissue import find_tissue

calls = []

def tissue(picture, mpp):
    time.sleep(0.5)
    calls.append(mpp)
    # In a job's first start, all slides but some wait while the file exists.
    is_first_start = "SLURM_CLUSTER_NAME" in os.environ and "SLURM_RESTART_COUNT" not in os.environ
    while is_first_start and len(calls) > 4 and Path("hold").exists():
        time.sleep(0.1)
    return find_tissue("colour", picture, mpp)[0]
"""
WAITING_CALLBACK = """
import os, time
from pathlib import Path
from lightning.pytorch import Callback
from dmml.callbacks.resumable import Resumable

class WaitForSignal(Callback):
    # In a job of SLURM, waits in the second epoch for the warning of the time limit, unless the fit has been resumed.
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        record = Path(trainer.default_root_dir) / "provenance.json"
        if "SLURM_CLUSTER_NAME" not in os.environ or not trainer.current_epoch or '"resumed"' in record.read_text():
            return
        signals = next(callback.signals for callback in trainer.callbacks if isinstance(callback, Resumable))
        while not signals.signum:
            time.sleep(0.1)
"""


@dataclass
class Work:
    """A folder with slides, a cohort and configs, which is the working directory of all jobs."""

    folder: Path
    cluster: object

    def extract(self, out):
        """Arguments of an extraction with a small encoder."""
        network = ["--encoder", "test_efficientnet", "--weights", "weights.pth", "--backend", "onnxruntime"]
        return ["extract", "slides", "--out", out, *network, "--batch-size", "8", "--tissue", "slow_tissue:tissue"]

    def submit(self, *words):
        assert main(["submit", *words]) == 0

    def files(self, folder):
        """{name: content} of all files in a folder."""
        root = self.folder / folder
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    def states(self, run):
        return {name: state.state for name, state in states_of(find_submission(self.folder / run)).items()}

    def record(self, run, part):
        return PartFiles(find_submission(self.folder / run).folder, part).record()

    def kill(self, *words):
        """Kill the command of a part that has these words, as the kernel does when memory is short."""
        dmml = [pid for pid, title in titles() if all(f" {word} " in title for word in ("dmml", *words))]
        assert dmml, f"no process runs dmml {' '.join(words)}"
        for pid in dmml:
            os.kill(pid, 9)

    def has_slides(self, out):
        return any(self.has_slide_of(part, out) for part in PARTS)

    def has_slide_of(self, part, out):
        """Whether a slide of a part is in a store."""
        return any((self.folder / out / "slides" / slide).is_dir() for slide in SLIDES if part.has(slide))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    with slurm_cluster() as cluster:
        folder = tmp_path_factory.mktemp("slurm")
        (folder / "slides").mkdir()
        for i, name in enumerate(SLIDES):
            picture = paint_tissue(900, 700, ((100, 100, 700, 500),), seed=i)
            write_slide(folder / "slides" / f"{name}.tif", picture, levels=(1,))
        (folder / "slow_tissue.py").write_text(SLOW_TISSUE)
        (folder / "waiting_callback.py").write_text(WAITING_CALLBACK)
        import timm
        import torch

        torch.manual_seed(0)
        torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), folder / "weights.pth")
        cohort = simulated(tmp_path_factory)
        write_config(folder / "crossval.yaml", cohort / "development", split={"folds": 3})
        fit = {
            "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": {"class_path": "Survival"}}},
            "data": {"class_path": "MultimodalDataModule", "init_args": section_of(cohort) | {"batch_size": 6}},
            "trainer": {"max_epochs": 5, "callbacks": [{"class_path": "waiting_callback.WaitForSignal"}]},
        }
        (folder / "fit.yaml").write_text(yaml.safe_dump(fit))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("OMP_NUM_THREADS", "1")
            yield Work(folder, cluster)


@pytest.fixture(autouse=True)
def _directory_of_the_jobs(work, monkeypatch):
    monkeypatch.chdir(work.folder)


@pytest.fixture(scope="module")
def warned_fit(work):
    """A fit that waits in its second epoch for the warning of its time limit; other tests run meanwhile."""
    fit = ["fit", "--config", "fit.yaml", "--trainer.default_root_dir", "fit"]
    work.submit(*fit, "--partition", "calm", "--time", "60", "--grace", "10")
    return "fit"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition", "gpu"], "--partition: SLURM has no partition gpu; give one of calm, frail, main, urgent"),
        (["--mem", "900T"], "sbatch refuses the job: "),
    ],
)
def test_what_slurm_would_refuse_is_refused_in_one_line(work, options, message, capsys):
    command = ["fit", "--config", "fit.yaml", "--trainer.default_root_dir", "refused", "--time", "5", *options]
    assert main(["submit", *command]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dmml: error: {message}")
    assert error.count("\n") == 1
    assert not any("refused" in line for line in work.cluster.query("squeue", "--format=%Z %o").splitlines())


@pytest.fixture(scope="module")
def store_of_one_process(work):
    """What one undisturbed process extracts: the files of its store."""
    work.cluster.wait_until_only("fit")
    assert main(work.extract("alone/f.zarr")) == 0
    return work.files("alone/f.zarr")


def test_killed_parts_are_submitted_again_and_the_results_are_those_of_one_process(work, warned_fit, request, capsys):
    """Four parts in two array jobs, since MaxArraySize is 3, and three folds, each followed by a job that joins them."""
    cluster = work.cluster
    extraction = [*work.extract("parts/f.zarr"), "--parts", "4", "--time", "10"]
    crossval = ["crossval", "--config", "crossval.yaml", "--models", "clinical,rna_linear,rna_network"]
    folds = [*crossval, "--out", "folds", "--time", "10"]
    work.submit(*extraction)
    work.submit(*folds)
    cluster.wait(lambda: work.has_slide_of(PARTS[1], "parts/f.zarr"))
    work.kill("--shard", "2/4")
    cluster.wait(lambda: (work.folder / "folds" / "fold_1" / "clinical" / "done.json").is_file())
    work.kill("--only-fold", "1")
    cluster.wait_until_only("fit")

    assert work.states("parts/f.zarr") == {
        **{"part_1": "finished", "part_2": "failed", "part_3": "finished", "part_4": "finished"},
        "collect": "lost",
    }
    assert work.states("folds") == {"fold_0": "finished", "fold_1": "failed", "fold_2": "finished", "collect": "lost"}
    assert work.record("folds", "fold_1")["exit"] == 137
    before = {name: work.record("parts/f.zarr", name) for name in ("part_1", "part_3", "part_4")}
    work.submit("status", "folds")
    assert "2 finished, 1 failed, 1 lost" in capsys.readouterr().out
    work.submit(*extraction)
    work.submit(*folds)
    assert "1 of 3 parts submitted" in capsys.readouterr().out
    assert main([*crossval, "--out", "alone/folds"]) == 0
    alone = request.getfixturevalue("store_of_one_process")

    assert set(work.states("parts/f.zarr").values()) == set(work.states("folds").values()) == {"finished"}
    assert {name: work.record("parts/f.zarr", name) for name in before} == before, "a finished part was run again"
    assert work.files("parts/f.zarr") == alone
    for name in ("failures.csv", "qc.html"):
        assert (work.folder / "parts" / name).read_bytes() == (work.folder / "alone" / name).read_bytes()
    for name in ("crossval.json", "oof_predictions.csv"):
        assert (work.folder / "folds" / name).read_bytes() == (work.folder / "alone" / "folds" / name).read_bytes()
    capsys.readouterr()
    work.submit(*extraction)
    assert "nothing to submit; 5 finished" in capsys.readouterr().out
    assert "dmml-extract" not in cluster.query("squeue", "--format=%j")


def test_an_extraction_survives_preemption_a_dead_node_and_a_task_that_starts_twice(work, store_of_one_process):
    cluster = work.cluster
    options = {"preempted": ["--cpus", "4"], "dead": ["--partition", "frail"], "twice": ["--partition", "frail"]}

    def submit(out):
        work.submit(*work.extract(f"{out}/f.zarr"), "--parts", "1", "--time", "10", *options[out])

    def preempt():
        cluster.query("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=true")
        cluster.wait(lambda: work.states("preempted/f.zarr")["part_1"] == "waiting")

    def lose_the_node():
        cluster.kill_node("node2")
        assert work.states("dead/f.zarr")["part_1"] == "waiting"
        cluster.start_node("node2")

    events = {"preempted": preempt, "dead": lose_the_node}
    (work.folder / "hold").touch()
    for out in events:
        submit(out)
    while events:
        cluster.wait(lambda: any(work.has_slides(f"{out}/f.zarr") for out in events))
        for out in [out for out in events if work.has_slides(f"{out}/f.zarr")]:
            events.pop(out)()
    (work.folder / "hold").unlink()
    submit("twice")
    assert start_again(work, "twice/f.zarr").wait(120) == 0
    cluster.wait_until_only("fit")

    for out, starts in {"preempted": 2, "dead": 2, "twice": 1}.items():
        assert work.states(f"{out}/f.zarr") == {"part_1": "finished", "collect": "finished"}
        assert work.record(f"{out}/f.zarr", "part_1")["starts"] == starts
        assert work.files(f"{out}/f.zarr") == store_of_one_process, out


def start_again(work, out):
    """Start a running part a second time, as SLURM does when it mistakes a node for dead."""
    submission = find_submission(work.folder / out)
    work.cluster.wait(lambda: submission.record("part_1"))
    of_slurm = {"SLURM_JOB_ID": submission.job_of("part_1"), "SUBMITIT_EXECUTOR": "slurm"}
    command = [sys.executable, "-m", "submitit.core._submit", submission.folder / "jobs"]
    return subprocess.Popen(command, env=os.environ | of_slurm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_fit_that_slurm_warns_of_its_time_limit_ends_with_the_weights_of_an_undisturbed_one(work, warned_fit):
    import torch

    cluster, job = work.cluster, find_submission(work.folder / "fit").job_of("part_1")
    assert main(["fit", "--config", "fit.yaml", "--trainer.default_root_dir", "alone/fit"]) == 0
    cluster.wait(lambda: (work.folder / "fit" / "checkpoints" / "last.ckpt").is_file())
    # A limit of 1 minute from the start would end a fit on a busy machine before its first epoch.
    cluster.query("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    cluster.wait(lambda: cluster.jobs()[job] == "PENDING")
    cluster.query("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    cluster.wait_until_only("")
    record = work.record(warned_fit, "part_1")
    assert (record["exit"], record["starts"]) == (0, 2)
    provenance = json.loads((work.folder / "fit" / "provenance.json").read_text())
    assert len(provenance["resumed"]) == 1, "it began anew, instead of continuing from its checkpoint"
    states = [
        torch.load(work.folder / fit / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for fit in ("fit", "alone/fit")
    ]
    assert differences(*states) == []
    assert (work.folder / "fit" / "metrics.csv").read_bytes() == (
        work.folder / "alone" / "fit" / "metrics.csv"
    ).read_bytes()
