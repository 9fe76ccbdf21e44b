"""Pools, heads, fork, raster, expression encoder and fusion, compared with slow forms."""

import pytest
import torch
from batches import make_bag
from torch import nn

from dmml.nn.aggregator import AttentionBlock
from dmml.nn.expression import ExpressionEncoder
from dmml.nn.fusion import DeformableFusion
from dmml.nn.heads import ProgramHead, SubspaceHead
from dmml.nn.pooling import GatedPool, masked_softmax
from dmml.nn.projection import TokenProjection, clean_features, fork
from dmml.nn.raster import rasterise, sample, slide_frame
from dmml.nn.tissue import TissueSpecificHead
from dmml.types import Bag


def test_masked_softmax_is_the_softmax_of_the_real_tokens():
    scores, mask = torch.randn(5, 8) * 5, torch.rand(5, 8) < 0.6
    mask[0], mask[1] = False, True
    weights = masked_softmax(scores, mask)
    for row, real, result in zip(scores, mask, weights, strict=True):
        expected = torch.zeros(8)
        expected[real] = row[real].softmax(0)
        torch.testing.assert_close(result, expected)
    extreme = masked_softmax(torch.tensor([[1e30, -1e30, 0.0]]), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(extreme, torch.tensor([[1.0, 0, 0]]))
    assert masked_softmax(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


def test_the_gated_pool_is_that_of_ilse_with_a_condition():
    pool = GatedPool(6, att_dim=4, conditioned=True)
    tokens, condition = torch.randn(1, 5, 6), torch.randn(1, 6)
    pooled, attention = pool(tokens, torch.ones(1, 5, dtype=torch.bool), condition)
    v, u = pool.value_and_gate.weight.chunk(2)
    bv, bu = pool.value_and_gate.bias.chunk(2)
    scores = []
    for h in tokens[0]:
        gate = torch.sigmoid(u @ h + bu + pool.condition_to_gate.weight @ condition[0])
        scores.append((pool.score.weight[0] * torch.tanh(v @ h + bv) * gate).sum())
    expected = torch.stack(scores).softmax(0)
    torch.testing.assert_close(attention[0], expected)
    torch.testing.assert_close(pooled[0], expected @ tokens[0])


def test_an_attention_block_equals_pytorchs_pre_norm_encoder_layer():
    block = AttentionBlock(8, heads=2, dropout=0.0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias = block.qkv.weight, block.qkv.bias
    layer.self_attn.out_proj, layer.norm1, layer.norm2 = block.out, block.norm_attention, block.norm_feed_forward
    layer.linear1, layer.linear2 = block.feed_forward[0], block.feed_forward[3]
    tokens, mask = torch.randn(3, 5, 8), torch.rand(3, 5) < 0.6
    mask[:, 0] = True
    expected = layer(tokens, src_key_padding_mask=~mask)
    torch.testing.assert_close(block(tokens, mask)[mask], expected[mask])


def test_an_attention_block_starts_as_the_identity_and_is_finite_without_tokens():
    block, tokens = AttentionBlock(8, heads=2, dropout=0.1).eval(), torch.randn(3, 5, 8)
    assert torch.equal(block(tokens, torch.zeros(3, 5, dtype=torch.bool)), tokens)


def test_the_parts_of_a_subspace_head_add_up_to_one_linear_layer():
    head = SubspaceHead(5, 3)
    tumor, tme = torch.randn(4, 5), torch.randn(4, 5)
    parts = head({"tumor": tumor, "tme": tme})
    torch.testing.assert_close(parts["tumor"] + parts["tme"], head.linear(torch.cat([tumor, tme], 1)))
    torch.testing.assert_close(parts["tumor"], tumor @ head.linear.weight[:, :5].T + head.linear.bias / 2)
    torch.testing.assert_close(head.linear.weight[:, head.columns["tme"]], head.linear.weight[:, 5:])


def test_a_program_head_without_programs_predicts_none():
    assert ProgramHead(5, 0)(torch.randn(2, 3, 5), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 0)


@pytest.mark.parametrize("kind", ["projection", "tissue-specific"])
def test_values_and_gradients_do_not_depend_on_the_content_of_padding(kind):
    layer = {"projection": lambda: TokenProjection(6, 4), "tissue-specific": lambda: TissueSpecificHead(6, 3)}[kind]()
    layer.eval()
    weight = (layer.linear if kind == "projection" else layer.project).weight
    features, mask = torch.randn(2, 5, 6), torch.tensor([[True] * 5, [True, True, False, False, False]])

    def read(features):
        output = layer(clean_features(features, mask, torch.float32), mask)
        return output if kind == "projection" else output[0]

    expected = read(features)
    expected.square().sum().backward()
    gradient = weight.grad.clone()
    layer.zero_grad()
    assert gradient.abs().sum() > 0
    for garbage in (float("nan"), float("inf"), 1e30):
        values = read(features.masked_fill(~mask.unsqueeze(-1), garbage))
        assert torch.equal(values, expected)
        values.square().sum().backward()
        torch.testing.assert_close(weight.grad, gradient)
        layer.zero_grad()
        with torch.inference_mode():
            torch.testing.assert_close(read(features.masked_fill(~mask.unsqueeze(-1), garbage)), expected)
    if kind == "projection":
        assert (expected[1, 2:] == 0).all()
    assert read(features.half()).dtype == torch.float32, "features are stored in half precision"


def test_the_fork_passes_both_gradients_to_the_rule():
    tokens = torch.randn(2, 3, 4, requires_grad=True)
    gradients = []

    def rule(tumor, tme):
        gradients.append((tumor.clone(), tme.clone()))
        return tumor * 10, tme * 0

    a, b = fork(tokens, rule)
    assert torch.equal(a, tokens)
    assert torch.equal(b, tokens)
    (2 * a.sum() + 5 * b.sum()).backward()
    assert torch.equal(gradients[0][0], torch.full((2, 3, 4), 2.0))
    assert torch.equal(gradients[0][1], torch.full((2, 3, 4), 5.0))
    assert torch.equal(tokens.grad, torch.full((2, 3, 4), 20.0))
    tokens.grad = None
    a, b = fork(tokens, None)
    (2 * a.sum() + 5 * b.sum()).backward()
    assert torch.equal(tokens.grad, torch.full((2, 3, 4), 7.0))


def test_the_slide_frame_is_per_slide_and_keeps_the_aspect_ratio():
    position = torch.tensor([[[0.0, 0], [400, 0], [0, 100], [5000, 5000], [9e9, 9e9]]])
    mask = torch.tensor([[True, True, True, True, False]])
    slide = torch.tensor([[0, 0, 0, 1, 0]])
    expected = torch.tensor([[[-1.0, -0.25], [1, -0.25], [-1, 0.25], [0, 0], [0, 0]]])
    torch.testing.assert_close(slide_frame(position, mask, slide, 2), expected)


def test_the_raster_contains_every_token_once_and_sampling_gives_means():
    bag = make_bag([50, 20], 3, slides=[2, 1])
    position = slide_frame(bag.position, bag.mask, bag.slide, 2)
    sums, counts = rasterise(bag.features, position, bag.mask, bag.slide, 2, 4)
    assert counts.view(2, -1).sum(1).tolist() == [50, 20]
    torch.testing.assert_close(sums.view(2, 2, 3, -1).sum((1, 3)), bag.features.sum(1), atol=1e-4, rtol=1e-4)
    one = Bag(
        torch.tensor([[[2.0, 4.0]]]),
        torch.zeros(1, 1, 2),
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, 1, dtype=torch.long),
    )
    sums, counts = rasterise(one.features, torch.tensor([[[0.9, -0.9]]]), one.mask, one.slide, 1, 4)
    around, has_tissue = sample(sums, counts, torch.tensor([[[0.75, -0.75], [0.6, -0.6], [-0.9, 0.9]]]))
    torch.testing.assert_close(
        around[0, :2], torch.tensor([[2.0, 4.0], [2.0, 4.0]])
    )  # a mean, however little tissue is around
    assert has_tissue[0].tolist() == [True, True, False]
    assert (around[0, 2] == 0).all()


def test_the_expression_encoder_replaces_missing_rna_by_a_learned_vector():
    encoder = ExpressionEncoder(6, 4).eval()
    expression, has_rna = torch.randn(3, 6), torch.tensor([True, False, True])
    encoded = encoder(expression, has_rna)
    torch.testing.assert_close(encoded[1], encoder.missing)
    assert not torch.allclose(encoded[0], encoded[2])
    poisoned = expression.clone()
    poisoned[1] = float("nan")
    again = encoder(poisoned, has_rna)
    assert torch.equal(again, encoded)
    again.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    torch.testing.assert_close(
        ExpressionEncoder(0, 4)(torch.zeros(2, 0), torch.ones(2, dtype=torch.bool)).shape, (2, 4)
    )


def test_the_deformable_fusion_depends_on_condition_and_position_within_the_slide():
    fusion = DeformableFusion(16).eval()
    bag, condition = make_bag([60], 16, slides=[2]), torch.randn(1, 16)
    base = fusion(bag.features, bag, condition)[0]
    assert not torch.allclose(base, fusion(bag.features, bag, condition + 1)[0], atol=1e-4)
    moved = Bag(bag.features, bag.position.flip(1), bag.mask, bag.slide)
    assert not torch.allclose(base, fusion(bag.features, moved, condition)[0], atol=1e-5)
    shifted = Bag(bag.features, bag.position + bag.slide.unsqueeze(-1) * 1e4, bag.mask, bag.slide)
    torch.testing.assert_close(base, fusion(bag.features, shifted, condition)[0], atol=1e-4, rtol=1e-4)
    swapped = Bag(bag.features, bag.position, bag.mask, 1 - bag.slide)
    torch.testing.assert_close(base, fusion(bag.features, swapped, condition)[0], atol=1e-5, rtol=1e-5)


def test_tokens_attend_to_their_own_slide_alone():
    fusion = DeformableFusion(16).eval()
    bag, attended, condition = make_bag([40], 16, slides=[2]), [], torch.zeros(1, 16)
    fusion.attended_to_gate.register_forward_hook(lambda module, inputs, output: attended.append(inputs[0][0]))
    other_changed, same_changed = bag.features.clone(), bag.features.clone()
    other_changed[:, 1::2] += torch.randn(1, 20, 16)
    same_changed[:, 2::2] += torch.randn(1, 19, 16)
    for features in (bag.features, other_changed, same_changed):
        fusion(features, bag, condition)
    base, after_other, after_same = attended
    torch.testing.assert_close(after_other[::2], base[::2], atol=1e-6, rtol=0)
    assert not torch.allclose(after_other[1::2], base[1::2], atol=1e-4)
    assert not torch.allclose(after_same[0], base[0], atol=1e-4)


def test_anchors_over_glass_have_no_influence(monkeypatch):
    """With two patches of tissue in opposite corners, the values at the anchors between them do not matter."""
    fusion, condition = DeformableFusion(16).eval(), torch.randn(1, 16)
    bag = make_bag([32], 16)
    position = bag.position + 1e5 * (torch.arange(32) >= 16).view(1, -1, 1)
    bag = Bag(bag.features, position, bag.mask, bag.slide)
    base = fusion(bag.features, bag, condition)[0]
    original, has_tissue = fusion._anchors, []

    def with_noise_over_glass(*args):
        anchors = original(*args)
        has_tissue.append(anchors.has_tissue)
        noise = 9 * torch.randn_like(anchors.keys)
        return anchors._replace(keys=torch.where(anchors.has_tissue.unsqueeze(-1), anchors.keys, noise))

    monkeypatch.setattr(fusion, "_anchors", with_noise_over_glass)
    torch.testing.assert_close(fusion(bag.features, bag, condition)[0], base, atol=1e-6, rtol=0)
    assert 0 < has_tissue[0].sum() < has_tissue[0].numel()


def test_a_width_that_the_number_of_heads_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="inner=9, heads=2"):
        DeformableFusion(16, inner=9)
