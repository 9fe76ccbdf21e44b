"""Under a real SLURM, whatever happens to the jobs of `dmml submit`, the result is that of an undisturbed run."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cohorts import section_of, simulated
from crossvals import write_config
from drawn_slides import paint_tissue, write_slide
from interrupted_fits import differences
from slurm_cluster import descendants, slurm_cluster, titles

from dmml.__main__ import main
from dmml.experiment.cluster.records import PartFiles, find_submission
from dmml.experiment.cluster.states import states_of
from dmml.slides.discovery.shards import Shard

pytestmark = pytest.mark.slow

PARTS = [Shard(i, 4) for i in range(4)]
SLIDES = [name for part in PARTS for name in [f"s{i:02}" for i in range(60) if part.has(f"s{i:02}")][:3]]
"""Twelve slides, three in each of four parts"""
SLOW_TISSUE = """
import time
from dmml.slides.tiling.tissue import find_tissue

def tissue(picture, mpp):
    time.sleep(0.5)
    return find_tissue("colour", picture, mpp)[0]
"""
SLOW_CALLBACK = """
import time
from pathlib import Path
from lightning.pytorch import Callback

class Slow(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if not Path("fast").exists():
            time.sleep(0.5)
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
        (folder / "slow_callback.py").write_text(SLOW_CALLBACK)
        import timm
        import torch

        torch.manual_seed(0)
        torch.save(timm.create_model("test_efficientnet", num_classes=0).state_dict(), folder / "weights.pth")
        cohort = simulated(tmp_path_factory)
        write_config(folder / "crossval.yaml", cohort / "development", split={"folds": 3})
        fit = {
            "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": {"class_path": "Survival"}}},
            "data": {"class_path": "MultimodalDataModule", "init_args": section_of(cohort) | {"batch_size": 6}},
            "trainer": {"max_epochs": 40, "callbacks": [{"class_path": "slow_callback.Slow"}]},
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
    """A fit with a time limit of one minute, which SLURM warns after 20 to 50 seconds; other tests run meanwhile."""
    work.submit("fit", "--config", "fit.yaml", "--trainer.default_root_dir", "fit", "--time", "1", "--grace", "10")
    return "fit"


def test_killed_parts_are_submitted_again_and_the_results_are_those_of_one_process(work, warned_fit, capsys):
    """Four parts in two array jobs, since MaxArraySize is 3, and three folds, each followed by a job that joins them."""
    cluster = work.cluster
    extraction = [*work.extract("parts/f.zarr"), "--parts", "4", "--time", "10"]
    crossval = ["--config", "crossval.yaml", "--models", "clinical,rna_linear,rna_network"]
    folds = ["crossval", *crossval, "--out", "folds", "--time", "10"]
    work.submit(*extraction)
    work.submit(*folds)
    cluster.wait(lambda: work.has_slide_of(PARTS[1], "parts/f.zarr"))
    work.kill("--shard", "2/4")
    cluster.wait(lambda: (work.folder / "folds" / "fold_1" / "clinical" / "done.json").is_file())
    work.kill("--only-fold", "1")
    cluster.wait(lambda: len(cluster.jobs()) <= 1, 120)  # the fit

    joined = {"fold_0": "finished", "fold_1": "failed", "fold_2": "finished", "collect": "lost"}
    assert work.states("folds") == joined
    assert work.record("folds", "fold_1")["exit"] == 137
    assert work.states("parts/f.zarr")["part_2"] == "failed"
    before = {name: work.record("parts/f.zarr", name) for name in ("part_1", "part_3", "part_4")}
    capsys.readouterr()
    work.submit("status", "folds")
    assert "1 failed" in capsys.readouterr().out
    work.submit(*extraction)
    work.submit(*folds)
    assert "1 of 3 parts submitted" in capsys.readouterr().out
    assert main(work.extract("alone/f.zarr")) == 0
    assert main(["crossval", *crossval, "--out", "alone/folds"]) == 0
    cluster.wait(lambda: len(cluster.jobs()) <= 1, 120)

    assert set(work.states("parts/f.zarr").values()) == set(work.states("folds").values()) == {"finished"}
    assert {name: work.record("parts/f.zarr", name) for name in before} == before, "a finished part was run again"
    assert work.files("parts/f.zarr") == work.files("alone/f.zarr")
    for name in ("failures.csv", "qc.html"):
        assert (work.folder / "parts" / name).read_bytes() == (work.folder / "alone" / name).read_bytes()
    for name in ("crossval.json", "oof_predictions.csv"):
        assert (work.folder / "folds" / name).read_bytes() == (work.folder / "alone" / "folds" / name).read_bytes()
    work.submit(*extraction)
    assert "nothing to submit" in capsys.readouterr().out
    assert len(cluster.jobs()) <= 1


def test_an_extraction_survives_preemption_a_dead_node_and_a_task_that_starts_twice(work):
    cluster = work.cluster
    for out, options in {"preempted": ["--cpus", "4"], "dead": ["--partition", "frail"], "twice": ["--partition", "frail"]}.items():
        work.submit(*work.extract(f"{out}/f.zarr"), "--parts", "1", "--time", "10", *options)
    duplicate = start_again(work, "twice/f.zarr")
    cluster.wait(lambda: any(work.has_slide_of(part, "preempted/f.zarr") for part in PARTS))
    cluster.ask("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1")
    cluster.wait(lambda: work.states("preempted/f.zarr")["part_1"] == "waiting")
    assert duplicate.wait(60) == 0
    cluster.wait(lambda: any(work.has_slide_of(part, "dead/f.zarr") for part in PARTS))
    cluster.kill_node("node2")
    assert work.states("dead/f.zarr")["part_1"] == "waiting"
    cluster.start_node("node2")
    cluster.wait_until_idle()
