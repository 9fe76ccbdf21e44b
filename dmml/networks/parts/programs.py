"""Measured program scores, the means of each program's standardised genes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.errors import InputError
from dmml.types import SUBSPACES


class ProgramScores(nn.Module):
    """Maps expression to program scores, by a fixed linear map that the lists of genes and programs determine.

    Args:
        genes: {subspace: [gene, …]}, the columns of `Batch.expression`; {} for a model without RNA.
        programs: {subspace: {program: [gene, …]}}; None = every gene is a program by itself. Genes that are not among
            the columns are left out.

    Raises:
        InputError: None of a program's genes is among the columns.
    """

    def __init__(self, genes: dict[str, list[str]], programs: dict[str, dict[str, list[str]]] | None):
        super().__init__()
        self.names: dict[str, list[str]] = {}
        for s in SUBSPACES:
            columns = {gene: i for i, gene in enumerate(genes.get(s, []))}
            if programs is None:
                self.names[s] = list(columns)
                self.register_buffer(f"weight_{s}", None)  # identity: saves a product with a large matrix
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
            self.register_buffer(f"weight_{s}", weight, persistent=False)  # follows from the lists, which are saved

    @property
    def sizes(self) -> dict[str, int]:
        """Number of programs P in each subspace."""
        return {s: len(names) for s, names in self.names.items()}

    def forward(self, expression: dict[str, Tensor], has_rna: Tensor) -> dict[str, Tensor]:
        """Map {s: (B, G_s)} and (B,) bool, whether a patient has RNA, to {s: (B, P_s)}; rows without RNA are 0."""
        scores = {}
        for s in SUBSPACES:
            if not self.names[s] or s not in expression:
                scores[s] = has_rna.new_zeros((len(has_rna), len(self.names[s])), dtype=torch.float32)
                continue
            values, weight = torch.where(has_rna.unsqueeze(1), expression[s].float(), 0.0), getattr(self, f"weight_{s}")
            with torch.autocast(values.device.type, enabled=False):  # targets stay in full precision
                scores[s] = values if weight is None else values @ weight
        return scores
