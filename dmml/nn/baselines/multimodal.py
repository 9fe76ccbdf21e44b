"""Baseline networks that read slides and RNA: joined early as embeddings, or late as logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.nn.baselines.histology import GatedABMIL, GatedStreams, MeanPool
from dmml.nn.baselines.inputs import mean_of_available
from dmml.nn.baselines.rna import GeneEmbedding
from dmml.types import Batch


class EarlyConcat(nn.Module):
    """Linear layer over the concatenated gated attention embeddings of all magnifications and the RNA embedding.

    Args:
        n_features: Width D of the encoder's features.
        n_genes: Number of genes of each subspace, {"tumor": G_t, "tme": G_e}.
        n_outputs: Number of outputs C.
        width: Width d of each embedding.
        att_dim: Width of the gate.
        magnifications: Magnifications that the network reads.
        dropout: Dropout rate of tokens and embeddings.
        rna_dropout: Rate of the AlphaDropout in the RNA layers.
    """

    def __init__(
        self,
        n_features: int,
        n_genes: Mapping[str, int],
        n_outputs: int,
        width: int = 128,
        att_dim: int = 128,
        magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS,
        dropout: float = 0.0,
        rna_dropout: float = 0.25,
    ):
        super().__init__()
        self.slide = GatedStreams(n_features, width, att_dim, magnifications, dropout)
        self.rna = GeneEmbedding(n_genes, (width, width), rna_dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear((len(self.slide.magnifications) + 1) * width, n_outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        embeddings, _ = self.slide(batch)
        both = torch.cat([*embeddings, self.rna(batch)], 1)  # (B, (M + 1) · d)
        return self.head(self.dropout(both)).float()


class LateFusion(nn.Module):
    """Mean of the logits of a slide network and an RNA network; if a patient lacks one modality, the other alone.

    Args:
        slide: A network from `Batch` to logits that reads slides.
        rna: `RNANetwork`, or any network from `Batch` to logits.
    """

    def __init__(self, slide: GatedABMIL | MeanPool, rna: nn.Module):
        super().__init__()
        self.slide, self.rna = slide, rna

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        tissue = torch.zeros_like(batch.has_expression)
        for m in self.slide.magnifications:
            if m in batch.bags:
                tissue = tissue | batch.bags[m].mask.any(1)
        available = torch.stack([tissue, batch.has_expression])
        return mean_of_available(torch.stack([self.slide(batch), self.rna(batch)]), available)
