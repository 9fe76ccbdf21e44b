"""Fits a backbone on training patients: blocks without labels, then one convex model of the outcome by evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.backbone.backbone import Backbone
from dmml.backbone.blocks import Block, fit_block, fit_gene_block
from dmml.backbone.fit_statistics import fit_slide_statistics
from dmml.backbone.slide_statistics import STATISTICS
from dmml.linear.evidence import BlockModel, fit_blocks, fit_with_variances
from dmml.linear.gaussian import fit_regression, fit_regression_with_variances
from dmml.linear.likelihoods import Likelihood
from dmml.tasks import Task
from dmml.types import SUBSPACES, Bag

BESIDE_RNA = ("shift", "composition", "rare")
"""Statistics that the outcome is read from beside RNA. Contrasts repeat what RNA measures better. Without composition,
the amount of a tissue is read through the mean of all tiles alone (concordance 0.788 against 0.827 where it decides)"""
FOLDS = 5
MIN_PATIENTS = 8
"""Fewest patients with both RNA and slides from whom anything is regressed on slides"""
MAX_PROGRAMS = 256
"""Most programs that are predicted in closed form; thousands of single genes are left to the deep part"""


@dataclass
class TrainingPatients:
    """The data to which a backbone is fitted.

    Attributes:
        bags: {magnification: a fresh pass over the patients, each a bag of one patient, empty for one without}.
        feature_statistics: {magnification: (mean (D,), scale (D,))}.
        expression: {subspace: (n, G)} standardised; {} without RNA.
        has_expression: (n,) bool.
        programs: {subspace: (n, P)} measured.
        target: As `Batch.target`, of all n patients.
    """

    bags: Mapping[int, Callable[[], Iterable[Bag]]]
    feature_statistics: Mapping[int, tuple[NDArray, NDArray]]
    expression: Mapping[str, Tensor]
    has_expression: NDArray[np.bool_]
    programs: Mapping[str, Tensor]
    target: Mapping[str, Tensor]


@dataclass
class CrossFitted:
    """Predictions for the patients to whom a backbone was fitted.

    Attributes:
        parts: (2, n, 3, q) parts of the predictor (tumor, TME, tissue): with the RNA that patients have, and as if nobody
            had RNA. The weights behind a patient's parts were fitted without the patient; the blocks and their variances
            are those of all patients.
        programs: {(m, s): (n, P)} predicted programs; of patients with RNA they are fitted values.
    """

    parts: Tensor
    programs: dict[tuple[int, str], Tensor]


def fit_backbone(backbone: Backbone, patients: TrainingPatients, task: Task) -> CrossFitted:
    """Fit a backbone in place.

    Args:
        backbone: What it holds is replaced.
        patients: Training patients, and no others.
        task: Fitted on the same patients.

    Returns:
        Predictions for each patient from weights that were fitted without the patient.

    Raises:
        InputError: The task has no likelihood of a linear predictor.
    """
    observed = patients.target["observed"]
    target = {name: values[observed] for name, values in patients.target.items()}
    likelihood = task.linear_likelihood(target)  # a task without one is refused before slides are read
    backbone.statistics, backbone.readouts = torch.nn.ModuleDict(), torch.nn.ModuleDict()
    slides = _fit_statistics(backbone, patients)
    rna = _fit_rna(backbone, patients)
    outcome = _fit_outcome(task, likelihood, patients, rna, slides, backbone.seed)
    for name, weights in outcome.weights.items():
        if name in slides.blocks:
            backbone.readouts[f"tissue_{name}"] = slides.blocks[name].readout(weights)
    for s, weights in rna.split(outcome.weights.get("rna")).items():
        backbone.readouts[f"rna_{s}"] = rna.blocks[s].readout(weights)
    for name, weights in outcome.expected.items():
        backbone.readouts[f"expected_{name}"] = slides.blocks[name].readout(weights)
    programs = _add_programs(backbone, patients, slides)
    predictors = outcome.cross_fitted.sum(2)[:, observed.numpy()]  # (2, n, q)
    calibrations = [task.calibrate(predictor, target) for predictor in predictors]
    backbone.layout = backbone.describe(predictors.shape[2], task.n_outputs, programs)
    for name, values in zip(("bias", "spread"), zip(*calibrations, strict=True), strict=True):
        backbone.register_buffer(name, torch.as_tensor(np.stack(values), dtype=torch.float32))
    statistics = {
        m: {name: torch.as_tensor(values, dtype=torch.float32) for name, values in raw.items()}
        for m, raw in slides.raw.items()
    }
    present = {m: torch.from_numpy(has_tokens).unsqueeze(1) for m, has_tokens in slides.present.items()}
    return CrossFitted(
        torch.as_tensor(outcome.cross_fitted, dtype=torch.float32),
        backbone.programs(statistics, present, len(observed)),
    )


class _Slides:
    """Blocks of `raw` {m: {statistic: (n, columns)}}, with `present` {m: (n,) bool, whether a patient has tokens}."""

    def __init__(self, raw: dict[int, dict[str, NDArray]], present: dict[int, NDArray]):
        self.raw, self.present = raw, present
        self.has_tissue = np.any(list(present.values()), axis=0) if present else np.zeros(0, bool)
        self.blocks: dict[str, Block] = {}
        for name in STATISTICS if raw else ():
            block = self._fit(name, list(raw))
            if block is not None:
                self.blocks[name] = block

    def columns(self, name: str, magnifications: Iterable[int]) -> tuple[NDArray, NDArray]:
        """(n, d) of a statistic at some magnifications, and whether a patient has each column."""
        values = [self.raw[m][name] for m in magnifications]
        present = [
            np.repeat(self.present[m][:, None], v.shape[1], 1) for m, v in zip(magnifications, values, strict=True)
        ]
        return np.hstack(values), np.hstack(present)

    def _fit(self, name: str, magnifications: list[int]) -> Block | None:
        values, present = self.columns(name, magnifications)
        if not values.shape[1]:
            return None
        # Contrasts keep their proportions: those of few tokens are shrunk towards 0 already, and are to count less.
        options = {"standardise": False, "clip": np.inf} if name == "contrasts" else {}
        return fit_block(values, present, **options)

    def design(self, name: str) -> NDArray[np.float64]:
        """(n, r) of a statistic at all magnifications."""
        return self.blocks[name].design(*self.columns(name, list(self.raw)))

    def at(self, magnification: int) -> _Slides:
        """The statistics of one magnification, as blocks of their own."""
        return _Slides({magnification: self.raw[magnification]}, {magnification: self.present[magnification]})


def _fit_statistics(backbone: Backbone, patients: TrainingPatients) -> _Slides:
    raw, present = {}, {}
    for m, bags in patients.bags.items():
        mean, scale = patients.feature_statistics[m]
        n = len(patients.has_expression)
        fitted = fit_slide_statistics(bags, mean, scale, n, backbone.clusters, backbone.seed)
        backbone.statistics[f"{m}x"] = fitted
        rows, has_tokens = [], []
        with torch.no_grad():
            for bag in bags():
                rows.append(fitted(bag))
                has_tokens.append(bool(bag.mask.any()))
        raw[m] = {name: torch.cat([row[name] for row in rows]).double().numpy() for name in STATISTICS}
        present[m] = np.array(has_tokens)
    return _Slides(raw, present)


@dataclass
class _Rna:
    """Genes of the training patients.

    Attributes:
        blocks: {subspace: block of its genes}.
        designs: {subspace: (n, r)}; all subspaces have one variance between them.
    """

    blocks: dict[str, Block]
    designs: dict[str, NDArray[np.float64]]

    def design(self) -> NDArray[np.float64]:
        """(n, r) of both subspaces, whose rows have a mean squared norm of 1."""
        return np.hstack(list(self.designs.values())) / np.sqrt(len(self.designs))

    def split(self, weights: NDArray | None) -> dict[str, NDArray[np.float64]]:
        """{subspace: (r_s, q)} from the weights of `design`."""
        if weights is None:
            return {}
        ends = np.cumsum([design.shape[1] for design in self.designs.values()])[:-1]
        return dict(zip(self.designs, np.split(weights / np.sqrt(len(self.designs)), ends), strict=True))


def _fit_rna(backbone: Backbone, patients: TrainingPatients) -> _Rna:
    rna = _Rna({}, {})
    for s in SUBSPACES:
        if s not in patients.expression or not patients.expression[s].shape[1] or not patients.has_expression.any():
            continue
        values = patients.expression[s].double().numpy()
        present = np.repeat(patients.has_expression[:, None], values.shape[1], 1)
        block = fit_gene_block(values, present, backbone.components)
        if block is not None:
            rna.blocks[s], rna.designs[s] = block, block.design(values, present)
    return rna


@dataclass
class _Outcome:
    """The fitted model of the outcome.

    Attributes:
        weights: {block: (p, q)}.
        expected: {statistic: (p, 2 q)} of what slides tell of the RNA's part, by subspace.
        cross_fitted: (2, n, 3, q); see `CrossFitted.parts`. Patients whose outcome is unknown are predicted by the model
            of all others.
    """

    weights: dict[str, NDArray[np.float64]]
    expected: dict[str, NDArray[np.float64]]
    cross_fitted: NDArray[np.float64]


def _fit_outcome(
    task: Task, likelihood: Likelihood, patients: TrainingPatients, rna: _Rna, slides: _Slides, seed: int
) -> _Outcome:
    """One convex model of all blocks, the regression of its RNA part on slides, and predictions out of fold."""
    observed = patients.target["observed"].numpy()
    statistics = {name: slides.design(name) for name in slides.blocks}
    designs = {"rna": rna.design()} if rna.blocks else {}
    designs |= {name: x for name, x in statistics.items() if not rna.blocks or name in BESIDE_RNA}
    n, q = int(observed.sum()), likelihood.n_outputs
    if not designs or n < 2:
        return _Outcome({}, {}, np.zeros((2, len(observed), len(SUBSPACES) + 1, q)))
    model = fit_blocks(likelihood, {name: x[observed] for name, x in designs.items()})
    taught = patients.has_expression & slides.has_tissue if rna.blocks and statistics else np.zeros(len(observed), bool)
    regression = None
    if taught.sum() >= MIN_PATIENTS:
        targets = _rna_parts(rna, model)[taught]
        regression = fit_regression(targets, {name: x[taught] for name, x in statistics.items()})
    cross_fitted, nothing = np.zeros((2, len(observed), len(SUBSPACES) + 1, q)), np.zeros((len(observed), q))
    for held_out in filter(np.any, [*_folds(task, patients, seed), ~observed]):
        rest = observed & ~held_out
        part = fit_with_variances(
            likelihood.subset(rest[observed]), {name: x[rest] for name, x in designs.items()}, model.log_variance
        )
        tissue = sum((designs[name] @ part.weights[name] for name in designs if name != "rna"), nothing)
        guess = np.zeros((len(rest), len(SUBSPACES) * q))
        if regression is not None and (rows := taught & ~held_out).sum() >= 2:
            fitted = fit_regression_with_variances(
                _rna_parts(rna, part)[rows], {name: x[rows] for name, x in statistics.items()}, regression.log_variance
            )
            guess = fitted.score(statistics) - fitted.intercept
        measured = np.where(patients.has_expression[:, None], _rna_parts(rna, part), guess) if rna.blocks else guess
        for i, of_rna in enumerate((measured, guess)):
            parts = [*np.split(of_rna, len(SUBSPACES), 1), tissue]
            cross_fitted[i, held_out] = np.stack(parts, 1)[held_out]
    return _Outcome(model.weights, {} if regression is None else regression.weights, cross_fitted)


def _rna_parts(rna: _Rna, model: BlockModel) -> NDArray[np.float64]:
    """(n, 2 q) the RNA's part of the predictor by subspace; 0 for a subspace without genes."""
    parts = {s: rna.designs[s] @ weights for s, weights in rna.split(model.weights["rna"]).items()}
    nothing = np.zeros_like(next(iter(parts.values())))
    return np.hstack([parts.get(s, nothing) for s in SUBSPACES])


def _folds(task: Task, patients: TrainingPatients, seed: int) -> list[NDArray[np.bool_]]:
    """(n,) masks of the observed patients of each fold, stratified by event or class."""
    observed = np.flatnonzero(patients.target["observed"].numpy())
    stratum = patients.target.get(task.outcome[-1], patients.target["observed"]).numpy()[observed]
    order = np.random.default_rng(seed).permutation(len(observed))
    order = order[np.argsort(stratum[order], kind="stable")]
    masks = []
    for k in range(min(FOLDS, len(observed))):
        mask = np.zeros(len(patients.has_expression), bool)
        mask[observed[order[k :: min(FOLDS, len(observed))]]] = True
        masks.append(mask)
    return masks


def _add_programs(backbone: Backbone, patients: TrainingPatients, slides: _Slides) -> dict[str, int]:
    """Regress the measured programs on each magnification's statistics. → {subspace: P} of those predicted."""
    sizes = {s: patients.programs[s].shape[1] if s in patients.programs else 0 for s in SUBSPACES}
    if not 0 < sum(sizes.values()) <= MAX_PROGRAMS:
        return dict.fromkeys(SUBSPACES, 0)
    measured = {s: patients.programs[s].double().numpy() for s in SUBSPACES if sizes[s]}
    for m in slides.raw:
        of_m = slides.at(m)
        both = patients.has_expression & of_m.has_tissue
        if both.sum() < MIN_PATIENTS or not of_m.blocks:
            continue
        designs = {name: of_m.design(name)[both] for name in of_m.blocks}
        fits = {s: fit_regression(values[both], designs) for s, values in measured.items()}
        for name, block in of_m.blocks.items():
            weight = np.hstack(
                [fits[s].weights[name] if s in fits else np.zeros((block.basis.shape[1], 0)) for s in SUBSPACES]
            )
            backbone.readouts[f"programs_{m}x_{name}"] = block.readout(weight)
    return sizes
