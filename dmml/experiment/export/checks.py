"""Checks of an export before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.errors import InputError

RECORD = "export.json"
"""File by which the folder of an export is recognised"""


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that may not be replaced.

    Raises:
        InputError: It is a file, or exists without `overwrite`, or holds something other than an export.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file, but the export is a folder; name another OUT")
    if not overwrite:
        raise InputError(f"{out}: already exists; give --overwrite to replace it, or another OUT")
    if any(out.iterdir()) and not (out / RECORD).is_file():
        raise InputError(f"{out}: holds something other than an export (no {RECORD}); name another OUT")


def check_student(hparams: Mapping[str, Any], path: str | Path) -> None:
    """Refuse the checkpoint of a teacher; of a class of a user's own, `check_network` decides later.

    Args:
        hparams: Hyper-parameters of the checkpoint.
        path: The checkpoint.

    Raises:
        InputError: The model is dmml's teacher.
    """
    if str(hparams.get("_class_path")).rpartition(".")[2] == "SubspaceTeacher":
        raise not_a_student(path)


def not_a_student(path: str | Path) -> InputError:
    """Return the error for a model that is no student."""
    return InputError(
        f"{path}: is not a student; a teacher's RNA would have to be prepared outside of the graph, so only students are "
        "exported: fit one with this teacher, and export its checkpoint"
    )
