"""Tests what a model adds to clinical covariates on patients that neither was fitted to, by a likelihood ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import chi2

from dmml.linear.ridge import cox_log_likelihood, fit_cox

_TRACE = 1e-6
"""A penalty too small to matter, which keeps the coefficients of separable data finite"""


def added_value(
    clinical: Sequence[pd.DataFrame], model: Sequence[pd.DataFrame], classes: list[str] | None
) -> dict[str, Any]:
    """Test whether the model's score adds to the clinical model's: chi² is twice the gain in log-likelihood, with 1 df.

    Survival: Cox regression on both scores, standardised within each fold, and with the folds as strata. Classes: a
    multinomial regression whose logits are intercepts + a · clinical + b · model; scores are centred log-probabilities.

    Args:
        clinical: Out-of-fold predictions of patients with a known outcome, fold by fold.
        model: The same patients in the same order.
        classes: Names of the classes; None for survival.

    Returns:
        {chi2, p, coefficient, n}. `coefficient` belongs to the model's score; for survival, it is the log-hazard ratio
        per standard deviation.
    """
    fold = np.concatenate([np.full(len(table), i) for i, table in enumerate(clinical)])
    if classes is None:
        scores = np.column_stack(
            [np.concatenate([_standard(t["risk"]) for t in tables]) for tables in (clinical, model)]
        )
        outcome = pd.concat(clinical)[["time", "event"]].to_numpy(float).T
        alone = fit_cox(scores[:, :1], *outcome, _TRACE, fold)
        both = fit_cox(scores, *outcome, _TRACE, fold)
        values = [cox_log_likelihood(x @ b, *outcome, fold) for x, b in ((scores[:, :1], alone), (scores, both))]
        coefficient = both[1]
    else:
        logs = [np.vstack([_log_probability(table, classes) for table in tables]) for tables in (clinical, model)]
        label = pd.concat(clinical)["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)
        values, coefficient = [], float("nan")
        for parts in (logs[:1], logs):
            value, weights = _mixed(parts, label)
            values.append(value)
            coefficient = weights[-1]
    gain = max(0.0, 2 * (values[1] - values[0]))
    return {"chi2": float(gain), "p": float(chi2.sf(gain, 1)), "coefficient": float(coefficient), "n": len(fold)}


def _mixed(parts: list[NDArray], label: NDArray) -> tuple[float, NDArray]:
    """Return log-likelihood and weights of the model logits = intercepts + Σ weight · part."""
    n_classes = parts[0].shape[1]

    def logits(values: NDArray) -> NDArray:
        return values[:n_classes] + sum(w * part for w, part in zip(values[n_classes:], parts, strict=True))

    def objective(values: NDArray) -> float:
        told = log_softmax(logits(values), axis=1)[np.arange(len(label)), label].sum()
        return -told / len(label) + _TRACE / 2 * (values**2).sum()

    found = minimize(objective, np.zeros(n_classes + len(parts)), method="L-BFGS-B", options={"ftol": 1e-13}).x
    return float(log_softmax(logits(found), axis=1)[np.arange(len(label)), label].sum()), found[n_classes:]


def _standard(risk: pd.Series) -> NDArray[np.float64]:
    values = risk.to_numpy(float)
    return (values - values.mean()) / (values.std() or 1.0) if len(values) else values


def _log_probability(table: pd.DataFrame, classes: list[str]) -> NDArray[np.float64]:
    logs = np.log(table[[f"prob_{name}" for name in classes]].clip(lower=1e-6).to_numpy(float))
    return logs - logs.mean(1, keepdims=True)
