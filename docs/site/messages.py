"""Collects the messages with which dmml refuses its input, from the source code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ERRORS = {"InputError": 0, "SlideError": 1, "FileError": 0}
"""{class of errors about input: position of the message among its arguments}"""
VALUE = "…"
"""What stands for a value that is known only when the message is raised"""


@dataclass(frozen=True)
class Message:
    """A message in the source code.

    Attributes:
        text: The message, with `VALUE` for every value.
        file: Path of the module, relative to the folder of the package.
        line: Line of the call.
    """

    text: str
    file: Path
    line: int

    @property
    def has_text(self) -> bool:
        """Whether the call states words of its own, instead of passing on a message that was made elsewhere."""
        return any(character.isalpha() for character in self.text)


def collect_messages(package: Path) -> list[Message]:
    """Return the messages of all modules of a package, in the order of files and lines.

    Args:
        package: Folder of the package.
    """
    messages = []
    for path in sorted(package.rglob("*.py")):
        for call in _error_calls(ast.parse(path.read_text(encoding="utf-8"))):
            text = " ".join(_text(call).split())
            messages.append(Message(text, path.relative_to(package.parent), call.lineno))
    return messages


def _error_calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            yield node


def _text(call: ast.Call) -> str:
    position = ERRORS[getattr(call.func, "id", "")]
    return _words(call.args[position]) if len(call.args) > position else ""


def _words(node: ast.expr) -> str:
    """Return the words of an expression that makes a text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_words(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _words(left) + _words(right)
        case ast.FormattedValue(value=ast.IfExp(body=body, orelse=other)) | ast.IfExp(body=body, orelse=other):
            return _words(body) or _words(other)
        case _:
            return VALUE
