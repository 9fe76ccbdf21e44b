"""What every baseline network does with a batch: reads tissue and genes, and averages the logits of available parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dmml.functional.padding import clear_padding
from dmml.types import SUBSPACES, Batch


def read_tissue(batch: Batch, magnification: int, n_features: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Read the tokens of one magnification; a batch without such a bag gives one padding token per patient.

    Args:
        batch: The batch.
        magnification: Key of the bag.
        n_features: Width D that the network was built for.
        dtype: Type of the network's weights.

    Returns:
        Features (B, N, D) with zeros at padding, and mask (B, N) bool.

    Raises:
        ValueError: The features have another width.
    """
    bag = batch.bags.get(magnification)
    if bag is None or bag.features.shape[1] == 0:
        has_rna = batch.has_expression
        return has_rna.new_zeros(len(has_rna), 1, n_features, dtype=dtype), has_rna.new_zeros(len(has_rna), 1)
    if bag.features.shape[2] != n_features:
        raise ValueError(
            f"features at {magnification}x are {bag.features.shape[2]} wide, the network was built for {n_features}; "
            "use the encoder that it was trained with"
        )
    return clear_padding(bag.features.to(dtype), bag.mask), bag.mask


def read_genes(batch: Batch, n_genes: Mapping[str, int], dtype: torch.dtype) -> Tensor:
    """Read the genes (B, G) of both subspaces side by side.

    Patients without RNA are treated as the mean patient, whose standardised genes are 0.

    Args:
        batch: The batch.
        n_genes: Number of genes of each subspace, {"tumor": G_t, "tme": G_e}.
        dtype: Type of the network's weights.
    """
    has_rna = batch.has_expression.unsqueeze(1)
    parts = [
        batch.expression[s].to(dtype) if s in batch.expression else has_rna.new_zeros(len(has_rna), n, dtype=dtype)
        for s, n in ((s, n_genes.get(s, 0)) for s in SUBSPACES)
        if n
    ]
    return torch.where(has_rna, torch.cat(parts, 1), 0.0)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Type of a module's weights."""
    return next(module.parameters()).dtype


def mean_of_available(logits: Tensor, available: Tensor) -> Tensor:
    """Mean over the available parts, or over all if none is available. (M, B, C), (M, B) bool → (B, C) float32."""
    weight = (available | ~available.any(0, keepdim=True)).float().unsqueeze(-1)  # (M, B, 1)
    return (logits.float() * weight).sum(0) / weight.sum(0)
