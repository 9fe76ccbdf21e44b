"""RNA of one subspace → an embedding, with a learned stand-in for RNA that is missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_AS_MANY = 16
"""Genes as many as which all of them together move the function."""
_DRAWN_FOR = 128
"""Genes up to which the first weights are drawn as for any layer."""


class MaskedEncoder(nn.Module):
    """What every expression encoder does: encode the known rows, and give a learned vector for the others.

    Args:
        width: d of the embedding.

    Attributes:
        net: (B, G) → (B, d), set by the subclass; None without genes.
        scale: Factor on the expression.

    Shape:
        expression (B, G), known (B,) bool → (B, d); rows that are not known give the learned vector `missing`.
    """

    def __init__(self, width: int):
        super().__init__()
        self.net: nn.Sequential | None = None
        self.scale = 1.0
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, expression: Tensor, known: Tensor) -> Tensor:
        """Encode the known rows; every row runs through the network, so that no rank of a DDP run skips it."""
        missing = self.missing.expand(len(known), -1)
        if self.net is None:
            return missing
        encoded = self.net(torch.where(known.unsqueeze(1), expression, 0.0) * self.scale)
        return torch.where(known.unsqueeze(1), encoded, missing.to(encoded.dtype))


class ExpressionEncoder(MaskedEncoder):
    """Self-normalising network (SELU + AlphaDropout), strongly regularised.

    Departs from the released code: SELU instead of ELU, which AlphaDropout assumes, and no ReLU at the end, which
    there zeroes half of the embedding and its gradient.

    Args:
        n_genes: G; 0 for a model without RNA.
        width: d of the embedding.
        hidden: Widths of the hidden layers, at least one.
        dropout: AlphaDropout after each hidden layer.
        input_dropout: Share of genes set to their training mean (0) in training.

    The genes are scaled by 16 / G where there are more. Adam moves every weight by about the learning rate whatever
    their number, so two thousand genes as they are learn the training patients by heart within a few steps; scaled,
    all of them together move the function by as much as sixteen would. It begins near 0 and grows first along what
    many genes say together, which does what a ridge penalty does for a linear model.

    Shape:
        expression (B, G), known (B,) bool → (B, d); rows that are not known give the learned vector `missing`.

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
        self.scale = min(1.0, _AS_MANY / n_genes) if n_genes else 1.0
        layers: list[nn.Module] = [nn.Dropout(input_dropout)]
        for n_in, n_out in zip((n_genes, *hidden), hidden, strict=False):
            layers += [nn.Linear(n_in, n_out), nn.SELU(), nn.AlphaDropout(dropout)]
        layers.append(nn.Linear(hidden[-1], width))
        if n_genes:
            self.net = nn.Sequential(*layers)
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Linear) and layer.in_features:
                n_in = min(_DRAWN_FOR, n_genes) if i == 1 else layer.in_features
                nn.init.normal_(layer.weight, std=n_in**-0.5)  # LeCun: what SELU's fixed point needs
                nn.init.zeros_(layer.bias)
