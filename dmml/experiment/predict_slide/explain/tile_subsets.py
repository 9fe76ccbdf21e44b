"""Runs a model on bags from which tiles of one magnification were removed, several bags at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.backbone.tile_contributions import PARTS
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork

MAX_TOKENS = 32_768
"""Tokens of one forward pass, so that its memory does not grow with the number of bags"""
ALL = "all"
"""Name of the whole answer, beside those of its parts"""


class TileSubsets:
    """The scores of one patient's answer when only some tiles of a magnification are kept.

    A score is a number in the direction of the whole patient's answer (`Task.direction`): of the combined logits under
    "all", and of the mean over the patient's magnifications under the name of a part, as in `TileScores`.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        output: Output of the model for the batch.
        magnification: Magnification whose tiles are removed; the tiles of all others are kept.
    """

    def __init__(self, model: SubspaceNetwork, batch: Batch, output: SubspaceOutput, magnification: int):
        self._model, self._batch, self._magnification = model, batch, magnification
        self._direction = model.task.direction(output.logits)[0].double()
        self._present = [m for m in model.magnifications if m in batch.bags and bool(batch.bags[m].mask.any())]
        n_kept = sum(batch.bags[m].mask.shape[1] for m in self._present if m != magnification)
        self._tokens_elsewhere = n_kept

    @torch.inference_mode()
    def __call__(self, kept: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Run the model on V bags that keep the tiles (V, K); return {"all" or part: (V,)}."""
        size = max(1, MAX_TOKENS // (kept.shape[1] + self._tokens_elsewhere))
        portions = [self._scores(torch.from_numpy(kept[i : i + size])) for i in range(0, len(kept), size)]
        return {name: np.concatenate([each[name] for each in portions]) for name in portions[0]}

    def _scores(self, kept: Tensor) -> dict[str, NDArray[np.float64]]:
        output = self._model(self._subset(kept))
        return {
            name: (logits.double() @ self._direction).cpu().numpy() for name, logits in self._logits(output).items()
        }

    def _logits(self, output: SubspaceOutput) -> dict[str, Tensor]:
        """Return {"all" or part: (V, C)}."""
        parts: dict[str, Tensor] = {
            s: self._mean([output.subspace_logits[m, s] for m in self._present]) for s in SUBSPACES
        }
        if output.tissue_logits:
            parts[PARTS[-1]] = self._mean([output.tissue_logits[m] for m in self._present])
        return {ALL: output.logits} | parts

    @staticmethod
    def _mean(logits: list[Tensor]) -> Tensor:
        return torch.stack(logits).mean(0)

    def _subset(self, kept: Tensor) -> Batch:
        """Return a batch of V copies of the patient, each with its own tiles at the magnification."""
        size, batch = len(kept), self._batch
        kept = kept.to(batch.has_expression.device)
        bags = {
            m: _rows(bag, kept) if m == self._magnification else _copies(bag, size) for m, bag in batch.bags.items()
        }
        finest = bags[max(bags)].mask
        return replace(
            batch,
            patient_id=batch.patient_id * size,
            bags=bags,
            parent=torch.full(finest.shape, -1, dtype=torch.long, device=finest.device),  # only losses read parents
            expression={s: values.expand(size, -1) for s, values in batch.expression.items()},
            has_expression=batch.has_expression.expand(size),
            target={},
        )


def _rows(bag: Bag, kept: Tensor) -> Bag:
    """Keep the tiles (V, K) of a bag of one patient."""
    features, position = bag.features[0][kept], bag.position[0][kept]
    return Bag(features, position, bag.mask[0][kept], bag.slide[0][kept], bag.n_slides)


def _copies(bag: Bag, size: int) -> Bag:
    """Repeat a bag of one patient without copying it."""
    features, position = bag.features.expand(size, -1, -1), bag.position.expand(size, -1, -1)
    return Bag(features, position, bag.mask.expand(size, -1), bag.slide.expand(size, -1), bag.n_slides)
