"""Keeps the most variable genes of each subspace, as the paper does, measured on training patients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dmml.cohort.gene_sets.gene_sets import SUBSPACES, GeneSets, genes_of
from dmml.errors import InputError

_Z_SCORE_MEAN, _Z_SCORE_SD = 0.3, (0.7, 1.3)
"""Median distance of a gene's mean from 0, and standard deviations of the middle 80 % of genes, of z-scored genes: a part
of the patients differs that much from all of them, to whom the scores refer"""
_MIN_GENES = 20
"""Number of genes from which z-scores are recognised in a table that is said to be of another scale"""


def genes_by_variance(gene_sets: GeneSets, values: pd.DataFrame, share: float, scale: str) -> GeneSets:
    """Narrow gene sets to the share of each subspace's genes that vary most between patients.

    Each gene's variance is that of its known values, on the model's scale before standardisation (log2(TPM + 1) for a
    table of TPM). Of n genes of a subspace, share · n are kept, rounded to the nearest whole number (halves upwards)
    and at least one. Genes with equal variances are taken in the order of their names. The paper names the share, 0.3,
    and neither the unit of the RNA nor the patients on whom the variance is measured.

    Args:
        gene_sets: {subspace: {program: [genes]}}, all of them columns of `values`.
        values: (training patients × genes) on the model's scale.
        share: Share of each subspace's genes to keep, above 0 and at most 1.
        scale: Scale of the RNA table, one of `dmml.cohort.rna.scale.SCALES`.

    Returns:
        The same programs with the kept genes; empty programs are removed.

    Raises:
        InputError: The values are z-scores, in which all genes have the same variance.
    """
    if scale == "zscore" or _are_z_scores(values.to_numpy(np.float64)):
        raise InputError(
            f"gene_sets: most_variable: {share:g} compares the genes' variances, and this RNA table contains z-scores, in "
            "which every variance is 1; give a table of TPM, FPKM, counts or log2 values, or name the genes in files "
            "(gene_sets: {tumor: …, tme: …})"
        )
    narrowed: GeneSets = {}
    for subspace in SUBSPACES:
        genes = genes_of(gene_sets[subspace])
        variance = _variances(values[genes])
        ranked = sorted(genes, key=lambda gene: (-variance[gene], gene))
        kept = set(ranked[: max(1, int(share * len(genes) + 0.5))])
        programs = {program: [gene for gene in names if gene in kept] for program, names in gene_sets[subspace].items()}
        narrowed[subspace] = {program: names for program, names in programs.items() if names}
    return narrowed


def _are_z_scores(values: np.ndarray) -> bool:
    """Whether a table that is called log2 contains z-scores: (patients, genes) centred, and of one spread."""
    finite = values[:, np.isfinite(values).sum(axis=0) > 1]
    if finite.shape[1] < _MIN_GENES or not np.nanmin(finite) < 0:
        return False
    low, high = np.quantile(np.nanstd(finite, axis=0), (0.1, 0.9))
    is_centred = np.median(np.abs(np.nanmean(finite, axis=0))) <= _Z_SCORE_MEAN
    return bool(is_centred and _Z_SCORE_SD[0] <= low and high <= _Z_SCORE_SD[1])


def _variances(values: pd.DataFrame) -> dict[str, float]:
    """{gene: variance of its known values}; 0 for a gene with fewer than two of them."""
    x = values.to_numpy(np.float64)
    finite = np.isfinite(x)
    count = np.maximum(finite.sum(axis=0), 1)
    mean = np.where(finite, x, 0.0).sum(axis=0) / count
    variance = (np.where(finite, x - mean, 0.0) ** 2).sum(axis=0) / count
    # Rounded, since the order of the patients changes the last digits of a sum and must not decide between equal genes.
    return dict(zip(values.columns, np.round(variance, 9).tolist(), strict=True))
