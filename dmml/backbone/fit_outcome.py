"""Fits the outcome: a model that reads RNA and slides, and what slides alone tell a patient without RNA."""

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

BESIDE_RNA = ("shift", "composition", "rare")
"""Statistics that the outcome is read from beside RNA. Contrasts repeat what RNA measures better. Without composition,
the amount of a tissue is read through the mean of all tiles alone (concordance 0.788 against 0.827 where it decides)"""
MIN_PATIENTS = 8
"""Fewest patients with both RNA and slides from whom anything is regressed on slides"""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the composed predictor among which those of patients without RNA are averaged"""
MAX_SLOPE = 3.0
"""Largest slope of an average of the two; out of fold, slopes are rather below 1"""
N_PARTS = len(SUBSPACES) + 1
"""Parts of a predictor: the two subspaces, and the tissue-specific part"""


@dataclass
class OutcomeData:
    """What the models of the outcome are fitted to: n training patients.

    Attributes:
        likelihood: Of the patients whose outcome is known, in their order.
        observed: (n,) bool, whose outcome is known.
        has_expression: (n,) bool.
        has_tissue: (n,) bool.
        genes: Genes of the training patients.
        statistics: {statistic: (n, r)} of their slides.
    """

    likelihood: Likelihood
    observed: NDArray[np.bool_]
    has_expression: NDArray[np.bool_]
    has_tissue: NDArray[np.bool_]
    genes: GeneDesigns
    statistics: Mapping[str, NDArray[np.float64]]
    beside_rna: dict[str, NDArray[np.float64]] = field(init=False)
    """{block: (n, r)} of the model that reads RNA; {} without RNA"""

    def __post_init__(self) -> None:
        self.beside_rna = {}
        if self.genes.blocks:
            self.beside_rna = {"rna": self.genes.design()}
            self.beside_rna |= {name: x for name, x in self.statistics.items() if name in BESIDE_RNA}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of all patients' parts: (n, 3, q)."""
        return len(self.observed), N_PARTS, self.likelihood.n_outputs

    def rna_parts(self, model: BlockModel) -> NDArray[np.float64]:
        """(n, 2 q) the RNA's part of the predictor by subspace; 0 for a subspace without genes."""
        designs = self.genes.designs
        parts = {s: designs[s] @ weights for s, weights in self.genes.split(model.weights["rna"]).items()}
        nothing = np.zeros_like(next(iter(parts.values())))
        return np.hstack([parts.get(s, nothing) for s in SUBSPACES])


@dataclass
class Outcome:
    """The fitted models of the outcome.

    Attributes:
        with_rna: {block: (p, q)} weights for patients with RNA; {} where there is none.
        from_slide: {statistic: (p, 3 q)} weights for patients without RNA, by part of the predictor.
        cross_fitted: (2, n, 3, q) parts of the predictor: with the RNA that patients have, and as if nobody had RNA.
            Patients whose outcome is unknown teach nothing of the outcome.
    """

    with_rna: dict[str, NDArray[np.float64]]
    from_slide: dict[str, NDArray[np.float64]]
    cross_fitted: NDArray[np.float64]


def fit_outcome(data: OutcomeData, folds: Iterable[NDArray[np.bool_]]) -> Outcome:
    """Fit the models of the outcome, and predict each patient from weights that were fitted without the patient.

    A patient without RNA is predicted in two ways: composed, E[f_RNA | slide] + f_tissue, which knows what RNA tells of
    the outcome; and directly from the slide, which also knows what a slide tells and RNA hides. Their average is weighted
    by the likelihood of cross-fitted predictions (`share_of_composed`). Composed is better where slides and RNA carry the
    same signal, direct where the RNA's parts cancel.

    Args:
        data: Training patients.
        folds: (n,) masks that part the patients: each is predicted by the models of the others.
    """
    cross_fitted = np.zeros((2, *data.shape))
    if data.observed.sum() < 2 or not (data.beside_rna or data.statistics):
        return Outcome({}, {}, cross_fitted)
    whole = _Models(data, data.observed)
    with_rna, composed, direct = (np.zeros(data.shape) for _ in range(3))
    composed_predictor, direct_predictor = (np.zeros((len(data.observed), data.shape[2])) for _ in range(2))
    for held_out in filter(np.any, folds):
        part = _Models(data, data.observed & ~held_out, like=whole)
        with_rna[held_out] = part.with_rna()[held_out]
        composed[held_out], direct[held_out] = part.composed()[held_out], part.direct()[held_out]
        composed_predictor[held_out] = composed[held_out].sum(1) + part.intercept(part.beside_rna)
        direct_predictor[held_out] = direct[held_out].sum(1) + part.intercept(part.slide)
    share = 0.0
    if whole.beside_rna is not None and whole.slide is not None:
        rows = data.observed
        share = share_of_composed(data.likelihood, composed_predictor[rows], direct_predictor[rows])
    from_slide = share * composed + (1 - share) * direct
    cross_fitted[0] = np.where(data.has_expression[:, None, None] & bool(data.beside_rna), with_rna, from_slide)
    cross_fitted[1] = from_slide
    weights = {} if whole.beside_rna is None else whole.beside_rna.weights
    return Outcome(weights, whole.from_slide(share), cross_fitted)


def share_of_composed(likelihood: Likelihood, composed: NDArray, direct: NDArray) -> float:
    """Mean share of the composed predictor, each of `SHARES` weighted by the likelihood that it gives the patients.

    Every average is compared at its own best slope, since the sum is calibrated afterwards.

    Args:
        likelihood: Of n patients.
        composed: (n, q) cross-fitted.
        direct: (n, q) cross-fitted.

    Source: Bayesian model averaging with equal prior weights.
    """

    def best_value(predictor: NDArray) -> float:
        return -minimize_scalar(lambda slope: -likelihood.value(slope * predictor), bounds=(0, MAX_SLOPE)).fun

    values = np.array([best_value(share * composed + (1 - share) * direct) for share in SHARES])
    return float(softmax(values) @ SHARES)


class _Models:
    """The models, fitted to some of the patients.

    Args:
        data: All patients; they are the rows of everything predicted.
        rows: (n,) bool, of patients with a known outcome, to whom the models are fitted.
        like: Models whose variances are taken; None = variances are chosen by evidence.
    """

    beside_rna: BlockModel | None = None
    """Of RNA and what stands beside it"""
    slide: BlockModel | None = None
    """Of slides alone"""
    regression: BlockRegression | None = None
    """Of the RNA's parts on slides"""

    def __init__(self, data: OutcomeData, rows: NDArray[np.bool_], like: _Models | None = None):
        self.data = data
        if data.beside_rna:
            self.beside_rna = self._fit(data.beside_rna, rows, None if like is None else like.beside_rna)
        if data.statistics:
            self.slide = self._fit(data.statistics, rows, None if like is None else like.slide)
        if self.beside_rna is not None and self.slide is not None:
            # The RNA's parts are known of patients whose outcome is not.
            unknown = ~data.observed if like is None else np.zeros_like(rows)
            taught = data.has_expression & data.has_tissue & (rows | unknown)
            self.regression = self._regress(taught, like)

    def _fit(self, blocks: Mapping[str, NDArray], rows: NDArray, like: BlockModel | None) -> BlockModel:
        likelihood = self.data.likelihood.subset(rows[self.data.observed])
        some = {name: x[rows] for name, x in blocks.items()}
        return fit_blocks(likelihood, some) if like is None else fit_with_variances(likelihood, some, like.log_variance)

    def _regress(self, taught: NDArray[np.bool_], like: _Models | None) -> BlockRegression | None:
        targets = self.data.rna_parts(self.beside_rna)[taught]
        some = {name: x[taught] for name, x in self.data.statistics.items()}
        if like is None:
            return fit_regression(targets, some) if len(targets) >= MIN_PATIENTS else None
        if like.regression is None or len(targets) < 2:
            return None
        return fit_regression_with_variances(targets, some, like.regression.log_variance)

    def intercept(self, model: BlockModel | None) -> NDArray[np.float64]:
        """(q,) of a model; 0 without one."""
        return np.zeros(self.data.shape[2]) if model is None else model.intercept

    def with_rna(self) -> NDArray[np.float64]:
        """(n, 3, q) parts for patients with RNA."""
        if self.beside_rna is None:
            return np.zeros(self.data.shape)
        return self._parts(self.data.rna_parts(self.beside_rna), self._tissue(self.beside_rna, self.data.beside_rna))

    def composed(self) -> NDArray[np.float64]:
        """(n, 3, q) E[f_RNA | slide] + f_tissue; 0 without a model that reads RNA."""
        if self.beside_rna is None:
            return np.zeros(self.data.shape)
        of_rna = np.zeros((self.data.shape[0], len(SUBSPACES) * self.data.shape[2]))
        if self.regression is not None:
            of_rna = self.regression.score(self.data.statistics) - self.regression.intercept
        return self._parts(of_rna, self._tissue(self.beside_rna, self.data.beside_rna))

    def direct(self) -> NDArray[np.float64]:
        """(n, 3, q) of the model of slides alone, all of it in the tissue-specific part."""
        parts = np.zeros(self.data.shape)
        if self.slide is not None:
            parts[:, -1] = self._tissue(self.slide, self.data.statistics)
        return parts

    def from_slide(self, share: float) -> dict[str, NDArray[np.float64]]:
        """{statistic: (p, 3 q)} weights of patients without RNA, at a share of the composed predictor."""
        weights = {}
        for name, x in self.data.statistics.items():
            q = self.data.shape[2]
            composed, direct = np.zeros((x.shape[1], N_PARTS * q)), np.zeros((x.shape[1], N_PARTS * q))
            direct[:, -q:] = self.slide.weights[name]
            if self.regression is not None:
                composed[:, :-q] = self.regression.weights[name]
            if self.beside_rna is not None and name in self.beside_rna.weights:
                composed[:, -q:] = self.beside_rna.weights[name]
            weights[name] = share * composed + (1 - share) * direct
        return weights

    def _tissue(self, model: BlockModel, designs: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """(n, q) what a model reads from slides."""
        parts = [designs[name] @ weights for name, weights in model.weights.items() if name != "rna"]
        return sum(parts, np.zeros((self.data.shape[0], self.data.shape[2])))

    def _parts(self, of_rna: NDArray, tissue: NDArray) -> NDArray[np.float64]:
        return np.stack([*np.split(of_rna, len(SUBSPACES), 1), tissue], 1)
