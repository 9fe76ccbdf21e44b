"""Fitting of a backbone: blocks without labels, then convex models of the outcome with variances by evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmml.backbone.backbone import Backbone
from dmml.backbone.blocks import fit_gene_block
from dmml.backbone.designs import GeneDesigns, SlideDesigns
from dmml.backbone.fit_outcome import MIN_PATIENTS, OutcomeData, fit_outcome
from dmml.backbone.fit_programs import fit_programs
from dmml.backbone.fit_statistics import fit_slide_statistics
from dmml.backbone.slide_statistics import STATISTICS
from dmml.tasks import Task
from dmml.types import SUBSPACES, Bag

FOLDS = 5
MAX_PROGRAMS = 256
"""Maximum number of programs predicted in closed form; thousands of single genes are left to the deep part"""


@dataclass
class TrainingPatients:
    """The data to which a backbone is fitted.

    Attributes:
        bags: {magnification: function that starts a pass over the patients}; a pass yields one bag (1, N, D) per
            patient, with an all-False mask for a patient without tokens.
        feature_statistics: {magnification: (mean (D,), scale (D,))}.
        expression: {subspace: (n, G)} standardised; {} without RNA.
        has_expression: (n,) bool, whether a patient has RNA.
        programs: {subspace: (n, P)} measured program scores.
        target: `Batch.target` of all n patients.
    """

    bags: Mapping[int, Callable[[], Iterable[Bag]]]
    feature_statistics: Mapping[int, tuple[NDArray, NDArray]]
    expression: Mapping[str, Tensor]
    has_expression: NDArray[np.bool_]
    programs: Mapping[str, Tensor]
    target: Mapping[str, Tensor]


@dataclass
class CrossFitted:
    """Cross-fitted predictions for the patients to whom a backbone was fitted.

    The weights that predict a patient were fitted without that patient; the blocks and their variances were fitted to
    all patients.

    Attributes:
        parts: (2, n, 3, q) parts of the predictor (tumor, TME, tissue): first with the RNA that patients have, then as
            if no patient had RNA.
        programs: {(m, s): (n, P)} predicted program scores; {} if none are predicted.
    """

    parts: Tensor
    programs: dict[tuple[int, str], Tensor]


def fit_backbone(backbone: Backbone, patients: TrainingPatients, task: Task) -> CrossFitted:
    """Fit a backbone in place.

    Args:
        backbone: The backbone; any earlier fit is replaced.
        patients: Patients of training and inner validation, never of a test.
        task: The fitted task.

    Returns:
        Cross-fitted predictions for these patients.

    Raises:
        InputError: The task has no likelihood of a linear predictor.
    """
    observed = patients.target["observed"]
    target = {name: values[observed] for name, values in patients.target.items()}
    likelihood = task.linear_likelihood(target)  # an unsupported task is refused before slides are read
    backbone.statistics, backbone.readouts = torch.nn.ModuleDict(), torch.nn.ModuleDict()
    slides = _fit_statistics(backbone, patients)
    rna = _fit_rna(backbone, patients)
    statistics = {name: slides.design(name) for name in slides.blocks}
    has_tissue = slides.has_tissue if slides.raw else np.zeros(len(observed), bool)
    data = OutcomeData(likelihood, observed.numpy(), patients.has_expression, has_tissue, rna, statistics)
    folds = [*_folds(task, patients, backbone.seed), ~data.observed]
    outcome = fit_outcome(data, folds)
    for name, weights in outcome.with_rna.items():
        if name in slides.blocks:
            backbone.readouts[f"tissue_{name}"] = slides.blocks[name].readout(weights)
    for s, weights in rna.split(outcome.with_rna.get("rna")).items():
        backbone.readouts[f"rna_{s}"] = rna.blocks[s].readout(weights)
    for name, weights in outcome.from_slide.items():
        backbone.readouts[f"slide_{name}"] = slides.blocks[name].readout(weights)
    programs, cross_fitted_programs = _fit_programs(backbone, patients, slides, folds)
    predictors = outcome.cross_fitted.sum(2)[:, observed.numpy()]  # (2, n, q)
    calibrations = [task.calibrate(predictor, target) for predictor in predictors]
    backbone.layout = backbone.make_layout(predictors.shape[2], task.n_outputs, programs)
    bias, weight = (torch.as_tensor(np.stack(x), dtype=torch.float32) for x in zip(*calibrations, strict=True))
    backbone.set_calibration(bias, weight)
    return CrossFitted(torch.as_tensor(outcome.cross_fitted, dtype=torch.float32), cross_fitted_programs)


def _fit_statistics(backbone: Backbone, patients: TrainingPatients) -> SlideDesigns:
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
    return SlideDesigns(raw, present)


def _fit_rna(backbone: Backbone, patients: TrainingPatients) -> GeneDesigns:
    rna = GeneDesigns({}, {})
    for s in SUBSPACES:
        if s not in patients.expression or not patients.expression[s].shape[1] or not patients.has_expression.any():
            continue
        values = patients.expression[s].double().numpy()
        present = np.repeat(patients.has_expression[:, None], values.shape[1], 1)
        block = fit_gene_block(values, present, backbone.components)
        if block is not None:
            rna.blocks[s], rna.designs[s] = block, block.design(values, present)
    return rna


def _folds(task: Task, patients: TrainingPatients, seed: int) -> list[NDArray[np.bool_]]:
    """Split the observed patients into folds, stratified by event or class; each fold is a mask (n,)."""
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


def _fit_programs(
    backbone: Backbone, patients: TrainingPatients, slides: SlideDesigns, folds: list[NDArray[np.bool_]]
) -> tuple[dict[str, int], dict[tuple[int, str], Tensor]]:
    """Predict the measured programs from each magnification's statistics.

    Returns:
        {subspace: P}, the numbers of predicted programs, and {(m, s): (n, P)}, cross-fitted predictions.
    """
    sizes = {s: patients.programs[s].shape[1] if s in patients.programs else 0 for s in SUBSPACES}
    if not 0 < sum(sizes.values()) <= MAX_PROGRAMS:
        return dict.fromkeys(SUBSPACES, 0), {}
    measured = {s: patients.programs[s].double().numpy() for s in SUBSPACES if sizes[s]}
    cross_fitted = {}
    for m in slides.raw:
        slides_of_m = slides.at_magnification(m)
        has_both = patients.has_expression & slides_of_m.has_tissue
        if has_both.sum() < MIN_PATIENTS or not slides_of_m.blocks:
            continue
        designs = {name: slides_of_m.design(name) for name in slides_of_m.blocks}
        fits = {s: fit_programs(values, designs, has_both, folds) for s, values in measured.items()}
        for name, block in slides_of_m.blocks.items():
            no_programs = np.zeros((block.basis.shape[1], 0))
            weights = [fits[s].weights[name] if s in fits else no_programs for s in SUBSPACES]
            backbone.readouts[f"programs_{m}x_{name}"] = block.readout(np.hstack(weights))
        no_predictions = np.zeros((len(has_both), 0))
        for s in SUBSPACES:
            values = fits[s].cross_fitted if s in fits else no_predictions
            cross_fitted[m, s] = torch.as_tensor(values, dtype=torch.float32)
    return sizes, cross_fitted
