"""Reads the code blocks of the documentation, and the commands of blocks of `bash` as the shell expands them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FENCE = re.compile(
    r"(?:^<!-- (?P<comment>needs [^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
"""A fenced block, and the comment directly above it that says what running it needs"""
RECORD = """
record() { printf '%s\\x1f' "$@"; printf '\\x1e'; }
command_not_found_handle() { record "$@"; }
cd() { record cd "$@"; }
source() { record source "$@"; }
PATH=/nonexistent
"""
"""Shell functions with which a script prints its commands and runs none: without a PATH, none is found"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Path of the page in the repository.
        line: Line of the opening fence.
        language: The word behind the fence; empty if there is none.
        text: The code.
        needs: What the comment above the block says that running it needs, such as `a GPU`; empty without a comment.
    """

    page: str
    line: int
    language: str
    text: str
    needs: str

    @property
    def place(self) -> str:
        """Page and line, for messages and the names of tests."""
        return f"{self.page}:{self.line}"

    def commands(self, folder: Path) -> list[list[str]]:
        """Return the words of every command of a block of `bash` after the shell's expansions in a folder."""
        script = RECORD + self.text.replace("<this repository>", "this-repository")
        printed = subprocess.run(
            ["bash", "-uc", script], cwd=folder, capture_output=True, check=True, text=True, encoding="utf-8"
        )
        assert not printed.stderr, f"{self.place}: {printed.stderr}"
        return [command.split("\x1f")[:-1] for command in printed.stdout.split("\x1e")[:-1]]


def pages() -> list[str]:
    """Pages whose blocks are run: the README, the guides and the references, and the page of the deployment."""
    found_pages = [
        REPOSITORY / "README.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
        *sorted((REPOSITORY / "docs" / "reference").glob("*.md")),
        REPOSITORY / "deploy" / "README.md",
    ]
    return [str(path.relative_to(REPOSITORY)) for path in found_pages]


def blocks_of(page: str, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, all or those of one language."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    blocks = [
        Block(
            page, text[: match.start("text")].count("\n"), match["language"], match["text"], needs_of(match["comment"])
        )
        for match in FENCE.finditer(text)
    ]
    return [block for block in blocks if language in (None, block.language)]


def needs_of(comment: str | None) -> str:
    """Return what a comment such as `needs a GPU` names."""
    return (comment or "").removeprefix("needs ")


def block_with(page: str, text: str) -> str:
    """Return the only block of Python of a page that contains a text."""
    [block] = [block for block in blocks_of(page, "python") if text in block.text]
    return block.text


def dmml_arguments(words: list[str]) -> list[str] | None:
    """Return the arguments of dmml in a command, which may start it by a launcher or in an image; None without dmml."""
    if words[0] == "dmml":
        return words[1:]
    programs = {"srun": "dmml", "torchrun": "dmml", "docker": "dmml", "apptainer": "dmml.sif"}
    program = programs.get(words[0])
    if program not in words or words[1] == "build":
        return None
    return words[words.index(program) + 1 :]
