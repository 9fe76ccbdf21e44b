"""Measured program scores: the mean of a program's standardised genes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.errors import InputError
from dmml.types import SUBSPACES


class ProgramScores(nn.Module):
    """Expression → program scores, a fixed linear map that follows from the lists.

    Args:
        genes: {subspace: [gene, …]}, the columns of `Batch.expression`; {} for a model without RNA.
        programs: {subspace: {program: [gene, …]}}; None = every gene is its own program. Genes that are not among the
            columns are left out.

    Raises:
        InputError: A program has no gene among the columns.
    """

    def __init__(self, genes: dict[str, list[str]], programs: dict[str, dict[str, list[str]]] | None):
        super().__init__()
        self.names: dict[str, list[str]] = {}
        for s in SUBSPACES:
            columns = {gene: i for i, gene in enumerate(genes.get(s, []))}
            if programs is None:
                self.names[s] = list(columns)
                self.register_buffer(f"weight_{s}", None)  # thousands of genes need no product to stay what they are
                continue
            sets = programs.get(s) or {} if columns else {}
            weight = torch.zeros(len(columns), len(sets))
            for p, (name, members) in enumerate(sets.items()):
                rows = [columns[gene] for gene in members if gene in columns]
                if not rows:
                    raise InputError(
                        f"program {name!r} ({s}) has none of the model's genes; check gene_sets against the RNA table"
                    )
                weight[rows, p] = 1 / len(rows)
            self.names[s] = list(sets)
            self.register_buffer(f"weight_{s}", weight, persistent=False)  # follows from the lists, which are kept

    @property
    def sizes(self) -> dict[str, int]:
        """P of each subspace."""
        return {s: len(names) for s, names in self.names.items()}

    def forward(self, expression: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """{s: (B, G_s)}, (B,) bool → {s: (B, P_s)}; 0 for rows that are not known."""
        scores = {}
        for s in SUBSPACES:
            if not self.names[s] or s not in expression:
                scores[s] = known.new_zeros((len(known), len(self.names[s])), dtype=torch.float32)
                continue
            values, weight = torch.where(known.unsqueeze(1), expression[s].float(), 0.0), getattr(self, f"weight_{s}")
            with torch.autocast(values.device.type, enabled=False):  # a target: not to be rounded to half precision
                scores[s] = values if weight is None else values @ weight
        return scores
