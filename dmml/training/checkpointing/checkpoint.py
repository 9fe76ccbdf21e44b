"""Reads untrusted checkpoints safely, and refuses those of another format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dmml.class_paths import check_class_paths
from dmml.errors import InputError
from dmml.tasks import Task

FORMAT = 2
"""Number of the layout of networks and hyper-parameters; raise it whenever older checkpoints can no longer be loaded"""
FORMAT_KEY = "dmml_format"
"""Key of the format number in a checkpoint; checkpoints of format 1 have no such key"""
_INSTANTIATORS = (None, "lightning.pytorch.cli.instantiate_module")
"""What may make the model of a checkpoint: its class itself, or Lightning's CLI"""


def check_format(checkpoint: Mapping[str, Any], path: str | Path = "") -> None:
    """Refuse a checkpoint whose networks are laid out in another way than those of this dmml.

    Args:
        checkpoint: Content of the checkpoint.
        path: Path of the checkpoint, for the error message; empty if unknown.

    Raises:
        InputError: The checkpoint has another format number, or none.
    """
    number = checkpoint.get(FORMAT_KEY, 1)
    if number == FORMAT:
        return
    start = f"{path}: this checkpoint" if path else "this checkpoint"
    if isinstance(number, int) and number < FORMAT:
        raise InputError(
            f"{start} was written by an earlier dmml (format {number}), whose networks are laid out differently; fit the "
            "model again, or use the version of dmml that wrote it"
        )
    raise InputError(
        f"{start} was written by a later dmml (format {number}), and this one reads format {FORMAT}; update dmml, or fit "
        "the model again"
    )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`. Every class that it names is checked, and none is imported.

    Raises:
        InputError: The file does not exist, is not a checkpoint of a dmml model, has another format number, or names a
            class in its own folder (see `check_class_path`) or a function that would make the model.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; `dmml fit` writes them to <run>/checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen exception types for files in other formats
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{path}: not a checkpoint that can be read safely ({reason}); use one written by `dmml fit`"
        ) from error
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    if not isinstance(parts.get("hyper_parameters"), dict) or "state_dict" not in parts:
        raise InputError(f"{path}: a torch file but no checkpoint of a dmml model; use one written by `dmml fit`")
    check_format(checkpoint, path)
    hparams = checkpoint["hyper_parameters"]
    # Lightning calls the function that `_instantiator` names, and a foreign checkpoint must not choose that function.
    if hparams.get("_instantiator") not in _INSTANTIATORS:
        raise InputError(
            f"{path} was not written by `dmml fit` (its _instantiator is {hparams['_instantiator']}); give a checkpoint that was"
        )
    check_class_paths(hparams, path)
    return checkpoint


def class_config(value: object) -> object:
    """Describe an object or factory as `{class_path, init_args}`, which `weights_only` loads and a config can hold.

    A `Task` is described by its arguments, a class by its path, and a `functools.partial` by its path and keyword
    arguments. Any other value is returned unchanged.
    """
    if isinstance(value, Task):
        return {"class_path": _path(type(value)), "init_args": value.init_args()}
    if isinstance(value, functools.partial):
        # The parser makes partials of a function of its own, and the class is one of its positional arguments.
        kind = next((argument for argument in value.args if isinstance(argument, type)), value.func)
        return {"class_path": _path(kind), "init_args": dict(value.keywords)}
    if isinstance(value, type):
        return {"class_path": _path(value)}
    return value


def _path(kind: Callable[..., object]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
