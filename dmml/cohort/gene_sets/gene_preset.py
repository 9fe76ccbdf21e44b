"""Chooses as many genes as the released code uses from gene sets of any size, on the RNA of training patients."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import pandas as pd

from dmml.cohort.gene_sets.gene_sets import SUBSPACES, GeneSets, Programs, genes_of

PRESETS = {"released_code": {"tumor": 59, "tme": 361}}
"""{name: {subspace: number of genes}}; the released code has these numbers, but not the genes. The paper has neither."""


def choose_genes(gene_sets: GeneSets, values: pd.DataFrame, preset: str) -> GeneSets:
    """Narrow gene sets to the numbers of a preset, using only the RNA of training patients and no outcomes.

    A gene represents a program by the correlation r of its ranks over patients with the mean of the standardised ranks
    of the program's other genes. Each program orders its genes by |r|, ties by name; the programs then choose in turn
    until the number is reached, so that each keeps its most representative genes.

    Args:
        gene_sets: {subspace: {program: [genes]}}, all of them columns of `values`.
        values: (training patients × genes) on the model's scale.
        preset: A key of `PRESETS`.

    Returns:
        The same programs with the chosen genes; empty programs are removed.
    """
    narrowed: GeneSets = {}
    for subspace in SUBSPACES:
        programs = gene_sets[subspace]
        selection = _select(programs, values, PRESETS[preset][subspace])
        kept = {program: [gene for gene in genes if gene in selection] for program, genes in programs.items()}
        narrowed[subspace] = {program: genes for program, genes in kept.items() if genes}
    return narrowed


def _select(programs: Programs, values: pd.DataFrame, number: int) -> set[str]:
    genes = genes_of(programs)
    x = np.ascontiguousarray(values[genes].to_numpy(np.float64))
    ranks = pd.DataFrame(x).rank().to_numpy(copy=True)  # ranks, since published values reach 7,377 standard deviations
    ranks -= np.nanmean(ranks, axis=0, keepdims=True)
    spread = np.sqrt(np.nanmean(ranks**2, axis=0, keepdims=True))
    z = np.nan_to_num(ranks / np.where(spread > 0, spread, 1.0))
    column = {gene: i for i, gene in enumerate(genes)}
    orders = [_order(names, z[:, [column[gene] for gene in names]]) for names in programs.values()]
    selection: set[str] = set()
    for turn in zip_longest(*orders):
        for gene in turn:
            if gene is not None and len(selection) < number:
                selection.add(gene)
    return selection


def _order(genes: list[str], z: np.ndarray) -> list[str]:
    """Order the genes of a program by their correlation with its other genes, strongest first."""
    others = z.sum(axis=1, keepdims=True) - z
    norm = np.linalg.norm(others, axis=0) * np.linalg.norm(z, axis=0)
    r = np.abs((others * z).sum(axis=0)) / np.where(norm > 0, norm, 1.0)
    return [gene for _, gene in sorted(zip(-np.round(r, 9), genes, strict=True))]
