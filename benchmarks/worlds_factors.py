"""Known factors that embeddings contain: of a subspace's own, and of the other subspace's.

The factors are those of the simulation, which every world has; see `dmml.simulate.truth`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import KFold
from worlds_data import WorldData, mean_tokens

from dmml.types import SUBSPACES

FOLDS = 5
PENALTIES = 10.0 ** np.arange(-1, 6)

R2 = dict[str, dict[str, float]]
"""{subspace: {"own": …, "other": …}}"""


def factors_of(embeddings: dict[str, NDArray], world: WorldData) -> dict[str, R2]:
    """Partial R² of the true factors, and of the factors as the slides show them, from embeddings.

    Args:
        embeddings: {subspace: (n_test, E)} of the tested patients.
        world: The data.

    Returns:
        {"true": …, "shown": …}, each a result of `partial_r2`.
    """
    true, visible = world.factors(), world.visible_factors()
    return {"true": partial_r2(embeddings, true), "shown": partial_r2(embeddings, visible)}


def partial_r2(embeddings: dict[str, NDArray], factors: dict[str, NDArray]) -> dict[str, dict[str, float]]:
    """Partial R² of the factors of each subspace from its embedding and from that of the other subspace.

    Args:
        embeddings: {subspace: (n, E)}.
        factors: {subspace: (n, F)}.

    Returns:
        {subspace: {"own": …, "other": …}}: of the subspace's own factors given the other's, and of the other's given
        its own. An embedding with its own factors alone has 1 and 0, although the groups are correlated.
    """
    result = {}
    for s, other in zip(SUBSPACES, reversed(SUBSPACES), strict=True):
        result[s] = {
            "own": explained(embeddings[s], factors[s], covariates=factors[other]),
            "other": explained(embeddings[s], factors[other], covariates=factors[s]),
        }
    return result


def explained(embedding: NDArray, target: NDArray, covariates: NDArray) -> float:
    """Out-of-fold partial R² of a target given other variables, averaged over the target's columns.

    1 − Σ (r − r̂)² / Σ r², where r is the residual of the target after a linear model of `covariates`, and r̂ is predicted
    from the residual of the embedding by ridge regression. Both are fitted to four fifths of the patients, with the
    penalty of each column chosen by folds among them, and evaluated on the rest. An embedding without information may
    fall slightly below 0.

    Args:
        embedding: (n, E).
        target: (n, F).
        covariates: (n, G).
    """
    left, missed = np.zeros(target.shape[1]), np.zeros(target.shape[1])
    for train, test in _folds(len(target)):
        inner = [
            _read(embedding[train], target[train], covariates[train], *fold)[1].sum(1) for fold in _folds(len(train))
        ]
        best = np.sum(inner, axis=0).argmin(0)  # (F,)
        residual, squares = _read(embedding, target, covariates, train, test)
        left += (residual**2).sum(0)
        missed += squares.sum(1)[best, np.arange(len(best))]
    return float(np.mean(1 - missed / left))


def _folds(n: int) -> list[tuple[NDArray, NDArray]]:
    """Rows to fit to and rows to predict, one pair per fold."""
    return list(KFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(n)))


def _read(
    embedding: NDArray, target: NDArray, covariates: NDArray, train: NDArray, test: NDArray
) -> tuple[NDArray, NDArray]:
    """Residuals (n_test, F) of the target after the covariates, and squared errors (P, n_test, F) at each penalty."""
    reduced = [x - LinearRegression().fit(covariates[train], x[train]).predict(covariates) for x in (embedding, target)]
    (reduced_embedding, reduced_target), spread = reduced, embedding[train].std(0)
    reduced_spread = reduced_embedding[train].std(0)
    varies = reduced_spread > 1e-6 * spread  # columns that the covariates determine are rounding errors
    reduced_embedding = reduced_embedding[:, varies] / reduced_spread[varies]
    values, vectors = np.linalg.eigh(reduced_embedding[train].T @ reduced_embedding[train])
    onto = vectors.T @ (reduced_embedding[train].T @ reduced_target[train])  # (E, F)
    shrunk = onto / (np.maximum(values, 0)[:, None] + PENALTIES[:, None, None])  # (P, E, F)
    return reduced_target[test], (reduced_target[test] - (reduced_embedding[test] @ vectors) @ shrunk) ** 2


def ceilings(world: WorldData) -> dict[str, dict[str, R2]]:
    """Upper limits: `factors_of` predictors that know more than a student can.

    Returns:
        {"shown": from the factors as the slides show them, "taught": from a ridge regression of the true factors on mean
        tokens, fitted to the training and inner validation patients}, each a result of `factors_of`.
    """
    fitting = [patient for part in ("train", "val") for patient in world.fitting.patients(part)]
    tokens, tested = mean_tokens(world.fitting, fitting), mean_tokens(world.testing, world.test)
    centre, spread = tokens.mean(0), tokens.std(0)
    true = np.stack([world.simulated[patient].factors for patient in fitting])
    model = RidgeCV(10.0 ** np.arange(-2, 5), alpha_per_target=True).fit((tokens - centre) / spread, true)
    predicted = model.predict((tested - centre) / spread)
    taught = {s: predicted[:, 3 * i : 3 * i + 3] for i, s in enumerate(SUBSPACES)}
    return {"shown": factors_of(world.visible_factors(), world), "taught": factors_of(taught, world)}
