"""One part of a submission within its job: runs an ordinary command, and records how it ended. Nothing heavy is imported.

submitit calls a `Part` in the job and provides the handler that requeues the job when the time limit is near. The part
passes signals on to its command, waits until the command has ended, and only then lets submitit requeue the job.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from dmml.atomic_files import write_json
from dmml.experiment.cluster.records import PartFiles

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOGGER = logging.getLogger(__name__)
_OF_THE_JOB = (
    "SLURM_JOB",
    "SLURM_ARRAY",
    "SLURM_STEP",
    "SLURM_NTASKS",
    "SLURM_NPROCS",
    "SLURM_TASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
)
"""Beginnings of the variables that say to which job and task of SLURM a process belongs"""
_PAUSE = 5.0
"""Seconds for which the copy of a finished part waits: submitit fails if both copies write their result at once"""
_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal that a process gets when its parent ends (linux/prctl.h)"""


@dataclass
class Part:
    """One command of a submission, as submitit runs it.

    Attributes:
        name: Name of the part, `part_1` to `part_N`, or `collect`.
        command: The command and its arguments.
        folder: Folder of the submission, absolute.
        directory: Working directory of the command.
        provenance: File of a fit whose entry `finished` says that nothing is left to do, relative to `directory`; empty
            for commands that can be run again.
    """

    name: str
    command: list[str]
    folder: Path
    directory: str
    provenance: str = ""

    def __call__(self) -> None:
        """Run the command, unless it has already finished; end with its exit code if it fails.

        A second copy of the part, such as SLURM starts when it mistakes a node for dead, waits until the first one has
        ended.
        """
        from submitit import JobEnvironment

        files = PartFiles(self.folder, self.name)
        with _locked(files.lock):
            previous = files.record()
            if previous.get("exit") == 0:
                LOGGER.warning("%s: has already finished, in job %s", self.name, previous.get("job"))
                time.sleep(_PAUSE)
                return
            record = {
                "job": JobEnvironment().job_id,
                "node": socket.gethostname(),
                "starts": previous.get("starts", 0) + 1,
                "started": _now(),
            }
            if self._is_finished():  # and the former job ended before it could record this
                write_json(files.path, record | {"ended": _now(), "exit": 0})
                return
            write_json(files.path, record)
            self._run(files, record)

    def checkpoint(self) -> object:
        """Tell submitit what the requeued job runs: the same part, whose command continues where it stopped."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _is_finished(self) -> bool:
        try:
            return bool(
                json.loads((Path(self.directory) / self.provenance).read_text(encoding="utf-8")).get("finished")
            )
        except (OSError, json.JSONDecodeError):
            return False

    def _run(self, files: PartFiles, record: dict[str, Any]) -> None:
        process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=environment_of_command(os.environ),
            start_new_session=True,  # Ctrl-C reaches the command once, through this process
            preexec_fn=_end_with_parent,
        )
        requeue = signal.getsignal(signal.SIGUSR1)
        is_warned = False

        def pass_on(signum: int, frame: FrameType | None) -> None:
            nonlocal is_warned
            is_warned = is_warned or signum == signal.SIGUSR1
            process.send_signal(signum)

        for signum in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, pass_on)
        code = process.wait()
        reason = ""
        if is_warned and code and callable(requeue):
            # Recorded first, because SLURM ends this process as soon as the job is requeued.
            write_json(files.path, record | {"stopped": _now()})
            try:
                requeue(signal.SIGUSR1, None)
            except Exception as error:  # submitit does not requeue a job for ever
                reason = str(error)
        exit_code = 128 - code if code < 0 else code
        write_json(files.path, record | {"ended": _now(), "exit": exit_code} | ({"reason": reason} if reason else {}))
        if code:
            sys.exit(exit_code)


def environment_of_command(outside: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: that of its job, without the variables that identify the job.

    The command runs as it would on a machine without SLURM. Otherwise Lightning, and the fit itself, would requeue the
    job at the warning of the time limit, in addition to submitit.

    Args:
        outside: Environment of the job.
    """
    return {name: value for name, value in outside.items() if not name.startswith(_OF_THE_JOB)}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a part, after waiting for another process to release it. A lock ends with its process."""
    with path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX)
            except OSError as error:  # a file system without locks
                LOGGER.warning("%s: cannot be locked (%s); the part must not be started twice", path, error.strerror)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process of this machine, or of another one with the same file system, holds the lock of a part."""
    if fcntl is None or not path.is_file():
        return False
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _end_with_parent() -> None:
    """In the new process, ask Linux to kill it when the part is killed: a second copy could not know of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
