"""Which magnifications a model reads of those that its data bring."""

from __future__ import annotations

from collections.abc import Iterable

from dmml.errors import InputError

DEFAULT = (10, 20)
"""Magnifications of data that name none, and of a model without data"""


def choose_magnifications(stated: Iterable[int] | None, of_data: Iterable[int] | None = None) -> tuple[int, ...]:
    """Magnifications of a model: those that it states, else those of its data, the coarsest first.

    Args:
        stated: As `model.magnifications` states them; None where it does not.
        of_data: As `data.magnifications` states them; None without data.

    Raises:
        InputError: The model states one that its data do not bring, so that it could not be learned.
    """
    data = None if of_data is None else sorted(map(int, of_data))
    if stated is None:
        return tuple(data or DEFAULT)
    model = sorted(map(int, stated))
    if data is not None and set(model) - set(data):
        raise InputError(
            f"model.magnifications: {model}, but data.magnifications: {data}; leave model.magnifications out, and the model "
            "reads those of the data"
        )
    return tuple(model)
