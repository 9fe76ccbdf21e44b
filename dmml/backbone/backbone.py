"""The backbone: a convex model of label-free statistics, fitted before training, on which the deep part builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from dmml.backbone.blocks import Readout
from dmml.backbone.fit_statistics import N_CLUSTERS
from dmml.backbone.slide_statistics import STATISTICS, SlideStatistics
from dmml.types import SUBSPACES, Bag


class BackboneLayout(TypedDict, total=False):
    """Sizes from which the buffers of a fitted backbone can be created, in plain Python types; {} before the fit."""

    n_predictors: int
    """q, number of columns of the predictor"""
    n_outputs: int
    """C"""
    programs: dict[str, int]
    """{subspace: P}"""
    statistics: dict[str, list[int]]
    """{"10x": arguments of `SlideStatistics`}"""
    readouts: dict[str, list[int]]
    """{name: arguments of `Readout.empty`}"""


@dataclass
class BackboneOutput:
    """The backbone's part of a model's output.

    Attributes:
        subspaces: {subspace: (B, C)} logits from a subspace's RNA or, for patients without RNA, predicted from their
            slides; each includes half of the calibration's bias.
        tissue: (B, C) logits of the tissue-specific part.
        programs: {(magnification, subspace): (B, P)} program scores predicted from the tissue; {} if none were fitted.
    """

    subspaces: dict[str, Tensor]
    tissue: Tensor
    programs: dict[tuple[int, str], Tensor]


class Backbone(nn.Module):
    """A linear model of the outcome on genes and label-free statistics of slides.

    With RNA, f = f_tumor(RNA) + f_tme(RNA) + f_tissue(shift, composition, rare). Without RNA, f is a weighted average
    of E[f_tumor + f_tme | slide] + f_tissue and a model of the slide alone; `fit_outcome` chooses the weights.

    All fitted values are buffers: `fit_backbone` sets them before the first step, and the checkpoint keeps them. A
    teacher predicts a patient without RNA as its student does. A missing magnification or slide counts as the training
    mean.

    Names of readouts: `rna_<subspace>` and `tissue_<statistic>` for patients with RNA; `slide_<statistic>`, with all three
    parts, for patients without RNA; `programs_<magnification>x_<statistic>`.

    Args:
        components: Number of leading principal components of a subspace's genes that get equal variance
            (`fit_gene_block`).
        clusters: Number of tissue clusters per magnification.
        max_tokens: Maximum number of tokens, evenly drawn, per patient and magnification in each pass of the fit.
        seed: Seed of the clustering and of the folds of the cross-fitted predictions.

    Raises:
        ValueError: An argument is too small.
    """

    calibration_bias: Tensor
    """(2, C), first for patients with RNA"""
    calibration_weight: Tensor
    """(2, q, C), first for patients with RNA"""

    def __init__(self, components: int = 6, clusters: int = N_CLUSTERS, max_tokens: int = 4096, seed: int = 0):
        super().__init__()
        if components < 1 or clusters < 2 or max_tokens < 2:
            raise ValueError(
                f"a backbone needs components ≥ 1, clusters ≥ 2 and max_tokens ≥ 2; got {components}, {clusters}, {max_tokens}"
            )
        self.components, self.clusters, self.max_tokens, self.seed = components, clusters, max_tokens, seed
        self.statistics, self.readouts = nn.ModuleDict(), nn.ModuleDict()
        self.layout: BackboneLayout = {}

    @property
    def is_fitted(self) -> bool:
        """Whether the backbone was fitted, or built to load a fitted one from a checkpoint."""
        return bool(self.layout)

    def build(self, layout: BackboneLayout) -> None:
        """Create the buffers, to be filled from a checkpoint.

        Args:
            layout: `layout` of the saved backbone, in plain Python types.
        """
        self.layout = layout.copy()
        self.statistics = nn.ModuleDict({name: SlideStatistics(*sizes) for name, sizes in layout["statistics"].items()})
        self.readouts = nn.ModuleDict({name: Readout.empty(*sizes) for name, sizes in layout["readouts"].items()})
        n_predictors, n_outputs = layout["n_predictors"], layout["n_outputs"]
        self.set_calibration(torch.zeros(2, n_outputs), torch.zeros(2, n_predictors, n_outputs))

    def set_calibration(self, bias: Tensor, weight: Tensor) -> None:
        """Set the map from the predictor to logits, bias (2, C) and weight (2, q, C), first for patients with RNA."""
        self.register_buffer("calibration_bias", bias)
        self.register_buffer("calibration_weight", weight)

    def copy_without_rna(self, teacher: Backbone) -> None:
        """Copy those parts of a teacher's backbone that predict patients without RNA.

        Args:
            teacher: The teacher's fitted backbone.
        """
        for_patients_with_rna = ("rna_", "tissue_")
        readouts = {
            name: sizes
            for name, sizes in teacher.layout["readouts"].items()
            if not name.startswith(for_patients_with_rna)
        }
        self.build({**teacher.layout, "readouts": readouts})
        self.load_state_dict({name: value for name, value in teacher.state_dict().items() if name in self.state_dict()})

    def make_layout(self, n_predictors: int, n_outputs: int, programs: Mapping[str, int]) -> BackboneLayout:
        """Return the layout of the fitted backbone, from which `build` can recreate its buffers.

        Args:
            n_predictors: q, columns of the predictor.
            n_outputs: C.
            programs: {subspace: P}.
        """
        return {
            "n_predictors": n_predictors,
            "n_outputs": n_outputs,
            "programs": dict(programs),
            "statistics": {
                f"{m}x": [len(each.mean), len(each.centres), len(each.directions)]
                for m, each in self.statistics_modules().items()
            },
            "readouts": {name: list(cast(Readout, readout).weight.shape) for name, readout in self.readouts.items()},
        }

    def statistics_modules(self) -> dict[int, SlideStatistics]:
        """Return {magnification: module of its statistics} for the magnifications that the backbone uses."""
        return {int(name[:-1]): cast(SlideStatistics, module) for name, module in self.statistics.items()}

    def readout(self, name: str) -> Readout | None:
        """Return a readout by its name; None if the backbone has none of this name."""
        return cast(Readout, self.readouts[name]) if name in self.readouts else None

    def slide_statistics(self, bags: Mapping[int, Bag]) -> dict[int, dict[str, Tensor]]:
        """Return {magnification: {statistic: (B, columns)}} for the magnifications that the backbone uses."""
        return {m: module(bags[m]) for m, module in self.statistics_modules().items()}

    def forward(
        self, bags: Mapping[int, Bag], expression: Mapping[str, Tensor], has_expression: Tensor
    ) -> BackboneOutput:
        """Compute logits and program scores of a batch.

        Args:
            bags: {magnification: Bag}.
            expression: {subspace: (B, G)} standardised.
            has_expression: (B,) bool, whether a patient has RNA.
        """
        return self.forward_from_statistics(self.slide_statistics(bags), bags, expression, has_expression)

    def forward_from_statistics(
        self,
        statistics: Mapping[int, dict[str, Tensor]],
        bags: Mapping[int, Bag],
        expression: Mapping[str, Tensor],
        has_expression: Tensor,
    ) -> BackboneOutput:
        """Compute the same output as `forward` from precomputed statistics.

        Args:
            statistics: {magnification: {statistic: (B, columns)}} for every magnification that the backbone uses.
            bags: {magnification: Bag}; only their masks are used.
            expression: {subspace: (B, G)} standardised.
            has_expression: (B,) bool, whether a patient has RNA.
        """
        with torch.autocast(has_expression.device.type, enabled=False):
            statistics = {m: statistics[m] for m in self.statistics_modules()}
            present = {m: bags[m].mask.any(1, keepdim=True) for m in statistics}
            parts = self._parts(statistics, present, expression, has_expression)
            return self.output(parts, has_expression, self.programs(statistics, present, len(has_expression)))

    def output(self, parts: Tensor, has_expression: Tensor, programs: dict[tuple[int, str], Tensor]) -> BackboneOutput:
        """Calibrate the parts of the predictor to logits.

        Args:
            parts: (B, 3, q) tumor, TME and tissue-specific part.
            has_expression: (B,) bool; selects the `calibration`.
            programs: {(m, s): (B, P)}, passed on to the output.
        """
        bias, weight = self.calibration(has_expression)
        logits = torch.bmm(parts, weight)  # (B, 3, C)
        bias_per_subspace = bias / len(SUBSPACES)
        subspaces = {s: logits[:, i] + bias_per_subspace for i, s in enumerate(SUBSPACES)}
        return BackboneOutput(subspaces, logits[:, -1], programs)

    def calibration(self, has_expression: Tensor) -> tuple[Tensor, Tensor]:
        """Return bias (B, C) and weight (B, q, C), for logits = bias + predictor @ weight.

        Patients with and without RNA are calibrated separately, because predictions from RNA are more certain.
        """
        row = (~self.uses_rna_model(has_expression)).long()
        return self.calibration_bias[row], self.calibration_weight[row]

    def uses_rna_model(self, has_expression: Tensor) -> Tensor:
        """Return (B,) bool, whether a patient is predicted by the model that reads RNA."""
        return has_expression & any(f"rna_{s}" in self.readouts for s in SUBSPACES)

    def is_computed_from_rna(self, expression: Mapping[str, Tensor], has_expression: Tensor) -> dict[str, Tensor]:
        """Return {subspace: (B,) bool}, whether the part is computed from RNA rather than predicted from the slide."""
        return {s: has_expression & (f"rna_{s}" in self.readouts and s in expression) for s in SUBSPACES}

    def _parts(
        self,
        statistics: dict[int, dict[str, Tensor]],
        present: Mapping[int, Tensor],
        expression: Mapping[str, Tensor],
        has_expression: Tensor,
    ) -> Tensor:
        """Return the parts (B, 3, q) of the predictor, those of subspaces from RNA or, without RNA, from the slide."""
        joined = {name: self._join_magnifications(statistics, present, name) for name in STATISTICS if statistics}
        zeros = self.calibration_bias.new_zeros(len(has_expression), self.layout["n_predictors"])
        *subspaces, tissue = self._add_readouts("slide", joined, zeros.repeat(1, len(SUBSPACES) + 1)).chunk(
            len(SUBSPACES) + 1, 1
        )
        uses_rna_model = self.uses_rna_model(has_expression).unsqueeze(1)
        if any(f"tissue_{name}" in self.readouts for name in joined):
            tissue = torch.where(uses_rna_model, self._add_readouts("tissue", joined, zeros), tissue)
        predictors = []
        is_computed_from_rna = self.is_computed_from_rna(expression, has_expression)
        for s, part in zip(SUBSPACES, subspaces, strict=True):
            readout = self.readout(f"rna_{s}")
            if readout is not None and s in expression:
                values = expression[s].float()
                measured = readout(values, torch.ones_like(values, dtype=torch.bool))
                part = torch.where(is_computed_from_rna[s].unsqueeze(1), measured, part)
            predictors.append(part)
        return torch.stack([*predictors, tissue], 1)

    @staticmethod
    def _join_magnifications(
        statistics: Mapping[int, dict[str, Tensor]], present: Mapping[int, Tensor], name: str
    ) -> tuple[Tensor, Tensor]:
        """Join one statistic of all magnifications, (B, columns), and whether a patient has each of these columns."""
        values = [each[name] for each in statistics.values()]
        has_column = [present[m].expand(-1, each[name].shape[1]) for m, each in statistics.items()]
        return torch.cat(values, 1), torch.cat(has_column, 1)

    def _add_readouts(self, prefix: str, joined: Mapping[str, tuple[Tensor, Tensor]], start: Tensor) -> Tensor:
        """Add the outputs of all readouts `<prefix>_<statistic>` to `start` (B, q)."""
        for name, (values, present) in joined.items():
            if (readout := self.readout(f"{prefix}_{name}")) is not None:
                start = start + readout(values, present)
        return start

    def programs(
        self, statistics: Mapping[int, dict[str, Tensor]], present: Mapping[int, Tensor], size: int
    ) -> dict[tuple[int, str], Tensor]:
        """Predict {(m, s): (B, P)} from each magnification alone; 0, the training mean, for patients who lack it."""
        sizes = self.layout["programs"]
        programs: dict[tuple[int, str], Tensor] = {}
        for m, each in statistics.items():
            if not any(f"programs_{m}x_{name}" in self.readouts for name in STATISTICS):
                continue
            joined = {name: (value, present[m].expand_as(value)) for name, value in each.items()}
            start = self.calibration_bias.new_zeros(size, sum(sizes.values()))
            scores = self._add_readouts(f"programs_{m}x", joined, start).split([sizes[s] for s in SUBSPACES], 1)
            programs |= {(m, s): score for s, score in zip(SUBSPACES, scores, strict=True)}
        return programs
