"""The paper's fusion and selection compared with plain loops, and the invariances that a fusion must have."""

import math

import pytest
import torch
from batches import make_bag, pad_bag, shuffle_bag

from dmml.nn.fusion import DeformableFusion
from dmml.nn.paper.fusion import PaperFusion
from dmml.nn.paper.selection import GeneSelection
from dmml.nn.raster import spread
from dmml.types import Bag

WIDTH, HEADS, HEAD_WIDTH, CELLS, ANCHORS, TOKENS = 16, 4, 8, 6, 3, 5


def small(**changes):
    sizes = {"heads": HEADS, "head_width": HEAD_WIDTH, "cells": CELLS, "anchors": ANCHORS, "reach": 1.0}
    part = PaperFusion(WIDTH, **sizes | changes).eval()
    with torch.no_grad():  # offsets start near 0: let them move the anchors
        part.hidden_to_offset.weight.normal_(std=0.5)
    return part


@pytest.fixture(params=["small", "default", "without selection"])
def fusion(request):
    if request.param == "default":
        return PaperFusion(WIDTH).eval()
    return small(selection=request.param == "small")


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def rows(bag: Bag, i: int) -> Bag:
    return Bag(*(getattr(bag, name)[i : i + 1, bag.mask[i]] for name in ("features", "position", "mask", "slide")))


def slow_corners(x, y):
    """{(column, row) of a cell: bilinear weight of a point in [−1, 1]²}, without cells beyond the raster."""
    x, y = ((v + 1) / 2 * CELLS - 0.5 for v in (x, y))
    corners = {}
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            if 0 <= column < CELLS and 0 <= row < CELLS:
                corners[column, row] = (1 - abs(x - column)) * (1 - abs(y - row))
    return corners


def slow_softmax(values):
    weights = [math.exp(v - max(values)) for v in values]
    return [w / sum(weights) for w in weights]


def slow_offsets(part, genes):
    """Eq. 1: the offset of every anchor of every head, from the genes alone. → (H, A², 2)."""
    hidden = torch.stack([torch.nn.functional.gelu(part.genes_to_hidden(gene)) for gene in genes])
    return part.hidden_to_offset(hidden.mean(0)).tanh().view(HEADS, ANCHORS**2, 2) * part.max_offset


def slow_slide(part, features, position, genes):
    """One slide, cell by cell, head by head, gene by gene and anchor by anchor (eqs 1 to 3)."""
    low, high = position.amin(0), position.amax(0)
    position = (position - (low + high) / 2) / ((high - low) / 2).amax()
    cells = [tuple(min(CELLS - 1, int((v + 1) / 2 * CELLS)) for v in p.tolist()) for p in position]
    sums, counts = {}, {}
    for cell, token in zip(cells, features, strict=True):
        sums[cell] = sums.get(cell, 0) + token
        counts[cell] = counts.get(cell, 0) + 1
    offsets, steps = slow_offsets(part, genes), [(i + 0.5) / ANCHORS * 2 - 1 for i in range(ANCHORS)]
    attended = torch.zeros(len(genes), HEADS, HEAD_WIDTH)
    attention, shares = torch.zeros(HEADS, len(genes), ANCHORS**2), torch.zeros(len(features))
    for h in range(HEADS):
        sampled = {}
        for a in range(ANCHORS**2):
            x, y = (steps[a % ANCHORS] + offsets[h, a, 0].item(), steps[a // ANCHORS] + offsets[h, a, 1].item())
            corners = {cell: w for cell, w in slow_corners(x, y).items() if cell in counts}
            n = sum(w * counts[cell] for cell, w in corners.items())
            if n > 1e-3:
                sampled[a] = (sum(w * sums[cell] for cell, w in corners.items()) / n, corners, n)
        for t, gene in enumerate(genes):
            query = gene @ part.query[h]
            logits = [
                (query @ (tissue @ part.key[h])).item() / math.sqrt(HEAD_WIDTH) for tissue, _, _ in sampled.values()
            ]
            for a, share in zip(sampled, slow_softmax(logits), strict=True):
                tissue, corners, n = sampled[a]
                attended[t, h] += share * (tissue @ part.value[h])
                attention[h, t, a] = share
                for i, cell in enumerate(cells):
                    shares[i] += share * corners.get(cell, 0) / n / HEADS / len(genes)
    return attended, attention, shares


def slow_selection(part, fused, genes):
    """Eqs 4 and 5, query by query and head by head."""
    width = WIDTH // part.heads
    outputs = []
    for query in fused:
        heads = []
        for h in range(part.heads):
            channels = slice(h * width, (h + 1) * width)
            q = part.query(query)[channels]
            logits = [(q @ part.key(gene)[channels]).item() / math.sqrt(width) for gene in genes]
            values = [part.value(gene)[channels] for gene in genes]
            heads.append(sum(w * v for w, v in zip(slow_softmax(logits), values, strict=True)))
        outputs.append(part.out(torch.cat(heads)))
    return torch.stack(outputs)


@pytest.mark.slow
@pytest.mark.parametrize("selection", [True, False])
@pytest.mark.parametrize("n_slides", [1, 2])
def test_the_fusion_agrees_with_loops_over_slides_heads_genes_and_anchors(selection, n_slides):
    part, bag, genes = (
        small(selection=selection),
        make_bag([61], WIDTH, slides=[n_slides]),
        torch.randn(1, TOKENS, WIDTH),
    )
    with torch.no_grad():
        embedding, attention, gene_attention = part(bag.features, bag, genes)
        attended, to_anchors, shares = 0, 0, torch.zeros(61)
        for i in range(n_slides):
            of_slide = bag.slide[0] == i
            share = of_slide.sum() / 61
            parts = slow_slide(part, bag.features[0, of_slide], bag.position[0, of_slide], genes[0])
            attended, to_anchors = attended + share * parts[0], to_anchors + share * parts[1]
            shares[of_slide] = share * parts[2]
        fused = torch.stack([part.out(gene.flatten()) for gene in attended])
        output = slow_selection(part.selection, fused, genes[0]) if selection else fused
        expected = part.to_embedding(sum(output) / TOKENS).tanh()
    close(embedding[0], expected)
    close(gene_attention[0], to_anchors.flatten())
    close(attention[0], shares)
    close(attention.sum(), torch.tensor(1.0))


@pytest.mark.slow
def test_the_selection_agrees_with_loops():
    part, fused, genes = GeneSelection(WIDTH, HEADS), torch.randn(1, 3, WIDTH), torch.randn(1, TOKENS, WIDTH)
    with torch.no_grad():
        close(part(fused, genes)[0], slow_selection(part, fused[0], genes[0]))


def test_weights_are_spread_to_the_four_cells_around_a_position():
    weight, position = torch.rand(2, 7), torch.rand(2, 7, 2) * 3 - 1.5
    expected = torch.zeros(2, CELLS, CELLS)
    for f in range(2):
        for m in range(7):
            for (x, y), share in slow_corners(*position[f, m].tolist()).items():
                expected[f, y, x] += share * weight[f, m]
    close(spread(weight, position, CELLS), expected)


def test_the_slide_decides_the_selection_only_if_there_are_several_gene_tokens():
    """As the paper writes the layer, one gene token leaves nothing to select: the slide changes nothing."""
    for part in (small(), PaperFusion(WIDTH).eval()):
        bag, other = make_bag([60, 30], WIDTH), make_bag([60, 30], WIDTH)
        for genes in (torch.randn(2, WIDTH), torch.randn(2, 1, WIDTH)):
            embedding = part(bag.features, bag, genes).embedding
            close(part(other.features, other, genes).embedding, embedding, atol=1e-6)
            assert (part(bag.features, bag, genes + 1).embedding - embedding).abs().max() > 1e-2
        genes = torch.randn(2, TOKENS, WIDTH)
        changed = part(other.features, other, genes).embedding - part(bag.features, bag, genes).embedding
        assert changed.abs().max() > 1e-4
    without = small(selection=False)
    genes = torch.randn(2, WIDTH)
    assert (without(bag.features, bag, genes)[0] - without(other.features, other, genes)[0]).abs().max() > 1e-3


def test_offsets_come_from_the_genes_alone():
    part, genes = small(), torch.randn(1, TOKENS, WIDTH)
    positions = []
    for bag in (make_bag([60], WIDTH), make_bag([40], WIDTH)):
        seen = []
        hook = part.hidden_to_offset.register_forward_hook(lambda _, inputs, output, seen=seen: seen.append(output))
        part(bag.features, bag, genes)
        part(bag.features, bag, genes + 1)
        hook.remove()
        positions.append(seen)
    assert torch.equal(positions[0][0], positions[1][0])
    assert not torch.equal(positions[0][0], positions[0][1])


@pytest.mark.parametrize("extra", [1, 300])
def test_padding_changes_no_output(fusion, extra):
    bag, genes = make_bag([40, 150, 1], WIDTH, slides=[1, 3, 1]), torch.randn(3, TOKENS, WIDTH)
    expected = fusion(bag.features, bag, genes)
    for garbage in (None, float("nan")):
        padded = pad_bag(bag, extra, garbage)
        output = fusion(padded.features, padded, genes)
        close(output.embedding, expected.embedding)
        close(output.gene_attention, expected.gene_attention)
        close(output.attention[:, :150], expected.attention)
        assert (output.attention[:, 150:] == 0).all()


def test_the_order_of_tokens_changes_no_output(fusion):
    bag, genes = make_bag([300, 70], WIDTH, slides=[2, 1]), torch.randn(2, TOKENS, WIDTH)
    order = torch.randperm(300)
    expected, shuffled = fusion(bag.features, bag, genes), shuffle_bag(bag, order)
    output = fusion(shuffled.features, shuffled, genes)
    close(output.embedding, expected.embedding)
    close(output.gene_attention, expected.gene_attention)
    close(output.attention, expected.attention[:, order])


def test_other_patients_of_the_batch_change_no_output(fusion):
    counts = [3, 50, 0, 100, 1, 400]
    bag, genes = make_bag(counts, WIDTH, slides=[1, 1, 1, 2, 1, 3]), torch.randn(6, TOKENS, WIDTH)
    together = fusion(bag.features, bag, genes)
    for i, n in enumerate(counts):
        one = rows(bag, i) if n else pad_bag(rows(bag, i), 1)
        alone = fusion(one.features, one, genes[i : i + 1])
        close(alone.embedding[0], together.embedding[i])
        close(alone.gene_attention[0], together.gene_attention[i])
        close(alone.attention[0, :n], together.attention[i, :n])


def test_each_slide_has_its_own_frame(fusion):
    """Moving a slide by a metre changes nothing; putting its tokens into the frame of the other slide does."""
    bag, genes = make_bag([80], WIDTH, slides=[2]), torch.randn(1, TOKENS, WIDTH)
    expected = fusion(bag.features, bag, genes)
    second = (bag.slide == 1).unsqueeze(-1)
    moved = Bag(bag.features, bag.position + second * 1e6, bag.mask, bag.slide)
    close(fusion(moved.features, moved, genes).embedding, expected.embedding, atol=1e-3)
    one = Bag(moved.features, moved.position, bag.mask, bag.slide * 0)
    changed = fusion(one.features, one, genes).gene_attention - expected.gene_attention
    assert changed.abs().max() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 7, 450, 2000])
def test_any_number_of_tokens_gives_distributions(fusion, count):
    bag = make_bag([count, 0, 30], WIDTH)
    for size in (1.0, 100.0):  # offsets may push all anchors off the tissue
        output = fusion(bag.features, bag, torch.randn(3, TOKENS, WIDTH))
        close(output.attention.sum(1), torch.tensor([1.0, 0, 1]))
        assert (output.attention >= 0).all()
        assert (output.attention[~bag.mask] == 0).all()
        of_tokens = output.gene_attention.view(3, fusion.heads, TOKENS, -1)
        assert of_tokens.shape[-1] == len(fusion.grid)
        is_zero, is_one = (of_tokens.sum(-1).isclose(torch.tensor(v), atol=1e-5) for v in (0.0, 1.0))
        assert (is_zero | is_one).all(), "of each head and gene token, unless every anchor misses the tissue"
        assert is_zero[1].all()
        assert output.embedding.isfinite().all()
        with torch.no_grad():
            fusion.hidden_to_offset.weight.mul_(size * 100)


def test_without_tissue_the_embedding_depends_on_the_genes_alone(fusion):
    bag, genes = make_bag([9, 0, 0], WIDTH), torch.randn(3, TOKENS, WIDTH)
    genes[2] = genes[1]
    embedding, attention, gene_attention = fusion(bag.features, bag, genes)
    close(embedding[1], embedding[2])
    assert (attention[1:] == 0).all()
    assert (gene_attention[1:] == 0).all()
    assert (fusion(bag.features, bag, genes + 1).embedding[1] - embedding[1]).abs().max() > 1e-2


def test_if_all_anchors_miss_the_tissue_its_mean_is_read():
    part, bag, genes = small(reach=50.0), make_bag([50], WIDTH), torch.randn(1, TOKENS, WIDTH)
    with torch.no_grad():
        part.hidden_to_offset.bias.fill_(100.0)  # every anchor ends far off the slide
    output = part(bag.features, bag, genes)
    close(output.attention, torch.full((1, 50), 1 / 50))
    assert (output.gene_attention == 0).all()
    with torch.no_grad():
        mean = bag.features[0].mean(0)
        fused = part.out(torch.cat([mean @ part.value[h] for h in range(HEADS)])).expand(1, TOKENS, -1)
        expected = part.to_embedding(part.selection(fused, genes).mean(1)).tanh()
    close(output.embedding, expected)


def test_every_parameter_learns_and_none_is_skipped_when_bags_are_empty(fusion):
    bag, genes = make_bag([60, 30], WIDTH, slides=[2, 1]), torch.randn(2, TOKENS, WIDTH, requires_grad=True)
    features = bag.features.requires_grad_()
    output = fusion(features, bag, genes)
    output.embedding.square().sum().backward()
    assert [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert (features.grad[~bag.mask] == 0).all()
    assert features.grad.any()
    assert genes.grad.abs().sum((1, 2)).min() > 0
    fusion.zero_grad(set_to_none=True)
    empty = Bag(bag.features * float("nan"), bag.position, bag.mask & False, bag.slide)
    output = fusion(empty.features, empty, genes.detach())
    (output.embedding.sum() + output.attention.sum() + output.gene_attention.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())


def test_the_attention_maps_have_a_gradient():
    part, bag, genes = small(), make_bag([60], WIDTH), torch.randn(1, TOKENS, WIDTH)
    output = part(bag.features, bag, genes)
    (output.gene_attention.square().sum() + output.attention.square().sum()).backward()
    for name in ("query", "key", "hidden_to_offset.weight", "genes_to_hidden.weight"):
        assert part.get_parameter(name).grad.any(), name


def test_bfloat16_autocast_is_finite_and_close_and_attention_still_a_distribution(fusion):
    bag, genes = make_bag([80, 0, 600], WIDTH, slides=[1, 1, 3]), torch.randn(3, TOKENS, WIDTH)
    expected = fusion(bag.features, bag, genes).embedding
    with torch.autocast("cpu", torch.bfloat16):
        output = fusion(bag.features, bag, genes)
        output.embedding.float().square().sum().backward()
    torch.testing.assert_close(output.embedding.float(), expected, atol=0.1, rtol=0.1)
    close(output.attention.float().sum(1), torch.tensor([1.0, 0, 1]))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())


def saved_bytes(part, n, genes):
    """Bytes of the distinct tensors that a forward pass keeps for the backward pass."""
    kept, bag = {}, make_bag([n], WIDTH)

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = part(bag.features.requires_grad_(), bag, genes)
    assert result[0].requires_grad
    return sum(kept.values())


def test_memory_per_token_is_no_more_than_that_of_the_default_fusion():
    genes = torch.randn(1, 25, WIDTH)
    per_token = {}
    for part, condition in ((PaperFusion(WIDTH), genes), (DeformableFusion(WIDTH), genes[:, 0])):
        kept = [saved_bytes(part, n, condition) for n in (2_000, 42_000)]
        per_token[type(part)] = (kept[1] - kept[0]) / 40_000
    assert 0 < per_token[PaperFusion] < per_token[DeformableFusion]


def test_a_width_that_is_no_multiple_of_the_heads_is_refused():
    with pytest.raises(ValueError, match="multiple of heads; got width=12, heads=8"):
        PaperFusion(12)
