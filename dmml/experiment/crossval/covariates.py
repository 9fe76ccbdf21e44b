"""Codes clinical covariates as columns of a regression, using the training patients alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.cohort.clinical.ordered_levels import find_ordering, rank_of
from dmml.errors import InputError

Columns = list[NDArray[np.float64]]


@dataclass(frozen=True)
class NumberCode:
    """A standardised number. Unknown values become the training median.

    If some training patients lack the value, a second column indicates unknown values.

    Attributes:
        median: Median of the training patients with a known value.
        mean: Mean of all training patients, with unknown values replaced by the median.
        sd: Their standard deviation.
        marks_unknown: Whether the value of some training patient is unknown, so that a second column marks such values.
    """

    median: float
    mean: float
    sd: float
    marks_unknown: bool

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> NumberCode | None:
        """Fit to (n,) values, NaN where unknown; None if no value is known or all patients have the same one."""
        measured = values[~np.isnan(values)]
        if not len(measured) or (np.ptp(measured) == 0 and len(measured) == len(values)):
            return None
        median = float(np.median(measured))
        filled = np.where(np.isnan(values), median, values)
        return cls(median, float(filled.mean()), float(filled.std()) or 1.0, len(measured) < len(values))

    def encode(self, values: NDArray[np.float64]) -> Columns:
        """Encode (n,) values as one or two columns (n,)."""
        unknown = np.isnan(values)
        column = (np.where(unknown, self.median, values) - self.mean) / self.sd
        return [column, unknown.astype(float)] if self.marks_unknown else [column]

    def encode_column(self, column: pd.Series) -> Columns:
        """Encode a column of a table.

        Raises:
            InputError: It contains a word.
        """
        return self.encode(_only_numbers(column))

    def refit(self, column: pd.Series) -> NumberCode | None:
        """Fit a code of the same kind to other patients."""
        return NumberCode.fit(_only_numbers(column))

    def describe(self) -> str:
        """Describe the code in a few words."""
        return "number"


@dataclass(frozen=True)
class NominalCode:
    """Levels without order: one column per level, except the most common one; "unknown" is a level.

    A level that no training patient has counts as the most common one.
    """

    reference: str
    others: tuple[str, ...]

    @classmethod
    def fit(cls, levels: pd.Series) -> NominalCode | None:
        """Fit to (n,) levels, None where unknown; None if all training patients have the same level."""
        counts = _with_unknown(levels).value_counts()
        order = sorted(counts.index, key=lambda level: (-counts[level], level))
        return cls(order[0], tuple(sorted(order[1:]))) if len(order) > 1 else None

    def encode_column(self, column: pd.Series) -> Columns:
        """Encode (n,) levels as one column (n,) of 0 and 1 per level in `others`."""
        levels = _with_unknown(column).to_numpy()
        return [(levels == level).astype(float) for level in self.others]

    def refit(self, column: pd.Series) -> NominalCode | None:
        """Fit a code of the same kind to other patients."""
        return NominalCode.fit(column)

    def describe(self) -> str:
        """Describe the code in a few words."""
        return f"levels without order: {', '.join((self.reference, *self.others))}"


@dataclass(frozen=True)
class OrderedCode:
    """Levels in order: their position among the training patients' levels as a number, and a step at each level.

    The steps allow unequal distances between levels, and any other order if the spelling was mistaken for a scale. Due
    to the position, a penalty shrinks the effect towards a straight line rather than towards zero. A level that no
    training patient has lies between its neighbours.

    Attributes:
        scale: Key of `ordered_levels.SCALES`, or the levels that the config states.
        ranks: Ranks of the training patients' levels, ascending.
        position: Code of the position, NaN where unknown.
    """

    scale: str | tuple[str, ...]
    ranks: tuple[float, ...]
    position: NumberCode

    @classmethod
    def fit(cls, levels: pd.Series, scale: str | tuple[str, ...]) -> OrderedCode | None:
        """Fit to (n,) levels, None where unknown; None if none is on the scale or all patients have the same one."""
        rank = _ranks(levels, scale)
        ranks = tuple(np.unique(rank[~np.isnan(rank)]).tolist())
        position = NumberCode.fit(_positions(rank, ranks)) if ranks else None
        return None if position is None else cls(scale, ranks, position)

    def encode_column(self, column: pd.Series) -> Columns:
        """Encode (n,) levels as columns (n,): position, mark of unknown values, and steps from three levels on."""
        position = _positions(_ranks(column, self.scale), self.ranks)
        filled = np.where(np.isnan(position), self.position.median, position)
        steps = range(1, len(self.ranks)) if len(self.ranks) > 2 else ()
        return [*self.position.encode(position), *((filled >= step).astype(float) for step in steps)]

    def refit(self, column: pd.Series) -> OrderedCode | None:
        """Fit a code of the same kind to other patients."""
        return OrderedCode.fit(column, self.scale)

    def describe(self) -> str:
        """Describe the code in a few words."""
        scale = self.scale if isinstance(self.scale, str) else " < ".join(self.scale)
        return f"{len(self.ranks)} levels in order ({scale})"


Code = NumberCode | NominalCode | OrderedCode


@dataclass(frozen=True)
class CovariateCode:
    """Coding of all covariates as columns, which are then centred.

    Attributes:
        codes: {covariate: its code}; covariates with one value in all training patients are left out.
        centre: (p,) means of the training patients' columns.
    """

    codes: dict[str, Code]
    centre: tuple[float, ...]

    @classmethod
    def fit(cls, training: pd.DataFrame, levels: Mapping[str, tuple[str, ...]] | None = None) -> CovariateCode:
        """Code the covariates of training patients.

        Args:
            training: (patients × covariates): float64 columns, or text with None where unknown. Text that consists of
                numbers counts as numbers.
            levels: {covariate: levels in order, () for levels without order}, where the config states them.
        """
        return cls._from_codes(
            {name: _fit_column(training[name], (levels or {}).get(name)) for name in training}, training
        )

    def refit(self, training: pd.DataFrame) -> CovariateCode:
        """Refit to fewer patients, for inner folds, keeping the kind of each column (number, ordered or not)."""
        return self._from_codes({name: code.refit(training[name]) for name, code in self.codes.items()}, training)

    @classmethod
    def _from_codes(cls, codes: Mapping[str, Code | None], training: pd.DataFrame) -> CovariateCode:
        kept = {name: code for name, code in codes.items() if code is not None}
        return cls(kept, tuple(float(column.mean()) for column in cls(kept, ())._columns(training)))

    def encode(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Encode (patients × covariates) as (n, p), centred on the training patients.

        Raises:
            InputError: A patient has a word where all training patients have numbers.
        """
        columns = self._columns(table)
        return np.column_stack(columns) - np.array(self.centre) if columns else np.zeros((len(table), 0))

    def describe(self) -> dict[str, str]:
        """Return {covariate: how it is coded} as text, for `context.json`."""
        return {name: code.describe() for name, code in self.codes.items()}

    def _columns(self, table: pd.DataFrame) -> Columns:
        return [column for name, code in self.codes.items() for column in code.encode_column(table[name])]


def _fit_column(column: pd.Series, levels: tuple[str, ...] | None) -> Code | None:
    if levels:
        return OrderedCode.fit(column, levels)
    if levels is None:
        numbers = _numbers(column)
        # Training patients decide whether a column holds numbers: a test patient's word must not turn ages into levels.
        if numbers.notna().equals(column.notna()):
            return NumberCode.fit(numbers.to_numpy())
        if (scale := find_ordering(column.dropna().astype(str), str(column.name))) is not None:
            return OrderedCode.fit(column, scale)
    return NominalCode.fit(column)


def _ranks(levels: pd.Series, scale: str | tuple[str, ...]) -> NDArray[np.float64]:
    """Return the (n,) rank of each level, NaN where it is unknown or not on the scale."""
    if isinstance(scale, str):
        ranks = {level: rank_of(scale, str(level)) for level in levels.dropna().unique()}
    else:
        ranks = {level: float(i) for i, level in enumerate(scale)}
    return levels.map(ranks).astype(float).to_numpy()


def _positions(rank: NDArray[np.float64], ranks: tuple[float, ...]) -> NDArray[np.float64]:
    """Return 0, 1, … at the training patients' ranks, interpolated between them and constant beyond the ends."""
    return np.interp(rank, ranks, np.arange(len(ranks)))


def _only_numbers(column: pd.Series) -> NDArray[np.float64]:
    numbers = _numbers(column)
    if (words := column[numbers.isna() & column.notna()]).size:
        raise InputError(
            f"covariate {column.name!r}: the value {words.iloc[0]!r} of patient {words.index[0]} is not a number, but all training "
            "patients have numbers; correct it or leave it empty"
        )
    return numbers.to_numpy()


def _numbers(column: pd.Series) -> pd.Series:
    """Convert to numbers, with NaN in place of words."""
    return pd.to_numeric(column, errors="coerce").astype(float)


def _with_unknown(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "unknown").astype(str)
