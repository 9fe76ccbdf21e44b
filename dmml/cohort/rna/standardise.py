"""Standardises genes by mean and standard deviation of training patients, robust to outliers in published tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dmml.errors import InputError

CLIP = 3.0
"""Standardised values are clipped to ± this value: some published z-scores reach 7,377."""
MAX_SHIFT = 2.0
"""Shift of the median gene, in training standard deviations, above which RNA is assumed to be of another platform."""
MIN_PATIENTS_WITHIN = 30
"""Minimum number of patients for standardising a cohort within itself."""
_TAILS = (0.01, 0.99)
_FENCE = 5.0  # values are clipped to this many robust standard deviations from the median before fitting


@dataclass(frozen=True)
class GeneStatistics:
    """Mean and standard deviation of each gene, in plain lists so that a checkpoint can store them."""

    genes: list[str]
    mean: list[float]
    std: list[float]
    """Standard deviations; 1 for constant genes."""
    scale: str
    """Scale of the table that the statistics come from; they do not apply to tables on another scale."""

    def to_dict(self) -> dict[str, Any]:
        """The statistics as a dict of plain lists and strings."""
        return dict(vars(self))  # `asdict` would copy every gene

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneStatistics:
        """The inverse of `to_dict`."""
        return cls(**values)


def fit_statistics(values: pd.DataFrame, genes: Sequence[str], scale: str) -> GeneStatistics:
    """Fit the statistics of genes over patients, after clipping to the 1st and 99th percentile and to ± 5 robust SD.

    Args:
        values: (training patients × genes) on the model's scale, see `model_values`; NaN is ignored.
        genes: Genes to fit, in the order of the result.
        scale: Scale of the table.

    Raises:
        InputError: A gene is not in the table, or there is no patient.
    """
    missing = [gene for gene in genes if gene not in values.columns]
    if missing:
        raise InputError(
            f"{len(missing)} gene(s) are not in the RNA table ({_examples(missing)}); choose them from its columns"
        )
    if values.empty:
        raise InputError(
            "no training patient has RNA; check that the RNA table and the clinical table have the same patient ids"
        )
    # A contiguous copy makes sums independent of the table's memory layout, so that they agree to the last bit.
    x = np.ascontiguousarray(values[list(genes)].to_numpy(np.float64))
    quantile = np.nanquantile if np.isnan(x).any() else np.quantile
    with np.errstate(all="ignore"):
        low, median, high = quantile(x, [_TAILS[0], 0.5, _TAILS[1]], axis=0)
        spread = 1.4826 * quantile(np.abs(x - median), 0.5, axis=0)
        fence = np.where(spread > 0, _FENCE * spread, np.inf)  # spread 0: most patients are equal
        x = np.clip(x, np.maximum(low, median - fence), np.minimum(high, median + fence))
        is_finite = np.isfinite(x)
        count = np.maximum(is_finite.sum(axis=0), 1)
        mean = np.where(is_finite, x, 0.0).sum(axis=0) / count
        std = np.sqrt(np.where(is_finite, (x - mean) ** 2, 0.0).sum(axis=0) / count)
    std = np.where(std > 1e-6, std, 1.0)
    return GeneStatistics(list(genes), mean.tolist(), std.tolist(), scale)


def statistics_within(
    values: pd.DataFrame, statistics: GeneStatistics, scale: str, source: str = "expression"
) -> GeneStatistics:
    """Fit the statistics of a tested cohort, for RNA of another platform than that of the training patients.

    This is transductive: a patient's standardised values then depend on the other tested patients.

    Args:
        values: (all patients of the cohort with RNA × genes) on the model's scale.
        statistics: Statistics of the training patients; they remain in use for genes that the table lacks.
        scale: Scale of the table.
        source: Name of the table in messages.

    Raises:
        InputError: Fewer than 30 patients have RNA, or more than half of the genes are absent.
    """
    if len(values) < MIN_PATIENTS_WITHIN:
        raise InputError(
            f"{source}: {len(values)} patients have RNA, too few to standardise a cohort within itself "
            f"({MIN_PATIENTS_WITHIN} are needed); leave standardise out, and give a {statistics.scale} table"
        )
    absent = set(check_fit(values.columns, replace(statistics, scale=scale), scale, source))
    refitted = fit_statistics(values, [gene for gene in statistics.genes if gene not in absent], scale)
    of_cohort = dict(zip(refitted.genes, zip(refitted.mean, refitted.std, strict=True), strict=True))
    of_training = zip(statistics.genes, zip(statistics.mean, statistics.std, strict=True), strict=True)
    pairs = [of_cohort.get(gene, training_pair) for gene, training_pair in of_training]
    return GeneStatistics(statistics.genes, [mean for mean, _ in pairs], [std for _, std in pairs], scale)


def standardise(values: pd.DataFrame, statistics: GeneStatistics, scale: str, source: str = "expression") -> np.ndarray:
    """Standardise genes: z = (x − mean) / std, clipped to ±3; missing genes and values become 0, the training mean.

    Args:
        values: (patients × genes) on the model's scale, with genes in any order.
        statistics: Statistics of the training patients.
        scale: Scale of the table.
        source: Name of the table in messages.

    Returns:
        (patients, genes of the statistics) float32.

    Raises:
        InputError: The scale differs from that of training, or more than half of the genes are absent.
    """
    check_fit(values.columns, statistics, scale, source)
    z = z_scores(values, statistics)
    return np.nan_to_num(np.clip(z, -CLIP, CLIP), nan=0.0).astype(np.float32)


def z_scores(values: pd.DataFrame, statistics: GeneStatistics) -> np.ndarray:
    """Compute (x − mean) / std without clipping: (patients, genes of the statistics) float64, NaN for unknown x."""
    columns = values.columns.get_indexer(statistics.genes)
    x = values.to_numpy()[:, columns].astype(np.float64)
    x[:, columns < 0] = np.nan
    return (x - np.asarray(statistics.mean)) / np.asarray(statistics.std)


def median_shift(values: pd.DataFrame, statistics: GeneStatistics) -> float:
    """Shift of a cohort's typical gene from training: the median over genes of |median − mean| / std.

    Args:
        values: (patients × genes) on the model's scale.
        statistics: Statistics of the training patients.

    Returns:
        Shift in training standard deviations; NaN if no gene has a known value.
    """
    columns = values.columns.get_indexer(statistics.genes)
    x = values.to_numpy(np.float64)[:, columns[columns >= 0]]
    has_value = np.isfinite(x).any(axis=0)
    if not has_value.any():
        return float("nan")
    mean, std = (np.asarray(numbers)[columns >= 0][has_value] for numbers in (statistics.mean, statistics.std))
    return float(np.median(np.abs(np.nanmedian(x[:, has_value], axis=0) - mean) / std))


def check_fit(genes: Collection[str], statistics: GeneStatistics, scale: str, source: str = "expression") -> list[str]:
    """Check that the statistics apply to a table, and list the genes that it lacks.

    Raises:
        InputError: The scale differs from that of training, or more than half of the genes are absent.
    """
    if scale != statistics.scale:
        raise InputError(
            f"{source}: is on the scale {scale}, but the model was trained on {statistics.scale}; "
            f"give a {statistics.scale} table, or leave expression out and predict from slides alone, or standardise the "
            f"cohort within itself (data: standardise: within_cohort, for {MIN_PATIENTS_WITHIN} patients or more)"
        )
    available = set(genes)
    absent = [gene for gene in statistics.genes if gene not in available]
    if len(absent) > len(statistics.genes) / 2:
        raise InputError(
            f"{source}: {len(absent)} of the model's {len(statistics.genes)} genes are absent ({_examples(absent)}); "
            "give a table with gene symbols that has at least half of them"
        )
    return absent


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
