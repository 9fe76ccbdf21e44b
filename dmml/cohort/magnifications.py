"""Chooses the magnifications that a model reads from those that its data have, and checks that tokens can be linked.

Where else it is decided which magnifications there may be:

- extracted: `check_magnifications` in `dmml/slides/tiling/grid.py`, and `check_scale` in `dmml/slides/wsi/slide.py`
- laid out and encoded, with each fine tile's parent: `dmml/slides/reading/tile_reading.py` and
  `dmml/slides/extraction/encoded_slide.py`
- imported: `dmml/slides/importing/placement.py`; nested: `dmml/slides/importing/nesting.py`
- stored: `checked_tiling` in `dmml/store/root_attributes.py`, and `checked_bags` in `dmml/store/checks.py`
- read, with parents of all slides joined: `PatientReader` in `dmml/data/dataset.py`; padded: `dmml/data/collate.py`
- drawn in training, children of drawn coarse tokens first: `dmml/data/token_draw.py`
- compared by the consistency term: `dmml/training/losses/loss_terms.py`

Everything that uses `parent` links one pair of magnifications; models and losses otherwise take any number.
"""

from __future__ import annotations

from collections.abc import Iterable

from dmml.errors import InputError

DEFAULT_MAGNIFICATIONS = (10, 20)
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
    if model == DEFAULT_MAGNIFICATIONS:
        return data
    raise InputError(
        f"model.magnifications: {list(model)}, but data.magnifications: {list(data)}; leave model.magnifications out, and "
        "the model reads those of the data"
    )


def check_linked(of_reader: Iterable[int], of_store: Iterable[int | str]) -> None:
    """Refuse magnifications whose tokens a store does not link.

    A store keeps the parent of each token in the next coarser magnification alone, and a batch links one pair.

    Args:
        of_reader: Magnifications that are read together.
        of_store: Magnifications of the store.

    Raises:
        InputError: More than two are read, or two that are not neighbours in the store.
    """
    read, stored = sorted(of_reader), sorted(map(int, of_store))
    are_neighbours = len(read) < 2 or not any(read[0] < m < read[-1] for m in stored)
    if len(read) > 2 or not are_neighbours:
        raise InputError(
            f"data.magnifications: {read}, of a store with {stored}, are not one linked pair; name one magnification, or two "
            "without another between them"
        )
