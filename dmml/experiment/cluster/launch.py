"""Hands parts to submitit: as array jobs of SLURM, or one after another on this machine."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.experiment.cluster.part import Part
from dmml.experiment.cluster.records import COLLECT, Submission
from dmml.experiment.cluster.resources import Resources
from dmml.experiment.cluster.slurm import cancel, max_array_size
from dmml.experiment.cluster.states import FINISHED, states_of

if TYPE_CHECKING:
    from submitit import Job

LOGGER = logging.getLogger(__name__)
SIGNAL = "USR1"
"""Signal before the time limit, at which every command of dmml can be stopped without loss"""
MAX_TIMEOUTS = 100
"""How often a part may reach its time limit before it counts as failed: enough for weeks, but not for ever"""
_A_YEAR = 365 * 24 * 60
"""Time limit in minutes on one machine, where submitit needs one"""


def launch_on_slurm(submission: Submission, names: Sequence[str], resources: Resources) -> None:
    """Submit parts as array jobs, and the part that joins them as a job that waits for all of them.

    Args:
        submission: The submission, which records the ids of the jobs.
        names: Parts to submit; further parts may still be in the queue.
        resources: Resources of each job.

    Raises:
        InputError: sbatch refuses the job.
    """
    if submission.collect and (former := submission.job_of(COLLECT)) is not None:
        cancel(former)  # it waits for jobs that failed
    arrays = []
    for chunk in chunks(names, max_array_size()):
        arrays.append(_submit(submission, chunk, resources, {}))
    if not submission.collect:
        return
    alive = [name for name, state in states_of(submission).items() if state.is_alive and name not in names]
    jobs = [*arrays, *(str(submission.job_of(name)) for name in alive if name != COLLECT)]
    dependency = {"dependency": f"afterok:{':'.join(jobs)}", "kill-on-invalid-dep": "yes"} if jobs else {}
    _submit(submission, [COLLECT], resources, dependency)


def chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Divide parts among array jobs, as evenly as possible, with at most `size` parts each."""
    n = -(-len(names) // size)
    for i in range(n):
        yield names[i * len(names) // n : (i + 1) * len(names) // n]


def _submit(submission: Submission, names: Sequence[str], resources: Resources, further: dict[str, str]) -> str:
    """Submit one job, or one array job if there are several parts, and return its id."""
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = SIGNAL  # read when submitit is imported
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = SlurmExecutor(folder=submission.folder / "jobs", max_num_timeout=MAX_TIMEOUTS)
    is_collect = list(names) == [COLLECT]
    executor.update_parameters(
        job_name=f"dmml-{submission.arguments[0]}{'-collect' if is_collect else ''}",
        time=resources.minutes,
        partition=resources.partition,
        mem=resources.memory,
        cpus_per_task=resources.cpus,
        gpus_per_node=None if is_collect else resources.gpus or None,
        array_parallelism=resources.at_once or len(names),
        signal_delay_s=resources.grace,
        setup=[f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL}"],
        # Since SLURM 22.05, srun does not take over the number of cores from sbatch.
        srun_args=[] if resources.cpus is None else [f"--cpus-per-task={resources.cpus}"],
        wckey=None,
        additional_parameters={"requeue": True, **dict(resources.options), **further},
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what its error repeats
            jobs = [job.job_id for job in executor.submit_array([_part(submission, name) for name in names])]
    except (FailedJobError, FailedSubmissionError) as error:
        raise InputError(f"sbatch refuses the job: {' '.join(str(error).split())[:300]}") from error
    submission.add_jobs(dict(zip(names, jobs, strict=True)))
    array = jobs[0].partition("_")[0]
    LOGGER.info("job %s: %s", array, names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}, {len(names)} parts")
    return array


def _part(submission: Submission, name: str) -> Part:
    return Part(name, submission.all()[name], submission.folder, submission.directory, submission.provenance)


def run_locally(submission: Submission, names: Sequence[str], resources: Resources) -> None:
    """Run parts on this machine, wait for them, and then join their results.

    Args:
        submission: The submission.
        names: Parts to run.
        resources: `at_once` parts run at the same time, one if it is None; each has `gpus` GPUs.

    Raises:
        InputError: A part failed.
    """
    _run_all(submission, names, resources)
    states = states_of(submission)
    unfinished = [name for name in submission.commands if states[name].state != FINISHED]
    if not unfinished and submission.collect:
        _run_all(submission, [COLLECT], resources)
        unfinished = [COLLECT] if states_of(submission)[COLLECT].state != FINISHED else []
    if unfinished:
        state = states_of(submission)[unfinished[0]]
        raise InputError(
            f"{len(unfinished)} of {len(submission.all())} parts have not finished: {unfinished[0]} {state.state} "
            f"({state.explanation}), see {submission.log(unfinished[0])}; the same command runs them again"
        )


def _run_all(submission: Submission, names: Sequence[str], resources: Resources) -> None:
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = SIGNAL
    from submitit import LocalExecutor

    executor = LocalExecutor(folder=submission.folder / "jobs", max_num_timeout=MAX_TIMEOUTS)
    free, waiting = list(range(resources.at_once or 1)), list(names)
    running: dict[str, tuple[Job[None], int]] = {}
    while waiting or running:
        while waiting and free:
            name, slot = waiting.pop(0), free.pop(0)
            limits: dict[str, Any] = {"timeout_min": resources.minutes or _A_YEAR, "signal_delay_s": resources.grace}
            gpus = tuple(range(slot * resources.gpus, (slot + 1) * resources.gpus))
            executor.update_parameters(**limits, gpus_per_node=resources.gpus, visible_gpus=gpus)
            job = executor.submit(_part(submission, name))
            submission.add_jobs({name: job.job_id})
            running[name] = (job, slot)
            LOGGER.info("%s: started", name)
        for name, (job, slot) in list(running.items()):
            if job.done():
                del running[name]
                free.append(slot)
                LOGGER.info("%s: %s", name, states_of(submission)[name].state)
        time.sleep(0.1)


def check_local(resources: Resources) -> None:
    """Check that this machine has the GPUs that the parts need.

    Raises:
        InputError: It has fewer.
    """
    needed = resources.gpus * (resources.at_once or 1)
    if not needed:
        return
    listed = shutil.which("nvidia-smi") and subprocess.run(
        ["nvidia-smi", "--list-gpus"], check=False, capture_output=True, text=True
    )
    present = len(listed.stdout.splitlines()) if listed and listed.returncode == 0 else 0
    if present < needed:
        raise InputError(
            f"--gpus: {needed} GPUs are needed at once, and nvidia-smi lists {present} on this machine; give a smaller --gpus or --at-once"
        )
