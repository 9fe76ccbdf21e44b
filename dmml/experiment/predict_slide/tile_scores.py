"""Divides one patient's answer among the tiles, as one number per tile, beside the share of the deep part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.backbone.tile_contributions import PARTS
from dmml.networks.parts.tile_logits import tile_logits
from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork


@dataclass(frozen=True)
class TileScores:
    """The answer of a model with a backbone, divided among tiles.

    All numbers are in the task's `direction`: for survival the log-odds of the event in an interval, for a class its
    logit minus the mean of the other classes' logits. For each part, the sum of `scores` over all tiles, `undivided`
    and `constant` is the mean over the magnifications of that part's logits.

    Attributes:
        deep_share: Share of the deep part in the logits, 0 to 1; the backbone always counts fully.
        program_share: The same for predicted programs.
        scores: {(magnification, part): (N,)} for the magnifications that the patient has.
        undivided: {part: contribution of the deep part that cannot be divided among tiles}.
        constant: {part: contribution that does not depend on the tiles}.
        has_backbone: Whether the model has a backbone; without one, the deep part is the whole answer.
    """

    deep_share: float
    program_share: float
    scores: dict[tuple[int, str], NDArray[np.float64]]
    undivided: dict[str, float]
    constant: dict[str, float]
    has_backbone: bool = True

    @property
    def magnifications(self) -> list[int]:
        """Magnifications with tiles, coarsest first."""
        return sorted({m for m, _ in self.scores})

    def total(self, magnification: int) -> NDArray[np.float64]:
        """Return the (N,) sum over all parts."""
        return np.sum([values for (m, _), values in self.scores.items() if m == magnification], axis=0)

    @property
    def sums(self) -> dict[tuple[int, str], float]:
        """{(magnification, part): sum over the tiles of that magnification}."""
        return {key: float(values.sum()) for key, values in self.scores.items()}

    @property
    def together(self) -> dict[str, float]:
        """{part: sum over all tiles, plus `undivided` and `constant`}."""
        return {
            part: sum(value for (_, p), value in self.sums.items() if p == part)
            + self.undivided[part]
            + self.constant[part]
            for part in PARTS
        }


def read_tiles(model: SubspaceNetwork, batch: Batch, output: SubspaceOutput) -> TileScores | None:
    """Divide one patient's answer among tiles; None for a model without a backbone.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        output: Output of the model for the batch.
    """
    return divide_answer(model, batch, output) if model.has_backbone else None


@torch.inference_mode()
def divide_answer(model: SubspaceNetwork, batch: Batch, output: SubspaceOutput) -> TileScores:
    """Divide what can be divided exactly among tiles; without a backbone, that is the tissue-specific part alone.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        output: Output of the model for the batch.
    """
    direction = model.task.direction(output.logits)[0].double()

    def score(logits: Tensor) -> Tensor:
        return logits.double() @ direction

    divided = tile_logits(model, batch)
    scores = {
        (m, part): score(values[0]).cpu().numpy()
        for part, each in divided.tiles.items()
        for m, values in each.items()
        if values.shape[1]
    }
    constant = {part: float(score(values[0])) for part, values in divided.constant.items()}
    available = [m for m in model.magnifications if m in batch.bags and bool(batch.bags[m].mask.any())]
    undivided = {}
    for part in PARTS:
        logits = [_part(output, m, part)[0] for m in available or model.magnifications]
        whole = float(torch.stack([score(each) for each in logits]).mean())
        undivided[part] = whole - constant[part] - sum(values.sum() for (_, p), values in scores.items() if p == part)
    shares = float(model._share("deep_share")), float(model._share("program_share"))
    return TileScores(*shares, scores, undivided, constant, model.has_backbone)


def _part(output: SubspaceOutput, magnification: int, part: str) -> Tensor:
    """Return the (B, C) contribution of a part to a magnification's logits."""
    if part in SUBSPACES:
        return output.subspace_logits[magnification, part]
    if magnification not in output.tissue_logits:
        return torch.zeros_like(output.logits)
    return output.tissue_logits[magnification]
