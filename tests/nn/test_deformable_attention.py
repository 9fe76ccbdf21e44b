"""Deformable attention to movable anchors, with a condition and without, compared with plain loops."""

import math

import pytest
import torch
from batches import make_bag, pad_bag, shuffle_bag
from torch import nn

from dmml.nn.deformable_attention import Attended, DeformableAttention
from dmml.nn.fusion import DeformableFusion
from dmml.types import Bag

WIDTH = 16


def build(conditioned: bool, **sizes) -> DeformableAttention:
    part = DeformableAttention(WIDTH, conditioned=conditioned, **sizes).eval()
    nn.init.normal_(part.offset[-1].weight, std=0.5)  # offsets start near 0: move the anchors
    return part


def slow_anchors(part, tokens, position, condition):
    """Keys (before W), places and visibility of one slide's anchors, by loops over cells, corners and anchors."""
    low, high = position.min(0).values, position.max(0).values
    half = ((high - low) / 2).max()
    relative = (position - (low + high) / 2) / half
    n = part.cells
    cells = {}
    for h, (x, y) in zip(tokens, relative, strict=True):
        key = tuple(min(n - 1, max(0, int((v + 1) / 2 * n))) for v in (y, x))  # as float32, which rounds at borders
        cells.setdefault(key, []).append(h)

    def around(point):
        total, weight = torch.zeros(WIDTH), 0.0
        x, y = ((float(v.detach()) + 1) / 2 * n - 0.5 for v in point)
        for j in (math.floor(y), math.floor(y) + 1):
            for i in (math.floor(x), math.floor(x) + 1):
                share = (1 - abs(y - j)) * (1 - abs(x - i))
                for h in cells.get((j, i), []):
                    total, weight = total + share * h, weight + share
        return (total / weight, True) if weight > 1e-3 else (torch.zeros(WIDTH), False)

    side = round(len(part.grid) ** 0.5)
    keys, places, visible = [], [], []
    for row in range(side):
        for column in range(side):
            point = torch.tensor([(column + 0.5) / side * 2 - 1, (row + 0.5) / side * 2 - 1])
            read = around(point)[0]
            offset = part.offset(read if condition is None else torch.cat([read, condition])).tanh()
            moved = point + part.max_offset * offset
            key, has_tissue = around(moved)
            keys, places, visible = [*keys, key], [*places, moved], [*visible, has_tissue]
    return [*keys, tokens.mean(0)], [*places, torch.zeros(2)], [*visible, True], relative


def slow(part, bag, condition, i):
    """Attended values of patient i's tokens, and the attention of the condition to the anchors."""
    h, places = bag.features[i], bag.position[i]
    d, f = part.inner // part.heads, part.frequency.shape[1]
    values, maps = torch.zeros(len(h), part.inner), torch.zeros(part.heads, len(part.grid) + 1)
    for s in bag.slide[i][bag.mask[i]].unique():
        rows = [n for n in range(len(h)) if bag.mask[i, n] and bag.slide[i, n] == s]
        keys, anchors, visible, relative = slow_anchors(part, h[rows], places[rows], condition)
        kv = [part.to_key_and_value(part.norm(key)) for key in keys]
        for head in range(part.heads):
            part_of_head = slice(head * d, (head + 1) * d)
            of_condition = []
            for key in kv:
                c = torch.zeros(d) if condition is None else part.anchor_query(condition)[part_of_head]
                of_condition.append(c @ key[part_of_head] / math.sqrt(d))
            visible_rows = [m for m, is_visible in enumerate(visible) if is_visible]
            weights = torch.stack([of_condition[m] for m in visible_rows]).softmax(0)
            for m, weight in zip(visible_rows, weights, strict=True):
                maps[head, m] += weight * len(rows) / int(bag.mask[i].sum())
            for n, place in zip(rows, relative, strict=True):
                query = part.to_query(h[n])[part_of_head]
                logits = []
                for m in visible_rows:
                    near = ((place - anchors[m]) @ part.frequency).cos().sum() / f * part.log_locality[head].exp()
                    logits.append(query @ kv[m][part_of_head] / math.sqrt(d) + near + of_condition[m])
                attention = torch.stack(logits).softmax(0)
                for weight, m in zip(attention, visible_rows, strict=True):
                    values[n, part_of_head] += weight * kv[m][part.inner :][part_of_head]
    return part.out(values) * bag.mask[i].unsqueeze(1), maps.flatten()


@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"inner": 12, "heads": 3, "cells": 5, "anchors": 3, "reach": 1.5}])
def test_it_agrees_with_loops_over_slides_heads_tokens_and_anchors(conditioned, sizes):
    """Eqs. 8–9 without a condition, with a residual left to the caller; with one, eqs. 1–3 with queries of the tissue."""
    part = build(conditioned, **sizes)
    with torch.no_grad():
        part.log_locality.normal_()
    bag = make_bag([23, 9], WIDTH, slides=[2, 1])
    condition = torch.randn(2, WIDTH) if conditioned else None
    result = part(bag.features, bag, condition)
    for i in range(2):
        values, maps = slow(part, bag, None if condition is None else condition[i], i)
        torch.testing.assert_close(result.values[i], values, atol=1e-5, rtol=1e-4)
        if conditioned:
            torch.testing.assert_close(result.condition_attention[i], maps, atol=1e-5, rtol=1e-4)
    assert conditioned or result.condition_attention is None


def test_padding_order_and_batch_mates_change_nothing():
    part, bag = build(True), make_bag([40, 150, 1, 0], WIDTH, slides=[1, 3, 1, 1])
    condition = torch.randn(4, WIDTH)
    base = part(bag.features, bag, condition)
    assert (base.values[~bag.mask] == 0).all()
    torch.testing.assert_close(base.condition_attention.sum(1), torch.tensor([2.0, 2, 2, 0]))
    order = torch.randperm(bag.mask.shape[1])
    for other, index in ((pad_bag(bag, 30, 1e3), torch.arange(150)), (shuffle_bag(bag, order), order.argsort())):
        result = part(other.features, other, condition)
        torch.testing.assert_close(result.values[:, index], base.values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(result.condition_attention, base.condition_attention, atol=1e-5, rtol=1e-5)
    alone = Bag(*(x[:1, :40] for x in (bag.features, bag.position, bag.mask, bag.slide)))
    result = part(alone.features, alone, condition[:1])
    torch.testing.assert_close(result.values[0], base.values[0, :40], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.condition_attention[0], base.condition_attention[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("conditioned", [False, True])
def test_every_parameter_learns_and_an_empty_bag_gives_finite_gradients(conditioned):
    part, bag = build(conditioned), make_bag([60, 0], WIDTH, slides=[2, 1])
    condition = torch.randn(2, WIDTH, requires_grad=True) if conditioned else None
    tokens = bag.features.clone().requires_grad_()
    part(tokens, bag, condition).values.square().sum().backward()
    assert [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert tokens.grad.isfinite().all()
    assert (tokens.grad[1] == 0).all()
    assert condition is None or (condition.grad[0].any() and not condition.grad[1].any())


def test_a_condition_is_needed_exactly_where_the_module_was_built_with_one():
    bag = make_bag([5], WIDTH)
    for conditioned, condition in ((True, None), (False, torch.randn(1, WIDTH))):
        with pytest.raises(ValueError, match="conditioned=True"):
            build(conditioned)(bag.features, bag, condition)
    with pytest.raises(ValueError, match="inner=9, heads=2"):
        DeformableAttention(WIDTH, inner=9)


def test_the_fusion_gives_the_map_of_its_own_attention_and_keeps_the_names_of_its_weights():
    """Older checkpoints and optimiser states are read by these names, in this order."""
    fusion, bag, condition = DeformableFusion(WIDTH).eval(), make_bag([30, 8], WIDTH, slides=[2, 1]), torch.randn(2, 16)
    result = fusion(bag.features, bag, condition)
    attended = fusion.attend(torch.zeros(2, 30, fusion.inner), bag.features, bag, condition)
    assert isinstance(attended, Attended)
    assert torch.equal(result.gene_attention, attended.condition_attention)
    assert result.gene_attention.shape == (2, 2 * 37)
    assert [name for name, _ in fusion.named_parameters() if not name.endswith("bias")] == [
        "frequency", "log_locality", "to_query_and_gate.weight", "anchor_query.weight", "condition_to_gate.weight",
        "norm.weight", "to_key_and_value.weight", "offset.0.weight", "offset.2.weight", "attended_to_gate.weight",
        "score.weight", "out.weight",
    ]  # fmt: skip
