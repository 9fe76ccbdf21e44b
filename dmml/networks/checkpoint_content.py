"""What a checkpoint says of its model, read and checked without torch, so that a wrong checkpoint is refused at once."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.class_paths import check_class_paths
from dmml.errors import InputError

FORMAT = 2
"""Number of the layout of networks and hyper-parameters; raise it whenever older checkpoints can no longer be loaded"""
FORMAT_KEY = "dmml_format"
"""Key of the format number in a checkpoint; checkpoints of format 1 have no such key"""
_INSTANTIATORS = (None, "lightning.pytorch.cli.instantiate_module")
"""What may make the model of a checkpoint: its class itself, or Lightning's CLI"""
_UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What `zipfile` raises for files that are damaged, encrypted or compressed in an unknown way"""
_MAX_BYTES = 64 * 2**20
"""Largest description of a checkpoint's content that is read here; those of dmml have a few hundred kilobytes"""


def check_exists(path: str | Path) -> None:
    """Refuse a path where there is no file.

    Raises:
        InputError: There is none.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; `dmml fit` writes them to <run>/checkpoints/")


def check_content(content: object, path: str | Path) -> None:
    """Check what a checkpoint says of its model. No class that it names is imported.

    Args:
        content: Content of the file; of its tensors, nothing is looked at.
        path: The file.

    Raises:
        InputError: The content is no checkpoint of a dmml model, has another format number, or names a class in its own
            folder (see `check_class_path`) or a function that would make the model.
    """
    if not isinstance(content, Mapping) or not _is_checkpoint(content):
        raise InputError(f"{path}: a torch file but no checkpoint of a dmml model; use one written by `dmml fit`")
    check_format(content, path)
    hparams = content["hyper_parameters"]
    # Lightning calls the function that `_instantiator` names, and a foreign checkpoint must not choose that function.
    if hparams.get("_instantiator") not in _INSTANTIATORS:
        raise InputError(
            f"{path} was not written by `dmml fit` (its _instantiator is {hparams['_instantiator']}); give a checkpoint that was"
        )
    check_class_paths(hparams, path)


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


def read_hyper_parameters(path: str | Path) -> dict[str, Any] | None:
    """Read the hyper-parameters of a checkpoint, and check them like `check_content`.

    Returns:
        The hyper-parameters; None if the file holds something that is not understood here, and is left to torch.

    Raises:
        InputError: As in `check_content`.
    """
    try:
        content = _plain_content(path)
    except (*_UNREADABLE, ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(content, dict) or any(
        map(_is_opaque, (content.get("hyper_parameters"), content.get(FORMAT_KEY)))
    ):
        return None
    check_content(content, path)
    return content["hyper_parameters"]


def hyper_parameters_of(path: str | Path) -> dict[str, Any]:
    """Return the checked hyper-parameters of a checkpoint; torch is imported only for a file that is not of the usual kind.

    Raises:
        InputError: As in `dmml.networks.checkpoint.read_checkpoint`.
    """
    hparams = read_hyper_parameters(path)
    if hparams is not None:
        return hparams
    from dmml.networks.checkpoint import read_checkpoint

    return read_checkpoint(path)["hyper_parameters"]


def _is_checkpoint(content: Mapping[str, Any]) -> bool:
    return isinstance(content.get("hyper_parameters"), dict) and "state_dict" in content


class _Opaque:
    """Stands for whatever is no plain value, such as a tensor; it accepts items and drops them."""

    def update(self, items: object) -> None:
        """Drop the items."""

    extend = update


def _is_opaque(value: object) -> bool:
    return isinstance(value, _Opaque)


def _plain_content(path: str | Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the content of a torch file with numbers, text, lists and dictionaries; all else is an `_Opaque`.

    The description of the content is a list of operations on a stack. Those that would import or call something are not
    carried out.

    Raises:
        ValueError: The description is too large, or has an operation that is unknown here.
    """
    with zipfile.ZipFile(path) as archive:
        entry = next((info for info in archive.infolist() if info.filename.endswith("/data.pkl")), None)
        if entry is None or entry.file_size > _MAX_BYTES:
            raise ValueError("no description of the content, or too large a one")
        operations = archive.read(entry)
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[object, Any] = {}
    for operation, argument, _ in pickletools.genops(operations):
        name = operation.name
        if name == "MARK":
            marks.append(stack)
            stack = []
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _AFTER_MARK:
            items, stack = stack, marks.pop()
            _AFTER_MARK[name](stack, items)
        elif name in _ON_STACK:
            _ON_STACK[name](stack)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif operation.stack_after and not operation.stack_before and argument is not None and name != "GLOBAL":
            stack.append(argument)  # a number or a text
        elif name == "GLOBAL":
            stack.append(_Opaque())
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"unknown operation {name}")
    return stack[-1]


def _take(stack: list[Any], n: int) -> list[Any]:
    """Remove the last n values of a stack and return them."""
    values = stack[-n:]
    del stack[-n:]
    return values


def _replace(stack: list[Any], n: int) -> None:
    """Replace the last n values of a stack, of which something would be made by a call, by an `_Opaque`."""
    _take(stack, n)
    stack.append(_Opaque())


def _set_items(stack: list[Any], items: list[Any]) -> None:
    stack[-1].update(dict(zip(items[::2], items[1::2], strict=True)))


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_AFTER_MARK = {
    "TUPLE": lambda stack, items: stack.append(tuple(items)),
    "APPENDS": lambda stack, items: stack[-1].extend(items),
    "SETITEMS": _set_items,
}
"""Operations on all values since the last mark"""
_ON_STACK = {
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "TUPLE1": lambda stack: stack.append(tuple(_take(stack, 1))),
    "TUPLE2": lambda stack: stack.append(tuple(_take(stack, 2))),
    "TUPLE3": lambda stack: stack.append(tuple(_take(stack, 3))),
    "APPEND": lambda stack: stack[-2].extend(_take(stack, 1)),
    "SETITEM": lambda stack: _set_items(stack[:-2], _take(stack, 2)),
    "REDUCE": lambda stack: _replace(stack, 2),
    "NEWOBJ": lambda stack: _replace(stack, 2),
    "BUILD": lambda stack: _take(stack, 1),
    "BINPERSID": lambda stack: _replace(stack, 1),
}
"""Operations on the last values"""
