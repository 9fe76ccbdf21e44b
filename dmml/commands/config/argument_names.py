"""The arguments of a class, read from its source: importing torch and Lightning to ask for them takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def argument_names(path: str) -> set[str]:
    """Return the names of the arguments that a class takes, without importing its module.

    If a constructor passes `**keywords` on, the arguments of the base classes are added.

    Args:
        path: `module.Class`.

    Returns:
        The names; empty if the source does not tell, such as for a class that inherits from another library's.
    """
    module, _, name = path.rpartition(".")
    return set(_arguments(module, name) or ())


def number_arguments(path: str) -> dict[str, frozenset[str]]:
    """Return the arguments of a class that take numbers alone, without importing its module.

    Args:
        path: `module.Class`.

    Returns:
        {name: kinds among "int", "float", "bool" and "None"}; see `argument_names` for what is not known.
    """
    module, _, name = path.rpartition(".")
    arguments = _arguments(module, name) or {}
    return {name: kinds for name, annotation in arguments.items() if (kinds := number_kinds(annotation))}


def number_kinds(annotation: ast.expr | None) -> frozenset[str]:
    """Return the kinds of number of an annotation such as `int | None`; empty if it allows anything else.

    Args:
        annotation: The annotation; None if there is none.
    """
    kinds = set(_kinds(annotation))
    return frozenset(kinds) if kinds <= {"int", "float", "bool", "None"} and kinds != {"None"} else frozenset()


def _kinds(annotation: ast.expr | None) -> Iterator[str]:
    """Yield the alternatives of an annotation; an empty text stands for anything but a plain name."""
    if isinstance(annotation, ast.Name):
        yield annotation.id
    elif isinstance(annotation, ast.Constant) and annotation.value is None:
        yield "None"
    elif isinstance(annotation, ast.BinOp):
        yield from (*_kinds(annotation.left), *_kinds(annotation.right))
    elif isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if annotation.value.id in ("Optional", "Union"):
            yield from (kind for each in inner for kind in _kinds(each))
            yield from ("None",) if annotation.value.id == "Optional" else ()
        else:
            yield ""
    else:
        yield ""


def _arguments(module: str, name: str) -> dict[str, ast.expr | None] | None:
    """Return {name: annotation} of a class's arguments; None if they are not known."""
    tree = _source(module)
    if tree is None:
        return None
    definition = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if definition is None:  # imported there from another module of its package
        origin = _imports(tree).get(name)
        return None if origin in (None, module) else _arguments(str(origin), name)
    init = next(
        (node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None
    )
    arguments = {} if init is None else {each.arg: each.annotation for each in _named(init) if each.arg != "self"}
    if init is not None and init.args.kwarg is None:
        return arguments
    of_bases = [
        _arguments(_imports(tree).get(base.id, module), base.id) if isinstance(base, ast.Name) else None
        for base in definition.bases
    ]
    if not of_bases or any(each is None for each in of_bases):
        return None
    for of_base in reversed(of_bases):
        arguments = (of_base or {}) | arguments
    return arguments


def _named(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _imports(tree: ast.Module) -> dict[str, str]:
    """Return {name: module that it is imported from}; relative imports are left out."""
    return {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }


@cache
def _source(module: str) -> ast.Module | None:
    """Parse the source of a module; None if there is none."""
    for file in _files(module):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    return None


def _files(module: str) -> Iterator[Path]:
    """Yield the files that may hold a module. Only its top package is looked up, because the lookup imports parents."""
    top, *inner = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is None and not inner:  # a single file
        yield Path(str(spec.origin))
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *inner)
        yield path.with_suffix(".py")
        yield path / "__init__.py"
