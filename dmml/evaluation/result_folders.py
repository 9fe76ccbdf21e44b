"""Find test results on disk. Imports the standard library only, so that a wrong path is reported at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmml.class_paths import check_class_path
from dmml.errors import InputError


@dataclass(frozen=True)
class ResultFolder:
    """Where `dmml test` wrote its results: `folder` has predictions.csv, `run` is the run of the tested checkpoint."""

    folder: Path
    run: Path


def find_tests(paths: Iterable[str | Path]) -> list[ResultFolder]:
    """Find the test folders of the given runs, in the given order, each once.

    Args:
        paths: Run folders (`runs/demo`: all cohorts that were tested) or test folders (`runs/demo/test/held_out`).

    Raises:
        InputError: A folder is missing or has no finished test.
    """
    results: dict[Path, ResultFolder] = {}
    for path in map(Path, paths):
        for result in _tests_of(path):
            results.setdefault(result.folder.resolve(), result)
    return list(results.values())


def read_context(folder: Path) -> dict[str, Any]:
    """Read `context.json` of a test folder; see `read_json`."""
    return read_json(folder / "context.json")


def read_json(path: Path, remedy: str = "run `dmml test` again") -> dict[str, Any]:
    """Read a JSON object of a folder of results; empty if the file does not exist.

    Args:
        path: The file.
        remedy: What the user can do about a damaged file, used as the end of the message.

    Raises:
        InputError: The file is not a JSON object, or it names an endpoint in its own folder (see `check_class_path`).
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; {remedy}")
    if "endpoint" in content:
        check_class_path(str(content["endpoint"]), path)
    return content


def _tests_of(path: Path) -> list[ResultFolder]:
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; train a model with `dmml fit --config CONFIG`, then run `dmml test`")
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
    """Refuse folders without read permission, which a search would skip silently.

    Raises:
        InputError: The folder or one inside it may not be read.
    """
    for each in (folder, *(folder.glob("*") if os.access(folder, os.R_OK | os.X_OK) else ())):
        if each.is_dir() and not os.access(each, os.R_OK | os.X_OK):
            raise InputError(
                f"{each} may not be read; change its permissions, or name the test folders that you may read"
            )


def run_of_result(folder: Path, parent: Path | None = None) -> Path:
    """Find the run that a result's checkpoint belongs to; the result may lie in the folder of another run.

    Args:
        folder: Folder with predictions.csv and context.json.
        parent: Run folder in which the result was found; None takes the one above `test/`.
    """
    parent = parent or (folder.parent.parent if folder.parent.name == "test" else folder.parent)
    recorded = read_context(folder).get("run_folder")
    if not isinstance(recorded, str):
        return parent
    run = Path(os.path.normpath(folder.resolve() / recorded))
    if run == parent.resolve():
        return parent
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run


def is_run_of(run: Path, context: dict) -> bool:
    """Whether a run still has the tested model; False if the checkpoint was overwritten since the test."""
    recorded = context.get("checkpoint") or {}
    path = run / str(recorded.get("path"))
    if not recorded.get("sha256") or not path.is_file():
        return True
    from dmml.cohort.file_hashes import hash_of  # imported here: it needs NumPy, and finding results does not

    return hash_of(path) == recorded["sha256"]
