"""Describes a mistake in a config in one line: which key, what is wrong, what to do."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from dmml.class_paths import check_not_renamed
from dmml.commands.config.argument_names import argument_names, number_arguments, number_kinds
from dmml.data.data_config import DataConfig
from dmml.errors import InputError
from dmml.experiment.fit_defaults import SHORT_NAMES

TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
DATA_ARGUMENTS = [field.name for field in fields(DataConfig)]
_DATA_NUMBERS = {field.name: number_kinds(ast.parse(str(field.type), mode="eval").body) for field in fields(DataConfig)}
_MAX_LENGTH = 300
_NOISE = re.compile(
    r"([Pp]arser key|Does not validate|Subtypes:|Errors:|Given value|Problem with given class_path|Expected a <class 'NoneType'>)"
)
"""Lines that describe how the parser works rather than what is wrong"""


def check_class_names(section: object, where: str = "") -> None:
    """Refuse a class whose name is close, but not equal, to the short name of one of dmml's, or an earlier name.

    Nothing is imported.

    Args:
        section: A config, or a part of it.
        where: Key of the part.

    Raises:
        InputError: A class is misspelt or has another name now; the message names the right one.
    """
    if isinstance(section, dict):
        name = section.get("class_path")
        if isinstance(name, str):
            check_not_renamed(name, where or "config")
        if isinstance(name, str) and "." not in name and name not in SHORT_NAMES:
            near = difflib.get_close_matches(name, SHORT_NAMES, n=1, cutoff=0.85)
            if near:
                raise InputError(f"{where or 'config'}: there is no class {name!r}; did you mean {near[0]}?")
        parts: Iterable[tuple[Any, Any]] = section.items()
    elif isinstance(section, list):
        parts = enumerate(section)
    else:
        return
    for key, value in parts:
        name = f"{where}.{key}" if where else str(key)
        check_class_names(value, name.replace(".init_args", ""))


def check_arguments(section: object, where: str = "") -> None:
    """Refuse arguments that one of dmml's classes or the Trainer does not take, without importing any of them.

    Args:
        section: A config, or a part of it.
        where: Key of the part.

    Raises:
        InputError: An argument is unknown, or is no number although only numbers are allowed.
    """
    if not where and isinstance(section, dict) and isinstance(section.get("trainer"), dict):
        names = argument_names(TRAINER)
        for key in section["trainer"]:
            if names and str(key).removesuffix("+") not in names:  # `callbacks+` appends to a list
                raise InputError(f"config: there is no option {f'trainer.{key}'!r}{_nearest(str(key), names)}")
        _check_numbers(section["trainer"], number_arguments(TRAINER), "trainer")
    if isinstance(section, dict):
        kind, arguments = _own_class(section.get("class_path")), section.get("init_args")
        names = argument_names(kind) if kind and isinstance(arguments, dict) else set()
        for key in arguments if isinstance(arguments, dict) else ():
            if names and str(key).removesuffix("+") not in names:
                raise InputError(f"config, {where}: {_short(kind)} takes no {key!r}{_nearest(str(key), names)}")
        if kind and isinstance(arguments, dict):
            _check_numbers(arguments, number_arguments(kind), where)
    parts = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    for key, value in parts:
        check_arguments(value, f"{where}.{key}".removeprefix(".").replace(".init_args", ""))


def _own_class(name: object) -> str:
    """Return the path of a class of dmml that a config names; empty for the data module and for other classes."""
    path = str(name).removeprefix("dmml.")
    path = f"{SHORT_NAMES[path]}.{path}" if path in SHORT_NAMES else str(name)
    return path if path.startswith("dmml.") and not path.endswith(".MultimodalDataModule") else ""


def check_data_arguments(section: dict[str, Any], where: str = "data") -> None:
    """Refuse arguments of a data section that the data module does not take, without importing it.

    Raises:
        InputError: An argument is unknown, or is no number although only numbers are allowed.
    """
    for key in section:
        if key not in DATA_ARGUMENTS:
            raise InputError(f"{where}: MultimodalDataModule takes no {key!r}{_nearest(str(key), DATA_ARGUMENTS)}")
    _check_numbers(section, _DATA_NUMBERS, where)
    for number, other in enumerate(section.get("also") or [], start=1):
        check_data_arguments(other, f"data[{number}]")


def _check_numbers(arguments: Mapping[Any, object], kinds_of: Mapping[str, frozenset[str]], where: str) -> None:
    for key, value in arguments.items():
        kinds = kinds_of.get(str(key)) or frozenset()
        if kinds and not _may_be_number(value, kinds):
            expected = " or ".join(sorted(kinds - {"None"}))
            raise InputError(f"config, {where}.{key}: {_cut(str(value), 80)} is no {expected}; correct the value")


def _may_be_number(value: object, kinds: frozenset[str]) -> bool:
    """Whether a value may be what an argument takes; what is not certain is left to the parser."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return "${" in value or value.strip().lower() in (
                "true",
                "false",
                "yes",
                "no",
                "on",
                "off",
                "null",
                "none",
                "",
            )
        return True
    if isinstance(value, float):
        return value.is_integer() or "float" in kinds
    return not isinstance(value, list | dict)


def in_one_line(message: str) -> str:
    """Reduce a parser message, which lists every type that a value might have had, to its informative part.

    Args:
        message: Several lines, as jsonargparse raises them.

    Returns:
        One line: the key, what is wrong, what to do.
    """
    keys = re.findall(r'[Pp]arser key "([^"]+)"', message) or re.findall(r'Key "([^"]+)"', message)[:1]
    key = ".".join(dict.fromkeys(keys))
    start = f"config, {key}: " if key else "config: "
    if option := _first_group(r"Option '([^']+)' is not accepted", message):
        kind = _first_group(r"Problem with given class_path '([^']+)'", message)
        return f"{start}{_short(kind) or 'it'} takes no {option!r}{_nearest(option, _arguments(kind))}"
    if option := _first_group(r"does not accept option '([^']+)'", message):
        valid = _arguments("lightning.pytorch.Trainer") if option.startswith("trainer.") else []
        return f"config: there is no option {option!r}{_nearest(_short(option), valid)}"
    if name := _first_group(r"Expected a dot import path string: (\S+)", message):
        return f"{start}there is no class {name!r}{_nearest(name, SHORT_NAMES)}; a class of your own needs its path, as my_module.{name}"
    if module := _first_group(r"No module named '([^']+)'", message):
        return f"{start}there is no module {module!r}; run the command in the folder that holds it, or correct the class_path"
    lines = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip()]
    informative = [line for line in lines if not _NOISE.match(line)]
    expected = [kind for line in informative for kind in re.findall(r"^Expected an? <class '([^']+)'>", line)]
    informative = [line for line in informative if not line.startswith("Expected a")]
    if informative:
        return _cut(f"{start}{'; '.join(informative)}", _MAX_LENGTH)
    kinds = " or ".join(dict.fromkeys(map(_short, expected))) or "valid value"
    return f"{start}{_cut(_first_group(r'Given value: (.+)', message), 80)} is no {kinds}; correct the value"


def _first_group(pattern: str, message: str) -> str:
    match = re.search(pattern, message)
    return match.group(1) if match else ""


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[:length] + " …"


def _nearest(word: str, valid: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest valid word, or an empty text if none is near."""
    near = difflib.get_close_matches(word, list(valid), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _arguments(path: str) -> list[str]:
    """Names of a class's arguments; the class was already imported when the parser looked at its arguments."""
    module, _, name = path.rpartition(".")
    try:
        return [
            p for p in inspect.signature(getattr(import_module(module), name)).parameters if p not in ("args", "kwargs")
        ]
    except (ImportError, AttributeError, ValueError, TypeError):
        return []
