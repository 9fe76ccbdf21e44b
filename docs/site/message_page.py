"""Writes the page of all messages about input, so that the site's search leads from a message to its place."""

from __future__ import annotations

import html
from itertools import groupby
from pathlib import Path

from messages import VALUE, Message, collect_messages

TITLES = {
    "backbone": "Backbone",
    "callbacks": "Training",
    "cohort": "Tables, RNA, gene sets and splits",
    "commands": "Command line and configs",
    "data": "Data section of a config",
    "evaluation": "Evaluation and reports",
    "experiment": "Runs, cross-validation, predictions and export",
    "networks": "Checkpoints",
    "nn": "Networks",
    "simulate": "Simulation",
    "slides": "Slides, encoders and extraction",
    "store": "Feature stores",
    "tasks": "Outcomes",
    "training": "Training",
    "viewer": "Viewer",
}
"""Heading of the messages of each package"""


def message_page(package: Path) -> str:
    """Return the page in Markdown.

    Args:
        package: Folder of the package `dmml`.
    """
    messages = [message for message in collect_messages(package) if message.has_text]
    sections = [
        "---\nsearch: {boost: 5}\n---",  # whoever types a message wants its place first
        "# Messages",
        f"Everything that dmml says about input that it cannot use, read from the code. `{VALUE}` stands for a name or a value. "
        "The search of this site finds a message by its words; [Troubleshooting](../troubleshooting.md) explains the most "
        "frequent ones. A message ends the command with exit code 2, before anything is written.",
    ]
    keyed = sorted(messages, key=_title)
    for title, group in groupby(keyed, key=_title):
        rows = dict.fromkeys((html.escape(message.text), str(message.file)) for message in group)
        sections.append(f"## {title}")
        sections.append("\n".join(f"- {text} <small>`{file}`</small>" for text, file in sorted(rows)))
    return "\n\n".join(sections) + "\n"


def _title(message: Message) -> str:
    return TITLES.get(message.file.parts[1], "Other")
