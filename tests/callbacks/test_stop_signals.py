"""SLURM is asked to start a job again when it warned of the time limit, and never otherwise."""

import os
import signal

import pytest

from dmml.callbacks.stop_signals import requeue


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A `scontrol` that writes down what it is asked; sets the variables of a job. Returns what it was asked."""
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)

    def asked(signum, **job):
        for name, value in job.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        told = requeue(signum)
        path = tmp_path / "asked"
        return told, path.read_text() if path.exists() else ""

    return asked


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_warning_of_the_time_limit_asks_for_the_job(slurm, signum):
    assert slurm(signum, JOB_ID="17") == ("17", "requeue 17\n")


def test_a_task_of_an_array_asks_for_itself_alone(slurm):
    told = slurm(signal.SIGUSR1, JOB_ID="18", ARRAY_JOB_ID="17", ARRAY_TASK_ID="3")
    assert told == ("17_3", "requeue 17_3\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_preemption_and_scancel_ask_for_nothing(slurm, signum):
    """SLURM requeues what it preempts, and what was cancelled shall stay so."""
    assert slurm(signum, JOB_ID="17") == (None, "")


@pytest.mark.parametrize("job", ["", "17;touch x", "--help"])
def test_what_is_no_number_is_no_job(slurm, job):
    assert slurm(signal.SIGUSR1, JOB_ID=job) == (None, "")
