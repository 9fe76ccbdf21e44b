"""The folder of a submission: what was submitted, the exact command of each part, and how each part ended."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dmml.atomic_files import write_json, write_text
from dmml.errors import InputError

COLLECT = "collect"
"""Name of the part that joins the results of the others, once all of them have finished"""
SUBMISSION = "submission.json"


class PartFiles:
    """Files of one part.

    Args:
        folder: Folder of the submission.
        name: Name of the part.
    """

    def __init__(self, folder: Path, name: str):
        self.path = folder / "parts" / f"{name}.json"
        self.lock = folder / "parts" / f".{name}.lock"

    def record(self) -> dict[str, Any]:
        """Read the record of the newest start; empty before the first one.

        `job`, `node`, `starts` (how often the part was started) and `started`; then either `stopped`, if the job is to
        be requeued, or `ended` and `exit`, the exit code, with a `reason` if the command alone does not explain it.
        """
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


@dataclass
class Submission:
    """A command that was submitted in parts.

    Attributes:
        folder: Folder of the submission, absolute.
        typed: The command as it was typed.
        arguments: Its verb and arguments, without the options of the cluster.
        cluster: `slurm` or `local`.
        directory: Working directory, absolute.
        commands: {name of the part: command and arguments}.
        collect: Command that follows when all parts have finished; empty if there is nothing to join.
        provenance: See `Part.provenance`.
        jobs: {name of the part: ids of its jobs, the newest one last}.
    """

    folder: Path
    typed: str
    arguments: list[str]
    cluster: str
    directory: str
    commands: dict[str, list[str]]
    collect: list[str] = field(default_factory=list)
    provenance: str = ""
    jobs: dict[str, list[str]] = field(default_factory=dict)

    def write(self) -> None:
        """Write `submission.json`, and `commands.txt` with one command per part, for people."""
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        lines = [f"# in {self.directory}", *(f"{name}: {shlex.join(words)}" for name, words in self.all().items())]
        write_text(self.folder / "commands.txt", "\n".join(lines) + "\n")
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json(self.folder / SUBMISSION, content)

    def all(self) -> dict[str, list[str]]:
        """Commands of all parts, including that which joins them."""
        return self.commands | ({COLLECT: self.collect} if self.collect else {})

    def add_jobs(self, jobs: Mapping[str, str]) -> None:
        """Record {name of a part: id of its new job}, before anything else can fail."""
        for name, job in jobs.items():
            self.jobs.setdefault(name, []).append(job)
        self.write()

    def job_of(self, name: str) -> str | None:
        """Id of the newest job of a part; None if it was never submitted."""
        jobs = self.jobs.get(name)
        return jobs[-1] if jobs else None

    def record(self, name: str) -> dict[str, Any]:
        """Record of the newest start of a part; see `PartFiles.record`."""
        return PartFiles(self.folder, name).record()

    def log(self, name: str) -> Path | None:
        """File to which a part writes its errors and warnings; what it prints is in the file that ends in `.out`."""
        job = self.job_of(name)
        return None if job is None else self.folder / "jobs" / f"{job}_0_log.err"


def read_submission(folder: Path) -> Submission | None:
    """Read a submission; None if the folder holds none.

    Raises:
        InputError: Its file cannot be read.
    """
    path = folder / SUBMISSION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Submission(folder=folder.absolute(), **content)
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove the folder to submit anew") from error


def find_submission(run: Path) -> Submission:
    """Find the submission of a run folder, of a feature store, or in a folder itself.

    Raises:
        InputError: Nothing was submitted there.
    """
    for folder in (run, folder_inside(run), folder_next_to(run)):
        if (submission := read_submission(folder)) is not None:
            return submission
    raise InputError(f"{run}: nothing was submitted there; name the run folder, or the store, of `dmml submit`")


def folder_inside(run: Path) -> Path:
    """Folder of the submission of a fit or a cross-validation, which lies in the folder of the run."""
    return run / "submit"


def folder_next_to(store: str | Path) -> Path:
    """Folder of the submission of an extraction, next to the store; in the working directory if that is behind a URL."""
    name = str(store).rstrip("/")
    return Path(f"{name.rpartition('/')[2] if '://' in name else name}.submit")
