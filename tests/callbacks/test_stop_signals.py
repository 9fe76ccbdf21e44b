"""SLURM is asked to requeue a job after its warning of the time limit, and never otherwise."""

import os
import signal

import pytest

from dmml.callbacks.stop_signals import requeue


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Installs a `scontrol` that records its arguments; returns a function that runs `requeue` as a job of SLURM."""
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)

    def run_requeue(signum, **job):
        for name, value in job.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        job_id = requeue(signum)
        path = tmp_path / "arguments"
        return job_id, path.read_text() if path.exists() else ""

    return run_requeue


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_warning_of_the_time_limit_requeues_the_job(slurm, signum):
    assert slurm(signum, JOB_ID="17") == ("17", "requeue 17\n")


def test_a_task_of_an_array_requeues_itself_alone(slurm):
    result = slurm(signal.SIGUSR1, JOB_ID="18", ARRAY_JOB_ID="17", ARRAY_TASK_ID="3")
    assert result == ("17_3", "requeue 17_3\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_preemption_and_scancel_requeue_nothing(slurm, signum):
    """SLURM requeues preempted jobs itself, and cancelled jobs must stay cancelled."""
    assert slurm(signum, JOB_ID="17") == (None, "")


@pytest.mark.parametrize("job", ["", "17;touch x", "--help"])
def test_a_job_id_that_is_not_a_number_is_ignored(slurm, job):
    assert slurm(signal.SIGUSR1, JOB_ID=job) == (None, "")
