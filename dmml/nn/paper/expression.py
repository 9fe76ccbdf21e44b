"""An expression encoder with several gene tokens for each patient, as the paper's selection layer needs them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmml.nn.expression import MaskedEncoder


class ProgramTokenEncoder(MaskedEncoder):
    """Self-normalising network with one gene token for each program of the subspace.

    The token of program p, of whose genes x_p is the expression, is
    W AlphaDropout(SELU(W_p x_p + b_p)) + b + e_p: each program has its own first layer and its own embedding e_p, and
    the second layer is shared. The first layers of all programs are one batched product, whose programs are padded to
    the largest number of genes.

    The teacher calls `set_programs` before it uses the encoder. Where genes are their own programs, each has a token.
    Without RNA, the token of program p is a learned vector plus e_p.

    Args:
        n_genes: Number of genes G; 0 for a model without RNA, whose one token is a learned vector.
        width: Width d of a token.
        hidden: Width of the hidden layer.
        dropout: Rate of the AlphaDropout after the hidden layer.

    Shape:
        expression (B, G), has_rna (B,) bool → (B, P, d), or (B, 1, d) without genes.

    Source: a self-normalising network (Klambauer et al. 2017), as in the paper. The paper types the genes of a subspace
    as a map with many positions and does not say how it comes from a vector; its released code repeats one vector. Then
    all keys of the selection layer are equal, and nothing is selected. Tokens of programs are our answer.
    """

    gives_gene_tokens = True

    def __init__(self, n_genes: int, width: int, hidden: int = 32, dropout: float = 0.1):
        super().__init__(width)
        self.n_genes, self.hidden = n_genes, hidden
        self._has_programs = not n_genes
        if n_genes:
            self.dropout = nn.AlphaDropout(dropout)
            self.to_token = nn.Linear(hidden, width)
            nn.init.normal_(self.to_token.weight, std=hidden**-0.5)  # LeCun: SELU's fixed point requires it
            nn.init.zeros_(self.to_token.bias)

    def set_programs(self, membership: Tensor | None) -> None:
        """Build the first layers; see `MaskedEncoder.set_programs`."""
        if not self.n_genes:
            return
        members = self._members(membership)
        counts = torch.tensor([len(genes) for genes in members])
        columns = nn.utils.rnn.pad_sequence(members, batch_first=True)  # (P, L)
        is_member = torch.arange(columns.shape[1]) < counts.unsqueeze(1)
        self.columns: Tensor
        self.is_member: Tensor
        # They follow from the lists of genes and programs, which a checkpoint contains.
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("is_member", is_member, persistent=False)
        weight = torch.randn(*columns.shape, self.hidden) / counts.sqrt()[:, None, None]
        self.weight = nn.Parameter(weight * is_member.unsqueeze(-1))  # (P, L, hidden)
        self.bias = nn.Parameter(torch.zeros(len(members), self.hidden))
        self.program = nn.Parameter(torch.randn(len(members), len(self.missing)) * 0.02)
        self._has_programs = True

    def _members(self, membership: Tensor | None) -> list[Tensor]:
        """Columns of each program's genes; all genes of a subspace without programs are one program."""
        if membership is not None and membership.shape[1] == 0:
            return [torch.arange(self.n_genes)]
        if membership is None:
            return list(torch.arange(self.n_genes).unsqueeze(1))
        return [column.nonzero().flatten().cpu() for column in membership.T]

    def forward(self, expression: Tensor, has_rna: Tensor) -> Tensor:
        """Encode the expression. Every row runs through the network, so that no rank of a DDP run skips it."""
        if not self._has_programs:
            raise RuntimeError("ProgramTokenEncoder does not know the programs yet: call set_programs first")
        if not self.n_genes:
            return self.missing.expand(len(has_rna), 1, -1)
        measured = torch.where(has_rna.unsqueeze(1), expression, 0.0)
        genes = measured[:, self.columns] * self.is_member  # (B, P, L)
        hidden = torch.einsum("bpl,plh->bph", genes.to(self.weight.dtype), self.weight) + self.bias
        tokens = self.to_token(self.dropout(nn.functional.selu(hidden)))  # (B, P, d)
        learned = self.missing.expand_as(tokens).to(tokens.dtype)
        return torch.where(has_rna[:, None, None], tokens, learned) + self.program
