"""Published networks to be measured beside: co-attention of genes on patches, and a Nyström transformer.

Both are written anew from their papers, read a `Batch`, and keep two independent streams (10x, 20x) whose logits are
averaged, as the gated ABMIL of `dmml.nn.baselines` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dmml.types import SUBSPACES, Batch

GROUPS = (59, 73, 72, 72, 72, 72)
"""Genes of the six functional groups; they sum to the 59 tumor and 361 TME genes of `token_batches`."""


class _Gate(nn.Module):
    """Gated attention pool (B, N, d) → (B, d)."""

    def __init__(self, width: int, dropout: float = 0.25):
        super().__init__()
        self.value = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(dropout))
        self.gate = nn.Sequential(nn.Linear(width, width), nn.Sigmoid(), nn.Dropout(dropout))
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        weight = self.score(self.value(tokens) * self.gate(tokens)).softmax(1)  # (B, N, 1)
        return (weight * tokens).sum(1)


class _SetEncoder(nn.Module):
    """Two transformer layers over the few groups, a gated pool, a layer. (B, groups, d) → (B, d)."""

    def __init__(self, width: int):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 8, dim_feedforward=512, dropout=0.25, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool = _Gate(width)
        self.out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.25))

    def forward(self, groups: Tensor) -> Tensor:
        return self.out(self.pool(self.encoder(groups)))


class _CoAttention(nn.Module):
    """One stream of `McatLike`."""

    def __init__(self, n_features: int, groups: Sequence[int], n_outputs: int, width: int):
        super().__init__()
        self.patches = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Dropout(0.25))
        self.genes = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(n, width), nn.ELU(), nn.AlphaDropout(0.25)),
                *(nn.Linear(width, width), nn.ELU(), nn.AlphaDropout(0.25)),
            )
            for n in groups
        )
        self.attend = nn.MultiheadAttention(width, 1, batch_first=True)
        self.of_patches, self.of_genes = _SetEncoder(width), _SetEncoder(width)
        self.join = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, n_outputs)

    def forward(self, features: Tensor, mask: Tensor, genes: Sequence[Tensor]) -> Tensor:
        tokens = self.patches(features)  # (B, N, d)
        groups = torch.stack([net(values) for net, values in zip(self.genes, genes, strict=True)], 1)  # (B, 6, d)
        hidden = None if bool(mask.all()) else ~(mask | ~mask.any(1, keepdim=True))
        seen, _ = self.attend(groups, tokens, tokens, key_padding_mask=hidden, need_weights=False)
        return self.head(self.join(torch.cat([self.of_patches(seen), self.of_genes(groups)], 1)))


class McatLike(nn.Module):
    """Six gene groups ask all patches by single-head co-attention; small transformers read the answers and the genes.

    Args:
        n_features: D.
        n_outputs: C.
        groups: Genes a group, over the genes of both subspaces side by side.
        width: d.
        magnifications: One independent stream each.

    Source: Chen et al., ICCV 2021 (MCAT).
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        groups: Sequence[int] = GROUPS,
        width: int = 256,
        magnifications: Sequence[int] = (10, 20),
    ):
        super().__init__()
        self.groups = tuple(groups)
        self.streams = nn.ModuleDict(
            {f"{m}x": _CoAttention(n_features, groups, n_outputs, width) for m in magnifications}
        )

    def forward(self, batch: Batch) -> Tensor:
        """→ (B, C)."""
        genes = torch.cat([batch.expression[s] for s in SUBSPACES], 1).split(self.groups, 1)
        logits = []
        for name, stream in self.streams.items():
            bag = batch.bags[int(name[:-1])]
            features = bag.features.float()
            if not bool(bag.mask.all()):
                features = features.masked_fill(~bag.mask.unsqueeze(-1), 0)
            logits.append(stream(features, bag.mask, genes))
        return torch.stack(logits).mean(0)


class NystromAttention(nn.Module):
    """Self-attention through landmarks: softmax(Q K̃ᵀ) · pinv(softmax(Q̃ K̃ᵀ)) · softmax(Q̃ Kᵀ) · V, plus a convolution of V.

    Args:
        width: Of the tokens.
        heads: Attention heads of width / heads each.
        landmarks: Means of so many runs of neighbouring tokens.
        iterations: Newton–Schulz steps of the pseudo-inverse.
        kernel: Taps of the depthwise convolution along the tokens.

    Source: Xiong et al., AAAI 2021, eq. 13 and 14.
    """

    def __init__(self, width: int, heads: int = 8, landmarks: int = 256, iterations: int = 6, kernel: int = 33):
        super().__init__()
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.near = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, width) → (B, N, width)."""
        n = tokens.shape[1]
        tokens = pad(tokens, (0, 0, -n % self.landmarks, 0))  # zeros in front, so that runs are of equal length
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in self.qkv(tokens).chunk(3, -1))
        query = query * query.shape[-1] ** -0.5
        query_marks, key_marks = (x.unflatten(2, (self.landmarks, -1)).mean(3) for x in (query, key))  # (B, H, L, d_h)
        to_marks = (query @ key_marks.transpose(-1, -2)).softmax(-1)  # (B, H, N, L)
        among = (query_marks @ key_marks.transpose(-1, -2)).softmax(-1)  # (B, H, L, L)
        from_marks = (query_marks @ key.transpose(-1, -2)).softmax(-1)  # (B, H, L, N)
        attended = (to_marks @ self._inverse(among)) @ (from_marks @ value) + self.near(value)
        return self.dropout(self.out(attended.transpose(1, 2).flatten(2)))[:, -n:]

    def _inverse(self, a: Tensor) -> Tensor:
        """Pseudo-inverse by iteration, cubic in convergence."""
        size = a.abs()
        z = a.transpose(-1, -2) / (size.sum(-1).amax() * size.sum(-2).amax())
        one = torch.eye(a.shape[-1], device=a.device, dtype=a.dtype)
        for _ in range(self.iterations):
            az = a @ z
            z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
        return z


class _NystromStream(nn.Module):
    """One stream of `TransMilLike`."""

    def __init__(self, n_features: int, n_outputs: int, width: int, landmarks: int):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(n_features, width), nn.ReLU())
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.layers = nn.ModuleList(NystromAttention(width, landmarks=landmarks) for _ in range(2))
        self.place = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))
        self.head = nn.Linear(width, n_outputs)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.project(features)  # (1, N, width)
        side = max(1, int(tokens.shape[1] ** 0.5))
        side += side * side < tokens.shape[1]
        tokens = torch.cat([tokens, tokens[:, : side * side - tokens.shape[1]]], 1)  # the first again, to fill a square
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + self.layers[0](self.norms[0](tokens))
        square = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        square = square + sum(conv(square) for conv in self.place)
        tokens = torch.cat([tokens[:, :1], square.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self.layers[1](self.norms[1](tokens))
        return self.head(self.norms[2](tokens)[:, 0])


class TransMilLike(nn.Module):
    """Two layers of Nyström attention with a pyramid of convolutions for the position between, and a class token.

    It knows no padding: patients are read one by one, in the order of their tokens, and each needs tokens.

    Args:
        n_features: D.
        n_outputs: C.
        width: Of the tokens.
        magnifications: One independent stream each.
        landmarks: Of the attention.

    Source: Shao et al., NeurIPS 2021 (TransMIL).
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        width: int = 512,
        magnifications: Sequence[int] = (10, 20),
        landmarks: int = 256,
    ):
        super().__init__()
        self.streams = nn.ModuleDict(
            {f"{m}x": _NystromStream(n_features, n_outputs, width, landmarks) for m in magnifications}
        )

    def forward(self, batch: Batch) -> Tensor:
        """→ (B, C)."""
        logits = []
        for name, stream in self.streams.items():
            bag = batch.bags[int(name[:-1])]
            logits.append(
                torch.cat(
                    [
                        stream((x if bool(real.all()) else x[real]).unsqueeze(0))
                        for x, real in zip(bag.features.float(), bag.mask, strict=True)
                    ]
                )
            )
        return torch.stack(logits).mean(0)
