"""Writes the reference of the command line from the parsers of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module

from dmml.__main__ import TOOLS, TRAINER

TRAINER_NOTE = (
    "Every key of a config is an option, too, such as `--trainer.max_epochs 10` or `--data.fold 1`; "
    "[Configuration](config.md) lists the keys."
)


def command_reference() -> str:
    """Return the page of all commands in Markdown."""
    sections = [
        "# Commands",
        "Every command takes `-q` (warnings only, no progress bars), `-v` (more detail) and `--help`. The exit code is 0 on "
        "success, 2 if the input was refused, and 130 after Ctrl-C. Options of these tables are read from the code.",
    ]
    for name, (module, summary) in TOOLS.items():
        parser = argparse.ArgumentParser(prog=f"dmml {name}")
        import_module(module).add_arguments(parser)
        sections += [f"## dmml {name}", f"{_sentence(summary)}", *_tables(parser)]
    sections += ["## dmml fit, validate, test, predict", TRAINER_NOTE]
    rows = [f"| `dmml {name}` | {summary} |" for name, summary in TRAINER.items()]
    sections.append("\n".join(["| command | does |", "|---|---|", *rows]))
    return "\n\n".join(sections) + "\n"


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    subparsers = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    rows = [_row(action) for action in actions if action not in subparsers and action.help != argparse.SUPPRESS]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows])
    for action in subparsers:
        summaries = {choice.dest: choice.help for choice in action._choices_actions}
        for name, sub in action.choices.items():
            yield f"### {sub.prog}"
            if summaries.get(name):
                yield _sentence(summaries[name] or "")
            yield from _tables(sub)


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{option}`" for option in action.option_strings)
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    name = names or f"`{action.metavar or action.dest}`"
    if names and action.nargs != 0:
        name += f" `{value}`"
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    if action.required and names:
        text += " (required)"
    elif action.nargs != 0 and "default" not in text and action.default not in (None, False, argparse.SUPPRESS):
        text += f" (default: {action.default})"
    return f"| {_cell(name)} | {_cell(text)} |"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
