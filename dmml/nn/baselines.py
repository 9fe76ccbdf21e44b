"""Baseline networks, to which the models are compared: they read a `Batch` and return only logits (B, C).

A patient without tissue, RNA or both gets finite logits: missing input is replaced by zeros, and an average of logits
counts only the available parts. Every branch runs, whatever a batch lacks, because DDP requires it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dmml.functional.padding import clear_padding
from dmml.nn.pooling import masked_softmax
from dmml.nn.standardised import StandardisedLinear
from dmml.types import SUBSPACES, Batch


def _tissue(batch: Batch, magnification: int, n_features: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Features (B, N, D) with zeros at padding, and mask (B, N); one padding token where the batch has no such bag."""
    bag = batch.bags.get(magnification)
    if bag is None or bag.features.shape[1] == 0:
        known = batch.has_expression
        return known.new_zeros(len(known), 1, n_features, dtype=dtype), known.new_zeros(len(known), 1)
    if bag.features.shape[2] != n_features:
        raise ValueError(
            f"features at {magnification}x are {bag.features.shape[2]} wide, the network was built for {n_features}; "
            "use the encoder that it was trained with"
        )
    return clear_padding(bag.features.to(dtype), bag.mask), bag.mask


def _mean_of_available(logits: Tensor, available: Tensor) -> Tensor:
    """Mean over the available parts, or over all if none is available. (M, B, C), (M, B) bool → (B, C) float32."""
    weight = (available | ~available.any(0, keepdim=True)).float().unsqueeze(-1)  # (M, B, 1)
    return (logits.float() * weight).sum(0) / weight.sum(0)


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
        magnifications: Sequence[int] = (10, 20),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.n_features, self.magnifications = n_features, tuple(magnifications)
        self.streams = nn.ModuleDict(
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
            features, mask = _tissue(batch, m, self.n_features, stream[0].weight.dtype)
            mean = features.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)  # (B, D)
            logits.append(stream(mean))
            available.append(mask.any(1))
        return _mean_of_available(torch.stack(logits), torch.stack(available))


class GatedAttention(nn.Module):
    """Gated attention over the tokens of one magnification.

    h = ReLU(W x), a = softmax_n( w · (tanh(V h_n) ⊙ σ(U h_n)) ), z = Σ a_n h_n.

    Args:
        n_features: Width D of the features.
        width: Width d of h and z.
        hidden: Number of rows of V and U.
        dropout: Dropout rate of h.

    Shape:
        features (B, N, D), mask (B, N) → (B, d); zeros for a bag without tokens.

    Source: Ilse et al. 2018, eq. 9.
    """

    def __init__(self, n_features: int, width: int, hidden: int, dropout: float):
        super().__init__()
        self.project = StandardisedLinear(n_features, width)
        self.gate = nn.Linear(width, 2 * hidden)  # V and U in one product, which is faster than two
        self.score = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Pool the real tokens."""
        tokens = self.dropout(self.project(features).relu_())  # (B, N, d)
        value, gate = self.gate(tokens).chunk(2, -1)  # (B, N, hidden) each
        scores = self.score(value.tanh() * gate.sigmoid()).squeeze(-1)  # (B, N)
        attention = masked_softmax(scores, mask).to(tokens.dtype)
        return torch.bmm(attention.unsqueeze(1), tokens).squeeze(1)  # (B, d)


class GatedStreams(nn.Module):
    """One independent gated attention per magnification.

    Args:
        n_features: Width D of the encoder's features.
        width: Width d of the embeddings.
        hidden: Width of the gate.
        magnifications: Magnifications that are read.
        dropout: Dropout rate of the tokens.
    """

    def __init__(self, n_features: int, width: int, hidden: int, magnifications: Sequence[int], dropout: float):
        super().__init__()
        self.n_features, self.magnifications = n_features, tuple(magnifications)
        self.streams = nn.ModuleDict(
            {f"{m}x": GatedAttention(n_features, width, hidden, dropout) for m in self.magnifications}
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return embeddings (M, B, d), and which patients have tokens (M, B) bool."""
        embeddings, available = [], []
        for m in self.magnifications:
            stream = self.streams[f"{m}x"]
            features, mask = _tissue(batch, m, self.n_features, stream.project.weight.dtype)
            embeddings.append(stream(features, mask))
            available.append(mask.any(1))
        return torch.stack(embeddings), torch.stack(available)


class GatedABMIL(nn.Module):
    """Gated attention MIL: one independent stream per magnification, logits averaged. The reference for speed.

    Args:
        n_features: Width D of the encoder's features.
        n_outputs: Number of outputs C.
        width: Width d of the embeddings.
        hidden: Width of the gate.
        magnifications: Magnifications that the network reads.
        dropout: Dropout rate of the tokens and of the embeddings.

    Source: Ilse et al. 2018.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        width: int = 128,
        hidden: int = 128,
        magnifications: Sequence[int] = (10, 20),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.magnifications = tuple(magnifications)
        self.embed = GatedStreams(n_features, width, hidden, magnifications, dropout)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(width, n_outputs) for _ in self.magnifications)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        embeddings, available = self.embed(batch)
        logits = [head(self.dropout(z)) for head, z in zip(self.heads, embeddings, strict=True)]
        return _mean_of_available(torch.stack(logits), available)


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
        known, dtype = batch.has_expression.unsqueeze(1), self.layers[0].weight.dtype
        parts = [
            batch.expression[s].to(dtype) if s in batch.expression else known.new_zeros(len(known), n, dtype=dtype)
            for s, n in self.n_genes.items()
            if n
        ]
        return self.layers(torch.where(known, torch.cat(parts, 1), 0.0))


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


class EarlyConcat(nn.Module):
    """Linear layer over the concatenated gated attention embeddings of all magnifications and the RNA embedding.

    Args:
        n_features: Width D of the encoder's features.
        n_genes: Number of genes of each subspace, {"tumor": G_t, "tme": G_e}.
        n_outputs: Number of outputs C.
        width: Width d of each embedding.
        hidden: Width of the gate.
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
        hidden: int = 128,
        magnifications: Sequence[int] = (10, 20),
        dropout: float = 0.0,
        rna_dropout: float = 0.25,
    ):
        super().__init__()
        self.slide = GatedStreams(n_features, width, hidden, magnifications, dropout)
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
        slide: `GatedABMIL`, `MeanPool`, or any network from `Batch` to logits that has the attribute `magnifications`.
        rna: `RNANetwork`, or any network from `Batch` to logits.
    """

    def __init__(self, slide: nn.Module, rna: nn.Module):
        super().__init__()
        self.slide, self.rna = slide, rna

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        tissue = torch.zeros_like(batch.has_expression)
        for m in self.slide.magnifications:
            if m in batch.bags:
                tissue = tissue | batch.bags[m].mask.any(1)
        available = torch.stack([tissue, batch.has_expression])
        return _mean_of_available(torch.stack([self.slide(batch), self.rna(batch)]), available)
