"""The expression encoder of the paper's released code."""

from __future__ import annotations

from torch import nn

from dmml.nn.expression import MaskedEncoder


class ReleasedExpressionEncoder(MaskedEncoder):
    """Layers with ELU and AlphaDropout, including the one that outputs the embedding, and a final ReLU.

    The paper says a self-normalising network, which has SELU and no final ReLU; `dmml.nn.paper.expression` has that
    form. Two properties of the released code are kept here: ELU, although AlphaDropout assumes SELU, and a ReLU that
    zeroes about half of the embedding and its gradient. Its separate head, which no loss trains, is left out. Missing
    RNA is replaced by a learned vector, as in `ExpressionEncoder`.

    Args:
        n_genes: Number of genes G; 0 for a model without RNA.
        width: Width d of the embedding.
        hidden: Widths of the hidden layers.
        dropout: Rate of the AlphaDropout after every layer.
    """

    def __init__(self, n_genes: int, width: int, hidden: tuple[int, ...] = (64, 48, 32), dropout: float = 0.1):
        super().__init__(width)
        if not n_genes:
            return
        layers: list[nn.Module] = []
        for n_in, n_out in zip((n_genes, *hidden), (*hidden, width), strict=True):
            linear = nn.Linear(n_in, n_out)
            nn.init.normal_(linear.weight, std=n_in**-0.5)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ELU(), nn.AlphaDropout(dropout)]
        self.net = nn.Sequential(*layers, nn.ReLU())
