"""The state of each part of a submission: what is recorded of it, and whether the cluster still has its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dmml.experiment.cluster.part import is_locked
from dmml.experiment.cluster.records import COLLECT, PartFiles, Submission
from dmml.experiment.cluster.resources import SLURM
from dmml.experiment.cluster.slurm import ENDING, queued_jobs

FINISHED, RUNNING, WAITING, FAILED, LOST, PENDING = "finished", "running", "waiting", "failed", "lost", "not submitted"


class PartState(NamedTuple):
    """State of one part."""

    state: str
    """`finished`; `running` or `waiting` while the cluster has its job; `failed`, with an exit code; `lost`, if the job
    is gone without a record of its end; or `not submitted`"""
    explanation: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the part will go on by itself."""
        return self.state in (RUNNING, WAITING)


def states_of(submission: Submission) -> dict[str, PartState]:
    """Return {name of the part: its state}, for all parts and then for the one that joins them.

    Raises:
        InputError: SLURM does not answer.
    """
    queue = queued_jobs() if submission.cluster == SLURM else {}
    return {name: _state(submission, name, queue) for name in submission.all()}


def _state(submission: Submission, name: str, queue: Mapping[str, tuple[str, str]]) -> PartState:
    job, record = submission.job_of(name), submission.record(name)
    if record.get("exit") == 0:
        return PartState(FINISHED)
    if job is None:
        return PartState(PENDING)
    is_of_this_job = record.get("job") == job
    has_ended = is_of_this_job and "exit" in record
    state, reason = queue.get(job, ("", ""))
    if state and not (state in ENDING and has_ended):
        if state == "PENDING":
            return PartState(WAITING, "requeued" if is_of_this_job and "stopped" in record else reason)
        return PartState(RUNNING)
    if submission.cluster != SLURM and is_locked(PartFiles(submission.folder, name).lock):
        return PartState(RUNNING)
    if has_ended:
        return PartState(FAILED, _explain_exit(record["exit"], record.get("reason", "")))
    if name == COLLECT:
        return PartState(LOST, "not run, because a part failed, or its job was cancelled")
    return PartState(LOST, "its job is gone: killed, cancelled, or lost with its node")


def _explain_exit(code: int, reason: str) -> str:
    if code == 137 and not reason:
        reason = "killed; often for want of memory"
    return f"exit code {code}" + (f": {reason}" if reason else "")
