"""Names are the field's terms: words that meant something else in each file stay out of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

WORDS = {
    "told", "there", "known", "own", "found", "mine", "theirs", "said", "says", "asked", "shown", "look", "looks",
    "ask", "asks", "read_", "chosen", "taken", "given", "whom", "whose", "nought", "passed_over", "beside", "aside",
}  # fmt: skip
"""Whole names that do not name the thing."""
AFFIXES = ("least_", "most_", "refuse_", "_told", "told_", "_waves", "_there", "_beside", "passed_over")
"""Beginnings and ends of names for which there is a usual word: `min_`, `max_`, `check_`, `fourier_features`, `is_present`."""
PROSE = (
    "nought", "the house", "this house", "a room", "the room", "rooms above", "the walls", "as said", "say aloud",
    "says aloud", "whom it", "said first", "nothing is said", "told by", "is told", "are told",
)  # fmt: skip
"""Turns of phrase of docstrings, comments and messages that a reader stumbled over."""
MODULES = {"words", "beside", "figures", "forests", "facts", "tested", "interactive", "account", "written", "places", "claims", "draft", "held_out", "reference"}  # fmt: skip


def sources(repository: Path, *folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (repository / folder).rglob("*.py"))


def names_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a module gives: variables, arguments, attributes that it sets, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr


def is_unclear(name: str) -> bool:
    plain = name.strip("_").lower()
    return plain in WORDS or any(
        plain.startswith(affix) if affix.endswith("_") else plain.endswith(affix) for affix in AFFIXES
    )


def unclear_names(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [f"{file}:{line} {name}" for line, name in sorted(set(names_of(tree))) if is_unclear(name)]


def unclear_prose(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    pattern = re.compile(r"\b(" + "|".join(PROSE) + r")\b", re.IGNORECASE)
    return [f"{file}:{n} {match.group(0)}" for n, line in enumerate(lines, 1) for match in pattern.finditer(line)]


def test_names_name_the_thing(repository):
    assert [name for file in sources(repository, "dmml", "benchmarks", "tests") for name in unclear_names(file)] == []


def test_prose_is_plain(repository):
    assert [phrase for file in sources(repository, "dmml", "benchmarks") for phrase in unclear_prose(file)] == []


def test_modules_are_called_what_they_hold(repository):
    assert [file for file in sources(repository, "dmml") if file.stem in MODULES or file.stem.endswith("_words")] == []


@pytest.mark.parametrize("source", ["told = 1", "def f(there): ...", "class Told: ...", "self.mine = 1", "LEAST_EVENTS = 3", "def refuse_x(): ..."])  # fmt: skip
def test_an_unclear_name_is_noticed(tmp_path, source):
    (tmp_path / "x.py").write_text(source)
    assert unclear_names(tmp_path / "x.py")
