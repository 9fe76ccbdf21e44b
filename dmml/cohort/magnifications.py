"""Which magnifications a model reads of those that its data bring."""

from __future__ import annotations

from collections.abc import Iterable

from dmml.errors import InputError

DEFAULT = (10, 20)
"""Magnifications of a model, and of data, that state none"""


def choose_magnifications(of_model: Iterable[int], of_data: Iterable[int]) -> tuple[int, ...]:
    """Magnifications that a model reads, the coarsest first: its own, or those of its data in place of the default.

    Args:
        of_model: As `model.magnifications` states them.
        of_data: As `data.magnifications` states them.

    Raises:
        InputError: The model names one that its data do not bring, so that it could not be learned.
    """
    model, data = (tuple(sorted(map(int, each))) for each in (of_model, of_data))
    if set(model) <= set(data):
        return model
    if model == DEFAULT:
        return data
    raise InputError(
        f"model.magnifications: {list(model)}, but data.magnifications: {list(data)}; leave model.magnifications out, and "
        "the model reads those of the data"
    )
