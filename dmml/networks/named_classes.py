"""Classes that the hyper-parameters of a checkpoint name, such as the task and the fusion."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from dmml.errors import InputError


def are_plain(hparams: Mapping[str, Any]) -> bool:
    """Whether no argument of a class that the hyper-parameters name is itself a class.

    Such an argument may be an object or a factory, which only the annotations of the class tell: the parser of Lightning's
    CLI reads them.
    """
    sections = [value for value in hparams.values() if isinstance(value, Mapping) and "class_path" in value]
    return not any(_names_class(section.get("init_args")) for section in sections)


def imported(value: Any) -> Any:  # noqa: ANN401 - whatever an argument may be
    """Replace a section `{class_path, init_args}` by its class, bound to these arguments; return other values unchanged.

    The class paths have been checked by `read_checkpoint`.

    Raises:
        InputError: The class cannot be imported.
    """
    if not isinstance(value, Mapping) or "class_path" not in value:
        return value
    module, _, name = str(value["class_path"]).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"its class {value['class_path']} cannot be imported; run the command in the folder that contains the class"
        ) from error
    return partial(kind, **(value.get("init_args") or {}))


def _names_class(value: object) -> bool:
    if isinstance(value, Mapping):
        return "class_path" in value or any(map(_names_class, value.values()))
    return isinstance(value, list | tuple) and any(map(_names_class, value))
