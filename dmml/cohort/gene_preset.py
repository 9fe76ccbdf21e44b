"""Fewer genes, chosen on training patients: the number that the paper uses, from lists of any length."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmml.cohort.gene_sets import SUBSPACES, GeneSets, Programs, genes_of
from dmml.errors import InputError

PRESETS = {"paper": {"tumor": 59, "tme": 361}}
"""{name: {subspace: number of genes}}; the paper names its numbers, but not its genes"""


def split_preset(spec: Any) -> tuple[Mapping[str, Any] | str | Path | None, str | None]:
    """The gene lists and the preset that a section names.

    Args:
        spec: `gene_sets` of a data section; a preset stands in it as `{…, preset: paper}`.

    Returns:
        The lists without the preset (None for the shipped ones), and its name.

    Raises:
        InputError: There is no such preset.
    """
    if not isinstance(spec, Mapping) or "preset" not in spec:
        return spec, None
    preset = spec["preset"]
    if preset not in PRESETS:
        raise InputError(f"gene_sets: there is no preset {preset!r}; there is {', '.join(PRESETS)}")
    return {key: value for key, value in spec.items() if key != "preset"} or None, preset


def choose_genes(gene_sets: GeneSets, values: pd.DataFrame, preset: str) -> GeneSets:
    """Narrow gene sets to a preset's numbers, by the RNA of training patients and by nothing else.

    A gene speaks for a program as much as it correlates (r) with the mean of the program's other standardised genes.
    Every program puts its genes in the order of |r|, ties by name; programs then choose in turn until the number is
    reached, so that each keeps its best. Outcomes are not looked at.

    Args:
        gene_sets: {subspace: {program: [genes]}}, all of them columns of `values`.
        values: (training patients × genes) on the model's scale.
        preset: One of `PRESETS`.

    Returns:
        The same programs with the genes chosen; programs left empty are gone.
    """
    chosen = {s: _choose(gene_sets[s], values, PRESETS[preset][s]) for s in SUBSPACES}
    return {
        s: {p: kept for p, genes in gene_sets[s].items() if (kept := [g for g in genes if g in chosen[s]])}
        for s in SUBSPACES
    }


def _choose(programs: Programs, values: pd.DataFrame, number: int) -> set[str]:
    genes = genes_of(programs)
    x = np.ascontiguousarray(values[genes].to_numpy(np.float64))
    ranks = pd.DataFrame(x).rank().to_numpy(copy=True)  # published values reach 7,377 standard deviations
    ranks -= np.nanmean(ranks, axis=0, keepdims=True)
    spread = np.sqrt(np.nanmean(ranks**2, axis=0, keepdims=True))
    z = np.nan_to_num(ranks / np.where(spread > 0, spread, 1.0))
    column = {gene: i for i, gene in enumerate(genes)}
    orders = [_order(names, z[:, [column[gene] for gene in names]]) for names in programs.values()]
    chosen: dict[str, None] = {}
    for turn in zip_longest(*orders):
        for gene in turn:
            if gene is not None and len(chosen) < number:
                chosen[gene] = None
    return set(chosen)


def _order(genes: list[str], z: np.ndarray) -> list[str]:
    """Genes of a program, those first that go with the others most."""
    others = z.sum(axis=1, keepdims=True) - z
    norm = np.linalg.norm(others, axis=0) * np.linalg.norm(z, axis=0)
    r = np.abs((others * z).sum(axis=0)) / np.where(norm > 0, norm, 1.0)
    return [gene for _, gene in sorted(zip(-np.round(r, 9), genes, strict=True))]
