"""MCAT: groups of genes attend to the tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.nn.baselines.inputs import dtype_of, mean_of_available, read_genes, read_tissue
from dmml.nn.module_dict import TypedModuleDict
from dmml.nn.pooling import GatedPool
from dmml.types import SUBSPACES, Batch

N_GROUPS = 6
"""Number of gene groups in the paper on MCAT"""


class _GroupEncoder(nn.Module):
    """Two transformer layers over the gene groups, a gated pool and a layer. (B, groups, d) → (B, d)."""

    def __init__(self, width: int):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 8, dim_feedforward=512, dropout=0.25, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool = GatedPool(width, width, score_bias=True)
        self.out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.25))

    def forward(self, groups: Tensor) -> Tensor:
        groups = self.encoder(groups)
        pooled, _ = self.pool(groups, torch.ones(groups.shape[:2], dtype=torch.bool, device=groups.device))
        return self.out(pooled)


class _Stream(nn.Module):
    """MCAT of one magnification."""

    def __init__(self, n_features: int, group_sizes: Sequence[int], n_outputs: int, width: int):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Dropout(0.25))
        self.genes = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(n, width), nn.ELU(), nn.AlphaDropout(0.25)),
                *(nn.Linear(width, width), nn.ELU(), nn.AlphaDropout(0.25)),
            )
            for n in group_sizes
        )
        self.attend = nn.MultiheadAttention(width, 1, batch_first=True)
        self.tissue_encoder, self.gene_encoder = _GroupEncoder(width), _GroupEncoder(width)
        self.join = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, n_outputs)

    def forward(self, features: Tensor, mask: Tensor, genes: Sequence[Tensor]) -> Tensor:
        """Compute the logits. (B, N, D), (B, N) bool, (B, genes of a group) each → (B, C)."""
        tokens = self.project(features)  # (B, N, d)
        groups = torch.stack([net(values) for net, values in zip(self.genes, genes, strict=True)], 1)  # (B, groups, d)
        # A patient without tokens attends to the zeros at padding, since a softmax over nothing is not a number.
        padding = None if bool(mask.all()) else ~(mask | ~mask.any(1, keepdim=True))
        attended, _ = self.attend(groups, tokens, tokens, key_padding_mask=padding, need_weights=False)
        return self.head(self.join(torch.cat([self.tissue_encoder(attended), self.gene_encoder(groups)], 1)))


class MCAT(nn.Module):
    """Gene groups attend to all tiles by single-head co-attention; small transformers read the answers and the genes.

    One independent stream per magnification; logits are averaged over the magnifications that a patient has.

    Args:
        n_features: Width D of the encoder's features.
        n_genes: Number of genes of each subspace, {"tumor": G_t, "tme": G_e}.
        n_outputs: Number of outputs C.
        width: Width d, a multiple of 8.
        magnifications: Magnifications that the network reads.
        group_sizes: Number of genes of each group, over the genes of both subspaces side by side; None = six groups of
            equal size.

    Source: Chen et al., ICCV 2021.

    Departs from its released code, which drops out values within the gated pools, and whose six groups are functional
    categories of genes.
    """

    def __init__(
        self,
        n_features: int,
        n_genes: Mapping[str, int],
        n_outputs: int,
        width: int = 256,
        magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS,
        group_sizes: Sequence[int] | None = None,
    ):
        super().__init__()
        self.n_genes = {s: int(n_genes.get(s, 0)) for s in SUBSPACES}
        total = sum(self.n_genes.values())
        self.group_sizes = tuple(even_groups(total) if group_sizes is None else group_sizes)
        if sum(self.group_sizes) != total or not all(self.group_sizes):
            raise ValueError(f"gene groups of {self.group_sizes} genes do not divide {total} genes")
        if width % 8:
            raise ValueError(f"MCAT has eight attention heads, and a width of {width} is no multiple of 8")
        self.n_features, self.magnifications = n_features, tuple(magnifications)
        self.streams = TypedModuleDict[_Stream](
            {f"{m}x": _Stream(n_features, self.group_sizes, n_outputs, width) for m in self.magnifications}
        )

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        logits, available = [], []
        for m in self.magnifications:
            stream = self.streams[f"{m}x"]
            dtype = dtype_of(stream)
            features, mask = read_tissue(batch, m, self.n_features, dtype)
            logits.append(stream(features, mask, read_genes(batch, self.n_genes, dtype).split(self.group_sizes, 1)))
            available.append(mask.any(1))
        return mean_of_available(torch.stack(logits), torch.stack(available))


def even_groups(n_genes: int) -> list[int]:
    """Divide genes into `N_GROUPS` groups whose sizes differ by at most one; fewer groups than genes otherwise."""
    n_groups = min(N_GROUPS, n_genes)
    return [n_genes // n_groups + (k < n_genes % n_groups) for k in range(n_groups)]
