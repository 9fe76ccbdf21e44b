"""Fitting of the outcome: a model of RNA and slides, and models of slides alone for patients without RNA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from dmml.backbone.designs import GeneDesigns
from dmml.linear.evidence import BlockModel, fit_blocks, fit_with_variances
from dmml.linear.gaussian import BlockRegression, fit_regression, fit_regression_with_variances
from dmml.linear.likelihoods import Likelihood
from dmml.types import SUBSPACES

RNA_MODEL_STATISTICS = ("shift", "composition", "rare")
"""Statistics from which the outcome is predicted alongside RNA. Contrasts are left out, because RNA measures the same
better. Without composition, the amount of a tissue would enter only through the mean of all tiles (concordance 0.788,
against 0.827 with composition, where that amount decides)"""
MIN_PATIENTS = 8
"""Minimum number of patients with both RNA and slides for a regression of RNA or programs on slides"""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidate shares of the composed predictor for patients without RNA; their mean is used (`share_of_composed`)"""
MAX_SLOPE = 3.0
"""Maximum slope of an averaged predictor in `share_of_composed`; cross-fitted, slopes tend to be below 1"""
N_PARTS = len(SUBSPACES) + 1
"""Parts of a predictor: the two subspaces, and the tissue-specific part"""


@dataclass
class OutcomeData:
    """Data of n training patients, to which the models of the outcome are fitted.

    Attributes:
        likelihood: Likelihood of the patients whose outcome is known, in the same order.
        observed: (n,) bool, whether a patient's outcome is known.
        has_expression: (n,) bool, whether a patient has RNA.
        has_tissue: (n,) bool, whether a patient has tokens at any magnification.
        genes: Designs of the patients' genes.
        statistics: {statistic: (n, r)} designs of the patients' slides.
    """

    likelihood: Likelihood
    observed: NDArray[np.bool_]
    has_expression: NDArray[np.bool_]
    has_tissue: NDArray[np.bool_]
    genes: GeneDesigns
    statistics: Mapping[str, NDArray[np.float64]]
    rna_model_designs: dict[str, NDArray[np.float64]] = field(init=False)
    """{block: (n, r)} designs of the model that reads RNA; {} without RNA"""

    def __post_init__(self) -> None:
        self.rna_model_designs = {}
        if self.genes.blocks:
            self.rna_model_designs = {"rna": self.genes.design()}
            self.rna_model_designs |= {name: x for name, x in self.statistics.items() if name in RNA_MODEL_STATISTICS}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (n, 3, q) of the parts of all patients' predictors."""
        return len(self.observed), N_PARTS, self.likelihood.n_outputs

    def rna_parts(self, model: BlockModel) -> NDArray[np.float64]:
        """Return the RNA's part of the predictor, (n, 2 q), tumor before TME; 0 for a subspace without genes."""
        designs = self.genes.designs
        parts = {s: designs[s] @ weights for s, weights in self.genes.split(model.weights["rna"]).items()}
        nothing = np.zeros_like(next(iter(parts.values())))
        return np.hstack([parts.get(s, nothing) for s in SUBSPACES])


@dataclass
class Outcome:
    """The fitted models of the outcome.

    Attributes:
        with_rna: {block: (p, q)} weights for patients with RNA; {} if no patient has RNA.
        from_slide: {statistic: (p, 3 q)} weights for patients without RNA, for the three parts of the predictor.
        cross_fitted: (2, n, 3, q) cross-fitted parts of the predictor: first with the RNA that patients have, then as
            if no patient had RNA. Patients with an unknown outcome are predicted, but not used to fit the outcome.
    """

    with_rna: dict[str, NDArray[np.float64]]
    from_slide: dict[str, NDArray[np.float64]]
    cross_fitted: NDArray[np.float64]


def fit_outcome(data: OutcomeData, folds: Iterable[NDArray[np.bool_]]) -> Outcome:
    """Fit the models of the outcome, and predict each patient with weights that were fitted without that patient.

    A patient without RNA is predicted in two ways. The composed predictor, E[f_RNA | slide] + f_tissue, uses what the
    model with RNA has learned about the outcome; it is better where slides and RNA carry the same signal. The direct
    predictor is fitted to slides alone and also uses signal that slides show and RNA hides; it is better where the
    RNA's parts cancel. The two are averaged, weighted by the likelihood of their cross-fitted predictions
    (`share_of_composed`).

    Args:
        data: Data of the training patients.
        folds: (n,) bool masks that partition the patients; each fold is predicted by models fitted to the others.
    """
    cross_fitted = np.zeros((2, *data.shape))
    if data.observed.sum() < 2 or not (data.rna_model_designs or data.statistics):
        return Outcome({}, {}, cross_fitted)
    full_fit = _Models(data, data.observed)
    with_rna, composed, direct = (np.zeros(data.shape) for _ in range(3))
    composed_predictor, direct_predictor = (np.zeros((len(data.observed), data.shape[2])) for _ in range(2))
    for held_out in filter(np.any, folds):
        fold_fit = _Models(data, data.observed & ~held_out, variances_from=full_fit)
        with_rna[held_out] = fold_fit.with_rna()[held_out]
        composed[held_out], direct[held_out] = fold_fit.composed()[held_out], fold_fit.direct()[held_out]
        composed_predictor[held_out] = composed[held_out].sum(1) + fold_fit.intercept(fold_fit.rna_model)
        direct_predictor[held_out] = direct[held_out].sum(1) + fold_fit.intercept(fold_fit.slide_model)
    share = 0.0
    if full_fit.rna_model is not None and full_fit.slide_model is not None:
        rows = data.observed
        share = share_of_composed(data.likelihood, composed_predictor[rows], direct_predictor[rows])
    from_slide = share * composed + (1 - share) * direct
    cross_fitted[0] = np.where(data.has_expression[:, None, None] & bool(data.rna_model_designs), with_rna, from_slide)
    cross_fitted[1] = from_slide
    weights = {} if full_fit.rna_model is None else full_fit.rna_model.weights
    return Outcome(weights, full_fit.from_slide(share), cross_fitted)


def share_of_composed(likelihood: Likelihood, composed: NDArray, direct: NDArray) -> float:
    """Average the candidate `SHARES` of the composed predictor, each weighted by the likelihood of its predictions.

    Each candidate is judged at its best slope, because the average is calibrated afterwards.

    Args:
        likelihood: Likelihood of n patients.
        composed: (n, q) cross-fitted composed predictor.
        direct: (n, q) cross-fitted direct predictor.

    Source: Bayesian model averaging with equal prior weights.
    """

    def best_value(predictor: NDArray) -> float:
        return -minimize_scalar(lambda slope: -likelihood.value(slope * predictor), bounds=(0, MAX_SLOPE)).fun

    values = np.array([best_value(share * composed + (1 - share) * direct) for share in SHARES])
    return float(softmax(values) @ SHARES)


class _Models:
    """The models of the outcome, fitted to a subset of the patients.

    Args:
        data: All n patients; predictions are made for all of them.
        rows: (n,) bool, the patients to whom the models are fitted; their outcome must be known.
        variances_from: Models whose variances are reused; None = variances are chosen by evidence.
    """

    rna_model: BlockModel | None = None
    """Model of RNA and the statistics in `RNA_MODEL_STATISTICS`"""
    slide_model: BlockModel | None = None
    """Model of slides alone"""
    regression: BlockRegression | None = None
    """Regression of the RNA's parts on slides"""

    def __init__(self, data: OutcomeData, rows: NDArray[np.bool_], variances_from: _Models | None = None):
        self.data = data
        if data.rna_model_designs:
            self.rna_model = self._fit(
                data.rna_model_designs, rows, None if variances_from is None else variances_from.rna_model
            )
        if data.statistics:
            self.slide_model = self._fit(
                data.statistics, rows, None if variances_from is None else variances_from.slide_model
            )
        if self.rna_model is not None and self.slide_model is not None:
            # The RNA's parts are known even for patients whose outcome is not.
            unknown = ~data.observed if variances_from is None else np.zeros_like(rows)
            has_both = data.has_expression & data.has_tissue & (rows | unknown)
            self.regression = self._regress(has_both, variances_from)

    def _fit(self, blocks: Mapping[str, NDArray], rows: NDArray, variances_from: BlockModel | None) -> BlockModel:
        likelihood = self.data.likelihood.subset(rows[self.data.observed])
        subset = {name: x[rows] for name, x in blocks.items()}
        return (
            fit_blocks(likelihood, subset)
            if variances_from is None
            else fit_with_variances(likelihood, subset, variances_from.log_variance)
        )

    def _regress(self, has_both: NDArray[np.bool_], variances_from: _Models | None) -> BlockRegression | None:
        targets = self.data.rna_parts(self.rna_model)[has_both]
        subset = {name: x[has_both] for name, x in self.data.statistics.items()}
        if variances_from is None:
            return fit_regression(targets, subset) if len(targets) >= MIN_PATIENTS else None
        if variances_from.regression is None or len(targets) < 2:
            return None
        return fit_regression_with_variances(targets, subset, variances_from.regression.log_variance)

    def intercept(self, model: BlockModel | None) -> NDArray[np.float64]:
        """Return a model's intercept (q,); 0 for None."""
        return np.zeros(self.data.shape[2]) if model is None else model.intercept

    def with_rna(self) -> NDArray[np.float64]:
        """Return the parts (n, 3, q) for patients with RNA; 0 without a model that reads RNA."""
        if self.rna_model is None:
            return np.zeros(self.data.shape)
        return self._parts(
            self.data.rna_parts(self.rna_model), self._tissue(self.rna_model, self.data.rna_model_designs)
        )

    def composed(self) -> NDArray[np.float64]:
        """Return E[f_RNA | slide] + f_tissue in parts (n, 3, q); 0 without a model that reads RNA."""
        if self.rna_model is None:
            return np.zeros(self.data.shape)
        of_rna = np.zeros((self.data.shape[0], len(SUBSPACES) * self.data.shape[2]))
        if self.regression is not None:
            of_rna = self.regression.score(self.data.statistics) - self.regression.intercept
        return self._parts(of_rna, self._tissue(self.rna_model, self.data.rna_model_designs))

    def direct(self) -> NDArray[np.float64]:
        """Return the parts (n, 3, q) of the model of slides alone, which is entirely in the tissue-specific part."""
        parts = np.zeros(self.data.shape)
        if self.slide_model is not None:
            parts[:, -1] = self._tissue(self.slide_model, self.data.statistics)
        return parts

    def from_slide(self, share: float) -> dict[str, NDArray[np.float64]]:
        """Return {statistic: (p, 3 q)} weights for patients without RNA, at a given share of the composed predictor."""
        weights = {}
        for name, x in self.data.statistics.items():
            q = self.data.shape[2]
            composed, direct = np.zeros((x.shape[1], N_PARTS * q)), np.zeros((x.shape[1], N_PARTS * q))
            direct[:, -q:] = self.slide_model.weights[name]
            if self.regression is not None:
                composed[:, :-q] = self.regression.weights[name]
            if self.rna_model is not None and name in self.rna_model.weights:
                composed[:, -q:] = self.rna_model.weights[name]
            weights[name] = share * composed + (1 - share) * direct
        return weights

    def _tissue(self, model: BlockModel, designs: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the slides' part (n, q) of a model's predictor."""
        parts = [designs[name] @ weights for name, weights in model.weights.items() if name != "rna"]
        return sum(parts, np.zeros((self.data.shape[0], self.data.shape[2])))

    def _parts(self, of_rna: NDArray, tissue: NDArray) -> NDArray[np.float64]:
        return np.stack([*np.split(of_rna, len(SUBSPACES), 1), tissue], 1)
