"""The models of a finished cross-validation, which together are one model. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmml.errors import InputError

PREFERRED = ("student", "teacher")
"""Which models are taken if the user names none"""
_BEST = Path("checkpoints") / "best.ckpt"
_FOLDERS = ("fold_*", "fold_*/seed_*", "repeat_*/fold_*", "repeat_*/fold_*/seed_*")
"""Folders of the runs of a cross-validation; see `FoldRun.folder`"""


def is_crossval(path: str | Path) -> bool:
    """Whether a path is the folder of a cross-validation."""
    return (Path(path) / "plan.json").is_file()


def named_checkpoints(path: str | Path, crossval_model: str | None = None) -> list[Path]:
    """Return the checkpoint at a path or, if it is the folder of a cross-validation, those of its models.

    Args:
        path: A checkpoint, or the folder of a cross-validation.
        crossval_model: See `checkpoints_of`; only for such a folder.

    Raises:
        InputError: As `checkpoints_of` does, or a model is named for a checkpoint.
    """
    if is_crossval(path):
        return checkpoints_of(path, crossval_model)
    if crossval_model is not None:
        raise InputError(f"--crossval-model {crossval_model}: is for the folder of a cross-validation, not for {path}")
    return [Path(path)]


def checkpoints_of(folder: str | Path, model: str | None = None) -> list[Path]:
    """Return the checkpoints of one model in all folds, repeats and seeds.

    Args:
        folder: Folder of the cross-validation.
        model: Name of the model, as in `crossval.json`; None takes the first of `PREFERRED` that it has.

    Raises:
        InputError: There is no such model, or it is not finished in every fold.
    """
    folder = Path(folder)
    runs = sorted({run for pattern in _FOLDERS for run in folder.glob(pattern) if _models_in(run)})
    names = sorted({name for run in runs for name in _models_in(run)})
    if model is None:
        model = next((name for name in PREFERRED if name in names), None)
    if model not in names:
        wanted = f"has no model {model!r}" if model else "has no student and no teacher"
        raise InputError(f"{folder}: the cross-validation {wanted}; {_choice(names)}")
    unfinished = [run for run in runs if not (run / model / "done.json").is_file()]
    if unfinished:
        raise InputError(
            f"{folder}: {model} is not finished in {unfinished[0].relative_to(folder)}; run the same `dmml crossval` "
            "again, which fits what is missing"
        )
    return [run / model / _BEST for run in runs]


def _models_in(run: Path) -> list[str]:
    """Names of the networks in a run's folder; regressions have no checkpoint."""
    return [path.parent.parent.name for path in run.glob(f"*/{_BEST}")]


def _choice(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"give one of {listed} with --crossval-model" if listed else "give the folder of a finished `dmml crossval`"
