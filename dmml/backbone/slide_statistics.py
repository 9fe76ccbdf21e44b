"""Label-free statistics of a slide: shift, composition, contrasts within tissue clusters, and rare directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dmml.functional.groups import sum_by_group
from dmml.functional.padding import clear_padding
from dmml.types import Bag

STATISTICS = ("shift", "composition", "contrasts", "rare")
CONTRAST_SHRINKAGE = 3.0
"""Number of pseudo-tokens at a cluster's centre that are added to its contrast, which shrinks the contrast towards 0"""
RARE_THRESHOLD = 1.5
"""Number of standard deviations beyond which a token counts as an outlier along a direction"""
ROOT_OFFSET = 0.01
"""Makes the signed root smooth at 0; pure noise has mean signed squares of about this size"""


def signed_square(z: Tensor) -> Tensor:
    """Square the excess over the threshold and keep its sign: e |e| with e = sign(z) max(|z| − 1.5, 0), elementwise."""
    excess = z - z.clamp(-RARE_THRESHOLD, RARE_THRESHOLD)
    return excess * excess.abs()


def signed_root_scale(mean: Tensor) -> Tensor:
    """Return √(|r| + 0.01) for a mean r of signed squares, whose signed root is r / √(|r| + 0.01)."""
    return (mean.abs() + ROOT_OFFSET).sqrt()


class SlideStatistics(nn.Module):
    """Statistics of the tokens of one magnification; `fit_slide_statistics` fits their parameters.

    Let x̂_n be a standardised token, s the mean of its slide, k its nearest cluster, g_k that cluster's centre and N_k
    its number of tokens:

    - shift (D): mean of x̂ over all tokens of the patient;
    - composition (K): share of the tokens in each cluster;
    - contrasts (K · D): c_k = Σ_{n in k} (x̂_n − s − g_k) / (N_k + 3), which is invariant to a shift of a whole slide;
    - rare (J): with the residual y_n = x̂_n − s − g_k − c_k, and z = y · v_j / u for each direction v_j that stands out
      and the noise's standard deviation u, the signed root r / √(|r| + 0.01) of r = mean_n e |e| with
      e = sign(z) max(|z| − 1.5, 0); it grows in proportion to how far out a few tokens are.

    All are invariant to the order of tokens, to padding and to the other patients of a batch. The cost is linear in the
    number of tokens.

    Args:
        n_features: D.
        n_clusters: K; 0 if slides are single vectors, in which case only the shift has columns.
        n_directions: J.
    """

    mean: Tensor
    scale: Tensor
    centres: Tensor
    directions: Tensor
    noise_sd: Tensor

    def __init__(self, n_features: int, n_clusters: int = 0, n_directions: int = 0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("centres", torch.zeros(n_clusters, n_features))
        self.register_buffer("directions", torch.zeros(n_directions, n_features))
        self.register_buffer("noise_sd", torch.ones(()))

    @property
    def sizes(self) -> dict[str, int]:
        """Number of columns of each statistic."""
        n_clusters, n_features = self.centres.shape
        sizes = (n_features, n_clusters, n_clusters * n_features, len(self.directions))
        return dict(zip(STATISTICS, sizes, strict=True))

    def forward(self, bag: Bag) -> dict[str, Tensor]:
        """Return {statistic: (B, columns)} in float32; 0 for a patient without tokens."""
        with torch.autocast(bag.features.device.type, enabled=False):
            x, slide = self.prepare(bag)
            return self.from_scores(x, slide, x @ self.score_layer()[0].T, bag.mask)

    def score_layer(self) -> tuple[Tensor, Tensor]:
        """Return weight (K + J, D) and bias (K + J,) of the linear layer from raw tokens to their scores.

        The scores are the inner products of a standardised token with the centres and directions.
        """
        weight = torch.cat([self.centres, self.directions]) / self.scale
        return weight, weight.new_zeros(len(weight))

    def prepare(self, bag: Bag) -> tuple[Tensor, Tensor]:
        """Return raw tokens (B, N, D) in float32 with padding set to 0, and one-hot slide membership (B, N, S)."""
        index = torch.arange(bag.count_slides(), device=bag.slide.device).view(1, -1, 1)
        slide = ((bag.slide.unsqueeze(1) == index) & bag.mask.unsqueeze(1)).float()  # (B, S, N)
        return clear_padding(bag.features.float(), bag.mask), slide.transpose(1, 2)

    def from_scores(self, x: Tensor, slide: Tensor, scores: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute the same statistics as `forward` from scores that have been computed already.

        Args:
            x: (B, N, D) from `prepare`.
            slide: (B, N, S) from `prepare`.
            scores: (B, N, K + J) of `x` by the weight and bias of `score_layer`.
            mask: (B, N) bool.
        """
        count = mask.sum(1, keepdim=True).clamp_min(1).float()  # (B, 1)
        present = mask.any(1, keepdim=True)
        if not len(self.centres):
            shift = ((x.sum(1) / count - self.mean) / self.scale) * present
            empty = shift[:, :0]
            return {"shift": shift, "composition": empty, "contrasts": empty, "rare": empty}
        scores, nearest = self._nearest(scores, slide, mask)
        n_clusters, n_slides = len(self.centres), slide.shape[2]
        cluster = self._one_hot(nearest)

        # One pass over the tokens sums them by slide and cluster; all other sums follow from these.
        group = torch.where(nearest < 0, -1, slide.argmax(2) * n_clusters + nearest)
        by_slide = sum_by_group(x, group, n_slides * n_clusters).unflatten(1, (n_slides, n_clusters))  # (B, S, K, D)
        total = by_slide.sum(2)  # (B, S, D)
        members = cluster.transpose(1, 2)  # (B, K, N)
        per_slide = slide.sum(1).clamp_min(1).unsqueeze(1)  # (B, 1, S) tokens
        sums = by_slide.sum(1) - (members @ slide / per_slide) @ total  # Σ_{n in k} (x_n − s)
        size = members.sum(2, keepdim=True)  # (B, K, 1)
        contrasts = (sums / self.scale - size * self.centres) / (size + CONTRAST_SHRINKAGE)
        return {
            "shift": ((total.sum(1) / count - self.mean) / self.scale) * present,
            "composition": size.squeeze(2) / count,
            "contrasts": contrasts.flatten(1),
            "rare": self._rare(self.rare_scores(scores[..., n_clusters:], cluster, contrasts), count) * present,
        }

    def assign(self, x: Tensor, slide: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Score each token relative to its slide, and assign it to its nearest cluster.

        Args:
            x: (B, N, D) from `prepare`.
            slide: (B, N, S) from `prepare`.
            mask: (B, N) bool.

        Returns:
            Scores (B, N, K + J) of the slide-centred tokens along the centres and directions, and each token's nearest
            cluster (B, N, K), one-hot, 0 at padding.
        """
        scores, nearest = self._nearest(x @ self.score_layer()[0].T, slide, mask)
        return scores, self._one_hot(nearest)

    def _nearest(self, scores: Tensor, slide: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Centre scores (B, N, K + J) by slide, and return them with the nearest cluster (B, N), −1 at padding."""
        # N is the last, contiguous dimension: with the few scores last, every operation would be many times slower.
        slides, scores = slide.transpose(1, 2), scores.transpose(1, 2).contiguous()  # (B, S, N), (B, K + J, N)
        per_slide = slides.sum(2).clamp_min(1).unsqueeze(1)
        # Scores are linear in the tokens, so centring the few scores replaces centring all features.
        scores = scores - (scores @ slide / per_slide) @ slides
        n_clusters = len(self.centres)
        distance = self.centres.square().sum(1, keepdim=True) / 2 - scores[:, :n_clusters]
        nearest = distance.min(1).indices.masked_fill(~mask, -1)
        return scores.transpose(1, 2), nearest

    def _one_hot(self, nearest: Tensor) -> Tensor:
        """Encode clusters as one-hot (B, N, K), 0 at padding; stored with N last for speed, as in `_nearest`."""
        index = torch.arange(len(self.centres), device=nearest.device).view(1, -1, 1)
        return (nearest.unsqueeze(1) == index).float().transpose(1, 2)

    def rare_scores(self, scores: Tensor, cluster: Tensor, contrasts: Tensor) -> Tensor:
        """Return the scores z (B, N, J) of the residuals y along each direction, 0 at padding.

        Args:
            scores: (B, N, J) of the slide-centred tokens along the directions.
            cluster: (B, N, K) one-hot.
            contrasts: (B, K, D).
        """
        explained = self.directions @ (self.centres + contrasts).transpose(1, 2)  # (B, J, K)
        members = cluster.transpose(1, 2)  # N last, as in `_nearest`
        z = (scores.transpose(1, 2) - explained @ members) / self.noise_sd * members.sum(1, keepdim=True)
        return z.transpose(1, 2)

    def _rare(self, z: Tensor, count: Tensor) -> Tensor:
        """Return the rare statistic (B, J) from the scores z (B, N, J)."""
        mean = signed_square(z).sum(1) / count
        return mean / signed_root_scale(mean)

    def residual(self, bag: Bag) -> Tensor:
        """Return one patient's residuals (tokens, D): standardised tokens minus slide mean, centre and contrast."""
        x, slide = self.prepare(bag)
        x, slide = x[0][bag.mask[0]] / self.scale, slide[0][bag.mask[0]]
        mean = (slide.T @ x) / slide.sum(0).clamp_min(1).unsqueeze(-1)
        x = x - slide @ mean
        nearest = (self.centres.square().sum(1) / 2 - x @ self.centres.T).argmin(-1)
        cluster = one_hot(nearest, len(self.centres)).float()
        x = x - cluster @ self.centres
        contrasts = (cluster.T @ x) / (cluster.sum(0).unsqueeze(-1) + CONTRAST_SHRINKAGE)
        return x - cluster @ contrasts
