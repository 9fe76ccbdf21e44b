"""Draw docstrings, messages to users and test names at random, for a reader who judges how the code base reads.

    python benchmarks/prose_sample.py                 # this checkout
    python benchmarks/prose_sample.py --root OTHER    # another checkout, drawn with the same seed

Every package gives about the same number, so that a large package does not hide a small one. Nothing is imported:
the files are only parsed, and any state of the code can be sampled.
"""

from __future__ import annotations

import argparse
import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MESSAGE_CALLS = {"InputError", "warn", "warning", "info", "error", "print"}


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Docstrings of modules, classes and functions, and strings that stand below a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield text
            body = node.body[1:]
            yield from (
                item.value.value
                for item in body
                if isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            )


def messages(tree: ast.AST) -> Iterator[str]:
    """First arguments of calls that show text to users; values in f-strings are shown by their source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            argument = node.args[0]
            if name in MESSAGE_CALLS and isinstance(argument, ast.Constant | ast.JoinedStr | ast.BinOp):
                text = ast.unparse(argument).strip("f'\"")
                if len(text.split()) >= 4:
                    yield text


def test_names(tree: ast.AST) -> Iterator[str]:
    """Names of test functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name


def gather(folder: Path, items: object) -> dict[str, list[str]]:
    """Package → everything of one kind in it, in the order of files and lines."""
    texts: dict[str, list[str]] = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        package = file.relative_to(folder).parts[0].removesuffix(".py")
        texts[package] += list(items(ast.parse(file.read_text(encoding="utf-8"))))  # type: ignore[operator]
    return {package: rows for package, rows in texts.items() if rows}


def draw(texts: dict[str, list[str]], size: int, seed: int) -> list[tuple[str, str]]:
    """Draw one text of each package in turn, without replacement, until there are `size`."""
    generator = random.Random(seed)
    piles = {package: generator.sample(rows, len(rows)) for package, rows in sorted(texts.items())}
    drawn: list[tuple[str, str]] = []
    while len(drawn) < size and any(piles.values()):
        drawn += [(package, pile.pop()) for package, pile in piles.items() if pile]
    return drawn[:size]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="checkout to read")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    kinds = (
        ("docstrings", "dmml", docstrings, 60),
        ("messages", "dmml", messages, 60),
        ("test names", "tests", test_names, 40),
    )
    for title, folder, items, size in kinds:
        print(f"\n## {size} {title}\n")
        for n, (package, text) in enumerate(draw(gather(args.root / folder, items), size, args.seed), 1):
            print(f"{n}. [{package}] {' '.join(text.split())}")


if __name__ == "__main__":
    main()
