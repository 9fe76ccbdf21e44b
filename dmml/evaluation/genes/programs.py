"""Predicted programs of a test, and how they correlate with the measured RNA and with the model's answer."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.evaluation.evaluation_result import Evaluation

MIN_PATIENTS = 10
"""Minimum number of patients for a correlation."""


@dataclass(frozen=True)
class Program:
    """One program of a subspace over the tested patients.

    Attributes:
        subspace: tumor or tme.
        name: Name of the program.
        agreement: Spearman correlation of the predicted and the measured score; NaN if too few patients have RNA.
        measured: Number of patients with a measured score.
        with_answer: Spearman correlation of the predicted score with the risk (or with the last class's probability).
    """

    subspace: str
    name: str
    agreement: float
    measured: int
    with_answer: float


def read_programs(test: Evaluation) -> list[Program]:
    """Read `programs.csv`, with the strongest correlation to the answer first; an empty list if the file is absent.

    Its columns are `<subspace>|<magnification>x|<program>` for predicted and `<subspace>|measured|<program>` for
    measured scores. Magnifications are averaged.

    Raises:
        InputError: The file is damaged.
    """
    path = test.folder / "programs.csv"
    if not path.is_file():
        return []
    try:
        table = pd.read_csv(path, dtype={"patient_id": str}).set_index("patient_id")
        answer = _answer(test).reindex(table.index).to_numpy(float)
        columns: dict[tuple[str, str], dict[str, list[NDArray]]] = {}
        for column in table:
            subspace, source, name = str(column).split("|", 2)
            kind = "measured" if source == "measured" else "predicted"
            columns.setdefault((subspace, name), {}).setdefault(kind, []).append(table[column].to_numpy(float))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of programs ({error}); run `dmml test` again") from None
    programs = []
    for (subspace, name), scores in columns.items():
        if "predicted" in scores:
            predicted = _mean(scores["predicted"])
            measured = _mean(scores.get("measured", [np.full(len(table), np.nan)]))
            n_measured = int(np.isfinite(measured).sum())
            agreement, with_answer = spearman(predicted, measured), spearman(predicted, answer)
            programs.append(Program(subspace, name, agreement, n_measured, with_answer))
    return sorted(programs, key=lambda program: -abs(np.nan_to_num(program.with_answer)))


def spearman(a: NDArray, b: NDArray) -> float:
    """Rank correlation over the rows known in both; NaN for fewer than `MIN_PATIENTS` rows or if one of them is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < MIN_PATIENTS or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return float("nan")
    ranks = [pd.Series(values[both]).rank().to_numpy() for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def _mean(columns: list[NDArray]) -> NDArray[np.float64]:
    stacked = np.stack(columns)
    is_known = np.isfinite(stacked)
    total, count = np.where(is_known, stacked, 0).sum(0), is_known.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _answer(test: Evaluation) -> pd.Series:
    _, score = test.endpoint.score(test.predictions, test.context)
    return pd.Series(score, test.predictions["patient_id"])
