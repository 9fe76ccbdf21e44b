"""The scale of an RNA table: detected, or checked if stated, and converted to the scale of models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from dmml.cohort.rna.genes.gene_mapping import name_genes
from dmml.errors import InputError

SCALES = ("tpm", "counts", "fpkm", "log2", "zscore")
LINEAR = ("tpm", "counts", "fpkm")

# Bounds of the detection. A scale is detected only if it fits and all others do not; otherwise the user must state it.
_TPM_TOTAL = (0.7e6, 1.2e6)  # a TPM table of only the coding genes keeps most of the million
_FPKM_TOTAL, _FPKM_SPREAD = (0.05e6, 0.5e6), 0.03  # sum over genes; its relative spread over samples, which TPM lack
_FPKM_MIN_GENES, _FPKM_MIN_MITOCHONDRIAL = 19_000, 10  # a table with fewer may be part of a TPM table
_LOG2_MAXIMUM = (6.0, 25.0)  # microarrays end at 16, log2(TPM + 1) at 20; below 6 it may be log10
_ZSCORE_MEAN, _ZSCORE_SD = 0.5, (0.5, 1.5)  # medians over genes, since single z-scores reach thousands
_MIN_GENES, _MIN_SAMPLES = 20, 8
_MIXED_MIN_GENES, _MIXED_MIN_GAP = (
    50,
    20.0,
)  # with fewer genes or a smaller gap between samples, the check is unreliable
LOG_MAXIMUM = 25.0
"""Maximum of log-transformed RNA; larger values are not logarithms."""
_MANY_GENES = 200  # linear tables with at least this many genes have values above `LOG_MAXIMUM`


def detect_scale(values: np.ndarray, genes: Sequence[str] | None = None) -> str | None:
    """Detect the scale of a table; None if it is ambiguous.

    `tpm`: rows sum to about a million. `counts`: non-negative integers. `zscore`: genes are centred on 0 with unit
    spread. `fpkm`: the names are those of a whole transcriptome, and rows sum to less than half a million, with
    different sums; FPKM of fewer genes cannot be distinguished from part of a TPM table. `log2`: non-negative, with a
    maximum too low for a linear table, and not all whole numbers, which may be counts of few reads.

    Args:
        values: (samples, genes), NaN where unknown.
        genes: Names of the genes as in the table; None if unknown.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0 or values.shape[1] < _MIN_GENES:
        return None
    lowest, highest = float(finite.min()), float(finite.max())
    are_whole = bool(np.all(finite == np.rint(finite)))
    if lowest >= 0 and highest > 50 and are_whole:
        return "counts"
    totals = np.nansum(values, axis=1)
    total = float(np.median(totals))
    if _TPM_TOTAL[0] <= total <= _TPM_TOTAL[1] and highest > 50:
        return "tpm"
    if lowest >= 0 and genes is not None and _are_fpkm_totals(totals) and _is_whole_transcriptome(genes):
        return "fpkm"
    if lowest < 0:
        return "zscore" if len(values) >= _MIN_SAMPLES and is_centred(values) else None
    return "log2" if _LOG2_MAXIMUM[0] <= highest <= _LOG2_MAXIMUM[1] and not are_whole else None


def _are_fpkm_totals(totals: np.ndarray) -> bool:
    """Whether the sums of the samples are typical of FPKM; it takes at least eight samples to see that they differ."""
    if len(totals) < _MIN_SAMPLES or not _FPKM_TOTAL[0] <= np.median(totals) <= _FPKM_TOTAL[1]:
        return False
    return bool(np.std(totals) >= _FPKM_SPREAD * np.mean(totals))


def _is_whole_transcriptome(genes: Sequence[str]) -> bool:
    """Whether names are those of a whole transcriptome, including mitochondrial genes, which take many of the reads."""
    if len(genes) < _FPKM_MIN_GENES:
        return False
    symbols = {symbol for symbol in name_genes(list(genes))[0] if symbol}
    mitochondrial = sum(symbol.startswith("MT-") for symbol in symbols)
    return len(symbols) >= _FPKM_MIN_GENES and mitochondrial >= _FPKM_MIN_MITOCHONDRIAL


def is_centred(values: np.ndarray) -> bool:
    """Whether the typical gene has mean 0 and standard deviation 1, judged by medians over about 500 genes."""
    values = values[:, np.isfinite(values).any(axis=0)]
    values = values[:, :: max(1, values.shape[1] // 500)]
    with np.errstate(invalid="ignore"):
        mean = np.nanmedian(np.abs(np.nanmedian(values, axis=0)))
        low, high = np.nanquantile(values, [0.1587, 0.8413], axis=0)  # ± one standard deviation of a normal
    return bool(mean <= _ZSCORE_MEAN and _ZSCORE_SD[0] <= np.nanmedian((high - low) / 2) <= _ZSCORE_SD[1])


def check_mixed_scales(values: np.ndarray, source: str, samples: Sequence[str] | None = None) -> None:
    """Refuse a table whose samples are on different scales; the message names samples and values that show it.

    Args:
        values: (samples, genes).
        source: Name of the table in messages.
        samples: Names of the rows, for the message.

    Raises:
        InputError: Some samples look logarithmic and some linear, some centred and some not, or some are whole numbers.
    """
    if values.shape[1] < _MIXED_MIN_GENES or len(values) < 2:
        return
    with np.errstate(invalid="ignore"):
        is_finite = np.isfinite(values)
        share_negative = (values < 0).sum(axis=1) / np.maximum(is_finite.sum(axis=1), 1)
        are_whole = ((values == np.rint(values)) | ~is_finite).all(axis=1)
    highest = np.where(is_finite, values, -np.inf).max(axis=1)
    rows_by_kind = {
        "centred on 0": share_negative > 0.1,
        "logarithmic": (share_negative == 0) & ~are_whole & (highest <= LOG_MAXIMUM),
        "whole numbers": (share_negative == 0) & are_whole & (highest > 50),
        "linear": (share_negative == 0) & ~are_whole & (highest > 100),
    }
    kinds = {kind: rows for kind, rows in rows_by_kind.items() if rows.any()}
    for first, second in combinations(kinds, 2):
        max_of_logarithmic = _MIXED_MIN_GAP * highest[kinds[first]].max() if first == "logarithmic" else -np.inf
        if highest[kinds[second]].min() < max_of_logarithmic:
            continue
        groups = " and ".join(_describe_rows(kind, kinds[kind], highest, samples) for kind in (first, second))
        raise InputError(
            f"{source}: its samples are on different scales: {groups}; convert them to one scale, or split the table"
        )


def _describe_rows(kind: str, rows: np.ndarray, highest: np.ndarray, samples: Sequence[str] | None) -> str:
    names = [str(samples[i]) if samples is not None else f"row {i + 1}" for i in np.flatnonzero(rows)[:2]]
    more = ", …" if rows.sum() > 2 else ""
    return f"{int(rows.sum())} {kind} ({', '.join(names)}{more}; up to {highest[rows].max():.4g})"


def check_varied(values: np.ndarray, source: str) -> None:
    """Refuse a table without information.

    Args:
        values: (samples, genes).
        source: Name of the table in messages.

    Raises:
        InputError: The table holds no number, or the same number everywhere.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise InputError(f"{source}: contains no number; check that it is an RNA table")
    if finite.size > 1 and finite.min() == finite.max():
        raise InputError(f"{source}: every value is {finite[0]:.4g}; check that it is an RNA table")


def settle_scale(
    values: np.ndarray,
    stated: str | None,
    source: str,
    samples: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
) -> str:
    """Check the stated scale against the values, or detect it if none is stated.

    Args:
        values: (samples, genes).
        stated: Scale stated by the user, or None.
        source: Name of the table in messages.
        samples: Names of the rows, for messages.
        genes: Names of the columns, which show whether the table holds a whole transcriptome.

    Raises:
        InputError: The scale is unknown, differs between samples, or is contradicted by the values.
    """
    check_varied(values, source)
    check_mixed_scales(values, source, samples)
    if stated is None:
        detected = detect_scale(values, genes)
        if detected is None:
            raise InputError(
                f"{source}: its scale cannot be detected ({describe_values(values)}); "
                f"state it with --scale {'|'.join(SCALES)} (in a config: expression: {{path: …, scale: …}})"
            )
        return detected
    if stated not in SCALES:
        raise InputError(f"{source}: unknown scale {stated!r}; use one of {', '.join(SCALES)}")
    _check_stated_scale(values, stated, source)
    return stated


def describe_values(values: np.ndarray) -> str:
    """Describe the evidence for a scale: range, shares of negative and whole numbers, sums, genes' distance from 0."""
    finite = values[np.isfinite(values)]
    total = np.median(np.nansum(values, axis=1))
    centre = np.median(np.abs(np.nanmedian(values[:, np.isfinite(values).any(axis=0)], axis=0)))
    return (
        f"values from {finite.min():.4g} to {finite.max():.4g}, {np.mean(finite < 0):.0%} negative, "
        f"{np.mean(finite == np.rint(finite)):.0%} whole numbers, samples sum to {total:.4g} over {values.shape[1]} genes, "
        f"the median gene lies {centre:.2g} from 0"
    )


def _check_stated_scale(values: np.ndarray, stated: str, source: str) -> None:
    """Refuse a stated scale that the values contradict."""
    finite = values[np.isfinite(values)]
    value_range = f"values from {finite.min():.4g} to {finite.max():.4g}"
    share_negative = float(np.mean(finite < 0))
    if stated == "counts" and share_negative > 0:
        raise InputError(
            f"{source}: the scale is stated as counts, but there are negative numbers ({value_range}); correct --scale"
        )
    if stated in ("tpm", "fpkm") and share_negative > 0 and detect_scale(values) != "tpm":
        raise InputError(
            f"{source}: the scale is stated as {stated}, but {share_negative:.0%} of the numbers are negative "
            f"({value_range}); correct --scale"
        )
    if stated in LINEAR and share_negative == 0 and _looks_logarithmic(values, finite):
        raise InputError(
            f"{source}: the scale is stated as {stated}, but the values are logarithmic ({describe_values(values)}); the name "
            "of a file often tells only what it was made from: use --scale log2, or leave --scale out"
        )
    if stated == "log2" and finite.max() > 60:
        raise InputError(
            f"{source}: the scale is stated as log2, which does not have {value_range}; correct --scale (tpm, counts or fpkm?)"
        )
    if stated == "zscore" and share_negative == 0:
        raise InputError(
            f"{source}: the scale is stated as zscore, but there is no negative number ({value_range}); correct --scale"
        )


def _looks_logarithmic(values: np.ndarray, finite: np.ndarray) -> bool:
    """Whether all values of many genes are too low for a linear scale; whole numbers may be counts of few reads."""
    are_low = values.shape[1] >= _MANY_GENES and finite.max() <= LOG_MAXIMUM
    return bool(are_low and not np.all(finite == np.rint(finite)))


def to_model_scale(values: np.ndarray, scale: str) -> np.ndarray:
    """Convert linear scales to log2(x + 1), counts to counts per million before; log2 and z-scores are unchanged.

    Args:
        values: (samples, genes); counts need all measured genes, since their sum is the library size.
        scale: One of `SCALES`.

    Returns:
        (samples, genes) float32.
    """
    if scale not in LINEAR:
        return values.astype(np.float32)
    # Background subtraction leaves small negative TPM, which become 0.
    linear = np.maximum(values.astype(np.float64), 0.0)
    if scale == "counts":
        total = np.nansum(linear, axis=1, keepdims=True)
        linear = 1e6 * linear / np.where(total > 0, total, 1.0)
    return np.log2(linear + 1.0).astype(np.float32)
