"""The error of a slide that cannot be used."""

from __future__ import annotations

from dmml.errors import InputError


class SlideError(InputError):
    """A slide that cannot be used; `state` is the keyword for the reason in `failures.csv`."""

    def __init__(self, state: str, message: str):
        super().__init__(message)
        self.state = state
