"""Two processes train like one: the same weights and metrics, each patient once, and they stop and resume together."""

import os
import subprocess
import sys
from itertools import chain

import pytest
import torch
import yaml
from cohorts import section_of

from dmml.experiment.run_folder import is_first_process

pytestmark = pytest.mark.slow

ALONE = "shared,accumulated,lacking,student,rna,unguided,validated"
RANKS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "RANK", "SLURM_PROCID")
"""Who finds these in the environment takes itself for a process that others have begun."""
TOGETHER = f"{ALONE},cox,poisoned,undisturbed,sigterm,sigterm_resumed,sigint,sigint_resumed"


@pytest.fixture(scope="module")
def ends(cohort, repository, tmp_path_factory):
    """(case, processes, rank) → what that process ended with."""
    out = tmp_path_factory.mktemp("processes")
    (out / "data.yaml").write_text(yaml.safe_dump(section_of(cohort)))
    script = [sys.executable, str(repository / "benchmarks" / "many_processes.py"), "--of", "2"]
    where = ["--data", str(out / "data.yaml"), "--out", str(out)]
    for world, cases in (("1", ALONE), ("2", TOGETHER)):
        argv = [*script, *where, "--processes", world, "--cases", cases]
        environment = {k: v for k, v in os.environ.items() if k not in RANKS} | {"PYTHONPATH": str(repository)}
        run = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=environment)
        assert run.returncode == 0, run.stderr[-3000:]
    return lambda case, world, rank=0: torch.load(out / f"{case}_{world}_{rank}.pt", weights_only=True)


def same(a, b):
    """Bit by bit."""
    assert set(a["weights"]) == set(b["weights"])
    return all(torch.equal(a["weights"][name], b["weights"][name]) for name in a["weights"])


@pytest.mark.parametrize("case", ["shared", "accumulated", "lacking", "student", "rna", "unguided"])
def test_two_processes_have_the_weights_of_one_after_three_steps(ends, case):
    """With coordination, accumulation, and patients without RNA in one of the processes."""
    one, first, second = ends(case, 1), ends(case, 2), ends(case, 2, 1)
    assert same(first, second)
    gap = max((one["weights"][n] - x).abs().max().item() for n, x in first["weights"].items() if x.numel())
    assert gap <= 1e-6
    learned = [set(chain.from_iterable(end["learned"])) for end in (one, first, second)]
    assert learned[1] | learned[2] == learned[0]
    assert set(one["has_rna"]) == {True, False}, "patients with and without RNA"
    if case == "lacking":
        assert not any(second["has_rna"][:4]), "the second process's patients of the first step"
        assert any(first["has_rna"][:4])
        assert not same(one, ends("shared", 1)), "what is missing matters"


def test_validation_metrics_of_two_processes_are_identical(ends):
    one, first, second = ends("validated", 1), ends("validated", 2), ends("validated", 2, 1)
    figures = [{n: x for n, x in end["figures"].items() if n.startswith("val")} for end in (one, first, second)]
    assert figures[0] == figures[1] == figures[2]
    assert {"val/loss", "val/c_index"} <= set(figures[0])
    assert len(first["validated"]) == 4
    assert len(second["validated"]) == 3
    everyone = [patient for end in (first, second) for batch in end["validated"] for patient in batch]
    assert len(everyone) == len(set(everyone)) == 19
    assert set(everyone) == set(chain.from_iterable(one["validated"]))


def test_a_likelihood_of_whole_batches_works_with_a_process_without_events(ends):
    """One of the processes has a step without any event."""
    first, second = ends("cox", 2), ends("cox", 2, 1)
    assert same(first, second)
    assert all(value.isfinite().all() for value in first["weights"].values())


@pytest.mark.parametrize("signal", ["sigterm", "sigint"])
def test_a_signal_to_one_process_stops_both_and_the_resumed_run_is_identical(ends, signal):
    stopped = [ends(signal, 2, rank) for rank in (0, 1)]
    assert [end["ended"] for end in stopped] == ["TrainingStopped"] * 2
    for rank in (0, 1):
        whole, resumed = ends("undisturbed", 2, rank), ends(f"{signal}_resumed", 2, rank)
        assert same(whole, resumed)
        assert whole["figures"] == resumed["figures"]
        assert stopped[rank]["learned"] + resumed["learned"] == whole["learned"]


def test_a_loss_that_is_not_finite_on_one_process_ends_both(ends):
    first, second = ends("poisoned", 2), ends("poisoned", 2, 1)
    assert (first["ended"], second["ended"]) == ("InputError", "SystemExit")
    assert first["message"].startswith(", ".join(second["learned"][1]))
    assert "rank1.npz" in first["message"]


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
    ],
)
def test_the_first_process_is_recognised_under_every_launcher(monkeypatch, environment, first):
    """The variables are those of torchrun, SLURM, and Lightning within a SLURM task."""
    for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, rank in environment.items():
        monkeypatch.setenv(name, rank)
    assert is_first_process() is first
