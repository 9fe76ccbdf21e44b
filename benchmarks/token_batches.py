"""Batches with any number of tokens on a tissue grid."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.types import Bag, Batch

TILE_UM = {10: 224.0, 20: 112.0}
# The sizes of the released code's lists; each gene is its own program.
GENES = {"tumor": [f"T{i}" for i in range(59)], "tme": [f"E{i}" for i in range(361)]}
EDGES = [365.0, 1095.0, 1825.0]
END = 4000.0


def grid_of(n_tokens: int, tile_um: float) -> Tensor:
    """Centres (N, 2) µm of n neighbouring tiles, row by row, of a tissue with a ragged outline."""
    side = int((1.6 * n_tokens) ** 0.5) + 3
    cell = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
    from_centre = cell.float() - side / 2
    angle = torch.atan2(from_centre[:, 0], from_centre[:, 1])
    radius = from_centre.norm(dim=1) / (1 + 0.15 * (3 * angle).sin() + 0.1 * (5 * angle).cos())
    inside = radius.argsort(stable=True)[:n_tokens].sort().values  # extraction writes tiles in reading order
    return (cell[inside].flip(1).float() + 0.5) * tile_um


def nested_grids(n_tokens: int) -> tuple[dict[int, Tensor], Tensor]:
    """Equally many tiles at 10x and 20x; the fine ones are children of the first coarse ones. → {m: (N, 2)}, parent (N,)."""
    coarse = grid_of(n_tokens, TILE_UM[10])
    quarter = TILE_UM[20] / 2
    corners = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    parents = torch.arange((n_tokens + 3) // 4)
    fine = (coarse[parents].unsqueeze(1) + corners).view(-1, 2)[:n_tokens]
    return {10: coarse, 20: fine}, parents.repeat_interleave(4)[:n_tokens]


def random_features(n_tokens: int, n_features: int, dtype: torch.dtype) -> Tensor:
    """Standard normal features (1, N, D), drawn in place to need no second array of this size."""
    return torch.empty(1, n_tokens, n_features, dtype=dtype).normal_()


def one_patient(n_tokens: int, n_features: int = 1024, dtype: torch.dtype = torch.float32, seed: int = 0) -> Batch:
    """One patient with `n_tokens` tokens at 10x and at 20x, RNA of `GENES` and a survival time."""
    torch.manual_seed(seed)
    places, parent = nested_grids(n_tokens)
    bags = {
        m: Bag(
            random_features(n_tokens, n_features, dtype),
            place.unsqueeze(0),
            torch.ones(1, n_tokens, dtype=torch.bool),
            torch.zeros(1, n_tokens, dtype=torch.long),
        )
        for m, place in places.items()
    }
    expression = {s: torch.randn(1, len(genes)) for s, genes in GENES.items()}
    observed = torch.ones(1, dtype=torch.bool)
    target = {"time": torch.tensor([700.0]), "event": torch.ones(1), "observed": observed}
    return Batch(["P0"], bags, parent.unsqueeze(0), expression, observed.clone(), target)
