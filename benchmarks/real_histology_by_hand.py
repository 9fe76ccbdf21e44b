"""Linear models of slide vectors written by hand with scikit-learn and lifelines, to be compared with dmml's results."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold

Folds = Sequence[tuple[list[str], list[str]]]
"""(training, test) patients of each fold"""
ALPHAS = np.logspace(1, 5, 17)
COMPONENTS, PENALTIES = (10, 20, 40), (0.03, 0.1, 0.3, 1.0, 3.0)
STRENGTHS = np.logspace(-4, 1, 6)


def one_per_patient(vectors: Mapping[str, NDArray]) -> pd.DataFrame:
    """Mean of each patient's vectors; NaN where none of them has a value. {patient: (N, D)} → patients × D."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the mean of nothing is NaN
        return pd.DataFrame({patient: np.nanmean(rows, axis=0) for patient, rows in vectors.items()}).T


def scaled(table: pd.DataFrame, train: list[str], others: list[str]) -> tuple[NDArray, NDArray]:
    """Features standardised by the training patients, with missing values at the mean, clipped at ±5."""
    mean, spread = table.loc[train].mean(), table.loc[train].std()
    spread = spread.where(spread > 1e-7 * mean.abs(), 1.0).fillna(1.0)
    return tuple(  # type: ignore[return-value]
        ((table.loc[patients] - mean) / spread).clip(-5, 5).fillna(0).to_numpy() for patients in (train, others)
    )


def ridge(table: pd.DataFrame, target: pd.Series, folds: Folds) -> pd.Series:
    """Out-of-fold predictions of a score by ridge regression, its penalty chosen by generalised cross-validation."""
    predictions = {}
    for train, test in _present(folds, table.index, target.dropna().index):
        x, x_test = scaled(table, train, test)
        predictions |= dict(zip(test, RidgeCV(ALPHAS).fit(x, target.loc[train]).predict(x_test), strict=True))
    return pd.Series(predictions, dtype=float)


def ridge_cox(table: pd.DataFrame, outcome: pd.DataFrame, folds: Folds) -> pd.Series:
    """Out-of-fold log-hazards of a ridge Cox model on principal components.

    Components and penalty are those with the best concordance in a five-fold cross-validation of the training patients.

    Args:
        table: Patients × features.
        outcome: By patient: `time`, `event`; patients without outcome are left out.
        folds: Outer folds.
    """
    observed = outcome.dropna()
    log_hazards = {}
    for train, test in _present(folds, table.index, observed.index):
        scores = {
            choice: np.mean([_inner_concordance(table, observed, train, inner, choice) for inner in _inner(len(train))])
            for choice in [(n, penalty) for n in COMPONENTS for penalty in PENALTIES]
        }
        best = max(scores, key=lambda choice: scores[choice])
        log_hazards |= dict(zip(test, _cox(table, observed, train, test, *best), strict=True))
    return pd.Series(log_hazards, dtype=float)


def _inner_concordance(
    table: pd.DataFrame,
    observed: pd.DataFrame,
    train: list[str],
    inner: tuple[NDArray, NDArray],
    choice: tuple[int, float],
) -> float:
    """Concordance of one inner fold."""
    fitted, held_out = ([train[i] for i in rows] for rows in inner)
    risk = _cox(table, observed, fitted, held_out, *choice)
    return concordance_index(observed.loc[held_out, "time"], -risk, observed.loc[held_out, "event"])


def _cox(
    table: pd.DataFrame, observed: pd.DataFrame, train: list[str], test: list[str], n: int, penalty: float
) -> NDArray:
    x, x_test = scaled(table, train, test)
    components = PCA(n, random_state=0).fit(x)
    x, x_test = components.transform(x), components.transform(x_test)
    spread = x.std()
    frame = pd.DataFrame(x / spread).assign(**observed.loc[train, ["time", "event"]].to_dict("list"))
    model = CoxPHFitter(penalizer=penalty).fit(frame, "time", "event")
    return model.predict_log_partial_hazard(pd.DataFrame(x_test / spread)).to_numpy()


def ridge_logistic(table: pd.DataFrame, label: pd.Series, folds: Folds) -> pd.Series:
    """Out-of-fold probabilities of the second of two classes by ridge logistic regression.

    The penalty is the one with the best log-likelihood in a five-fold cross-validation of the training patients.
    """
    classes = sorted(label.dropna().unique())
    y = (label.dropna() == classes[1]).astype(int)
    probabilities = {}
    for train, test in _present(folds, table.index, y.index):
        inner = list(StratifiedKFold(5, shuffle=True, random_state=0).split(train, y.loc[train]))
        scores = {c: np.mean([_likelihood(table, y, train, rows, c) for rows in inner]) for c in STRENGTHS}
        best = max(scores, key=lambda c: scores[c])
        probabilities |= dict(zip(test, _logistic(table, y, train, test, best), strict=True))
    return pd.Series(probabilities, dtype=float)


def _likelihood(table: pd.DataFrame, y: pd.Series, train: list[str], inner: tuple[NDArray, NDArray], c: float) -> float:
    fitted, held_out = ([train[i] for i in rows] for rows in inner)
    share = _logistic(table, y, fitted, held_out, c).clip(1e-6, 1 - 1e-6)
    true = y.loc[held_out].to_numpy()
    return float(np.mean(np.log(np.where(true == 1, share, 1 - share))))


def _logistic(table: pd.DataFrame, y: pd.Series, train: list[str], test: list[str], c: float) -> NDArray:
    x, x_test = scaled(table, train, test)
    return LogisticRegression(C=c, max_iter=5_000).fit(x, y.loc[train]).predict_proba(x_test)[:, 1]


def _inner(n: int) -> list[tuple[NDArray, NDArray]]:
    return list(KFold(5, shuffle=True, random_state=0).split(np.arange(n)))


def _present(folds: Folds, *indices: Iterable[str]) -> list[tuple[list[str], list[str]]]:
    """The folds restricted to patients who are in every index."""
    present = set.intersection(*map(set, indices))
    return [([p for p in train if p in present], [p for p in test if p in present]) for train, test in folds]
