"""Baseline networks that read slides alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.nn.baselines.inputs import dtype_of, mean_of_available, read_tissue
from dmml.nn.module_dict import TypedModuleDict
from dmml.nn.pooling import GatedPool
from dmml.nn.standardised import StandardisedLinear
from dmml.types import Batch


class MeanPool(nn.Module):
    """Mean of a patient's features, then a hidden and a linear layer; the logits of magnifications are averaged.

    Args:
        n_features: Width D of the encoder's features.
        n_outputs: Number of outputs C.
        width: Width of the hidden layer.
        magnifications: Magnifications that the network reads, each in a separate stream.
        dropout: Dropout rate of the hidden layer.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        width: int = 128,
        magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.n_features, self.magnifications = n_features, tuple(magnifications)
        self.streams = TypedModuleDict[nn.Sequential](
            {
                f"{m}x": nn.Sequential(
                    StandardisedLinear(n_features, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, n_outputs)
                )
                for m in self.magnifications
            }
        )

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        logits, available = [], []
        for m in self.magnifications:
            stream = self.streams[f"{m}x"]
            features, mask = read_tissue(batch, m, self.n_features, dtype_of(stream))
            mean = features.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)  # (B, D)
            logits.append(stream(mean))
            available.append(mask.any(1))
        return mean_of_available(torch.stack(logits), torch.stack(available))


class GatedAttention(nn.Module):
    """Projection of the tokens of one magnification, and gated attention over them.

    h = ReLU(W x), z = Σ a_n h_n, with the attention a of `GatedPool`.

    Args:
        n_features: Width D of the features.
        width: Width d of h and z.
        att_dim: Width of the gate.
        dropout: Dropout rate of h.

    Shape:
        features (B, N, D), mask (B, N) → (B, d); zeros for a bag without tokens.

    Source: Ilse et al. 2018, eq. 9.
    """

    def __init__(self, n_features: int, width: int, att_dim: int, dropout: float):
        super().__init__()
        self.project = StandardisedLinear(n_features, width)
        self.pool = GatedPool(width, att_dim, score_bias=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Pool the real tokens."""
        tokens = self.dropout(self.project(features).relu_())  # (B, N, d)
        return self.pool(tokens, mask)[0]


class GatedStreams(nn.Module):
    """One independent gated attention per magnification.

    Args:
        n_features: Width D of the encoder's features.
        width: Width d of the embeddings.
        att_dim: Width of the gate.
        magnifications: Magnifications that are read.
        dropout: Dropout rate of the tokens.
    """

    def __init__(self, n_features: int, width: int, att_dim: int, magnifications: Sequence[int], dropout: float):
        super().__init__()
        self.n_features, self.magnifications = n_features, tuple(magnifications)
        self.streams = TypedModuleDict[GatedAttention](
            {f"{m}x": GatedAttention(n_features, width, att_dim, dropout) for m in self.magnifications}
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return embeddings (M, B, d), and which patients have tokens (M, B) bool."""
        embeddings, available = [], []
        for m in self.magnifications:
            stream = self.streams[f"{m}x"]
            features, mask = read_tissue(batch, m, self.n_features, dtype_of(stream))
            embeddings.append(stream(features, mask))
            available.append(mask.any(1))
        return torch.stack(embeddings), torch.stack(available)


class GatedABMIL(nn.Module):
    """Gated attention MIL: one independent stream per magnification, logits averaged. The reference for speed.

    Args:
        n_features: Width D of the encoder's features.
        n_outputs: Number of outputs C.
        width: Width d of the embeddings.
        att_dim: Width of the gate.
        magnifications: Magnifications that the network reads.
        dropout: Dropout rate of the tokens and of the embeddings.

    Source: Ilse et al. 2018.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        width: int = 128,
        att_dim: int = 128,
        magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.magnifications = tuple(magnifications)
        self.embed = GatedStreams(n_features, width, att_dim, magnifications, dropout)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(width, n_outputs) for _ in self.magnifications)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        embeddings, available = self.embed(batch)
        logits = [head(self.dropout(z)) for head, z in zip(self.heads, embeddings, strict=True)]
        return mean_of_available(torch.stack(logits), available)
