"""Chooses the coarse tiles whose fine tiles are encoded, so that an answer costs only a share of all encodings.

The model first reads the coarse tiles alone. They are sorted by what each adds to its answer, and every n-th of them is
taken (systematic sampling along the model's own ordering). The chosen tiles thereby have the distribution of all tiles
in what counts for the answer: a choice of the strongest tiles would shift the means over tiles that the model has
learned to read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.experiment.predict_slide.tile_scores import TileScores
    from dmml.networks.subspace_network import SubspaceNetwork
    from dmml.types import Batch, SubspaceOutput


def check_budget(budget: float | None) -> None:
    """Check the share of coarse tiles whose fine tiles are encoded.

    Raises:
        InputError: It is not above 0 and at most 1.
    """
    if budget is not None and not 0 < budget <= 1:
        raise InputError(f"--budget {budget}: must be above 0 and at most 1, such as 0.25")


def every_nth(scores: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Choose a share of tiles at equal distances in the order of their scores.

    Args:
        scores: (N,).
        share: Above 0, at most 1.

    Returns:
        (max(1, ceil(share · N)),) rows in ascending order; of N = 0, none.
    """
    n = len(scores)
    n_chosen = math.ceil(share * n - 1e-9)
    places = ((np.arange(n_chosen) + 0.5) * n / max(1, n_chosen)).astype(np.int64)
    return np.sort(np.argsort(scores, kind="stable")[places])


def coarse_scores(model: SubspaceNetwork, batch: Batch) -> NDArray[np.float64]:
    """Score the coarse tiles of one patient by a model that reads them alone.

    Args:
        model: The model, in eval mode.
        batch: B = 1, whose only bag with tiles is that of the coarsest magnification.

    Returns:
        (N,) what each tile adds to the answer in the task's direction; for a model without a backbone, its attention,
        summed over the subspaces.
    """
    from dmml.experiment.predict_slide.answer import read_answer

    answer, output = read_answer(model, batch)
    return _scores(answer.tiles, output, min(batch.bags))


def _scores(tiles: TileScores | None, output: SubspaceOutput, coarse: int) -> NDArray[np.float64]:
    if tiles is not None:
        return np.asarray(tiles.total(coarse))
    return np.asarray(sum(output.attention[coarse, s][0].double() for s in SUBSPACES))
