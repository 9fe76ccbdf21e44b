"""Chooses the magnifications that a model reads from those that its data have."""

from __future__ import annotations

from collections.abc import Iterable

from dmml.errors import InputError

DEFAULT = (10, 20)
"""Magnifications of models and data that state none."""


def choose_magnifications(of_model: Iterable[int], of_data: Iterable[int]) -> tuple[int, ...]:
    """Magnifications that a model reads, coarsest first: its own, or those of the data if the model has the default.

    Args:
        of_model: `model.magnifications`.
        of_data: `data.magnifications`.

    Raises:
        InputError: The model names a magnification that the data lack, so that it could not learn it.
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
