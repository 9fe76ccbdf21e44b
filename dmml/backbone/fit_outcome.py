"""Fitting of the outcome: a model of RNA and slides, and models of slides alone for patients without RNA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from dmml.backbone.designs import GeneDesigns
from dmml.linear.block_model import BlockModel
from dmml.linear.evidence import fit_blocks, fit_with_variances, with_fitted_noise
from dmml.linear.gaussian import fit_regression, fit_regression_with_variances
from dmml.linear.likelihoods import Likelihood
from dmml.types import SUBSPACES

RNA_MODEL_STATISTICS = ("shift", "composition", "rare")
"""Statistics from which the outcome is predicted alongside RNA. Contrasts are left out, because RNA measures the same
better. Without composition, the amount of a tissue would enter only through the mean of all tiles: in a cohort whose
outcome depends on that amount, the concordance is 0.788, against 0.827 with composition"""
MIN_PATIENTS = 8
"""Minimum number of patients with both RNA and slides for a regression of RNA or programs on slides"""
COMPOSED_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidate weights of the composed predictor for patients without RNA; their mean is used (`weight_of_composed`)"""
MAX_SLOPE = 3.0
"""Maximum slope of an averaged predictor in `weight_of_composed`; slopes of cross-fitted predictors tend to be below 1"""
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

    def subset(
        self, designs: Mapping[str, NDArray], rows: NDArray[np.bool_]
    ) -> tuple[Likelihood, dict[str, NDArray[np.float64]]]:
        """Return the likelihood and the designs of a subset of the patients, whose outcome must be known."""
        return self.likelihood.subset(rows[self.observed]), {name: x[rows] for name, x in designs.items()}

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

    def regression_data(
        self, rna_model: BlockModel, rows: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Return the targets and the designs of the regression of the RNA's parts on slides, for a mask (n,)."""
        return self.rna_parts(rna_model)[rows], {name: x[rows] for name, x in self.statistics.items()}


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
    (`weight_of_composed`).

    Args:
        data: Data of the training patients.
        folds: (n,) bool masks that partition the patients; each fold is predicted by models fitted to the others.
    """
    cross_fitted = np.zeros((2, *data.shape))
    if data.observed.sum() < 2 or not (data.rna_model_designs or data.statistics):
        return Outcome({}, {}, cross_fitted)
    full_fit = _Models.fit(data)
    with_rna, composed, direct = (np.zeros(data.shape) for _ in range(3))
    composed_predictor, direct_predictor = (np.zeros((len(data.observed), data.shape[2])) for _ in range(2))
    for held_out in filter(np.any, folds):
        fold_fit = full_fit.refit(data.observed & ~held_out)
        with_rna[held_out] = fold_fit.with_rna()[held_out]
        composed[held_out], direct[held_out] = fold_fit.composed()[held_out], fold_fit.direct()[held_out]
        composed_predictor[held_out] = composed[held_out].sum(1) + fold_fit.intercept(fold_fit.rna_model)
        direct_predictor[held_out] = direct[held_out].sum(1) + fold_fit.intercept(fold_fit.slide_model)
    weight = 0.0
    if full_fit.rna_model is not None and full_fit.slide_model is not None:
        rows = data.observed
        likelihood = with_fitted_noise(data.likelihood, full_fit.slide_model)
        weight = weight_of_composed(likelihood, composed_predictor[rows], direct_predictor[rows])
    from_slide = weight * composed + (1 - weight) * direct
    cross_fitted[0] = np.where(data.has_expression[:, None, None] & bool(data.rna_model_designs), with_rna, from_slide)
    cross_fitted[1] = from_slide
    rna_weights = {} if full_fit.rna_model is None else full_fit.rna_model.weights
    return Outcome(rna_weights, full_fit.from_slide(weight), cross_fitted)


def weight_of_composed(likelihood: Likelihood, composed: NDArray, direct: NDArray) -> float:
    """Average the candidate `COMPOSED_WEIGHTS`, each weighted by the likelihood of its predictions.

    Each candidate is judged at its best slope, because the average is calibrated afterwards.

    Args:
        likelihood: Likelihood of n patients.
        composed: (n, q) cross-fitted composed predictor.
        direct: (n, q) cross-fitted direct predictor.

    Source: Bayesian model averaging with equal prior weights.
    """

    def best_value(predictor: NDArray) -> float:
        return -minimize_scalar(lambda slope: -likelihood.value(slope * predictor), bounds=(0, MAX_SLOPE)).fun

    values = np.array([best_value(weight * composed + (1 - weight) * direct) for weight in COMPOSED_WEIGHTS])
    return float(softmax(values) @ COMPOSED_WEIGHTS)


@dataclass(frozen=True)
class _Models:
    """The models of the outcome, fitted to a subset of the patients; they predict all n patients.

    Attributes:
        data: Data of all n patients.
        rna_model: Model of RNA and the statistics in `RNA_MODEL_STATISTICS`; None without RNA.
        slide_model: Model of slides alone; None without slides.
        regression: Regression of the RNA's parts on slides; None without both models, or with too few patients.
    """

    data: OutcomeData
    rna_model: BlockModel | None = None
    slide_model: BlockModel | None = None
    regression: BlockModel | None = None

    @classmethod
    def fit(cls, data: OutcomeData) -> _Models:
        """Fit the models to all patients whose outcome is known, with variances chosen by evidence."""
        rna_model = slide_model = regression = None
        if data.rna_model_designs:
            rna_model = fit_blocks(*data.subset(data.rna_model_designs, data.observed))
        if data.statistics:
            slide_model = fit_blocks(*data.subset(data.statistics, data.observed))
        if rna_model is not None and slide_model is not None:
            # The RNA's parts are known even for patients whose outcome is not.
            has_both = data.has_expression & data.has_tissue
            if has_both.sum() >= MIN_PATIENTS:
                regression = fit_regression(*data.regression_data(rna_model, has_both))
        return cls(data, rna_model, slide_model, regression)

    def refit(self, rows: NDArray[np.bool_]) -> _Models:
        """Fit the models with the same variances to the patients of a mask (n,), whose outcome must be known."""
        data, rna_model, slide_model, regression = self.data, self.rna_model, self.slide_model, self.regression
        if rna_model is not None:
            rna_model = fit_with_variances(*data.subset(data.rna_model_designs, rows), rna_model.log_variance)
        if slide_model is not None:
            slide_model = fit_with_variances(*data.subset(data.statistics, rows), slide_model.log_variance)
        if regression is not None and rna_model is not None:
            has_both = data.has_expression & data.has_tissue & rows
            regression = (
                fit_regression_with_variances(*data.regression_data(rna_model, has_both), regression.log_variance)
                if has_both.sum() >= 2
                else None
            )
        return _Models(data, rna_model, slide_model, regression)

    def intercept(self, model: BlockModel | None) -> NDArray[np.float64]:
        """Return a model's intercept (q,); 0 for None."""
        return np.zeros(self.data.shape[2]) if model is None else model.intercept

    def with_rna(self) -> NDArray[np.float64]:
        """Return the parts (n, 3, q) for patients with RNA; 0 without a model that reads RNA."""
        if self.rna_model is None:
            return np.zeros(self.data.shape)
        return self._join_parts(
            self.data.rna_parts(self.rna_model), self._tissue(self.rna_model, self.data.rna_model_designs)
        )

    def composed(self) -> NDArray[np.float64]:
        """Return E[f_RNA | slide] + f_tissue in parts (n, 3, q); 0 without a model that reads RNA."""
        if self.rna_model is None:
            return np.zeros(self.data.shape)
        rna_parts = np.zeros((self.data.shape[0], len(SUBSPACES) * self.data.shape[2]))
        if self.regression is not None:
            rna_parts = self.regression.predict(self.data.statistics) - self.regression.intercept
        return self._join_parts(rna_parts, self._tissue(self.rna_model, self.data.rna_model_designs))

    def direct(self) -> NDArray[np.float64]:
        """Return the parts (n, 3, q) of the model of slides alone, which is entirely in the tissue-specific part."""
        parts = np.zeros(self.data.shape)
        if self.slide_model is not None:
            parts[:, -1] = self._tissue(self.slide_model, self.data.statistics)
        return parts

    def from_slide(self, composed_weight: float) -> dict[str, NDArray[np.float64]]:
        """Return {statistic: (p, 3 q)} weights for patients without RNA, averaged over both predictors."""
        if self.slide_model is None:
            return {}
        weights = {}
        for name, direct_weights in self.slide_model.weights.items():
            n_columns, q = direct_weights.shape
            composed, direct = np.zeros((n_columns, N_PARTS * q)), np.zeros((n_columns, N_PARTS * q))
            direct[:, -q:] = direct_weights
            if self.regression is not None:
                composed[:, :-q] = self.regression.weights[name]
            if self.rna_model is not None and name in self.rna_model.weights:
                composed[:, -q:] = self.rna_model.weights[name]
            weights[name] = composed_weight * composed + (1 - composed_weight) * direct
        return weights

    def _tissue(self, model: BlockModel, designs: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the slides' part (n, q) of a model's predictor."""
        parts = [designs[name] @ weights for name, weights in model.weights.items() if name != "rna"]
        return sum(parts, np.zeros((self.data.shape[0], self.data.shape[2])))

    @staticmethod
    def _join_parts(rna_parts: NDArray, tissue: NDArray) -> NDArray[np.float64]:
        """Stack the subspaces' parts (n, 2 q) and the tissue-specific part (n, q) as (n, 3, q)."""
        return np.stack([*np.split(rna_parts, len(SUBSPACES), 1), tissue], 1)
