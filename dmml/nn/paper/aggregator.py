"""The paper's informative token aggregation: two clusters of tissue, whose prototypes are the subspaces' embeddings."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dmml.errors import InputError
from dmml.functional.aggregation import PeakScore
from dmml.nn.aggregator import Aggregated, Aggregator
from dmml.nn.merger import merge_informative
from dmml.nn.neighbourhood import label_copies
from dmml.nn.paper.clustering import cluster_around_peaks
from dmml.nn.pooling import GatedPool
from dmml.types import SUBSPACES, Bag


class _Prototypes(NamedTuple):
    """The two clusters of a bag, merged, as one subspace sees them."""

    merged: Tensor
    """(B, 2, d)"""
    weight_in_cluster: Tensor
    """(B, N), sums to 1 over a cluster"""
    tumor_share: Tensor
    """(B, 2), how far each cluster is the tumor's; sums to 1 where there are two clusters"""


class PrototypeAggregator(Aggregator):
    """Aggregation of the paper: tissue attention, two clusters, and one prototype per subspace.

    1. Tokens read the tissue of their slide by deformable attention (eqs. 8–9): z = h + W_o attended(h).
    2. DPC-kNN on all tokens of the patient finds K = 2 clusters (eqs. 10–11). With more than 1,024 tokens, centres are
       sought among 1,024 evenly spaced ones (`cluster_around_peaks`), which keeps the cost linear.
    3. Each cluster is merged with predicted significance: c_k = Σ ω_n z_n / Σ ω_n, ω = exp(w_s · z) (eq. 12).
    4. The paper does not say which cluster is the tumor's. Here a learned direction w decides:
       g = σ(exp(t) · w · (c_1 − c_2)), X^T = g c_1 + (1 − g) c_2, X^E = (1 − g) c_1 + g c_2. To swap the clusters changes
       nothing, and the distance to the teacher's embeddings reaches w and t.

    The prototypes X^T and X^E are the embeddings. A patient with a single cluster, e.g. with a single token, has it as
    both prototypes. The attention of a token is its weight within its cluster times the cluster's share in the
    prototype. Copies of a token belong to the cluster of the one that was kept.

    Args:
        width: Width d of tokens and embeddings.
        n_merged: 2, or None for the ablation without clustering and merging: a gated attention pool per subspace.
        tissue_attention: Whether tokens read the tissue of their slide first.
        neighbours: Number k of neighbours that determine the density.
        printed_density: Whether ρ is that of eq. 10 as printed (`PeakScore`). Without the division of distances by √d, which
            the released code has, exp(−D²) of tokens with a hundred channels differs by so many orders of magnitude
            that separation counts for little: both centres may lie in the densest tissue, and two planted types are
            often not separated (`tests/nn/test_prototypes.py`).
        printed_separation: Whether the separation is that of eq. 11 as printed; False scores ρδ, as the released code.

    Raises:
        InputError: `n_merged` is another number.

    Source: eqs 8 to 12 of the paper. Departs from the released code, whose slots are ordered by score
    and whose number of clusters grows with the tokens, and from the paper in the candidates of step 2 and in the
    residual of step 1, which the released code has.
    """

    is_whole_embedding = True

    def __init__(
        self,
        width: int,
        n_merged: int | None = 2,
        tissue_attention: bool = True,
        neighbours: int = 5,
        printed_density: bool = False,
        printed_separation: bool = True,
    ):
        if n_merged not in (None, len(SUBSPACES)):
            raise InputError(
                f"model.n_merged: PrototypeAggregator makes one cluster per subspace, and n_merged is {n_merged}; set it "
                "to 2, or to null for no clustering"
            )
        super().__init__(width, n_merged, tissue_attention)
        self.neighbours, self.peak_score = neighbours, PeakScore(printed_density, printed_separation)
        if n_merged is None:
            self.pool = nn.ModuleDict({s: GatedPool(width) for s in SUBSPACES})
            return
        self.significance = nn.Linear(width, 1, bias=False)
        self.direction = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.direction.weight, std=width**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(4.0)))

    def find_clusters(self, tokens: Tensor, bag: Bag) -> tuple[Tensor, ...]:
        """See `Aggregator.find_clusters`: the cluster of each token, and the token of which it is a copy."""
        if self.n_merged is None:
            return ()
        return cluster_around_peaks(tokens, bag, self.n_merged, self.neighbours, self.peak_score)

    def forward(self, tokens: dict[str, Tensor], bag: Bag) -> Aggregated:
        """See `Aggregator.forward`."""
        if self.n_merged is None:
            pooled = {s: self.pool[s](tokens[s], bag.mask) for s in SUBSPACES}
            return Aggregated({s: each[0] for s, each in pooled.items()}, {s: each[1] for s, each in pooled.items()})
        tumor, tme = SUBSPACES
        assignment, originals = self.clusters(tokens[tumor], bag)
        prototypes = {tumor: self._prototypes(tokens[tumor], assignment)}
        # Both subspaces have the same tokens. Where no rule parts their gradients, they are one tensor, merged once.
        is_same = tokens[tme] is tokens[tumor]
        prototypes[tme] = prototypes[tumor] if is_same else self._prototypes(tokens[tme], assignment)
        embeddings, attention = {}, {}
        for s, (merged, weight_in_cluster, tumor_share) in prototypes.items():
            # With a single cluster both rows are its 1; otherwise the share of the other subspace is the complement.
            share = tumor_share if s == tumor else torch.where(_has_two(assignment), 1 - tumor_share, tumor_share)
            embeddings[s] = (share.unsqueeze(1).to(merged.dtype) @ merged).squeeze(1)
            attention[s] = share.gather(1, assignment.clamp_min(0)) * weight_in_cluster * (assignment >= 0)
        labels = _labels(assignment, prototypes[tumor].tumor_share)
        return Aggregated(embeddings, attention, label_copies(labels, originals, bag.mask))

    def _prototypes(self, tokens: Tensor, assignment: Tensor) -> _Prototypes:
        """Merge both clusters, and decide which is the tumor's. (B, N, d), (B, N) → `_Prototypes`."""
        significance = self.significance(tokens).squeeze(-1)
        merged, weight_in_cluster, _ = merge_informative(tokens, significance, assignment, len(SUBSPACES))
        difference = self.direction(merged[:, 0] - merged[:, 1]).float()  # (B, 1)
        first = (self.log_scale.exp() * difference).sigmoid()
        share = torch.cat([first, 1 - first], 1)
        occupied = torch.stack([(assignment == k).any(1) for k in range(len(SUBSPACES))], 1)
        return _Prototypes(
            merged, weight_in_cluster, torch.where(_has_two(assignment), share, occupied.to(share.dtype))
        )


def _has_two(assignment: Tensor) -> Tensor:
    """Whether a patient has tokens in both clusters. (B, N) → (B, 1)."""
    return ((assignment == 0).any(1) & (assignment == 1).any(1)).unsqueeze(1)


def _labels(assignment: Tensor, tumor_share: Tensor) -> Tensor:
    """Index into `SUBSPACES` of the prototype that is nearest to a token's cluster; −1 = none, or there is one cluster.

    Args:
        assignment: (B, N) cluster of each token, −1 = none.
        tumor_share: (B, 2) of `_Prototypes`.
    """
    first_is_tumor = (tumor_share[:, :1] >= 0.5).long()  # (B, 1)
    label = torch.where(first_is_tumor.bool(), assignment, 1 - assignment)
    return label.masked_fill((assignment < 0) | ~_has_two(assignment), -1)
