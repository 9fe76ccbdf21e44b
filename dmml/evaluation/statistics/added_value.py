"""Test what a model adds to clinical covariates on patients that neither was fitted to, by a likelihood ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import chi2

from dmml.evaluation.values.column import PREDICTED_VALUE
from dmml.linear.ridge import cox_log_likelihood, fit_cox

_TRACE = 1e-6
"""A penalty too small to matter, which keeps the coefficients of separable data finite"""


def added_to_hazard(clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Test whether the model's risk adds to the clinical model's: chi² is twice the gain in log-likelihood, with 1 df.

    The likelihood is that of a Cox regression on both risks, standardised within each fold, with the folds as strata.

    Args:
        clinical: Out-of-fold predictions of patients with a known outcome, fold by fold.
        model: The same patients in the same order.

    Returns:
        {chi2, p, coefficient, n}. `coefficient` is the log-hazard ratio per standard deviation of the model's risk.
    """
    fold = np.concatenate([np.full(len(table), i) for i, table in enumerate(clinical)])
    scores = np.column_stack([np.concatenate([_standard(t["risk"]) for t in tables]) for tables in (clinical, model)])
    time, event = pd.concat(clinical)[["time", "event"]].to_numpy(float).T
    alone = fit_cox(scores[:, :1], time, event, _TRACE, fold)
    both = fit_cox(scores, time, event, _TRACE, fold)
    values = [cox_log_likelihood(x @ b, time, event, fold) for x, b in ((scores[:, :1], alone), (scores, both))]
    return _likelihood_ratio(values[0], values[1], both[1], len(fold))


def added_to_value(clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Test whether the model's predicted value adds to the clinical model's, in a linear regression on both.

    Values and predictions are centred within each fold. chi² is n log(residual sum of squares alone / with both).

    Args:
        clinical: As for `added_to_hazard`.
        model: As for `added_to_hazard`.

    Returns:
        {chi2, p, coefficient, n}. `coefficient` is the change of the value per unit of the model's prediction.
    """
    of_clinical, of_model, value = (
        np.concatenate([table[name].to_numpy(float) - table[name].mean() for table in tables])
        for tables, name in ((clinical, PREDICTED_VALUE), (model, PREDICTED_VALUE), (clinical, "value"))
    )
    both = np.column_stack([of_clinical, of_model])
    fits = [np.linalg.lstsq(x, value, rcond=None)[0] for x in (both[:, :1], both)]
    squares = [((value - x @ b) ** 2).sum() for x, b in zip((both[:, :1], both), fits, strict=True)]
    log_likelihoods = [-len(value) / 2 * np.log(max(square, np.finfo(float).tiny)) for square in squares]
    return _likelihood_ratio(log_likelihoods[0], log_likelihoods[1], fits[1][1], len(value))


def added_to_classes(
    clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame], classes: Sequence[str]
) -> dict[str, float]:
    """Test whether the model's class probabilities add to the clinical model's.

    The likelihood is that of a multinomial regression whose logits are intercepts + a · clinical + b · model. The scores
    are centred log-probabilities.

    Args:
        clinical: As for `added_to_hazard`.
        model: As for `added_to_hazard`.
        classes: Names of the classes.

    Returns:
        {chi2, p, coefficient, n}; `coefficient` is b.
    """
    logs = [np.vstack([_log_probability(table, classes) for table in tables]) for tables in (clinical, model)]
    label = pd.concat(clinical)["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)
    alone, _ = _fit_mixture(logs[:1], label)
    both, weights = _fit_mixture(logs, label)
    return _likelihood_ratio(alone, both, weights[-1], len(label))


def _likelihood_ratio(alone: float, both: float, coefficient: float, n: int) -> dict[str, float]:
    gain = max(0.0, 2 * (both - alone))
    return {"chi2": float(gain), "p": float(chi2.sf(gain, 1)), "coefficient": float(coefficient), "n": n}


def _fit_mixture(scores: list[NDArray], label: NDArray) -> tuple[float, NDArray]:
    """Return log-likelihood and weights of the model logits = intercepts + Σ weight · score."""
    n_classes = scores[0].shape[1]

    def logits(values: NDArray) -> NDArray:
        return values[:n_classes] + sum(w * score for w, score in zip(values[n_classes:], scores, strict=True))

    def objective(values: NDArray) -> float:
        log_likelihood = log_softmax(logits(values), axis=1)[np.arange(len(label)), label].sum()
        return -log_likelihood / len(label) + _TRACE / 2 * (values**2).sum()

    optimum = minimize(objective, np.zeros(n_classes + len(scores)), method="L-BFGS-B", options={"ftol": 1e-13}).x
    return float(log_softmax(logits(optimum), axis=1)[np.arange(len(label)), label].sum()), optimum[n_classes:]


def _standard(risk: pd.Series) -> NDArray[np.float64]:
    values = risk.to_numpy(float)
    return (values - values.mean()) / (values.std() or 1.0) if len(values) else values


def _log_probability(table: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.float64]:
    logs = np.log(table[[f"prob_{name}" for name in classes]].clip(lower=1e-6).to_numpy(float))
    return logs - logs.mean(1, keepdims=True)
