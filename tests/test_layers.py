"""A package imports only from packages above it, files stay short, and names say what is inside."""

import ast
from collections import Counter
from pathlib import Path

import pytest

LAYERS = (
    "errors", "writable", "atomic_files", "class_paths", "html_pages", "progress_bars", "usable_cores", "types", "functional", "linear", "store", "cohort", "evaluation", "slides", "nn",
    "tasks", "backbone", "networks", "data", "training", "callbacks", "experiment", "viewer", "simulate", "commands", "cli", "__main__",
)  # fmt: skip
ANYWHERE = {
    "_version",
    "errors",
    "writable",
    "atomic_files",
    "class_paths",
    "html_pages",
    "progress_bars",
    "usable_cores",
}
"""What every package may import."""
BARRED = {
    "callbacks": {"networks", "training", "data"},  # callbacks know a model only through HasSubspaces
    "data": {"nn", "networks", "slides"},
}
"""Packages above that must not be imported all the same."""
FOREIGN = {
    "errors": {"torch", "lightning", "numpy", "pandas"},
    "writable": {"torch", "lightning", "numpy", "pandas"},
    "atomic_files": {"torch", "lightning", "numpy", "pandas"},
    "html_pages": {"torch", "lightning", "numpy", "pandas"},
    "progress_bars": {"torch", "lightning", "numpy", "pandas"},
    "usable_cores": {"torch", "lightning", "numpy", "pandas"},
    "functional": {"lightning", "pandas", "zarr", "torchmetrics"},
    "nn": {"lightning", "pandas", "zarr", "torchmetrics"},
    "store": {"torch", "lightning", "pandas"},
    "cohort": {"torch", "lightning"},
    "types": {"lightning"},
    "tasks": {"lightning"},
    "viewer": {"torch", "lightning", "pandas"},
    "networks": {"lightning", "pandas", "zarr", "torchmetrics"},
}
"""Libraries that a package does without."""


def sources(repository: Path) -> list[Path]:
    files = sorted((repository / "dmml").rglob("*.py"))
    assert len(files) > 50
    return files


def layer_of(file: Path, repository: Path) -> str:
    return file.relative_to(repository / "dmml").parts[0].removesuffix(".py")


def imported(source: str, module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Dotted names of everything that a module imports, anywhere in it but under TYPE_CHECKING; also by import_module."""
    tree, names = ast.parse(source), set()
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            names |= {(*base, alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            names |= {
                tuple(a.value.split(".")) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            }
    return names


def breaches(source: str, layer: str, module: tuple[str, ...]) -> list[str]:
    wrong = []
    for name in sorted(imported(source, module)):
        if name[0] == "dmml" and len(name) > 1 and name[1] in LAYERS:
            other = name[1]
            if other in ANYWHERE or other == layer:
                continue
            if LAYERS.index(other) > LAYERS.index(layer) or other in BARRED.get(layer, ()):
                wrong.append(".".join(name))
        elif name[0] == "dmml" and name[1:2] not in [(), *((n,) for n in ANYWHERE | {"__version__"})]:
            wrong.append(f"{'.'.join(name)} (a public name of dmml, or an unlisted package)")
        elif name[0] in FOREIGN.get(layer, ()):
            wrong.append(".".join(name))
    return wrong


def test_every_package_has_a_layer(repository):
    layers = {layer_of(file, repository) for file in sources(repository)} - {"__init__", "_version"}
    assert layers <= set(LAYERS), f"not in LAYERS: {layers - set(LAYERS)}"
    names = {part.removesuffix(".py") for file in sources(repository) for part in file.relative_to(repository).parts}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_packages_import_only_from_packages_above(repository):
    wrong = []
    for file in sources(repository):
        layer = layer_of(file, repository)
        if layer not in LAYERS:
            continue
        module = ("dmml", *file.relative_to(repository / "dmml").with_suffix("").parts)
        wrong += [
            f"{file.relative_to(repository)} imports {name}" for name in breaches(file.read_text(), layer, module)
        ]
    assert wrong == []


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        ("functional", "from dmml.nn.heads import SubspaceHead"),
        ("nn", "from dmml.training.teacher import SubspaceTeacher"),
        ("callbacks", "from dmml.training.teacher import SubspaceTeacher"),
        ("callbacks", "def f():\n    import dmml.data.module"),
        ("data", "from dmml import nn"),
        ("data", "import importlib\nimportlib.import_module('dmml.slides.tiling.grid')"),
        ("tasks", "from ..training.teacher import SubspaceTeacher"),
        ("nn", "import lightning.pytorch as L"),
        ("networks", "from dmml.training.teacher import SubspaceTeacher"),
        ("networks", "from torchmetrics import MetricCollection"),
        ("functional", "from lightning import Callback"),
        ("experiment", "from dmml.commands.config import preflight"),
        ("evaluation", "from dmml import SubspaceTeacher"),
    ],
)
def test_forbidden_imports_are_noticed(layer, line):
    assert breaches(line, layer, ("dmml", layer, "x"))


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        ("training", "from dmml.nn.heads import SubspaceHead"),
        ("errors", "import argparse"),
        ("store", "from dmml.errors import InputError"),
        ("evaluation", "from dmml import __version__"),
        ("nn", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dmml.training import teacher"),
    ],
)
def test_allowed_imports_pass(layer, line):
    assert breaches(line, layer, ("dmml", layer, "x")) == []


def test_files_are_short(repository):
    lines = {str(f.relative_to(repository)): len(f.read_text().splitlines()) for f in sources(repository)}
    assert {file: n for file, n in lines.items() if n >= 290} == {}


def test_packages_are_small(repository):
    modules = Counter(str(f.parent.relative_to(repository)) for f in sources(repository) if f.stem != "__init__")
    assert {package: n for package, n in modules.items() if n > 15 and package != "dmml"} == {}


def test_package_inits_are_light(repository):
    for file in (repository / "dmml").glob("*/__init__.py"):
        statements = [node for node in ast.parse(file.read_text()).body if not isinstance(node, ast.Expr)]
        assert len(statements) <= 5, file


def test_no_module_unpickles(repository):
    for file in sources(repository):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "joblib", "dill", "cloudpickle"} & {name.split(".")[0] for name in names}, file
            if isinstance(node, ast.keyword) and node.arg in ("weights_only", "allow_pickle"):
                safe = node.arg == "weights_only"
                assert isinstance(node.value, ast.Constant), file
                assert node.value.value is safe, file
