"""The parser of commands, and what the command line shows of dmml's log: `-q` warnings only, `-v` more. Standard library only."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dmml.errors import InputError

HELP = "-q, --quiet shows warnings only; -v, --verbose shows more"
OPTIONS = {
    "-q": logging.WARNING,
    "--quiet": logging.WARNING,
    "-v": logging.DEBUG,
    "--verbose": logging.DEBUG,
}
"""Options that every command accepts, with the lowest level of the messages that are then shown."""


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, as every other message of dmml does."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise an `InputError` instead of printing the usage and exiting."""
        raise InputError(f"{message}; see `{self.prog} --help`")


class ConsoleHandler(logging.Handler):
    """Prints messages as they are: information to stdout, warnings and errors to stderr with their level before them.

    The streams are looked up for each message, because tests and notebooks replace them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        try:
            text = self.format(record)
            if record.levelno >= logging.WARNING:
                print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)
            else:
                print(text, flush=True)
        except Exception:
            self.handleError(record)


def split_options(argv: Sequence[str]) -> tuple[list[str], int]:
    """Return the arguments without `-q` and `-v`, and the lowest level of the messages to show."""
    level = logging.INFO
    for argument in argv:
        level = OPTIONS.get(argument, level)
    return [argument for argument in argv if argument not in OPTIONS], level


@contextmanager
def show_log(level: int = logging.INFO) -> Iterator[None]:
    """Show messages of dmml's loggers on the console while the block runs; outside of it they are as Python has them.

    A command that runs within another, as the steps of the demo do, shows what the outer one shows.

    Args:
        level: Lowest level of the messages to show.
    """
    logger = logging.getLogger("dmml")
    if any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        yield
        return
    handler, before = ConsoleHandler(), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
