"""Batches for tests: tissue on nested grids, and patients with any of their data missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dmml.types import Bag, Batch

DIM = 12
GENES = {"tumor": [f"T{i}" for i in range(6)], "tme": [f"E{i}" for i in range(5)]}


def make_bag(counts: Sequence[int], dim: int = DIM, tile_um: float = 112.0, slides: Sequence[int] | None = None) -> Bag:
    """A bag with `counts` tokens per patient on a grid of tiles, distributed over `slides` slides per patient."""
    batch, n = len(counts), max(counts, default=0)
    features = torch.randn(batch, n, dim)
    index = torch.arange(n).expand(batch, n)
    mask = index < torch.tensor(counts).unsqueeze(1)
    side = max(1, int(n**0.5))
    position = (torch.stack([index % side, index // side], -1) + 0.5) * tile_um
    slide = index % torch.tensor(slides or [1] * batch).unsqueeze(1)
    zero = ~mask.unsqueeze(-1)
    return Bag(features.masked_fill(zero, 0), position.masked_fill(zero, 0), mask, slide.masked_fill(~mask, 0))


def make_batch(
    coarse: Sequence[int] = (5, 3, 7, 4),
    fine: Sequence[int] = (20, 11, 28, 16),
    has_rna: Sequence[bool] | None = None,
    slides: Sequence[int] | None = None,
    kind: str = "survival",
) -> Batch:
    """Patients with `coarse` tokens at 10x, `fine` tokens at 20x, RNA where `has_rna` is True, and a target of a kind."""
    size = len(coarse)
    bags = {10: make_bag(coarse, tile_um=224.0, slides=slides), 20: make_bag(fine, slides=slides)}
    has_expression = torch.tensor([True] * size if has_rna is None else list(has_rna))
    parent = torch.randint(0, 10_000, bags[20].mask.shape) % torch.tensor(coarse).clamp_min(1).unsqueeze(1)
    parent = parent.masked_fill(~bags[20].mask | (torch.tensor(coarse) == 0).unsqueeze(1), -1)
    expression = {s: torch.randn(size, len(genes)) * has_expression.unsqueeze(1) for s, genes in GENES.items()}
    observed = torch.ones(size, dtype=torch.bool)
    target = {"time": torch.rand(size) * 2000 + 1, "event": (torch.rand(size) < 0.6).float(), "observed": observed}
    if kind == "classification":
        target = {"label": torch.randint(0, 3, (size,)), "observed": observed}
    return Batch([f"P{i}" for i in range(size)], bags, parent, expression, has_expression, target)


def one_patient(batch: Batch, i: int) -> Batch:
    """Patient i alone, without any padding."""
    bags, rows = {}, slice(i, i + 1)
    for m, bag in batch.bags.items():
        real = bag.mask[i]
        bags[m] = Bag(*(getattr(bag, name)[rows][:, real] for name in ("features", "position", "mask", "slide")))
    parent = batch.parent[rows][:, batch.bags[20].mask[i]] if 20 in batch.bags else batch.parent[rows, :0]
    return Batch(
        [batch.patient_id[i]],
        bags,
        parent,
        {s: values[rows] for s, values in batch.expression.items()},
        batch.has_expression[rows],
        {name: values[rows] for name, values in batch.target.items()},
    )


def pad_bag(bag: Bag, extra: int, garbage: float | None = None) -> Bag:
    """The bag followed by `extra` masked tokens of random values (or of one value)."""
    batch, dim = len(bag.mask), bag.features.shape[2]
    features = torch.randn(batch, extra, dim) * 100 if garbage is None else torch.full((batch, extra, dim), garbage)
    position = torch.rand(batch, extra, 2) * 1e6 - 5e5
    mask, slide = torch.zeros(batch, extra, dtype=torch.bool), torch.full((batch, extra), 4)
    pairs = ((bag.features, features), (bag.position, position), (bag.mask, mask), (bag.slide, slide))
    return Bag(*(torch.cat(pair, 1) for pair in pairs))


def pad_batch(batch: Batch, extra: int, garbage: float | None = None) -> Batch:
    """The batch with every bag padded as in `pad_bag`; the parents of the padding are −1."""
    parent = (
        torch.cat([batch.parent, torch.full((len(batch.parent), extra), -1)], 1) if 20 in batch.bags else batch.parent
    )
    return replace(batch, bags={m: pad_bag(bag, extra, garbage) for m, bag in batch.bags.items()}, parent=parent)


def shuffle_bag(bag: Bag, order: torch.Tensor) -> Bag:
    """The bag with its tokens in another order."""
    return Bag(*(getattr(bag, name)[:, order] for name in ("features", "position", "mask", "slide")))


def shuffle_batch(batch: Batch) -> tuple[Batch, dict[int, torch.Tensor]]:
    """The batch with the tokens of each bag in another order and parents to match; and the orders."""
    orders = {m: torch.randperm(bag.mask.shape[1]) for m, bag in batch.bags.items()}
    bags = {m: shuffle_bag(bag, orders[m]) for m, bag in batch.bags.items()}
    new_row = torch.empty_like(orders[10]).scatter(0, orders[10], torch.arange(len(orders[10])))
    parent = torch.where(batch.parent >= 0, new_row[batch.parent.clamp_min(0)], -1)[:, orders[20]]
    return replace(batch, bags=bags, parent=parent), orders
