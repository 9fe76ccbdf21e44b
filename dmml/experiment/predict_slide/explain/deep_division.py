"""Divides the deep part of an answer among tiles by integrated gradients, where it cannot be divided exactly.

The deep part of a subspace passes through nonlinear layers, so its logit is divided along the straight path from a
baseline to the slide's tiles: a tile adds Σ_d (x_d − x'_d) ∫ ∂F(x' + α (x − x')) / ∂x_d dα (Sundararajan et al. 2017, eq. 1).
The baseline is a slide on which every tile is the mean training tile, and whose predicted programs are those of the mean
training patient. The contributions add up to the difference of the logit from that of the baseline (completeness), which
is checked. Clusters of tiles are those of the slide along the whole path (`Aggregator.hold_clusters`).

Two linear steps are used exactly. The path is taken in the space of the projected tokens, of which the features are a
linear function, so that the sum over a tile's channels is the same. The programs that the backbone predicts enter the
deep part as a second input, and are divided among tiles as `tile_programs` divides them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.backbone.tile_contributions import tile_programs
from dmml.experiment.predict_slide.tile_scores import TileScores
from dmml.types import SUBSPACES, Bag, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.01, 1e-3
"""The contributions are complete if their sum differs from the logit's difference from the baseline by at most 1 % of
the difference, or by 0.001 log-odds"""
FIRST_STEPS, MAX_STEPS = 32, 256
"""Steps of the Gauss–Legendre integration; they are doubled until the contributions are complete"""


@dataclass(frozen=True)
class DividedPart:
    """The deep part of one subspace at one magnification, divided among tiles.

    Attributes:
        scores: (N,) contribution of each tile.
        baseline: Score of the baseline.
        gap: Difference of the logit from the baseline, minus the sum of `scores`.
        steps: Number of steps of the integration.
        is_complete: Whether the gap is within the tolerance.
    """

    scores: NDArray[np.float64]
    baseline: float
    gap: float
    steps: int
    is_complete: bool


@dataclass(frozen=True)
class DeepDivision:
    """The deep part of both subspaces, divided among tiles: {(magnification, subspace): `DividedPart`}."""

    parts: dict[tuple[int, str], DividedPart] = field(default_factory=dict)

    def added_to(self, tiles: TileScores) -> TileScores:
        """Add the deep part to exact contributions; what is left of `undivided` is the gap of the integration."""
        scores, undivided, constant = dict(tiles.scores), dict(tiles.undivided), dict(tiles.constant)
        for (m, s), part in self.parts.items():
            scores[m, s] = scores[m, s] + part.scores if (m, s) in scores else part.scores
            undivided[s] -= float(part.scores.sum()) + part.baseline
            constant[s] += part.baseline
        return replace(tiles, scores=scores, undivided=undivided, constant=constant)

    def record(self) -> dict[str, Any]:
        """Return the entry `deep_part` of `prediction.json`."""
        return {
            "method": "integrated gradients from a slide of mean training tiles",
            "tolerance": {"relative": RELATIVE_TOLERANCE, "absolute": ABSOLUTE_TOLERANCE},
            "parts": {
                f"{m}x_{s}": {
                    "tiles": float(part.scores.sum()),
                    "baseline": part.baseline,
                    "gap": part.gap,
                    "steps": part.steps,
                    "complete": part.is_complete,
                }
                for (m, s), part in self.parts.items()
            },
        }


def divide_deep_part(model: SubspaceNetwork, batch: Batch, output: SubspaceOutput) -> DeepDivision:
    """Divide the deep part of both subspaces; nothing is divided if it does not count.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        output: Output of the model for the batch.
    """
    if not model.n_features or not float(model._share("deep_share")):
        return DeepDivision()
    present = [m for m in model.magnifications if m in batch.bags and bool(batch.bags[m].mask.any())]
    direction = model.task.direction(output.logits)[0].clone() * model._share("deep_share") / len(present)
    parts = {}
    for m in present:
        for s in SUBSPACES:
            parts[m, s] = _divide(_DeepLogit(model, batch, m, s, direction))
    return DeepDivision(parts)


class _DeepLogit:
    """The deep part of one subspace at one magnification, as a function of projected tiles and predicted programs."""

    def __init__(self, model: SubspaceNetwork, batch: Batch, magnification: int, subspace: str, direction: Tensor):
        self.model, self.batch, self.magnification = model, batch, magnification
        self._subspace, self._direction = subspace, direction
        self.bag: Bag = model._bag(batch, magnification)
        self.projection = model.projection[f"{magnification}x"]
        self.programs: dict[str, Tensor] = {}
        if model.backbone is not None and model.has_backbone and model.embeds_backbone_programs:
            self.programs = tile_programs(model.backbone, magnification, self.bag)

    def __call__(self, projected: Tensor, programs: Tensor) -> Tensor:
        """Return the score (1,) of projected tiles (1, N, d) and the backbone's programs (1, P), P = 0 without any."""
        tokens = self.projection.finish(projected, self.bag.mask)
        base = {s: each.sum(1) for s, each in self.programs.items()} | (
            {self._subspace: programs} if self.programs else {}
        )
        embeddings = self.model.tissue_embeddings(self.magnification, tokens, self.bag, self.batch, base)
        return self.model.heads[f"{self.magnification}x"](embeddings)[self._subspace] @ self._direction

    @property
    def tile_programs(self) -> Tensor:
        """(1, N, P) what each tile adds to the backbone's programs."""
        return self.programs.get(self._subspace, self.bag.features.new_zeros(1, self.bag.mask.shape[1], 0))


@torch.inference_mode(False)
def _divide(logit: _DeepLogit) -> DividedPart:
    features = logit.bag.features.clone().float()
    with torch.no_grad():
        projected = logit.projection.linear(features)
        baseline = logit.projection.linear(logit.projection.linear.mean).expand_as(projected).contiguous()
        tokens = logit.projection.finish(projected, logit.bag.mask)
    of_tiles = logit.tile_programs.clone()
    programs = of_tiles.sum(1)
    with logit.model.hold_clusters(logit.magnification, tokens, logit.bag):
        with torch.no_grad():
            end, start = float(logit(projected, programs)), float(logit(baseline, torch.zeros_like(programs)))
        steps = FIRST_STEPS
        while True:
            gradients = _mean_gradients(logit, (projected, programs), (baseline, torch.zeros_like(programs)), steps)
            scores = ((projected - baseline) * gradients[0]).sum(-1) + of_tiles @ gradients[1][0]
            values = scores[0].double().numpy()
            gap = end - start - float(values.sum())
            is_complete = abs(gap) <= max(RELATIVE_TOLERANCE * abs(end - start), ABSOLUTE_TOLERANCE)
            if is_complete or steps >= MAX_STEPS:
                return DividedPart(values, start, gap, steps, is_complete)
            steps *= 2


def _mean_gradients(
    logit: _DeepLogit, inputs: tuple[Tensor, Tensor], baselines: tuple[Tensor, Tensor], steps: int
) -> tuple[Tensor, Tensor]:
    """Average the gradients along the straight path from the baselines to the inputs.

    Without programs the second input is empty, and captum is given the first alone.
    """
    from captum.attr import IntegratedGradients

    has_programs = inputs[1].shape[1] > 0
    n_inputs = 2 if has_programs else 1
    function = logit if has_programs else lambda projected: logit(projected, inputs[1])
    integrated = IntegratedGradients(function, multiply_by_inputs=False)
    with torch.enable_grad():
        result = integrated.attribute(
            inputs[:n_inputs], baselines[:n_inputs], n_steps=steps, method="gausslegendre", internal_batch_size=1
        )
    gradients = tuple(each.detach().float() for each in result)
    return gradients if has_programs else (gradients[0], inputs[1])
