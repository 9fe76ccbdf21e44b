"""Clusters of the paper's student: density peaks among all tokens of a patient, in linear time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dmml.functional.aggregation import DEFAULT_SCORE, PeakScore, dpc_knn
from dmml.functional.padding import clear_padding
from dmml.nn.neighbourhood import curve_index_of, gather_rows, order_by_slide, originals_of
from dmml.nn.never_compiled import never_compiled
from dmml.types import Bag

MAX_CANDIDATES = 1024
"""Largest number of tokens among which density peaks are sought; the cost grows with its square"""


class PeakClusters(NamedTuple):
    """The clusters of a bag's tokens."""

    assignment: Tensor
    """(B, N) int64, cluster of each token; −1 for masked tokens and for all but one of several copies"""
    originals: Tensor
    """(B, N) int64, the token that was kept of each token's copies; see `originals_of`"""


@never_compiled  # The number of candidates depends on the number of tokens: every length would compile anew.
def cluster_around_peaks(
    tokens: Tensor,
    bag: Bag,
    n_clusters: int,
    k: int = 5,
    score: PeakScore = DEFAULT_SCORE,
    max_candidates: int = MAX_CANDIDATES,
) -> PeakClusters:
    """Find density peaks, and let every token join the nearest one.

    A patient with at most `max_candidates` tokens is clustered exactly, as by `dpc_knn`. For a larger one, peaks are
    sought among as many candidates, which are evenly spaced along the curve of `neighbourhood_order` and so over the
    tissue; the cost then grows linearly with the tokens. `cluster_tissue`, which merges windows of neighbours round by
    round, is made for many clusters: where there are two, a single outlying token is often one of them, because after
    some rounds it counts as much as a point that represents a hundred tokens.

    Args:
        tokens: (B, N, d).
        bag: Mask, positions and slides of the tokens.
        n_clusters: Number of clusters K.
        k: Number of neighbours that determine the density.
        score: See `dpc_knn`.
        max_candidates: See `MAX_CANDIDATES`.

    Returns:
        The cluster of each token, and which token was kept of its copies. If a patient has fewer than K tokens, each
        token is a cluster.

    Source: eqs. 10–11 of the paper, which clusters all tokens at once; see `dpc_knn`.
    """
    if not tokens.shape[1]:
        return PeakClusters(bag.mask.long(), bag.mask.long())  # (B, 0)
    with torch.no_grad():
        points, curve_index = clear_padding(tokens.detach().float(), bag.mask), curve_index_of(bag)
        index = torch.arange(points.shape[1], device=points.device)
        originals = originals_of(points, curve_index)
        is_clustered = bag.mask & (originals == index)
        order = order_by_slide(curve_index, bag, is_clustered)
        n_tokens = is_clustered.sum(1, keepdim=True)
        place = index[:max_candidates].unsqueeze(0)  # (1, L)
        evenly_spaced = (2 * place + 1) * n_tokens // (2 * place.shape[1])
        rows = order.gather(1, torch.where(n_tokens > place.shape[1], evenly_spaced, place))
        candidates = gather_rows(points, rows)
        _, centres = dpc_knn(candidates, place < n_tokens, n_clusters, k, score)  # (B, K), −1 = none
        peaks = gather_rows(candidates, centres.clamp_min(0))
        # Cluster by cluster, because a product of all tokens and peaks would not see that two peaks are equal.
        distance = torch.stack([(points - peak.unsqueeze(1)).square().sum(2) for peak in peaks.unbind(1)], 2)
        distance = distance.masked_fill((centres < 0).unsqueeze(1), float("inf"))
        return PeakClusters(distance.min(2).indices.masked_fill(~is_clustered, -1), originals)
