"""Reads untrusted checkpoints safely, with their weights, and describes classes as a checkpoint holds them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dmml.errors import InputError
from dmml.networks.checkpoint_content import check_content, check_exists
from dmml.tasks import Task


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`. Every class that it names is checked, and none is imported.

    Raises:
        InputError: The file does not exist, is not a checkpoint of a dmml model, has another format number, or names a
            class in its own folder (see `check_class_path`) or a function that would make the model.
    """
    check_exists(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen exception types for files in other formats
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{path}: not a checkpoint that can be read safely ({reason}); use one written by `dmml fit`"
        ) from error
    check_content(checkpoint, path)
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
