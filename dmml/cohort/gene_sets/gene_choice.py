"""How a data section narrows its gene sets on training patients: to the most variable genes, or to a preset's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dmml.cohort.gene_sets.gene_preset import PRESETS, choose_genes
from dmml.cohort.gene_sets.gene_sets import GeneSets
from dmml.cohort.gene_sets.most_variable import genes_by_variance
from dmml.errors import InputError

PAPER_SHARE = 0.3
"""Share of the genes that the paper keeps, those that vary most"""
_KEYS = ("preset", "most_variable")
_WAYS = f"most_variable: {PAPER_SHARE} (the paper's share of the genes) or preset: released_code (59 and 361 genes, the released code's numbers)"


@dataclass(frozen=True)
class GeneChoice:
    """A rule that narrows gene sets; exactly one of its fields is set.

    Attributes:
        preset: A key of `PRESETS`.
        variable_share: Share of each subspace's genes to keep, those that vary most between training patients.
    """

    preset: str | None = None
    variable_share: float | None = None

    def __str__(self) -> str:
        """The rule as a data section states it."""
        return f"preset: {self.preset}" if self.variable_share is None else f"most_variable: {self.variable_share:g}"

    def choose(self, gene_sets: GeneSets, values: pd.DataFrame, scale: str) -> GeneSets:
        """Narrow gene sets, using only the RNA of training patients and no outcomes.

        Args:
            gene_sets: {subspace: {program: [genes]}}, all of them columns of `values`.
            values: (training patients × genes) on the model's scale.
            scale: Scale of the RNA table, one of `dmml.cohort.rna.scale.SCALES`.

        Returns:
            The same programs with the chosen genes; empty programs are removed.

        Raises:
            InputError: `variable_share` is set, and the values are z-scores.
        """
        if self.variable_share is not None:
            return genes_by_variance(gene_sets, values, self.variable_share, scale)
        return choose_genes(gene_sets, values, str(self.preset))


def split_choice(
    spec: Mapping[str, Any] | str | Path | None,
) -> tuple[Mapping[str, Any] | str | Path | None, GeneChoice | None]:
    """Separate the gene lists of a data section from the rule that narrows them.

    Args:
        spec: `gene_sets` of a data section, with a rule given as `{…, most_variable: 0.3}` or
            `{…, preset: released_code}`.

    Returns:
        The lists without the rule (None for the shipped ones), and the rule or None.

    Raises:
        InputError: The preset is unknown, the share is not above 0 and at most 1, or both rules are given.
    """
    if not isinstance(spec, Mapping) or not any(key in spec for key in _KEYS):
        return spec, None
    if all(key in spec for key in _KEYS):
        raise InputError("gene_sets: preset and most_variable both choose genes; give one of them")
    lists = {key: value for key, value in spec.items() if key not in _KEYS} or None
    if "preset" in spec:
        return lists, GeneChoice(preset=_checked_preset(spec["preset"]))
    return lists, GeneChoice(variable_share=_checked_share(spec["most_variable"]))


def _checked_preset(preset: object) -> str:
    if preset == "paper":
        raise InputError(
            f"gene_sets: preset: paper was removed, since the paper states no numbers of genes; give {_WAYS}"
        )
    if str(preset) not in PRESETS:
        raise InputError(f"gene_sets: unknown preset {str(preset)!r}; give {_WAYS}")
    return str(preset)


def _checked_share(share: object) -> float:
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(
            f"gene_sets: most_variable is {share!r}, but must be a share of the genes above 0 and at most 1, such as "
            f"{PAPER_SHARE}"
        )
    return float(share)
