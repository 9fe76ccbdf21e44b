"""Finds test results on disk. Standard library only, so that a wrong path is told at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dmml.errors import InputError


@dataclass(frozen=True)
class ResultFolder:
    """Where `dmml test` wrote: `folder` holds predictions.csv, `run` is the run whose checkpoint was tested."""

    folder: Path
    run: Path


def find_tests(paths: Iterable[str | Path]) -> list[ResultFolder]:
    """Test folders of the runs given, in their order, each once.

    Args:
        paths: Run folders (`runs/demo`: all its tested cohorts) or single test folders (`runs/demo/test/held_out`).

    Raises:
        InputError: A folder is missing, or holds no finished test.
    """
    found: dict[Path, ResultFolder] = {}
    for path in map(Path, paths):
        for test in _tests_of(path):
            found.setdefault(test.folder.resolve(), test)
    return list(found.values())


def read_context(folder: Path) -> dict:
    """`context.json` of a test folder; empty where there is none.

    Raises:
        InputError: It is no JSON object.
    """
    path = folder / "context.json"
    if not path.exists():
        return {}
    try:
        context = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); run `dmml test` again") from None
    if not isinstance(context, dict):
        raise InputError(f"{path} holds no JSON object; run `dmml test` again")
    return context


def _tests_of(path: Path) -> list[ResultFolder]:
    if not path.is_dir():
        raise InputError(f"{path} is no folder; train a model first with `dmml fit --config CONFIG`, then `dmml test`")
    if (path / "predictions.csv").is_file():
        return [ResultFolder(path, run_of_result(path))]
    _check_readable(path / "test")
    folders = sorted(folder.parent for folder in (path / "test").glob("*/predictions.csv"))
    if not folders:
        checkpoint = path / "checkpoints" / "best.ckpt"
        if not checkpoint.is_file() and (path / "config.yaml").is_file():
            raise InputError(
                f"{path} has no checkpoints/best.ckpt: its training did not finish; "
                f"run `dmml fit --config {path / 'config.yaml'}` again, then `dmml test`"
            )
        raise InputError(
            f"{path} holds no test result; run `dmml test --config COHORT.yaml --ckpt_path {checkpoint}` first"
        )
    return [ResultFolder(folder, run_of_result(folder, path)) for folder in folders]


def _check_readable(folder: Path) -> None:
    """Refuse results that belong to somebody else, which a search of the folder would pass over.

    Raises:
        InputError: The folder or one in it may not be read.
    """
    for each in (folder, *(folder.glob("*") if os.access(folder, os.R_OK | os.X_OK) else ())):
        if each.is_dir() and not os.access(each, os.R_OK | os.X_OK):
            raise InputError(
                f"{each}: may not be read; give yourself the right to, or name the test folders that you may read"
            )


def run_of_result(folder: Path, parent: Path | None = None) -> Path:
    """The run that owns a result's checkpoint, which need not be the folder that the result lies in.

    Args:
        folder: Holds predictions.csv and context.json.
        parent: The folder that the result was looked for in; None = the one above `test/`.
    """
    parent = parent or (folder.parent.parent if folder.parent.name == "test" else folder.parent)
    named = read_context(folder).get("run_folder")
    if not isinstance(named, str):
        return parent
    run = Path(os.path.normpath(folder.resolve() / named))
    if run == parent.resolve():
        return parent
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run


def is_run_of(run: Path, context: dict) -> bool:
    """Whether a run still has the model that a result belongs to: not if its checkpoint was overwritten since."""
    named = context.get("checkpoint") or {}
    path = run / str(named.get("path"))
    if not named.get("sha256") or not path.is_file():
        return True
    from dmml.cohort.file_hashes import hash_of  # brings NumPy along, which finding results does without

    return hash_of(path) == named["sha256"]
