"""Options whose name has changed: the old name is refused, and the message gives the new one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


class _Renamed(argparse.Action):
    """Refuses the option; the new name is in `const`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option: str | None = None,
    ) -> None:
        parser.error(f"{option}: this option is now called {self.const}")


def reject_old_name(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Refuse the old name of an option, with or without values; it is not listed in the help.

    Args:
        parser: Parser of the command that has the option.
        old: Such as `--least-tissue`.
        new: Such as `--min-tissue`.
    """
    parser.add_argument(
        old,
        action=_Renamed,
        nargs="*",
        const=new,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
