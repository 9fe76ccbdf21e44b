"""Baseline network that reads RNA alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dmml.nn.baselines.inputs import dtype_of, read_genes
from dmml.types import SUBSPACES, Batch


class GeneEmbedding(nn.Module):
    """Self-normalising layers over the concatenated genes of both subspaces.

    Args:
        n_genes: Number of genes of each subspace, {"tumor": G_t, "tme": G_e}.
        hidden: Widths of the layers, at least one; the last is the width of the embedding.
        dropout: Rate of the AlphaDropout after each layer.

    Patients without RNA are treated as the mean patient, whose standardised genes are 0.

    Source: Klambauer et al. 2017.
    """

    def __init__(self, n_genes: Mapping[str, int], hidden: Sequence[int], dropout: float):
        super().__init__()
        if not hidden:
            raise ValueError("hidden must name at least one width; got none")
        self.n_genes = {s: int(n_genes.get(s, 0)) for s in SUBSPACES}
        n_inputs, layers = sum(self.n_genes.values()), []
        if not n_inputs:
            raise ValueError("an RNA network needs genes; n_genes names none")
        for n_in, n_out in zip((n_inputs, *hidden), hidden, strict=False):
            linear = nn.Linear(n_in, n_out)
            nn.init.normal_(linear.weight, std=n_in**-0.5)  # LeCun: SELU's fixed point requires it
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.SELU(), nn.AlphaDropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, batch: Batch) -> Tensor:
        """Embed the RNA of a batch. → (B, hidden[-1])."""
        return self.layers(read_genes(batch, self.n_genes, dtype_of(self)))


class RNANetwork(nn.Module):
    """Self-normalising network that reads RNA alone.

    Args:
        n_genes: Number of genes of each subspace, {"tumor": G_t, "tme": G_e}.
        n_outputs: Number of outputs C.
        hidden: Widths of the hidden layers, at least one.
        dropout: Rate of the AlphaDropout after each hidden layer.
    """

    def __init__(
        self, n_genes: Mapping[str, int], n_outputs: int, hidden: Sequence[int] = (128, 128), dropout: float = 0.25
    ):
        super().__init__()
        self.embed = GeneEmbedding(n_genes, hidden, dropout)
        self.head = nn.Linear(hidden[-1], n_outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        return self.head(self.embed(batch)).float()
