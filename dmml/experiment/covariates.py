"""Clinical covariates as columns of a regression, coded by the training patients alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.errors import InputError


@dataclass(frozen=True)
class CovariateCode:
    """How each covariate becomes columns.

    A number is standardised, and its median stands in where it is unknown, with a column that says so where training
    patients lack it too. A word becomes one column a level but for the commonest; a level that no training patient has
    counts as the commonest, and "unknown" is a level.

    Attributes:
        numbers: {column: (median, mean, standard deviation, whether some training patient lacks it)}.
        levels: {column: (commonest, the others)}.
    """

    numbers: dict[str, tuple[float, float, float, bool]]
    levels: dict[str, tuple[str, tuple[str, ...]]]

    @classmethod
    def fit(cls, training: pd.DataFrame) -> CovariateCode:
        """Code the covariates of training patients; a column that tells none of them apart is left out.

        Args:
            training: (patients × covariates): float64 columns, or text with None where unknown; text that is all
                numbers counts as numbers.
        """
        numbers, levels = {}, {}
        for name in training:
            column = training[name]
            # Whether it holds numbers is theirs to say: words of others must not turn their ages into levels.
            if (figures := _numbers(column)).notna().equals(column.notna()):
                column = figures
                known = column.dropna().to_numpy(float)
                if len(known) and (np.ptp(known) > 0 or len(known) < len(column)):
                    filled = column.fillna(np.median(known)).to_numpy(float)
                    spread = float(filled.std()) or 1.0
                    numbers[name] = (float(np.median(known)), float(filled.mean()), spread, len(known) < len(column))
                continue
            counts = _words(column).value_counts()
            order = sorted(counts.index, key=lambda level: (-counts[level], level))
            if len(order) > 1:
                levels[name] = (order[0], tuple(sorted(order[1:])))
        return cls(numbers, levels)

    def encode(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """(patients × covariates) → (n, p).

        Raises:
            InputError: A word stands where all training patients have numbers.
        """
        columns = []
        for name, (median, mean, spread, lacked) in self.numbers.items():
            figures = _numbers(table[name])
            if (words := table[name][figures.isna() & table[name].notna()]).size:
                raise InputError(
                    f"covariate {name!r}: {words.iloc[0]!r} of patient {words.index[0]} is no number, as those of all training "
                    "patients are; correct or empty it"
                )
            value = figures.to_numpy()
            unknown = np.isnan(value)
            columns.append((np.where(unknown, median, value) - mean) / spread)
            if lacked:
                columns.append(unknown.astype(float))
        for name, (_, others) in self.levels.items():
            words = _words(table[name]).to_numpy()
            columns += [(words == level).astype(float) for level in others]
        return np.column_stack(columns) if columns else np.zeros((len(table), 0))


def _numbers(column: pd.Series) -> pd.Series:
    """Numbers, NaN for words."""
    return pd.to_numeric(column, errors="coerce").astype(float)


def _words(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "unknown").astype(str)
