"""Questions to SLURM: its partitions, the size of its arrays, and which jobs it has not finished."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess

from dmml.errors import InputError

COMMANDS = ("sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
ENDING = ("COMPLETING",)
"""States of jobs whose commands have ended, but which are still listed"""


def check_slurm(partition: str | None) -> None:
    """Check that SLURM can be reached from here, and that it has a partition.

    Raises:
        InputError: A command is not on PATH, SLURM does not answer, or there is no such partition.
    """
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise InputError(
                f"--cluster slurm: {command} is not on PATH; run this on a login node of the cluster, or give --cluster local"
            )
    names = sorted(set(_answer("sinfo", "--noheader", "--format=%R").split()))
    if partition is not None and (unknown := sorted(set(partition.split(",")) - set(names))):
        raise InputError(f"--partition: SLURM has no partition {unknown[0]}; give one of {', '.join(names)}")


def max_array_size() -> int:
    """Return the largest number of tasks of one array job, MaxArraySize of SLURM's configuration."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _answer("scontrol", "show", "config"), re.MULTILINE)
    return int(match.group(1)) if match else 1001  # SLURM's default


def queued_jobs() -> dict[str, tuple[str, str]]:
    """Return {id: (state, reason)} of this user's jobs that wait or run; a task of an array has an id such as `17_3`."""
    lines = _answer("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T|%r").splitlines()
    jobs = (line.strip().split("|", 2) for line in lines if line.count("|") >= 2)
    return {job: (state, reason) for job, state, reason in jobs}


def cancel(job: str) -> None:
    """Cancel a job; nothing happens if it has ended."""
    subprocess.run(["scancel", job], check=False, capture_output=True)


def _answer(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    except (subprocess.SubprocessError, OSError) as error:
        stderr = getattr(error, "stderr", None) or str(error)
        raise InputError(f"SLURM does not answer: `{command[0]}` says {' '.join(str(stderr).split())[:300]}") from error
