"""Designs and outcomes for linear models, with known signals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmml.linear.likelihoods import CoxLikelihood, MultinomialLikelihood


def scaled(x: NDArray) -> NDArray[np.float64]:
    """Columns centred and scaled to rows with a mean squared norm of 1, as the models require."""
    x = x - x.mean(0)
    return x / np.sqrt((x**2).sum(1).mean())


def block(rng: np.random.Generator, n: int, p: int) -> NDArray[np.float64]:
    """A block (n, p) of noise."""
    return scaled(rng.standard_normal((n, p)))


def cox_of(rng: np.random.Generator, risk: NDArray, ties: bool = False) -> CoxLikelihood:
    """Weibull times of a log-risk (n,), about two thirds of them with an event; with `ties`, in whole quarters."""
    time = 700 * (rng.exponential(size=len(risk)) * np.exp(-risk)) ** (1 / 1.35)
    follow_up = rng.uniform(60, 2500, len(risk))
    observed = np.minimum(time, follow_up)
    return CoxLikelihood(np.ceil(observed / 90) if ties else observed, time <= follow_up)


def classes_of(rng: np.random.Generator, logits: NDArray) -> MultinomialLikelihood:
    """Labels drawn from softmax(logits), by the Gumbel trick."""
    return MultinomialLikelihood((logits + rng.gumbel(size=logits.shape)).argmax(1), logits.shape[1])
