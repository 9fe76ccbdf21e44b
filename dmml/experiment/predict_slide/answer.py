"""A model's answer on one patient's slides as plain numbers: predictions, agreement, parts, programs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dmml.experiment.predict_slide.prototypes import Prototypes, read_prototypes
from dmml.experiment.predict_slide.tile_scores import TileScores, read_tiles
from dmml.tasks.presentation import Curve, Headline, Presentation
from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork

TISSUE = "tissue"
"""Name of the tissue-specific part, beside those of the subspaces"""
FEW_TILES = 20
"""With fewer tiles at the coarsest magnification, a note says that the answer is based on little tissue"""


@dataclass(frozen=True)
class ModelSpread:
    """How far the predictions of several models for one patient are apart.

    Attributes:
        n: Number of models.
        sd: {column: standard deviation over the models, n − 1}.
        low: Smallest value of the headline's column.
        high: Largest value of the headline's column.
    """

    n: int
    sd: dict[str, float]
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """A model's answer. Every `dict[str, float]` has the columns of `predictions.csv`.

    Attributes:
        task: `kind` of the task.
        presentation: How the task puts predictions into words.
        prediction: Prediction of all magnifications, both subspaces and the tissue-specific part together.
        by_magnification: {m: prediction from that magnification alone}.
        without: {s: prediction without a subspace's part of the logits, except for the constant}: the part is W_s z_s
            at the deep part's share, plus the backbone's. Under "tissue", if the model has one, the same for the
            tissue-specific part, which belongs to neither subspace.
        without_by_magnification: {(m, s): the same at one magnification}.
        subspace_logits: {(m, s): (C,) the part that a subspace contributes, including half of the constants}; the
            tissue-specific part is under (m, "tissue"). Together they are the magnification's logits.
        headline: The number by which views are compared.
        median_risk: Median of the training patients; None for tasks without a risk, or if the checkpoint lacks it.
        programs: {s: {program: score}}, mean over magnifications; 0 = mean of the training patients.
        programs_by_magnification: {(m, s): {program: score}}.
        curve: (days, survival) for drawing the survival curve; None for other tasks.
        curves_by_magnification: {m: the same from one magnification alone}; empty for other tasks.
        tiles: What each tile adds, and how much the deep part counts; None for a model without a backbone, unless its deep
            part is divided among tiles.
        prototypes: The clusters of tiles behind the prototypes of the subspaces; None for a model without prototypes.
        models: How far several models are apart whose mean this is; None for the answer of one model.
    """

    task: str
    presentation: Presentation
    prediction: dict[str, float]
    by_magnification: dict[int, dict[str, float]]
    without: dict[str, dict[str, float]]
    without_by_magnification: dict[tuple[int, str], dict[str, float]]
    subspace_logits: dict[tuple[int, str], list[float]]
    headline: Headline
    median_risk: float | None
    programs: dict[str, dict[str, float]]
    programs_by_magnification: dict[tuple[int, str], dict[str, float]]
    curve: Curve | None = None
    curves_by_magnification: dict[int, Curve] = field(default_factory=dict)
    tiles: TileScores | None = None
    prototypes: Prototypes | None = None
    models: ModelSpread | None = None

    @property
    def above_median(self) -> bool | None:
        """Whether the risk is above the training patients' median; None if that is unknown."""
        return None if self.median_risk is None else self.prediction["risk"] > self.median_risk

    @property
    def value(self) -> float:
        """The headline's value in the whole prediction."""
        return self.prediction[self.headline.column]

    @property
    def view_curves(self) -> dict[int, Curve]:
        """{magnification: survival curve} of the `views`."""
        return {m: curve for m, curve in self.curves_by_magnification.items() if m in self.views}

    @property
    def views(self) -> dict[int, dict[str, float]]:
        """`by_magnification` if the magnifications can differ; {} with one, or if the deep part does not count.

        The backbone reads all magnifications together and gives each of them the same logits.
        """
        differ = len(self.by_magnification) > 1 and (self.tiles is None or self.tiles.deep_share > 0)
        return self.by_magnification if differ else {}

    @property
    def spread(self) -> float | None:
        """Largest minus smallest headline value of the views; None without views."""
        values = [view[self.headline.column] for view in self.views.values()]
        return max(values) - min(values) if values else None


@torch.inference_mode()
def read_answer(model: SubspaceNetwork, batch: Batch) -> tuple[Answer, SubspaceOutput]:
    """Run the model once on a batch of one patient; return the answer and the model's output.

    Args:
        model: The model, in eval mode.
        batch: B = 1.
    """
    output = model(batch)
    task, available = model.task, torch.zeros(len(model.magnifications), 1, dtype=torch.bool)
    available[:, 0] = torch.tensor([m in batch.bags and bool(batch.bags[m].mask.any()) for m in model.magnifications])

    def columns(logits: Tensor) -> dict[str, float]:
        return {name: float(value[0]) for name, value in task.predictions(logits).items()}

    with_tiles = [m for i, m in enumerate(model.magnifications) if available[i, 0]]
    presentation = task.presentation()
    curves = {m: presentation.curve(output.logits_by_magnification[m]) for m in with_tiles}
    prediction = columns(output.logits)
    without = _without(model, batch, output)
    logits = output.subspace_logits | {(m, TISSUE): part for m, part in output.tissue_logits.items()}
    parts = (*SUBSPACES, TISSUE) if output.tissue_logits else SUBSPACES
    programs = {
        (m, s): dict(zip(model.scores.names[s], output.programs[m, s][0].tolist(), strict=True))
        for m in with_tiles
        for s in SUBSPACES
        if model.scores.names[s]
    }
    answer = Answer(
        task=task.kind,
        presentation=presentation,
        prediction=prediction,
        by_magnification={m: columns(output.logits_by_magnification[m]) for m in with_tiles},
        without={
            part: columns(task.combine(torch.stack([without[m, part] for m in model.magnifications]), available))
            for part in parts
        },
        without_by_magnification={(m, part): columns(without[m, part]) for m in with_tiles for part in parts},
        subspace_logits={(m, part): logits[m, part][0].tolist() for m in with_tiles for part in parts},
        headline=presentation.headline(prediction, model.fitted.get("horizons")),
        median_risk=model.fitted.get("median_risk") if "risk" in prediction else None,
        programs={s: _mean([programs[m, s] for m in with_tiles if (m, s) in programs]) for s in SUBSPACES},
        programs_by_magnification=programs,
        curve=presentation.curve(output.logits),
        curves_by_magnification={m: curve for m, curve in curves.items() if curve is not None},
        tiles=read_tiles(model, batch, output),
        prototypes=read_prototypes(batch, output),
    )
    return answer, output


def _without(model: SubspaceNetwork, batch: Batch, output: SubspaceOutput) -> dict[tuple[int, str], Tensor]:
    """Return {(m, part): (1, C)} logits of a magnification without one part; constants stay."""
    logits = {(m, TISSUE): output.logits_by_magnification[m] - part for m, part in output.tissue_logits.items()}
    for m in model.magnifications:
        constant: Tensor = model.heads[f"{m}x"].linear.bias
        if model.has_backbone and model.backbone is not None:
            constant = model.deep_share * constant + model.backbone.calibration(batch.has_expression)[0]
        for s in SUBSPACES:
            part = output.subspace_logits[m, s] - constant / len(SUBSPACES)
            logits[m, s] = output.logits_by_magnification[m] - part
    return logits


def _mean(views: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(view[name] for view in views) / len(views) for name in views[0]} if views else {}


def extremes(scores: dict[str, float], n: int = 5) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Return the highest scores, descending, and the lowest, ascending; no program is in both."""
    order = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    n = min(n, math.ceil(len(order) / 2))
    lowest = order[n:][-n:] if len(order) > n else []
    return order[:n], lowest[::-1]


def _backbone(tiles: TileScores) -> dict[str, Any]:
    return {
        "deep_share": tiles.deep_share,
        "program_share": tiles.program_share,
        "tiles": {f"{m}x_{part}": value for (m, part), value in tiles.sums.items()},
        "undivided": tiles.undivided,
        "constant": tiles.constant,
        "reading": "deep_share: share of the deep part in the logits; the backbone always counts fully. tiles: what all tiles "
        "of a magnification add to a part, compared with the tissue of the mean training patient. undivided: what the deep "
        "part adds that cannot be divided among tiles. All in log-odds of the event, or of the predicted class",
    }


def _prototypes(prototypes: Prototypes) -> dict[str, Any]:
    return {
        "tiles": {f"{m}x": counts for m, counts in prototypes.counts.items()},
        "reading": "tiles: number of tiles in the cluster of each subspace, whose prototype is made of them; tiles.csv lists "
        "the cluster of every tile. The model named the clusters; nobody has compared them with the tissue of this patient",
    }


def plain(answer: Answer) -> dict[str, Any]:
    """Return the answer as stored in `prediction.json`; days are in the names of columns and in `headline`."""
    side = None if answer.above_median is None else "above" if answer.above_median else "below"
    return {
        "task": answer.task,
        "prediction": answer.prediction,
        "headline": {"column": answer.headline.column, "value": answer.value, "day": answer.headline.day}
        | ({"class": answer.headline.label} if answer.headline.label else {}),
        "training_patients": {"median_risk": answer.median_risk, "risk_is": side},
        "how_sure": {
            "by_magnification": {f"{m}x": view for m, view in answer.by_magnification.items()},
            "spread_between_magnifications": answer.spread,
            **({} if answer.models is None else {"models": asdict(answer.models)}),
            "reading": "spread between the views of one model on one patient, null if the model has no separate views; it is "
            "not a confidence interval",
        },
        "subspaces": {
            "without": answer.without,
            "without_by_magnification": {f"{m}x_{s}": view for (m, s), view in answer.without_by_magnification.items()},
            "logits": {f"{m}x_{s}": part for (m, s), part in answer.subspace_logits.items()},
            "reading": "without: the prediction with a subspace's part left out. logits: its part, including half of the "
            "constant. tissue: the tissue-specific part, which belongs to neither subspace",
        },
        **({"backbone": _backbone(answer.tiles)} if answer.tiles is not None and answer.tiles.has_backbone else {}),
        **({} if answer.prototypes is None else {"prototypes": _prototypes(answer.prototypes)}),
        "programs": {
            s: {
                "highest": dict(extremes(scores)[0]),
                "lowest": dict(extremes(scores)[1]),
                "all": scores,
                "by_magnification": {f"{m}x": v for (m, k), v in answer.programs_by_magnification.items() if k == s},
            }
            for s, scores in answer.programs.items()
            if scores
        },
    }
