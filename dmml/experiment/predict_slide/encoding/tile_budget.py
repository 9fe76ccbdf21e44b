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

from dmml.experiment.predict_slide.encoding.patient_batch import patient_batch
from dmml.experiment.predict_slide.threads import threads_for
from dmml.types import SUBSPACES

if TYPE_CHECKING:
    from dmml.experiment.predict_slide.tile_scores import TileScores
    from dmml.networks.subspace_network import SubspaceNetwork
    from dmml.slides.tokens import ChooseParents
    from dmml.store import SlideFeatures
    from dmml.types import Batch, SubspaceOutput

MIN_PARENTS = 32
"""The fine tiles of at least this number of coarse tiles are encoded: on a small slide a budget saves a second, and the
fine tiles of nine coarse ones cost a hundredth of concordance"""


def parents_within(budget: float | None, model: SubspaceNetwork) -> ChooseParents | None:
    """Return the function by which `tokens_of_slide` chooses coarse tiles; None encodes all fine tiles.

    Args:
        budget: Share of the coarse tiles; None or 1 means all.
        model: The model that reads the coarse tiles.
    """
    if budget is None or budget >= 1 or len(model.magnifications) == 1:
        return None

    def choose(coarse: SlideFeatures) -> NDArray[np.int64]:
        batch = patient_batch("slide", {"slide": {min(model.magnifications): coarse}}, model.magnifications)
        with threads_for(batch):
            return every_nth(coarse_scores(model, batch), budget)

    return choose


def every_nth(scores: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Choose a share of tiles at equal distances in the order of their scores.

    Args:
        scores: (N,).
        share: Above 0, at most 1.

    Returns:
        (k,) rows in ascending order; k is the share of N, rounded up, but at least `MIN_PARENTS` or all.
    """
    n = len(scores)
    n_chosen = min(n, max(MIN_PARENTS, math.ceil(share * n - 1e-9)))
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
