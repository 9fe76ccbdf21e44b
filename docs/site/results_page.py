"""Writes the index of the measurements from the pages of results."""

from __future__ import annotations

import re
from pathlib import Path

QUESTION = re.compile(r"^# (?P<title>.+)$", re.MULTILINE)


def results_page(folder: Path) -> str:
    """Return the index in Markdown: the title of every page, and its first sentence.

    Args:
        folder: Folder of the pages.
    """
    lines = [
        "# Results",
        "Every figure that dmml states was measured by a script in `benchmarks/`; each page names its command.",
        "| page | |\n|---|---|\n" + "\n".join(_row(path) for path in sorted(folder.glob("*.md"))),
    ]
    return "\n\n".join(lines) + "\n"


def _row(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    match = QUESTION.search(text)
    title = match["title"] if match else path.stem
    return f"| [{title}]({path.name}) | {_first_sentence(text)} |"


def _first_sentence(text: str) -> str:
    """Return the first sentence of prose; titles, tables, commands and pictures are no prose."""
    for paragraph in text.split("\n\n"):
        first = paragraph.strip()
        if first and not first.startswith(("#", "|", "    ", "`", "!", "<", "-")) and not paragraph.startswith("    "):
            sentence = re.split(r"(?<=[.?!]) ", " ".join(first.split()), maxsplit=1)[0]
            return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", sentence).replace("|", "\\|")
    return ""
