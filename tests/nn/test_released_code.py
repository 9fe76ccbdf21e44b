"""The encoder and fusion of the released code compared with a loop over cells and anchors, and the invariances that a fusion must have."""

import math

import pytest
import torch
from batches import make_bag, make_batch, pad_bag, shuffle_bag
from models import build
from torch.nn.functional import gelu, grid_sample

from dmml.nn.expression import ExpressionEncoder
from dmml.nn.fusion import DeformableFusion
from dmml.nn.released_code.expression import ReleasedExpressionEncoder
from dmml.nn.released_code.fusion import ReleasedFusion
from dmml.types import Bag

WIDTH = 16
CELLS, ANCHORS, HEADS = 6, 3, 4


def small(**changes):
    sizes = {"heads": HEADS, "head_width": 8, "cells": CELLS, "anchors": ANCHORS}
    return ReleasedFusion(WIDTH, **sizes | changes).eval()


@pytest.fixture(params=["small", "default"])
def fusion(request):
    return small() if request.param == "small" else ReleasedFusion(WIDTH).eval()


def rows(bag: Bag, i: int) -> Bag:
    return Bag(*(getattr(bag, name)[i : i + 1, bag.mask[i]] for name in ("features", "position", "mask", "slide")))


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def slow(part: ReleasedFusion, bag: Bag, condition):
    """One patient with one slide, cell by cell, group by group and anchor by anchor, with the position MLP per pair."""
    low, high = bag.position[0].amin(0), bag.position[0].amax(0)
    position = (bag.position[0] - (low + high) / 2) / ((high - low) / 2).amax()
    normed, expression = part.norm(bag.features[0]), part.norm(condition[0])
    sums, counts = torch.zeros(WIDTH, CELLS, CELLS), torch.zeros(CELLS, CELLS)
    cells = [tuple(min(CELLS - 1, int((v + 1) / 2 * CELLS)) for v in p.tolist()) for p in position]
    for (x, y), token in zip(cells, normed, strict=True):
        sums[:, y, x] += token
        counts[y, x] += 1
    group_width, outputs, token_attention = WIDTH // HEADS, [], torch.zeros(len(position))
    to_anchors = torch.zeros(HEADS, ANCHORS, ANCHORS)
    filled_cells = [(x, y) for y in range(CELLS) for x in range(CELLS) if counts[y, x]]
    for x, y in filled_cells:
        p = torch.tensor([(x + 0.5) / CELLS * 2 - 1, (y + 0.5) / CELLS * 2 - 1])
        attended = []
        for h in range(HEADS):
            channels = slice(h * group_width, (h + 1) * group_width)
            q = expression[channels] @ part.query[h]
            offset = part.offset(gelu(q * part.offset_scale + part.offset_shift)).tanh() * part.max_offset
            logits, values, weights, anchors = [], [], [], []
            for row in range(ANCHORS):
                for column in range(ANCHORS):
                    v = torch.tensor([(i + 0.5) / ANCHORS * 2 - 1 for i in (column, row)]) + offset
                    stack = torch.cat([sums[channels], counts[None]])[None]
                    sampled = grid_sample(stack, v.view(1, 1, 1, 2), align_corners=False).flatten()
                    if sampled[-1] < 1e-3:
                        continue
                    unit = torch.eye(CELLS * CELLS).view(1, -1, CELLS, CELLS)
                    of_cell = grid_sample(unit, v.view(1, 1, 1, 2), align_corners=False).view(CELLS, CELLS)
                    mean, distance = sampled[:-1] / sampled[-1], p - v
                    bias = part.position_bias(distance.sign() * distance.abs().log1p())
                    logits.append(q @ (mean @ part.key[h]) / math.sqrt(len(q)) + bias)
                    values.append(mean @ part.value[h])
                    anchors.append((row, column))
                    weights.append(torch.stack([of_cell[cy, cx] for cx, cy in cells]) / sampled[-1])
            attention = torch.cat(logits).softmax(0)
            attended.append(attention @ torch.stack(values))
            for share, (row, column) in zip(attention, anchors, strict=True):
                to_anchors[h, row, column] += share * counts[y, x] / len(position)
            token_attention += (attention @ torch.stack(weights)) / HEADS * counts[y, x] / len(position)
        joined = part.norm(part.project_joined(condition[0] + part.out(torch.cat(attended))))
        output = part.norm_attended(joined + part.single_key_attention(expression))
        outputs.append(output * counts[y, x] / len(position))
    embedding = part.out_embedding(part.norm_pooled(part.project_pooled(sum(outputs)).tanh())).tanh()
    return embedding, token_attention, to_anchors.flatten()


@pytest.mark.slow
def test_the_fusion_agrees_with_a_loop_over_cells_groups_and_anchors():
    part, bag, condition = small(reach=1.0), make_bag([50], WIDTH), torch.randn(1, WIDTH)
    part._LATTICE = 2001  # the loop evaluates the MLP itself
    with torch.no_grad():
        embedding, attention, gene_attention = part(bag.features, bag, condition)
        expected, expected_attention, expected_gene_attention = slow(part, bag, condition)
    close(embedding[0], expected)
    close(attention[0], expected_attention)
    close(gene_attention[0], expected_gene_attention)
    close(gene_attention.sum(), torch.tensor(float(HEADS)))


def test_the_interpolated_position_bias_is_that_of_the_mlp_to_the_third_digit():
    """At initialisation, at the default resolution, and with the largest offsets."""
    part = ReleasedFusion(WIDTH)
    anchor_position = (torch.rand(1, 8, 2, 1) * 2 - 1) * part.max_offset + torch.linspace(-11 / 12, 11 / 12, 12)
    with torch.no_grad():
        bias = part._position_logits(anchor_position)  # (1, H, c², A²)
        places = torch.linspace(-23 / 24, 23 / 24, 24)
        p = torch.stack(torch.meshgrid(places, places, indexing="ij")[::-1], -1).view(-1, 1, 2)
        for h in range(8):
            v = torch.stack(
                torch.meshgrid(anchor_position[0, h, 1], anchor_position[0, h, 0], indexing="ij")[::-1], -1
            ).view(1, -1, 2)
            exact = part.position_bias((p - v).sign() * (p - v).abs().log1p()).squeeze(-1)
            assert (bias[0, h] - exact).abs().max() < 2e-3
            assert exact.std() > 5e-3


@pytest.mark.parametrize("extra", [1, 300])
def test_padding_changes_no_output(fusion, extra):
    bag, condition = make_bag([40, 150, 1], WIDTH, slides=[1, 3, 1]), torch.randn(3, WIDTH)
    embedding, attention, _ = fusion(bag.features, bag, condition)
    for garbage in (None, float("nan")):
        padded = pad_bag(bag, extra, garbage)
        other, other_attention, _ = fusion(padded.features, padded, condition)
        close(other, embedding)
        close(other_attention[:, :150], attention)
        assert (other_attention[:, 150:] == 0).all()


def test_the_order_of_tokens_changes_no_output(fusion):
    bag, condition = make_bag([300, 70], WIDTH, slides=[2, 1]), torch.randn(2, WIDTH)
    order = torch.randperm(300)
    embedding, attention, _ = fusion(bag.features, bag, condition)
    shuffled = shuffle_bag(bag, order)
    other, other_attention, _ = fusion(shuffled.features, shuffled, condition)
    close(other, embedding)
    close(other_attention, attention[:, order])


def test_other_patients_of_the_batch_change_no_output(fusion):
    counts = [3, 50, 65, 100, 1, 400]
    bag, condition = make_bag(counts, WIDTH, slides=[1, 1, 3, 2, 1, 3]), torch.randn(6, WIDTH)
    together, attention, _ = fusion(bag.features, bag, condition)
    for i, n in enumerate(counts):
        alone_bag = rows(bag, i)
        alone, alone_attention, _ = fusion(alone_bag.features, alone_bag, condition[i : i + 1])
        close(alone[0], together[i])
        close(alone_attention[0], attention[i, :n])


def test_the_attention_to_the_anchors_is_averaged_over_slides_by_their_tokens():
    part, bag, condition = small(), make_bag([90, 0], WIDTH, slides=[1, 1]), torch.randn(2, WIDTH)
    bag.slide[0, :60] = 1
    both = part(bag.features, bag, condition).gene_attention
    alone = []
    for i, n in ((0, 30), (1, 60)):
        real = bag.mask[0] & (bag.slide[0] == i)
        assert real.sum() == n
        one = Bag(bag.features[:1, real], bag.position[:1, real], bag.mask[:1, real], bag.slide[:1, real] * 0)
        alone.append(part(one.features, one, condition[:1]).gene_attention[0])
    close(both[0], alone[0] / 3 + alone[1] * 2 / 3)
    assert (both[1] == 0).all(), "a patient without tissue has attended to nothing"


def test_each_slide_has_its_own_frame(fusion):
    """Moving a slide by a metre changes nothing; putting its tokens into the frame of the other slide does."""
    bag, condition = make_bag([80], WIDTH, slides=[2]), torch.randn(1, WIDTH)
    embedding, *_ = fusion(bag.features, bag, condition)
    second = (bag.slide == 1).unsqueeze(-1)
    moved = Bag(bag.features, bag.position + second * 1e6, bag.mask, bag.slide)
    close(fusion(moved.features, moved, condition)[0], embedding, atol=1e-3)
    one = Bag(moved.features, moved.position, bag.mask, bag.slide * 0)
    assert (fusion(one.features, one, condition)[0] - embedding).abs().max() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 7, 450, 2000])
def test_any_number_of_tokens_gives_a_distribution(fusion, count):
    """The number need not be a square, and offsets may push whole grids of anchors off the tissue."""
    bag = make_bag([count, 0, 30], WIDTH)
    for size in (1.0, 30.0):
        embedding, attention, _ = fusion(bag.features, bag, torch.randn(3, WIDTH))
        close(attention.sum(1), torch.tensor([1.0, 0, 1]))
        assert (attention >= 0).all()
        assert (attention[~bag.mask] == 0).all()
        assert (embedding[1] == 0).all()
        assert embedding.isfinite().all()
        with torch.no_grad():
            fusion.offset.weight.mul_(size * 10)


def test_if_all_anchors_miss_the_tissue_its_mean_is_used():
    part, bag, condition = small(reach=50.0), make_bag([50], WIDTH), torch.randn(1, WIDTH)
    with torch.no_grad():
        part.offset.weight.mul_(1e3)  # every group's anchors end far off the slide
    embedding, attention, _ = part(bag.features, bag, condition)
    close(attention, torch.full((1, 50), 1 / 50))
    shuffled = part(bag.features[:, torch.randperm(50)], bag, condition)[0]
    close(shuffled, embedding)
    part.max_offset = 0.1
    assert (part(bag.features, bag, condition)[0] - embedding).abs().max() > 1e-3


def test_a_teacher_can_be_built_with_the_released_fusion():
    teacher = build("teacher", fusion=ReleasedFusion)
    terms = teacher.losses(make_batch(coarse=(5, 0, 7, 4), fine=(20, 0, 28, 0), has_rna=(True, True, False, True)))
    terms.total.backward()
    assert terms.total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in teacher.fusion.parameters())


def test_every_parameter_learns_and_none_is_skipped_when_bags_are_empty(fusion):
    bag, condition = make_bag([60, 30], WIDTH, slides=[2, 1]), torch.randn(2, WIDTH, requires_grad=True)
    features = bag.features.requires_grad_()
    embedding, attention, _ = fusion(features, bag, condition)
    (embedding[:, 0].sum() + attention.square().sum()).backward()
    assert [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert (features.grad.abs().sum(-1)[bag.mask] > 0).float().mean() > 0.9
    assert (features.grad[~bag.mask] == 0).all()
    assert condition.grad.abs().sum(1).min() > 0
    fusion.zero_grad(set_to_none=True)
    empty = Bag(bag.features * float("nan"), bag.position, bag.mask & False, bag.slide)
    embedding, attention, _ = fusion(empty.features, empty, condition.detach())
    assert (embedding == 0).all()
    (embedding.sum() + attention.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())


def test_bfloat16_autocast_is_finite_and_close_and_attention_still_a_distribution(fusion):
    bag, condition = make_bag([80, 0, 600], WIDTH, slides=[1, 1, 3]), torch.randn(3, WIDTH)
    expected, *_ = fusion(bag.features, bag, condition)
    with torch.autocast("cpu", torch.bfloat16):
        embedding, attention, _ = fusion(bag.features, bag, condition)
        embedding.float().square().sum().backward()
    torch.testing.assert_close(embedding.float(), expected, atol=0.1, rtol=0.1)
    close(attention.float().sum(1), torch.tensor([1.0, 0, 1]))
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


def saved_bytes(part, n):
    """Bytes of the distinct tensors that a forward pass keeps for the backward pass."""
    kept = {}
    bag, condition = make_bag([n], WIDTH), torch.randn(1, WIDTH)

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = part(bag.features.requires_grad_(), bag, condition)
    assert result[0].requires_grad
    return sum(kept.values())


def test_memory_per_token_does_not_depend_on_the_number_of_anchors():
    part = ReleasedFusion(WIDTH)
    small_bag, large_bag = saved_bytes(part, 2_000), saved_bytes(part, 42_000)
    per_token = (large_bag - small_bag) / 40_000
    assert 0 < per_token < 4 * 8 * WIDTH, "less than the logits of a token against the 144 anchors of a single head"


def test_the_deformable_fusion_needs_no_more_memory_for_four_times_the_anchors():
    per_token = []
    for anchors in (6, 12):
        part = DeformableFusion(WIDTH, anchors=anchors)
        per_token.append((saved_bytes(part, 42_000) - saved_bytes(part, 2_000)) / 40_000)
    assert per_token[1] == pytest.approx(per_token[0], rel=0.01), (
        "one float per token and anchor would add 432 bytes per head"
    )


def test_the_query_is_the_same_at_every_position_as_in_the_released_code():
    """Without the position MLP all cells attend equally, so only the number of tokens in a cell can matter."""
    part, bag, condition = small(), make_bag([200], WIDTH), torch.randn(1, WIDTH)
    with torch.no_grad():
        part.position_bias[-1].weight.zero_()
        expression = part.norm(condition)
        sums, counts = torch.randn(1, WIDTH, CELLS, CELLS), torch.ones(1, CELLS, CELLS)
        attended, *_ = part._attend(expression, sums, counts, counts / CELLS**2)
        close(attended, attended[:, :1].expand_as(attended))
        part.position_bias[-1].weight.normal_()
        attended, *_ = part._attend(expression, sums, counts, counts / CELLS**2)
        assert attended.std(1).mean() > 1e-3
    assert part(bag.features, bag, condition)[0].isfinite().all()


def test_a_width_that_is_no_multiple_of_the_heads_is_refused():
    with pytest.raises(ValueError, match="multiple of heads; got width=12, heads=8"):
        ReleasedFusion(12)


def test_the_expression_encoder_is_the_sequence_of_its_layers_or_the_learned_vector():
    encoder = ReleasedExpressionEncoder(30, WIDTH).eval()
    expression, has_rna = torch.randn(5, 30), torch.tensor([True, False, True, True, False])
    expression[1] = float("nan")
    x = expression
    linear = [layer for layer in encoder.net if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [64, 48, 32, WIDTH]
    for layer in linear:
        x = x @ layer.weight.T + layer.bias
        x = torch.where(x > 0, x, x.exp() - 1)
    out = encoder(expression, has_rna)
    close(out[has_rna], x.clamp_min(0)[has_rna])
    close(out[~has_rna], encoder.missing.expand(2, -1))
    assert (out[has_rna] == 0).float().mean() > 0.2
    out.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in encoder.parameters())
    encoder.train()
    assert not torch.equal(encoder(expression, has_rna)[0], encoder(expression, has_rna)[0])


@pytest.mark.parametrize("kind", [ReleasedExpressionEncoder, ExpressionEncoder])
def test_expression_encoders_without_genes_or_without_rna_give_the_learned_vector(kind):
    none = kind(0, WIDTH)
    close(none(torch.zeros(3, 0), torch.zeros(3).bool()), none.missing.expand(3, -1))
    some = kind(7, WIDTH, (8, 8))
    close(some(torch.randn(3, 7), torch.zeros(3).bool()), some.missing.expand(3, -1))
    assert set(none.state_dict()) == {"missing"}
