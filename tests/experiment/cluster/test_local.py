"""Parts run on one machine through submitit: what fails is run again, and a warned part is started again."""

import os
import signal
import sys
import threading
import time

import pytest

from dmml.errors import InputError
from dmml.experiment.cluster.launch import run_locally
from dmml.experiment.cluster.part import environment_of_command, is_locked
from dmml.experiment.cluster.records import PartFiles, Submission, find_submission
from dmml.experiment.cluster.resources import Resources
from dmml.experiment.cluster.states import states_of

ADD_LINE = "open('lines', 'a').write('{}\\n'); "
FAIL_ONCE = "import os, sys; failed = os.path.exists('failed'); open('failed', 'w'); sys.exit(0 if failed else 7)"
WAIT_ONCE = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda signum, frame: sys.exit(128 + signum))
if not os.path.exists("warned"):
    open("warned", "w")
    time.sleep(60)
"""


@pytest.fixture
def submission(tmp_path):
    """Builds a submission of Python programs; `collect` follows them."""

    def build(*programs, collect="pass"):
        commands = {f"part_{i}": [sys.executable, "-c", text] for i, text in enumerate(programs, 1)}
        made = Submission(
            tmp_path / "run" / "submit", "dmml submit", ["extract"], "local", str(tmp_path), commands,
            [sys.executable, "-c", collect],
        )  # fmt: skip
        made.write()
        return made

    return build


@pytest.mark.slow
def test_a_part_that_failed_is_run_again_and_only_then_the_results_are_joined(submission, tmp_path):
    made = submission(ADD_LINE.format("one"), FAIL_ONCE, collect=ADD_LINE.format("joined"))
    with pytest.raises(
        InputError, match=r"1 of 3 parts have not finished: part_2 failed \(exit code 7\), see .*log.err"
    ):
        run_locally(made, ["part_1", "part_2"], Resources("local", at_once=2))
    assert (tmp_path / "lines").read_text() == "one\n"
    assert [state.state for state in states_of(made).values()] == ["finished", "failed", "not submitted"]
    run_locally(made, ["part_2"], Resources("local"))
    assert (tmp_path / "lines").read_text() == "one\njoined\n"
    read = find_submission(tmp_path / "run")
    assert read == made
    assert {state.state for state in states_of(read).values()} == {"finished"}
    assert (made.folder / "commands.txt").read_text().splitlines()[2].startswith(f"part_2: {sys.executable} -c")


@pytest.mark.slow
def test_a_part_that_is_warned_of_its_time_limit_is_started_again(submission, tmp_path):
    made = submission(WAIT_ONCE)
    files = PartFiles(made.folder, "part_1")

    def warn():
        while not (tmp_path / "warned").exists():
            time.sleep(0.05)
        assert is_locked(files.lock)
        os.kill(wrapper_of(files.lock), signal.SIGUSR1)

    thread = threading.Thread(target=warn)
    thread.start()
    run_locally(made, ["part_1"], Resources("local"))
    thread.join()
    assert (files.record()["exit"], files.record()["starts"]) == (0, 2)


@pytest.mark.slow
def test_a_fit_that_finished_just_before_its_job_was_requeued_is_not_run_again(submission, tmp_path):
    """`dmml fit` refuses a finished run, so the part would count as failed."""
    made = submission("import sys; sys.exit(2)")
    made.provenance = "provenance.json"
    (tmp_path / "provenance.json").write_text('{"finished": null}')
    with pytest.raises(InputError, match="exit code 2"):
        run_locally(made, ["part_1"], Resources("local"))
    (tmp_path / "provenance.json").write_text('{"finished": "2026-01-01T00:00:00+00:00"}')
    run_locally(made, ["part_1"], Resources("local"))
    assert {state.state for state in states_of(made).values()} == {"finished"}


def wrapper_of(lock):
    """Process that holds the lock of a part."""
    inode = lock.stat().st_ino
    with open("/proc/locks") as file:
        owners = [int(line.split()[4]) for line in file if line.split()[5].endswith(f":{inode}")]
    return owners[0]


def test_a_command_knows_nothing_of_the_job_that_runs_it():
    """Lightning and the fit would requeue the job as well, in addition to submitit."""
    outside = {
        "SLURM_JOB_ID": "4",
        "SLURM_ARRAY_JOB_ID": "3",
        "SLURM_NTASKS": "1",
        "SLURM_TMPDIR": "/scratch",
        "A": "b",
    }
    assert environment_of_command(outside) == {"SLURM_TMPDIR": "/scratch", "A": "b"}
