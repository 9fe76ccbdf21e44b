"""Encoders that embed the RNA of one subspace and replace missing RNA by a learned vector."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

_MAX_UNSCALED_GENES = 16
"""More genes than this are scaled down, so that together they move the function as much as this many would."""
_MAX_FAN_IN = 128
"""With more genes than this, the first layer is initialised as if it had this many inputs."""


class MaskedEncoder(nn.Module):
    """Base class of expression encoders: encode the patients with RNA, and return a learned vector for the others.

    Args:
        width: Width d of the embedding.

    Attributes:
        gives_gene_tokens: Whether the encoding of a patient is several gene tokens (T, d) instead of a vector (d,).
        net: Network (B, G) → (B, d), set by the subclass; None without genes.
        scale: Factor by which the expression is multiplied.

    Shape:
        expression (B, G), has_rna (B,) bool → (B, d); rows where `has_rna` is False get the learned vector `missing`.
    """

    gives_gene_tokens: ClassVar[bool] = False

    def __init__(self, width: int):
        super().__init__()
        self.net: nn.Sequential | None = None
        self.scale = 1.0
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def set_programs(self, membership: Tensor | None) -> None:
        """Take notice of the programs of the subspace, before the encoder is used; by default, ignore them.

        Args:
            membership: (G, P), not 0 where a gene belongs to a program; None = every gene is a program by itself.
        """

    def forward(self, expression: Tensor, has_rna: Tensor) -> Tensor:
        """Encode the expression. Every row runs through the network, so that no rank of a DDP run skips it."""
        missing = self.missing.expand(len(has_rna), -1)
        if self.net is None:
            return missing
        encoded = self.net(torch.where(has_rna.unsqueeze(1), expression, 0.0) * self.scale)
        return torch.where(has_rna.unsqueeze(1), encoded, missing.to(encoded.dtype))


class ExpressionEncoder(MaskedEncoder):
    """Self-normalising network (SELU and AlphaDropout) with strong regularisation.

    Departs from the released code: SELU, which AlphaDropout assumes, replaces ELU, and the final ReLU, which zeroes
    half of the embedding and its gradient, is left out.

    Args:
        n_genes: Number of genes G; 0 for a model without RNA.
        width: Width d of the embedding.
        hidden: Widths of the hidden layers, at least one.
        dropout: Rate of the AlphaDropout after each hidden layer.
        input_dropout: Share of genes that are set to their training mean (0) in training.

    More than 16 genes are scaled by 16 / G. Adam moves every weight by about the learning rate, however many weights
    there are, so that a network of two thousand unscaled genes memorises the training patients within a few steps.
    Scaled, all genes together move the function as much as sixteen would. The function starts near 0 and first grows
    along directions that many genes share, which has the effect of a ridge penalty in a linear model.

    Shape:
        expression (B, G), has_rna (B,) bool → (B, d); rows where `has_rna` is False get the learned vector `missing`.

    Source: Klambauer et al. 2017.
    """

    def __init__(
        self,
        n_genes: int,
        width: int,
        hidden: tuple[int, ...] = (64,),
        dropout: float = 0.25,
        input_dropout: float = 0.2,
    ):
        super().__init__(width)
        if not hidden:
            raise ValueError("hidden must name at least one width; got none")
        self.scale = min(1.0, _MAX_UNSCALED_GENES / n_genes) if n_genes else 1.0
        layers: list[nn.Module] = [nn.Dropout(input_dropout)]
        for n_in, n_out in zip((n_genes, *hidden), hidden, strict=False):
            layers += [nn.Linear(n_in, n_out), nn.SELU(), nn.AlphaDropout(dropout)]
        layers.append(nn.Linear(hidden[-1], width))
        if n_genes:
            self.net = nn.Sequential(*layers)
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Linear) and layer.in_features:
                n_in = min(_MAX_FAN_IN, n_genes) if i == 1 else layer.in_features
                nn.init.normal_(layer.weight, std=n_in**-0.5)  # LeCun: SELU's fixed point requires it
                nn.init.zeros_(layer.bias)
