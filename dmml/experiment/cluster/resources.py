"""What the job of each part needs, as the user states it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dmml.errors import InputError

LOCAL, SLURM = "local", "slurm"
GRACE_SECONDS = 120
"""How long before the time limit a command is stopped: enough to save a checkpoint, or to finish a batch of tiles"""


@dataclass(frozen=True)
class Resources:
    """Resources of one job.

    Attributes:
        cluster: `slurm` or `local`.
        minutes: Time limit in minutes; None means no limit, on one machine only.
        partition: Partition of SLURM; None means the default one.
        memory: Memory per job as SLURM spells it, e.g. `16G`; None means the default of the partition.
        cpus: Cores per job; None means the default of the partition.
        gpus: Number of GPUs per job.
        at_once: Number of jobs that may run at the same time; None means as many as the cluster allows.
        grace: Seconds before the time limit at which the command is stopped.
        options: Further options of sbatch, e.g. {"account": "pathology"}.
    """

    cluster: str
    minutes: int | None = None
    partition: str | None = None
    memory: str | None = None
    cpus: int | None = None
    gpus: int = 0
    at_once: int | None = None
    grace: int = GRACE_SECONDS
    options: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        """Check the values that need no cluster.

        Raises:
            InputError: A value is impossible; the message names the option.
        """
        for option, value, minimum in (
            ("--cpus", self.cpus, 1),
            ("--gpus", self.gpus, 0),
            ("--at-once", self.at_once, 1),
            ("--grace", self.grace, 1),
        ):
            if value is not None and value < minimum:
                raise InputError(f"{option}: {value} is too small; give {minimum} or more")
        if self.memory is not None and not re.fullmatch(r"[1-9][0-9]*[MGT]", self.memory):
            raise InputError(f"--mem: {self.memory} is not an amount of memory; give a number with its unit, e.g. 16G")
        if self.minutes is not None and self.grace >= 60 * self.minutes:
            raise InputError(
                f"--grace: {self.grace} seconds are as long as the time limit of {self.minutes} min; give less, or a longer "
                "--time"
            )
        if self.cluster == SLURM and self.minutes is None:
            raise InputError("--time: SLURM needs a time limit, e.g. --time 4:00:00; a job that reaches it is requeued")
        if self.cluster == LOCAL:
            for option, stated in (
                ("--partition", self.partition),
                ("--mem", self.memory),
                ("--cpus", self.cpus),
                ("--sbatch", self.options),
            ):
                if stated:
                    raise InputError(f"{option}: has no meaning with --cluster local; leave it out")


def read_minutes(text: str | None) -> int | None:
    """Read a time limit as SLURM spells it: `90` (minutes), `4:00:00`, `30:00` (minutes and seconds), `2-12` or `2-12:30:00`.

    Returns:
        Minutes, rounded up; None for None.

    Raises:
        InputError: The text is no time, or the time is zero.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?", text)
    if not match:
        raise InputError(f"--time: {text} is not a time; give minutes, H:MM:SS or D-HH:MM:SS")
    days, first, second, third = (None if group is None else int(group) for group in match.groups())
    if days is not None or third is not None:
        seconds = (days or 0) * 86_400 + first * 3_600 + (second or 0) * 60 + (third or 0)  # type: ignore[operator]
    else:
        seconds = first * 60 + (second or 0)  # type: ignore[operator]
    if not seconds:
        raise InputError("--time: is zero; give minutes, H:MM:SS or D-HH:MM:SS")
    return -(-seconds // 60)


def read_options(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """Read further options of sbatch, `NAME=VALUE` each.

    Raises:
        InputError: An option has another form.
    """
    options = []
    for text in texts:
        name, separator, value = text.lstrip("-").partition("=")
        if not (re.fullmatch(r"[a-z][a-z-]*", name) and separator and value):
            raise InputError(f"--sbatch: {text} is not an option of sbatch; give NAME=VALUE, e.g. --sbatch account=lab")
        options.append((name, value))
    return tuple(options)
