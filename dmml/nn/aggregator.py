"""The student's token aggregation at one magnification: merge informative tokens, apply self-attention, pool.

Every aggregation is constructed as `Aggregator(width, n_merged)`. A config can name any other class with this interface
by its class path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from dmml.nn.deformable_attention import DeformableAttention
from dmml.nn.merger import MAX_POINTS, cluster_tissue, merge_informative
from dmml.nn.pooling import GatedPool
from dmml.types import SUBSPACES, Bag


class Aggregated(NamedTuple):
    """What an aggregation makes of the tokens of a bag."""

    embeddings: dict[str, Tensor]
    """{s: (B, d)}"""
    attention: dict[str, Tensor]
    """{s: (B, N)}, sums to 1 over the real tokens of a patient; 0 for a patient without tokens"""
    prototypes: Tensor | None = None
    """(B, N) int64, index into `SUBSPACES` of the prototype to which a token belongs, −1 = none; None = the aggregation
    has no prototypes"""


class Aggregator(nn.Module):
    """Interface of an aggregation of tokens.

    Args:
        width: Width d of tokens and embeddings.
        n_merged: Number of merged tokens per subspace; None = tokens are not merged.
        tissue_attention: Whether tokens first read the tissue of their slide by deformable attention (H-to-H), in a
            residual connection: h + attended(h). It runs before both subspaces get the tokens, so that it is computed
            once per magnification, and so that the gradients which coordination lets meet are those of the tokens that
            both subspaces read.

    Attributes:
        is_whole_embedding: Whether the result is the subspace's whole embedding, which passes through no programs.
    """

    is_whole_embedding: ClassVar[bool] = False

    def __init__(self, width: int, n_merged: int | None, tissue_attention: bool = False):
        super().__init__()
        self.width, self.n_merged = width, n_merged
        self.tissue_attention = DeformableAttention(width) if tissue_attention else None
        self._held_clusters: tuple[Tensor, ...] | None = None

    def find_clusters(self, tokens: Tensor, bag: Bag) -> tuple[Tensor, ...]:
        """Find the clusters of the shared tokens (B, N, d), as integers (B, N); () for an aggregation without clusters."""
        return ()

    def clusters(self, tokens: Tensor, bag: Bag) -> tuple[Tensor, ...]:
        """Return the clusters that are held, or otherwise find them."""
        return self.find_clusters(tokens, bag) if self._held_clusters is None else self._held_clusters

    @contextmanager
    def hold_clusters(self, tokens: Tensor, bag: Bag) -> Iterator[None]:
        """Keep the clusters of these tokens within the context, whatever tokens `forward` gets.

        Clusters jump as tokens change, and a gradient does not see a jump. With held clusters the result is a smooth
        function of the tokens, which can be integrated along a path.
        """
        self._held_clusters = self.find_clusters(tokens, bag)
        try:
            yield
        finally:
            self._held_clusters = None

    def shared_tokens(self, tokens: Tensor, bag: Bag) -> Tensor:
        """Change the tokens (B, N, d) before both subspaces get them."""
        if self.tissue_attention is None:
            return tokens
        return tokens + self.tissue_attention(tokens, bag).values

    def forward(self, tokens: dict[str, Tensor], bag: Bag) -> Aggregated:
        """Aggregate the tokens of each subspace.

        Args:
            tokens: {s: (B, N, d)}, which both are `shared_tokens`.
            bag: Mask, positions and slides of the tokens.

        Returns:
            The `Aggregated`; nothing in it depends on padding, on the order of tokens or on the other patients of the
            batch. An aggregation of your own may return the plain pair of embeddings and attention.
        """
        raise NotImplementedError


class TokenAggregator(Aggregator):
    """Informative token aggregation for both subspaces of one magnification.

    Both subspaces share one clustering of the tissue. Each subspace weights the members of a cluster by a separate
    linear score, and so keeps what is informative to it. Attention runs among the K merged tokens only. A merged token
    enters the pool with the logsumexp of its members' scores. Before anything is learned about the merged tokens, the
    pool therefore equals the softmax(score) pool over all tokens, and cluster sizes do not outvote rare tissue.

    Args:
        width: Width d of the tokens.
        n_merged: Number K of merged tokens per subspace. None disables merging, which makes the attention quadratic in
            the number of tokens.
        heads: Number of attention heads.
        dropout: Dropout rate of the attention block.
        tissue_attention: See `Aggregator`; the paper's H-to-H deformation (eqs. 8–9).

    Shape:
        tokens {s: (B, N, d)} → embeddings {s: (B, d)}, attention {s: (B, N)}.

    Source: contribution 4 of the paper (`ClusterMergeNet` in the released code). Departs from the paper, which makes one
    cluster per subspace and no attention among merged tokens; `dmml.nn.paper.aggregator.PrototypeAggregator` does that.
    """

    def __init__(
        self,
        width: int,
        n_merged: int | None = 8,
        heads: int = 4,
        dropout: float = 0.1,
        tissue_attention: bool = False,
    ):
        super().__init__(width, n_merged, tissue_attention)
        if n_merged is not None and not 1 <= n_merged <= MAX_POINTS // 2:
            raise ValueError(
                f"n_merged must be between 1 and {MAX_POINTS // 2}, or None for no merging; got {n_merged}"
            )
        self.score = nn.ModuleDict({s: nn.Linear(width, 1, bias=False) for s in SUBSPACES})
        self.attend = nn.ModuleDict({s: AttentionBlock(width, heads, dropout) for s in SUBSPACES})
        self.pool = nn.ModuleDict({s: GatedPool(width) for s in SUBSPACES})

    def find_clusters(self, tokens: Tensor, bag: Bag) -> tuple[Tensor, ...]:
        """See `Aggregator.find_clusters`."""
        return () if self.n_merged is None else (cluster_tissue(tokens, bag, self.n_merged),)

    def forward(self, tokens: dict[str, Tensor], bag: Bag) -> Aggregated:
        """See `Aggregator.forward`."""
        if self.n_merged is None:
            return self._without_merging(tokens, bag)
        [assignment] = self.clusters(tokens[SUBSPACES[0]], bag)  # (B, N)
        has_tokens = bag.mask.new_zeros(len(assignment), self.n_merged + 1)
        has_tokens = has_tokens.scatter(1, assignment.masked_fill(assignment < 0, self.n_merged), True)[
            :, :-1
        ]  # (B, K)
        embeddings, attention = {}, {}
        for s in SUBSPACES:
            score = self.score[s](tokens[s]).squeeze(-1)
            merged, weight_in_cluster, log_weight = merge_informative(tokens[s], score, assignment, self.n_merged)
            merged = self.attend[s](merged, has_tokens)  # (B, K, d)
            log_prior = log_weight.masked_fill(~has_tokens, 0)
            embeddings[s], merged_attention = self.pool[s](merged, has_tokens, log_prior=log_prior)
            attention[s] = merged_attention.gather(1, assignment.clamp_min(0)) * weight_in_cluster * bag.mask
        return Aggregated(embeddings, attention)

    def _without_merging(self, tokens: dict[str, Tensor], bag: Bag) -> Aggregated:
        embeddings, attention = {}, {}
        for s in SUBSPACES:
            attended = self.attend[s](tokens[s], bag.mask)
            log_prior = self.score[s](tokens[s]).squeeze(-1)
            embeddings[s], attention[s] = self.pool[s](attended, bag.mask, log_prior=log_prior)
        return Aggregated(embeddings, attention)


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and a feed-forward network, each residual. (B, K, d), (B, K) → (B, K, d).

    With equal weights and without dropout, this is bit for bit `nn.TransformerEncoderLayer(norm_first=True)` under the
    same masks, and as fast in training. That layer is not used, because it drops out the output of both residual
    branches as well, and because its fused path without gradients gives NaN for a patient without tokens and takes four
    times as long where tokens are not merged (`docs/decisions/written_by_hand.md`).
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        widen, narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.feed_forward = nn.Sequential(widen, nn.GELU(), nn.Dropout(dropout), narrow)
        for layer in (self.out, narrow):  # the block starts as the identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Let the tokens attend to each other."""
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in self.qkv(self.norm_attention(tokens)).chunk(3, -1)
        )
        # A patient without tokens attends to all of its (zero) slots, because a softmax over no keys is NaN.
        visible = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, dropout_p=self.dropout if self.training else 0.0
        )
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        return tokens + self.feed_forward(self.norm_feed_forward(tokens))
