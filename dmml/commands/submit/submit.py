"""Run `dmml extract`, `dmml fit` or `dmml crossval` as jobs of SLURM, or in parts on one machine.

The command is checked as usual before anything is submitted, and its jobs run the ordinary commands, which
`commands.txt` in the folder of the submission lists. The same command again submits what has not finished and is not
running, and nothing else.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.commands.submit.work import Work, crossval_work, extraction_work, fit_work
from dmml.errors import InputError
from dmml.experiment.cluster.resources import GRACE_SECONDS, LOCAL, SLURM, Resources, read_minutes, read_options

if TYPE_CHECKING:
    from dmml.experiment.cluster.records import Submission
    from dmml.experiment.cluster.states import PartState

STATUS = "status"
WORK: Mapping[str, Callable[[list[str], int | None, Resources], Work]] = {
    "extract": extraction_work,
    "fit": fit_work,
    "crossval": crossval_work,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the cluster; all other arguments belong to the command that is submitted."""
    parser.usage = (
        "dmml submit {extract,fit,crossval} ARGUMENTS OF THE COMMAND --time T [options], or dmml submit status RUN"
    )
    add = parser.add_argument
    add(
        "verb",
        metavar="COMMAND",
        choices=[*WORK, STATUS],
        help="extract, fit or crossval, followed by its own arguments; or status, followed by a run folder or a store",
    )
    add(
        "--parts",
        type=int,
        metavar="N",
        help="jobs among which the slides of an extraction are divided; a cross-validation has one per fold",
    )
    add("--cluster", choices=[SLURM, LOCAL], default=SLURM, help="slurm (default), or local: this machine alone")
    add(
        "--again",
        action="store_true",
        help="run finished parts as well, e.g. when slides were added to the folder of an extraction",
    )
    job = parser.add_argument_group("each job")
    job.add_argument("--partition", metavar="P", help="partition of SLURM (default: that of the cluster)")
    job.add_argument(
        "--time",
        metavar="T",
        help="time limit: minutes, H:MM:SS or D-HH:MM:SS; a job that reaches it is stopped and requeued, and continues",
    )
    job.add_argument("--mem", metavar="M", help="memory with its unit, e.g. 16G")
    job.add_argument("--cpus", type=int, metavar="N", help="cores")
    job.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs (default: 0)")
    job.add_argument(
        "--at-once", type=int, metavar="N", help="jobs that may run at the same time (default: all; with local: 1)"
    )
    job.add_argument(
        "--grace",
        type=int,
        default=GRACE_SECONDS,
        metavar="S",
        help=f"seconds before the time limit at which a command is stopped (default: {GRACE_SECONDS})",
    )
    job.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="further option of sbatch, e.g. --sbatch account=lab; may be repeated",
    )


def run(args: argparse.Namespace) -> None:
    """Show the state of a submission, or check a command and submit what has not finished."""
    if args.verb == STATUS:
        if len(args.arguments) != 1:
            raise InputError("dmml submit status: needs one run folder, or one store")
        _show(Path(args.arguments[0]))
        return
    resources = _resources(args)
    work = WORK[args.verb](args.arguments, args.parts, resources)
    submission, states = _existing(work, resources)
    names = [
        name
        for name in (submission.commands if submission else work.parts)
        if submission is None or not (states[name].is_alive or (states[name].state == "finished" and not args.again))
    ]
    if submission is not None and not names and not _needs_collect(submission, states):
        print(f"{work.folder}: nothing to submit; {_counts(states)}")
        return
    if submission is None:
        submission = _begin(work, args)
    _launch(submission, names, resources)


def _resources(args: argparse.Namespace) -> Resources:
    """Check the options of the cluster, and that it can be reached."""
    if args.parts is not None and args.parts < 1:
        raise InputError(f"--parts: {args.parts} is too small; give 1 or more")
    resources = Resources(
        args.cluster,
        read_minutes(args.time),
        args.partition,
        args.mem,
        args.cpus,
        args.gpus,
        args.at_once,
        args.grace,
        read_options(args.sbatch),
    )
    resources.check()
    if importlib.util.find_spec("submitit") is None:
        raise InputError("dmml submit: needs submitit; install it with pip install 'dmml[cluster]'")
    if resources.cluster == SLURM:
        from dmml.experiment.cluster.slurm import check_slurm

        check_slurm(resources.partition)
    else:
        from dmml.experiment.cluster.launch import check_local

        check_local(resources)
    return resources


def _existing(work: Work, resources: Resources) -> tuple[Submission | None, dict[str, PartState]]:
    """Return the submission that this command continues, with the states of its parts; None for a new one.

    Raises:
        InputError: The folder belongs to another submission, or to one whose parts are still running.
    """
    from dmml.experiment.cluster.records import read_submission
    from dmml.experiment.cluster.states import states_of

    submission = read_submission(work.folder)
    if submission is None:
        return None, {}
    states = states_of(submission)
    alive = [name for name, state in states.items() if state.is_alive]
    same = (submission.arguments, submission.directory) == (work.arguments, os.getcwd())
    same = same and set(submission.commands) == set(work.parts)
    is_other = work.overwrite or not same or submission.cluster != resources.cluster
    if is_other and alive:
        jobs = ", ".join(str(submission.job_of(name)) for name in alive[:3])
        raise InputError(
            f"{work.folder}: holds a submission whose parts still run or wait (jobs {jobs}); wait for them, or cancel them "
            "first"
        )
    if work.overwrite:
        return None, {}
    if not same:
        raise InputError(
            f"{work.folder}: holds the submission of another command ({submission.typed}); repeat that command, or remove "
            "the folder"
        )
    submission.cluster = resources.cluster
    return submission, states


def _needs_collect(submission: Submission, states: Mapping[str, PartState]) -> bool:
    """Whether only the join of the parts is missing."""
    from dmml.experiment.cluster.records import COLLECT

    return COLLECT in states and not states[COLLECT].is_alive and states[COLLECT].state != "finished"


def _begin(work: Work, args: argparse.Namespace) -> Submission:
    """Do what must happen once before the parts, such as fetching weights, and write the new submission."""
    from dmml.experiment.cluster.records import Submission

    commands, collect = work.commands()
    if work.folder.is_dir():
        shutil.rmtree(work.folder)
    typed = shlex.join(["dmml", "submit", *work.arguments, *(["--parts", str(args.parts)] if args.parts else [])])
    folder = work.folder.absolute()
    submission = Submission(
        folder, typed, work.arguments, args.cluster, os.getcwd(), commands, collect, work.provenance
    )
    submission.write()
    return submission


def _launch(submission: Submission, names: list[str], resources: Resources) -> None:
    from dmml.experiment.cluster.launch import launch_on_slurm, run_locally
    from dmml.experiment.cluster.records import COLLECT, PartFiles

    for name in [*names, COLLECT]:  # earlier ends count no longer
        PartFiles(submission.folder, name).path.unlink(missing_ok=True)
    if resources.cluster == LOCAL:
        run_locally(submission, names, resources)
        print(f"{submission.folder}: all parts have finished")
        return
    launch_on_slurm(submission, names, resources)
    print(
        f"{len(names)} of {len(submission.commands)} parts submitted; dmml submit status {submission.folder} shows them"
    )


def _show(run: Path) -> None:
    """Print a table of the parts of a submission."""
    from dmml.experiment.cluster.records import find_submission
    from dmml.experiment.cluster.states import states_of

    submission = find_submission(run)
    states = states_of(submission)
    print(f"{submission.typed}\n")
    print(f"{'part':<12}{'state':<15}{'job':<14}{'starts':<8}{'node':<16}")
    for name, state in states.items():
        record, job = submission.record(name), submission.job_of(name) or ""
        starts = record.get("starts", 0)
        print(
            f"{name:<12}{state.state:<15}{job:<14}{starts:<8}{record.get('node', ''):<16}{state.explanation}".rstrip()
        )
    print(f"\n{_counts(states)}; commands.txt and jobs/ in {submission.folder} have the commands and the logs")
    ended = [name for name, state in states.items() if state.state in ("failed", "lost", "not submitted")]
    if ended:
        print(
            f"{len(ended)} parts have not finished; the same command submits them again, e.g. after {submission.log(ended[0])}"
        )


def _counts(states: Mapping[str, PartState]) -> str:
    counts: dict[str, int] = {}
    for state in states.values():
        counts[state.state] = counts.get(state.state, 0) + 1
    return ", ".join(f"{n} {state}" for state, n in counts.items())
