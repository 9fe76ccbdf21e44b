"""Codes clinical covariates as columns of a regression, using the training patients alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.cohort.clinical.ordered_levels import find_scale, rank_of
from dmml.errors import InputError

Columns = list[NDArray[np.float64]]


@dataclass(frozen=True)
class NumberCode:
    """A standardised number. Unknown values become the training median.

    If some training patients lack the value, a second column indicates unknown values.

    Attributes:
        median: Median of the training patients with a known value.
        mean: Mean of all training patients, with unknown values replaced by the median.
        spread: Their standard deviation.
        lacked: Whether the value of some training patient is unknown.
    """

    median: float
    mean: float
    spread: float
    lacked: bool

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> NumberCode | None:
        """Fit to (n,) values, NaN where unknown; None if no value is known or all patients have the same one."""
        known = values[~np.isnan(values)]
        if not len(known) or (np.ptp(known) == 0 and len(known) == len(values)):
            return None
        median = float(np.median(known))
        filled = np.where(np.isnan(values), median, values)
        return cls(median, float(filled.mean()), float(filled.std()) or 1.0, len(known) < len(values))

    def encode(self, values: NDArray[np.float64]) -> Columns:
        """Encode (n,) values as one or two columns (n,)."""
        unknown = np.isnan(values)
        column = (np.where(unknown, self.median, values) - self.mean) / self.spread
        return [column, unknown.astype(float)] if self.lacked else [column]


@dataclass(frozen=True)
class NominalCode:
    """Levels without order: one column per level, except the commonest one; "unknown" is a level.

    A level that no training patient has counts as the commonest one.
    """

    commonest: str
    others: tuple[str, ...]

    @classmethod
    def fit(cls, words: pd.Series) -> NominalCode | None:
        """Fit to words, None where unknown; None if all training patients have the same level."""
        counts = _with_unknown(words).value_counts()
        order = sorted(counts.index, key=lambda level: (-counts[level], level))
        return cls(order[0], tuple(sorted(order[1:]))) if len(order) > 1 else None

    def encode(self, words: pd.Series) -> Columns:
        """Encode (n,) words as one column (n,) of 0 and 1 per level in `others`."""
        known = _with_unknown(words).to_numpy()
        return [(known == level).astype(float) for level in self.others]


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
    def fit(cls, words: pd.Series, scale: str | tuple[str, ...]) -> OrderedCode | None:
        """Fit to words, None where unknown; None if no word is on the scale or all patients have the same one."""
        rank = _ranks(words, scale)
        ranks = tuple(np.unique(rank[~np.isnan(rank)]).tolist())
        position = NumberCode.fit(_positions(rank, ranks)) if ranks else None
        return None if position is None else cls(scale, ranks, position)

    def encode(self, words: pd.Series) -> Columns:
        """Encode (n,) words as columns (n,): position, indicator of unknown values, and steps from three levels on."""
        position = _positions(_ranks(words, self.scale), self.ranks)
        filled = np.where(np.isnan(position), self.position.median, position)
        steps = range(1, len(self.ranks)) if len(self.ranks) > 2 else ()
        return [*self.position.encode(position), *((filled >= step).astype(float) for step in steps)]


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
        return cls._of({name: _fit_column(training[name], (levels or {}).get(name)) for name in training}, training)

    def refit(self, training: pd.DataFrame) -> CovariateCode:
        """Refit to fewer patients, for inner folds, keeping the kind of each column (number, ordered or not)."""
        return self._of({name: _refit_column(code, training[name]) for name, code in self.codes.items()}, training)

    @classmethod
    def _of(cls, codes: Mapping[str, Code | None], training: pd.DataFrame) -> CovariateCode:
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
        return {name: _describe(code) for name, code in self.codes.items()}

    def _columns(self, table: pd.DataFrame) -> Columns:
        columns: Columns = []
        for name, code in self.codes.items():
            values = _only_numbers(table[name]) if isinstance(code, NumberCode) else table[name]
            columns += code.encode(values)
        return columns


def _fit_column(column: pd.Series, levels: tuple[str, ...] | None) -> Code | None:
    if levels:
        return OrderedCode.fit(column, levels)
    if levels is None:
        numbers = _numbers(column)
        # Training patients decide whether a column holds numbers: a test patient's word must not turn ages into levels.
        if numbers.notna().equals(column.notna()):
            return NumberCode.fit(numbers.to_numpy())
        if (scale := find_scale(column.dropna().astype(str), str(column.name))) is not None:
            return OrderedCode.fit(column, scale)
    return NominalCode.fit(column)


def _refit_column(code: Code, column: pd.Series) -> Code | None:
    if isinstance(code, NumberCode):
        return NumberCode.fit(_only_numbers(column))
    return NominalCode.fit(column) if isinstance(code, NominalCode) else OrderedCode.fit(column, code.scale)


def _describe(code: Code) -> str:
    if isinstance(code, NumberCode):
        return "number"
    if isinstance(code, NominalCode):
        return f"levels without order: {', '.join((code.commonest, *code.others))}"
    scale = code.scale if isinstance(code.scale, str) else " < ".join(code.scale)
    return f"{len(code.ranks)} levels in order ({scale})"


def _ranks(words: pd.Series, scale: str | tuple[str, ...]) -> NDArray[np.float64]:
    """Return the (n,) rank of each word, NaN where it is unknown or not on the scale."""
    if isinstance(scale, str):
        ranks = {word: rank_of(scale, str(word)) for word in words.dropna().unique()}
    else:
        ranks = {word: float(i) for i, word in enumerate(scale)}
    return words.map(ranks).astype(float).to_numpy()


def _positions(rank: NDArray[np.float64], ranks: tuple[float, ...]) -> NDArray[np.float64]:
    """Return 0, 1, … at the training patients' ranks, interpolated between them and constant beyond the ends."""
    return np.interp(rank, ranks, np.arange(len(ranks)))


def _only_numbers(column: pd.Series) -> NDArray[np.float64]:
    numbers = _numbers(column)
    if (words := column[numbers.isna() & column.notna()]).size:
        raise InputError(
            f"covariate {column.name!r}: {words.iloc[0]!r} of patient {words.index[0]} is not a number, but all training patients "
            "have numbers; correct or empty it"
        )
    return numbers.to_numpy()


def _numbers(column: pd.Series) -> pd.Series:
    """Convert to numbers, with NaN in place of words."""
    return pd.to_numeric(column, errors="coerce").astype(float)


def _with_unknown(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "unknown").astype(str)
