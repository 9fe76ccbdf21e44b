"""Blocks of columns: from raw columns to a centred design matrix, and from a linear model's weights to a readout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MAX_RANK = 256
"""Maximum rank of a block's design; with fewer patients than this, no information is lost"""
CLIP = 5.0
"""Standardised columns are clipped at ± this value, so that slides from another scanner are not extrapolated far"""


@dataclass(frozen=True)
class Block:
    """A fitted block.

    Attributes:
        mean: (d,) mean over training patients.
        scale: (d,) standard deviation over training patients, or 1.
        basis: (d, r) maps standardised columns to the design, whose training rows have a mean squared norm of 1.
        clip: Standardised columns are clipped at ± clip.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    basis: NDArray[np.float64]
    clip: float

    def design(self, raw: NDArray, present: NDArray) -> NDArray[np.float64]:
        """Return the design matrix; missing columns count as the training mean. (n, d), (n, d) bool → (n, r)."""
        z = np.clip((raw - self.mean) / self.scale, -self.clip, self.clip)
        return np.where(present, z, 0.0) @ self.basis

    def readout(self, weights: NDArray) -> Readout:
        """Return the module that computes `design @ weights` from raw columns."""
        return Readout(self.mean, self.scale, self.basis @ weights, self.clip)


def fit_block(
    raw: NDArray, present: NDArray, standardise: bool = True, whiten: int | None = None, clip: float = CLIP
) -> Block | None:
    """Fit a block to training patients.

    Args:
        raw: (n, d).
        present: (n, d) bool, whether a patient has the column.
        standardise: Whether columns get unit variance; otherwise they keep their proportions.
        whiten: Number of principal components to keep, each scaled to the same variance; None = all, up to `MAX_RANK`,
            unscaled.
        clip: See `Block`.

    Returns:
        The block; None if no column differs between patients.
    """
    count = np.maximum(present.sum(0), 1)
    mean = np.where(present, raw, 0.0).sum(0) / count
    centred = np.where(present, raw - mean, 0.0)
    sd = np.sqrt((centred**2).sum(0) / count)
    scale = np.where(sd > 1e-8, sd, 1.0) if standardise else np.ones_like(sd)
    z = np.where(present & (sd > 1e-8), np.clip(centred / scale, -clip, clip), 0.0)
    if len(z) < 2 or not z.any():
        return None
    _, size, right = np.linalg.svd(z, full_matrices=False)
    rank = min(whiten or MAX_RANK, len(z) - 1, int((size > 1e-6 * size[0]).sum()))
    # The design is z @ basis: principal components, unscaled or scaled to equal variance.
    basis = right[:rank].T / (size[:rank] if whiten else 1.0)
    norm = np.sqrt(((z @ basis) ** 2).sum(1)[present.any(1)].mean())
    basis = basis * (sd > 1e-8)[:, None] / norm
    return Block(mean, scale, basis, clip)


LEADING_FRACTION = 1 / 3
"""Fraction of the RNA's prior variance on the whitened leading components; the rest follows the genes' spectrum"""


def fit_gene_block(genes: NDArray, present: NDArray, components: int) -> Block | None:
    """Fit the genes of a subspace as one block: whitened leading components, and all components in their proportions.

    Whitening the leading components is better if a few factors drive many genes (simulated cohorts). An ordinary ridge
    on all genes is better if the outcome depends on directions of little variance (TCGA-GBMLGG: concordance 0.83,
    against 0.74 with whitening). The two together lose little against the better one.

    Args:
        genes: (n, G) standardised and clipped.
        present: (n, G) bool, whether a patient has the gene.
        components: Number of leading components that are whitened.

    Returns:
        The block; None if no gene differs between patients.
    """
    leading = fit_block(genes, present, standardise=False, whiten=components, clip=np.inf)
    whole = fit_block(genes, present, standardise=False, clip=np.inf)
    if leading is None or whole is None:
        return None
    basis = np.hstack([np.sqrt(LEADING_FRACTION) * leading.basis, np.sqrt(1 - LEADING_FRACTION) * whole.basis])
    return Block(whole.mean, whole.scale, basis, np.inf)


class Readout(nn.Module):
    """Part of a linear predictor from raw columns: clip((raw − mean) / scale) @ weight, with missing columns as 0.

    Shape:
        raw (B, d), present (B, d) bool → (B, q).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    clip: Tensor

    def __init__(self, mean: NDArray, scale: NDArray, weight: NDArray, clip: float):
        super().__init__()
        # A checkpoint must not contain infinity, which could not be averaged.
        clip = min(clip, float(np.finfo(np.float32).max))
        for name, values in (("mean", mean), ("scale", scale), ("weight", weight), ("clip", clip)):
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32))

    @classmethod
    def empty(cls, n_columns: int, n_outputs: int) -> Readout:
        """Create a readout whose values are to be loaded from a checkpoint."""
        return cls(np.zeros(n_columns), np.ones(n_columns), np.zeros((n_columns, n_outputs)), CLIP)

    def forward(self, raw: Tensor, present: Tensor) -> Tensor:
        """Return this block's part of the predictor."""
        z = ((raw - self.mean) / self.scale).clamp(-self.clip, self.clip)
        return torch.where(present, z, 0.0) @ self.weight
