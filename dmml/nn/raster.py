"""A raster that averages the tokens of a slide, to which every token contributes, and bilinear sampling from it."""

from __future__ import annotations

import torch
from torch import Tensor


def slide_frame(position: Tensor, mask: Tensor, slide: Tensor, n_slides: int) -> Tensor:
    """Scale positions to [−1, 1]² within the square that bounds the tissue of their slide.

    Args:
        position: (B, N, 2) µm.
        mask: (B, N) bool.
        slide: (B, N) index of the slide.
        n_slides: Number of slides S, at least 1 + the largest index.

    Returns:
        (B, N, 2); 0 for masked tokens and for a slide whose tokens share one position.
    """
    batch = len(position)
    index = slide.unsqueeze(-1).expand(-1, -1, 2)
    position = position.float()
    low = position.new_full((batch, n_slides, 2), float("inf"))
    low = low.scatter_reduce(1, index, position.masked_fill(~mask.unsqueeze(-1), float("inf")), "amin")
    high = position.new_full((batch, n_slides, 2), float("-inf"))
    high = high.scatter_reduce(1, index, position.masked_fill(~mask.unsqueeze(-1), float("-inf")), "amax")
    centre, half = (low + high) / 2, ((high - low) / 2).amax(-1, keepdim=True)  # (B, S, 2), (B, S, 1)
    relative = position - centre.gather(1, index)
    scale = half.gather(1, slide.unsqueeze(-1)).clamp_min(1e-6)
    return torch.where(mask.unsqueeze(-1), relative / scale, 0.0).clamp(-1, 1)


def rasterise(
    tokens: Tensor, position: Tensor, mask: Tensor, slide: Tensor, n_slides: int, cells: int
) -> tuple[Tensor, Tensor]:
    """Sum and count the tokens of every cell. Every token contributes, and the cost is linear in their number.

    Args:
        tokens: (B, N, d).
        position: (B, N, 2) in [−1, 1], from `slide_frame`.
        mask: (B, N) bool.
        slide: (B, N) index of the slide.
        n_slides: Number of slides S.
        cells: Cells along each side of the raster.

    Returns:
        (B·S, d, cells, cells) sums and (B·S, 1, cells, cells) counts; axes are y, x.
    """
    batch, _, dim = tokens.shape
    cell = ((position + 1) / 2 * cells).long().clamp(0, cells - 1)  # (B, N, 2) as x, y
    index = (slide * cells + cell[..., 1]) * cells + cell[..., 0]  # (B, N)
    size = n_slides * cells * cells
    index = index + torch.arange(batch, device=slide.device).unsqueeze(1) * size
    index = index.masked_fill(~mask, batch * size).flatten()  # padding goes to an extra row, which is dropped
    flat = tokens.float().reshape(-1, dim)
    sums = flat.new_zeros(batch * size + 1, dim).index_add(0, index, flat)[:-1]
    counts = flat.new_zeros(batch * size + 1).index_add(0, index, torch.ones_like(flat[:, 0]))[:-1]
    shape = (batch * n_slides, cells, cells, -1)
    return sums.view(*shape).permute(0, 3, 1, 2), counts.view(*shape).permute(0, 3, 1, 2)


def sample(sums: Tensor, counts: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the tissue around positions on the raster, and whether there is tissue.

    Sums and counts are both interpolated bilinearly and then divided. Empty cells and the border therefore have weight
    0 and do not lower the mean.

    Args:
        sums: (F, d, cells, cells) from `rasterise`.
        counts: (F, 1, cells, cells) from `rasterise`.
        position: (F, M, 2) in [−1, 1] as x, y.

    Returns:
        Means (F, M, d), 0 without tissue, and whether there is tissue (F, M) bool.
    """
    grid = position.unsqueeze(1).to(sums.dtype)  # (F, 1, M, 2)
    both = torch.nn.functional.grid_sample(
        torch.cat([sums, counts], 1), grid, padding_mode="zeros", align_corners=False
    )
    both = both.squeeze(2).transpose(1, 2)  # (F, M, d + 1)
    weight = both[..., -1:]
    has_tissue = weight > 1e-3
    return torch.where(has_tissue, both[..., :-1] / weight.clamp_min(1e-3), 0.0), has_tissue.squeeze(-1)


def spread(weight: Tensor, position: Tensor, cells: int) -> Tensor:
    """Spread weights from positions to the cells around them, bilinearly: the transpose of the sampling in `sample`.

    Args:
        weight: (F, M).
        position: (F, M, 2) in [−1, 1] as x, y; the part of a weight that falls beyond the raster is dropped.
        cells: Cells along each side of the raster.

    Returns:
        (F, cells, cells); axes are y, x.
    """
    index = (position.to(weight.dtype) + 1) / 2 * cells - 0.5
    low = index.detach().floor()
    spread_weight = weight.new_zeros(len(weight), cells * cells)
    for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
        cell = low + low.new_tensor(corner)
        share = (1 - (index - cell).abs()).prod(-1)
        is_inside = ((cell >= 0) & (cell < cells)).all(-1)
        x, y = cell.long().clamp(0, cells - 1).unbind(-1)
        spread_weight = spread_weight.scatter_add(1, y * cells + x, weight * share * is_inside)
    return spread_weight.unflatten(1, (cells, cells))
