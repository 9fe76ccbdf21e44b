"""Classes and functions of the user's own, which a file or an option names by their path. Uses the standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from dmml.errors import InputError

T = TypeVar("T")
RENAMED = {
    "dmml.nn.paper.PaperFusion": "dmml.nn.released_code.fusion.ReleasedFusion",
    "dmml.nn.paper.PaperExpressionEncoder": "dmml.nn.released_code.expression.ReleasedExpressionEncoder",
    "PaperExpressionEncoder": "ReleasedExpressionEncoder",
}
"""Earlier names of classes, as paths or short names, and the present ones"""


def import_class(path: str, base: type[T], source: str | Path) -> type[T]:
    """Import a class that a file names, e.g. a checkpoint its model.

    The class may lie wherever Python finds modules, which includes the working directory. It must not lie in the folder
    that contains the file: with a run folder from somebody else, its path could otherwise name code in that folder.

    Args:
        path: `module.Class`.
        base: Class that it must be derived from.
        source: File that names it.

    Raises:
        InputError: The class cannot be imported, lies beside the file, or is not derived from `base`.
    """
    check_class_path(path, source)
    module, _, name = path.rpartition(".")
    try:
        imported = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: its class {path} cannot be imported; run the command in the folder that contains the class"
        ) from error
    if not (isinstance(imported, type) and issubclass(imported, base)):
        raise InputError(f"{source}: its class {path} is not derived from {base.__module__}.{base.__qualname__}")
    return imported


def check_not_renamed(name: str, source: str | Path) -> None:
    """Refuse an earlier name of a class of dmml.

    Args:
        name: Path or short name of a class.
        source: File, or key of a config, that names it.

    Raises:
        InputError: The class has another name now; the message contains it.
    """
    if name in RENAMED:
        raise InputError(f"{source}: {name} is now {RENAMED[name]}; write that name, or fit a checkpoint again")


def check_class_path(path: str, source: str | Path) -> None:
    """Refuse a class path whose package is a folder that also contains the file that names it. Nothing is imported.

    Raises:
        InputError: As described, or the path is an earlier one of a class of dmml.
    """
    check_not_renamed(path, source)
    top = path.partition(".")[0]
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return  # the import fails and says so
    file = Path(source).resolve()
    for folder in spec.submodule_search_locations or ():
        if file.is_relative_to(Path(folder).resolve()):
            raise InputError(
                f"{source}: names the class {path}, whose code lies in the same folder {folder}; if you trust it, move the "
                "code to a folder of its own and name that one"
            )


def check_class_paths(content: object, source: str | Path) -> None:
    """Refuse every class path in the content of a file (see `check_class_path`), at any depth of dictionaries and lists.

    Args:
        content: What the file holds. Class paths are the texts under the keys `class_path` and `_class_path`.
        source: The file.

    Raises:
        InputError: As described.
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key in ("class_path", "_class_path") and isinstance(value, str):
                check_class_path(value, source)
            check_class_paths(value, source)
    elif isinstance(content, (list, tuple)):
        for value in content:
            check_class_paths(value, source)


def import_named(option: str, name: str, kind: str = "function") -> object:
    """Import what an option names.

    Args:
        option: The option, for messages, e.g. `--tissue`.
        name: `module:name`. The module may lie in the working directory.
        kind: What is named, for messages: `function` or `class`.

    Raises:
        InputError: The name has another form, the module cannot be imported, or it has no such name.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise InputError(f"{option} {name}: name a {kind} as module:{kind}, e.g. my_module:my_{kind}")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise InputError(
                f"{option} {name}: {module} cannot be imported ({described(error)}); correct it first"
            ) from error
        raise InputError(
            f"{option} {name}: there is no module {module}; put {module}.py into the working directory, {Path.cwd()}"
        ) from None
    except Exception as error:
        if isinstance(error, AttributeError) and error.name == attribute:
            raise InputError(f"{option} {name}: {module} has no {kind} {attribute}; name one that it defines") from None
        raise InputError(
            f"{option} {name}: {module} cannot be imported ({described(error)}); correct it first"
        ) from error


def described(error: Exception) -> str:
    """Return the class of an exception, and its text if it has any."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
