"""Runs `dmml fit` and `dmml submit` under a real SLURM that disturbs them, and compares with undisturbed runs.

The cluster is started for this, from Debian's packages `slurm-wlm` and `munge`: three nodes on this machine, without GPUs.
The scenarios are those that take too long for the suite, whose `tests/commands/submit/test_slurm.py` has the others.

    python benchmarks/slurm.py [--out docs/results]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

SUPPORT = Path(__file__).resolve().parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

from interrupted_fits import differences  # noqa: E402
from slurm_cluster import Cluster, slurm_cluster  # noqa: E402

from dmml.__main__ import main  # noqa: E402
from dmml.experiment.cluster.records import find_submission  # noqa: E402
from dmml.simulate.settings import SimulationSettings  # noqa: E402

SLOW = """
import os, time
from pathlib import Path
from lightning.pytorch import Callback

class Slow(Callback):
    # Keeps a job of SLURM busy until it was stopped during its training, and has been started again.
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if "SLURM_CLUSTER_NAME" in os.environ and "SLURM_RESTART_COUNT" not in os.environ:
            time.sleep(0.3)
"""
TWO_TASKS = """#!/bin/bash
#SBATCH --ntasks=2 --ntasks-per-node=2 --requeue --open-mode=append --output=two_tasks.log --time=30
export MASTER_ADDR=127.0.0.1  # the names of the nodes are not those of machines
srun --kill-on-bad-exit=1 {python} -m dmml fit --config fit.yaml --trainer.default_root_dir {run} \\
    --trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp --resume
"""
EPOCHS = 8


def prepare(folder: Path) -> None:
    from dmml.simulate.simulation import simulate

    simulate(SimulationSettings(out=folder / "cohort", patients=40, held_out=8, features_only=True, dim=16))
    (folder / "slow_callback.py").write_text(SLOW)
    cohort = folder / "cohort" / "development"
    data = {
        "clinical": str(cohort / "clinical.csv"),
        "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
        "covariates": ["age", "sex", "stage"],
        "expression": str(cohort / "expression.parquet"),
        "features": str(cohort / "features.zarr"),
        "split": {"folds": 2},
        "batch_size": 6,
        "num_workers": 1,
    }
    config = {
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": {"class_path": "Survival"}}},
        "data": {"class_path": "MultimodalDataModule", "init_args": data},
        "trainer": {"max_epochs": EPOCHS, "callbacks": [{"class_path": "slow_callback.Slow"}]},
    }
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))


class Scenarios:
    """Each method disturbs something, and returns whether the result is that of an undisturbed run, and what happened."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster = folder, cluster

    def submit(self, *words: str) -> None:
        """Run `dmml submit`."""
        run("submit", *words)

    def fit_job(self, name: str, *options: str) -> tuple[Path, str]:
        """Submit a fit, wait until its second epoch, and return its folder and its job."""
        self.submit("fit", "--config", "fit.yaml", "--trainer.default_root_dir", name, "--time", "30", *options)
        self.wait_for_epoch(name)
        return self.folder / name, str(find_submission(self.folder / name).job_of("part_1"))

    def wait_for_epoch(self, name: str) -> None:
        """Wait until a fit has finished its first epoch."""
        self.cluster.wait(lambda: (self.folder / name / "checkpoints" / "last.ckpt").is_file(), 600)

    def fit_of_one_process(self) -> Path:
        """Folder of the undisturbed fit, which runs once."""
        alone = self.folder / "alone"
        if not alone.is_dir():
            run("fit", "--config", "fit.yaml", "--trainer.default_root_dir", "alone")
        return alone

    def warned_fit(self) -> tuple[bool, str]:
        """`dmml submit fit` with a worker that reads ahead, sent SIGUSR1 as before a time limit."""
        fit, job = self.fit_job("warned")
        self.cluster.query("scancel", "--signal=USR1", job)
        self.cluster.wait_until_only("", 600)
        return self.same_fit(fit, self.fit_of_one_process())

    def preempted_fit(self) -> tuple[bool, str]:
        """`dmml submit fit`, preempted by a job of another partition."""
        fit, _ = self.fit_job("preempted", "--cpus", "4")
        self.cluster.query("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=true")
        self.cluster.wait_until_only("", 600)
        return self.same_fit(fit, self.fit_of_one_process())

    def fit_on_a_dead_node(self) -> tuple[bool, str]:
        """`dmml submit fit`, whose node dies and returns."""
        fit, _ = self.fit_job("dead", "--partition", "frail")
        self.cluster.kill_node("node2")
        self.cluster.start_node("node2")
        self.cluster.wait_until_only("", 600)
        return self.same_fit(fit, self.fit_of_one_process())

    def two_tasks(self) -> tuple[bool, str]:
        """A batch script with two tasks of `srun`, sent SIGUSR1; the fit itself requeues its job."""
        for name in ("two", "two_alone"):
            script = self.folder / f"{name}.sh"
            script.write_text(TWO_TASKS.format(python=sys.executable, run=name))
            job = self.cluster.query("sbatch", "--parsable", f"--chdir={self.folder}", str(script))
            if name == "two":
                self.wait_for_epoch(name)
                self.cluster.query("scancel", "--signal=USR1", job)
            self.cluster.wait_until_only("", 600)
        return self.same_fit(self.folder / "two", self.folder / "two_alone")

    def folds(self) -> tuple[bool, str]:
        """`dmml submit crossval`: one fold is sent SIGUSR1, the node of both dies later."""
        words = ("crossval", "--config", "fit.yaml", "--models", "clinical,rna_network,teacher", "--out")
        self.submit(*words, "folds", "--time", "30", "--partition", "frail")
        submission = find_submission(self.folder / "folds")
        self.cluster.wait(lambda: (self.folder / "folds" / "fold_0" / "clinical").is_dir(), 600)
        self.cluster.query("scancel", "--signal=USR1", str(submission.job_of("fold_0")))
        self.cluster.wait(lambda: (self.folder / "folds" / "fold_1" / "rna_network").is_dir(), 600)
        self.cluster.kill_node("node2")
        self.cluster.start_node("node2")
        self.cluster.wait_until_only("", 600)
        run(*words, "folds_alone")
        starts = sum(submission.record(name)["starts"] for name in submission.commands)
        same = [
            (self.folder / "folds" / name).read_bytes() == (self.folder / "folds_alone" / name).read_bytes()
            for name in ("crossval.json", "oof_predictions.csv")
        ]
        return all(
            same
        ) and starts > 2, f"{starts} starts of 2 folds; crossval.json and oof_predictions.csv {verdict(same)}"

    def same_fit(self, disturbed: Path, undisturbed: Path) -> tuple[bool, str]:
        """Whether two fits ended with the same weights and metrics, and the first one was resumed."""
        import json

        import torch

        states = [
            [
                torch.load(fit / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
                for name in ("best", "last")
            ]
            for fit in (disturbed, undisturbed)
        ]
        metrics = [(fit / "metrics.csv").read_bytes() for fit in (disturbed, undisturbed)]
        resumed = len(json.loads((disturbed / "provenance.json").read_text()).get("resumed", []))
        same = [differences(*states) == [], metrics[0] == metrics[1]]
        return all(same) and resumed > 0, f"resumed {resumed} times; weights and metrics.csv {verdict(same)}"


def verdict(same: list[bool]) -> str:
    return "do not differ in any bit" if all(same) else "DIFFER"


def run(*words: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(list(words))
    if code:
        raise SystemExit(f"dmml {' '.join(words)} ended with {code}")


def measure(only: list[str]) -> tuple[list[tuple[str, bool, str, float]], str]:
    rows = []
    with tempfile.TemporaryDirectory() as temporary, slurm_cluster() as cluster, contextlib.chdir(temporary):
        folder = Path(temporary)
        prepare(folder)
        scenarios = Scenarios(folder, cluster)
        tests: list[Callable[[], tuple[bool, str]]] = [
            scenarios.warned_fit,
            scenarios.preempted_fit,
            scenarios.fit_on_a_dead_node,
            scenarios.two_tasks,
            scenarios.folds,
        ]
        for test in tests:
            if only and test.__name__ not in only:
                continue
            begin = time.monotonic()
            good, description = test()
            rows.append((str(test.__doc__), good, description, time.monotonic() - begin))
            print(f"{test.__name__}: {'holds' if good else 'FAILS'}; {description}", flush=True)
        version = cluster.query("sbatch", "--version")
    return rows, version


def page(rows: list[tuple[str, bool, str, float]], version: str) -> str:
    lines = [
        "# Under a real SLURM",
        "",
        "`python benchmarks/slurm.py`",
        "",
        f"{version}, three nodes on one machine, without GPUs. Each scenario disturbs a job while it trains, lets SLURM start it "
        "again, and compares with an undisturbed run. `tests/commands/submit/test_slurm.py` has further ones in the suite: an "
        "extraction and a cross-validation with killed parts that are submitted again, a fit at its time limit, and an "
        "extraction with preemption, a dead node and a task that starts twice.",
        "",
        "| scenario | | result |",
        "|---|---|---|",
        *(f"| {name.rstrip('.')} | {'holds' if good else 'FAILS'} | {text} |" for name, good, text, _ in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the page")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="scenarios to run (default: all)")
    arguments = parser.parse_args()
    result_rows, slurm_version = measure(arguments.only)
    text = page(result_rows, slurm_version)
    print(text)
    if arguments.out:
        (arguments.out / "slurm.md").write_text(text)
    sys.exit(0 if all(good for _, good, _, _ in result_rows) else 1)
