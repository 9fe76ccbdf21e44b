"""Files, classes, functions and constants that docs/architecture.md and CONTRIBUTING.md name in backticks exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.][\w./]*(\.(py|md|yaml|html)|/)")
NAME = re.compile(r"[A-Za-z_]\w*(\.[a-z_]\w*)?")
PLACED = re.compile(r"((?:`[^`\n]+`(?:, | and | or )?)+) (?:in|of) `(dmml/[\w/]+\.py)`")
"""Names, followed by the file that defines them"""
OF_OTHERS = {"ModelCheckpoint", "LightningModule"}
"""Names that Lightning defines"""


@cache
def repository_files(repository: Path) -> tuple[str, ...]:
    folders = ("dmml", "docs", "tests", "benchmarks", "configs")
    inside = [path for folder in folders for path in (repository / folder).rglob("*") if path.suffix != ".pyc"]
    return tuple(f"/{path.relative_to(repository)}" for path in [*inside, *repository.glob("*.*")])


def path_exists(word: str, repository: Path) -> bool:
    """Whether a path exists; one that does not begin at the repository may lie in any folder, as `grid.py` does."""
    if word.startswith(("dmml/", "docs/", "tests/", "benchmarks/", "configs/")):
        return (repository / word).exists()
    return any(path.endswith("/" + word.rstrip("/")) for path in repository_files(repository))


@cache
def names_of(file: Path) -> frozenset[str]:
    """Names that a module defines: functions, classes, `Class.member`, variables and arguments."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        names |= {f"{kind.name}.{node.name}" for node in kind.body if isinstance(node, ast.FunctionDef)}
        fields = (node.target for node in kind.body if isinstance(node, ast.AnnAssign))
        names |= {f"{kind.name}.{field.id}" for field in fields if isinstance(field, ast.Name)}
    return frozenset(names)


@cache
def all_names(repository: Path) -> frozenset[str]:
    files = [*(repository / "dmml").rglob("*.py"), repository / "tests" / "conftest.py"]
    return frozenset().union(*map(names_of, files))


def is_name(word: str) -> bool:
    """Whether a word is a constant, a class, a member of a class, or a snake_case name; a plain word may be anything."""
    return bool(NAME.fullmatch(word)) and not PATH.fullmatch(word) and bool(re.search(r"[A-Z_]", word))


def dead(text: str, repository: Path) -> list[str]:
    """Paths that do not exist, names that nothing in dmml defines, and names that the file beside them does not define."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    words = dict.fromkeys(QUOTED.findall(prose))
    missing = [word for word in words if PATH.fullmatch(word) and not path_exists(word, repository)]
    missing += [word for word in words if is_name(word) and word not in all_names(repository) | OF_OTHERS]
    for names, path in PLACED.findall(prose):
        if (repository / path).is_file():
            inside = names_of(repository / path)
            missing += [f"{name} in {path}" for name in QUOTED.findall(names) if is_name(name) and name not in inside]
    return missing


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_names_in_the_docs_exist(repository, page):
    assert dead((repository / page).read_text(encoding="utf-8"), repository) == []


@pytest.mark.parametrize(
    "line",
    [
        "`dmml/nn/baselines.py`",
        "`no_such_module.py`",
        "`NETWORKS`",
        "`build_network`",
        "`PatientReader.lend`",
        "`LEVEL` and `RESAMPLES` in `dmml/evaluation/bootstrap.py`",
    ],
)
def test_dead_names_are_noticed(repository, line):
    assert dead(f"| a change | {line} |", repository)


def test_living_names_pass(repository):
    line = "`LEVEL` and `RESAMPLES` in `dmml/evaluation/interval_settings.py`, `PatientReader.read`, `grid.py`, `rna/`"
    assert dead(line, repository) == []


def test_files_that_any_page_or_docstring_names_by_their_whole_path_exist(repository):
    sources = [*repository.glob("*.md"), *(repository / "docs").rglob("*.md"), *(repository / "dmml").rglob("*.py")]
    whole = re.compile(r"`((?:dmml|docs|benchmarks|configs)/[\w./-]*\w(?:\.(?:py|md|yaml|html)|/))`")
    missing = [
        f"{source.relative_to(repository)}: {path}"
        for source in sources
        if source.name != "CHANGELOG.md"
        for path in whole.findall(source.read_text(encoding="utf-8"))
        if not (repository / path).exists()
    ]
    assert missing == []
