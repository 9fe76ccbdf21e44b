"""Models of RNA written by hand with scikit-learn and lifelines, without dmml, to be compared with its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

CLIP = 3.0


def expression(path: Path, clip: float = CLIP) -> pd.DataFrame:
    """Patients × genes of a published table, z-scores clipped at ± `clip`."""
    table = pd.read_csv(path, low_memory=False).drop_duplicates("case_id").set_index("case_id")
    return table[[name for name in table if name.endswith("_rnaseq")]].astype(float).clip(-clip, clip)


def folds(folder: Path) -> list[tuple[list[str], list[str]]]:
    """(training, test) patients of each published fold; `val` is the outer test."""
    tables = [pd.read_csv(folder / f"splits_{k}.csv") for k in range(5)]
    return [(list(table["train"].dropna()), list(table["val"].dropna())) for table in tables]


def components(genes: pd.DataFrame, train: list[str], test: list[str], n: int) -> tuple[NDArray, NDArray]:
    """Scores on n principal components of the training patients, divided by their common standard deviation there."""
    fitted = PCA(n, random_state=0).fit(genes.loc[train])
    x, x_test = (fitted.transform(genes.loc[patients]) for patients in (train, test))
    return x / x.std(), x_test / x.std()


def cox(
    genes: pd.DataFrame,
    outcome: pd.DataFrame,
    dealt: list[tuple[list[str], list[str]]],
    n: int = 10,
    penalty: float = 0.0,
) -> list[float]:
    """Concordance of each fold of a Cox model on n principal components.

    Args:
        genes: Patients × genes.
        outcome: By patient: `time`, `event`; patients without outcome are left out.
        dealt: (training, test) patients.
        n: Number of components.
        penalty: Ridge penalty of lifelines.
    """
    outcome = outcome.dropna()
    outcome = outcome[outcome.index.isin(genes.index)]
    concordances = []
    for parts in dealt:
        train, test = ([p for p in patients if p in outcome.index] for patients in parts)
        concordances.append(_concordance(*components(genes, train, test, n), outcome, train, test, penalty))
    return concordances


def clinical_cox(
    table: pd.DataFrame,
    outcome: pd.DataFrame,
    dealt: list[tuple[list[str], list[str]]],
    genes: pd.DataFrame | None = None,
    n: int = 10,
) -> list[float]:
    """Concordance of each fold of an unpenalised Cox model on age, sex and stage, with the stage as a number.

    Args:
        table: By patient: `age`, `sex`, `stage` I to IV; training medians replace unknown values.
        outcome: As in `cox`.
        dealt: As in `cox`.
        genes: Patients × genes, whose first `n` principal components are added; None = no genes.
        n: Components.
    """
    stage = table["stage"].map({"I": 1, "II": 2, "III": 3, "IV": 4})
    covariates = pd.DataFrame({"age": table["age"], "male": (table["sex"] == "male") * 1.0, "stage": stage})
    outcome = outcome.dropna()
    outcome = outcome[outcome.index.isin(covariates.index if genes is None else genes.index)]
    concordances = []
    for parts in dealt:
        train, test = ([p for p in patients if p in outcome.index] for patients in parts)
        median = covariates.loc[train].median()
        x, x_test = (covariates.loc[patients].fillna(median).to_numpy() for patients in (train, test))
        if genes is not None:
            more, more_test = components(genes, train, test, n)
            x, x_test = np.hstack([x, more]), np.hstack([x_test, more_test])
        concordances.append(_concordance(x, x_test, outcome, train, test, 0.0))
    return concordances


def _concordance(
    x: NDArray, x_test: NDArray, outcome: pd.DataFrame, train: list[str], test: list[str], penalty: float
) -> float:
    frame = pd.DataFrame(x).assign(**outcome.loc[train].to_dict("list"))
    model = CoxPHFitter(penalizer=penalty).fit(frame, "time", "event")
    risk = model.predict_log_partial_hazard(pd.DataFrame(x_test)).to_numpy()
    return concordance_index(outcome.loc[test, "time"], -risk, outcome.loc[test, "event"])


def logistic(
    genes: pd.DataFrame, label: pd.Series, dealt: list[tuple[list[str], list[str]]], n: int = 30
) -> list[float]:
    """Accuracy of each fold of a logistic regression on n principal components; patients without label are left out."""
    label = label.dropna()
    label = label[label.index.isin(genes.index)]
    accuracies = []
    for parts in dealt:
        train, test = ([p for p in patients if p in label.index] for patients in parts)
        x, x_test = components(genes, train, test, n)
        model = LogisticRegression(max_iter=5000).fit(x, label.loc[train])
        accuracies.append(float(np.mean(model.predict(x_test) == label.loc[test])))
    return accuracies
