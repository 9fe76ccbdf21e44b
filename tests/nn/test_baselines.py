"""Baselines' networks against slow loops, and on everything that a batch may lack."""

from dataclasses import replace

import pytest
import torch
from batches import DIM, GENES, make_batch, one_patient, pad_batch, shuffle_batch

from dmml.nn.baselines import MCAT, EarlyConcat, GatedABMIL, LateFusion, MeanPool, RNANetwork, TransMIL
from dmml.nn.baselines.mcat import even_groups
from dmml.nn.baselines.transmil import NystromAttention
from dmml.types import Bag

N_GENES = {s: len(genes) for s, genes in GENES.items()}


def build(name):
    rna = RNANetwork(N_GENES, 3, (7, 6))
    return {
        "mean": lambda: MeanPool(DIM, 3, 8),
        "abmil": lambda: GatedABMIL(DIM, 3, 8, 5),
        "rna": lambda: rna,
        "early": lambda: EarlyConcat(DIM, N_GENES, 3, 8, 5),
        "late": lambda: LateFusion(GatedABMIL(DIM, 3, 8, 5), rna),
        "transmil": lambda: TransMIL(DIM, 3, 16, landmarks=4),
        "mcat": lambda: MCAT(DIM, N_GENES, 3, 16),
    }[name]().eval()


NAMES = ("mean", "abmil", "rna", "early", "late", "transmil", "mcat")


def only(batch, *magnifications):
    return replace(batch, bags={m: batch.bags[m] for m in magnifications})


def test_gated_abmil_equals_ilses_formula_token_by_token():
    model, batch = build("abmil"), make_batch((5, 3), (9, 4))
    logits = model(batch)
    for i in range(2):
        parts = []
        for stream, head, bag in zip(model.embed.streams.values(), model.heads, batch.bags.values(), strict=True):
            v, u = stream.pool.value_and_gate.weight.chunk(2)
            bias_v, bias_u = stream.pool.value_and_gate.bias.chunk(2)
            hidden, scores = [], []
            for x in bag.features[i][bag.mask[i]]:
                h = torch.relu(stream.project.weight @ x + stream.project.bias)
                gated = torch.tanh(v @ h + bias_v) * torch.sigmoid(u @ h + bias_u)
                hidden.append(h)
                scores.append(stream.pool.score.weight[0] @ gated + stream.pool.score.bias[0])
            weight = torch.stack(scores).softmax(0)
            parts.append(head(sum(a * h for a, h in zip(weight, hidden, strict=True))))
        torch.testing.assert_close(logits[i], (parts[0] + parts[1]) / 2)


def test_mean_pool_is_a_linear_layer_on_the_mean_token():
    model, batch = build("mean"), make_batch((5, 3), (9, 4))
    for i in range(2):
        parts = [
            stream(batch.bags[m].features[i][batch.bags[m].mask[i]].mean(0))
            for m, stream in zip((10, 20), model.streams.values(), strict=True)
        ]
        torch.testing.assert_close(model(batch)[i], (parts[0] + parts[1]) / 2)


def test_the_rna_network_reads_both_subspaces_and_is_self_normalising():
    model, batch = build("rna"), make_batch()
    genes = torch.cat([batch.expression["tumor"], batch.expression["tme"]], 1)
    first, _, _, second, _, _ = model.embed.layers
    expected = model.head(torch.selu(second(torch.selu(first(genes)))))
    torch.testing.assert_close(model(batch), expected)
    wide = RNANetwork({"tumor": 300, "tme": 200}, 2, (128, 128), dropout=0.0)
    hidden = wide.embed.layers(torch.randn(400, 500))
    assert abs(hidden.mean()) < 0.1
    assert abs(hidden.var() - 1) < 0.15


def test_late_fusion_is_the_mean_of_both_or_the_one_that_is_available():
    model = build("late")
    batch = make_batch((5, 0, 7, 0), (20, 0, 28, 0), has_rna=(True, True, False, False))
    slide, rna = model.slide(batch), model.rna(batch)
    expected = torch.stack([(slide[0] + rna[0]) / 2, rna[1], slide[2], (slide[3] + rna[3]) / 2])
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("name", NAMES)
def test_padding_token_order_and_other_patients_change_no_output(name):
    model, batch = build(name), make_batch((5, 3, 7), (20, 11, 28), has_rna=(True, False, True))
    expected = model(batch)
    assert expected.shape == (3, 3)
    assert expected.unique(dim=0).shape[0] == 3, "patients differ"
    for garbage in (None, float("nan"), float("inf")):
        torch.testing.assert_close(model(pad_batch(batch, 6, garbage)), expected)
    if name != "transmil":  # it takes positions from the order of the tokens
        torch.testing.assert_close(model(shuffle_batch(batch)[0]), expected)
    alone = torch.cat([model(one_patient(batch, i)) for i in range(3)])
    torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize("name", NAMES)
def test_padding_gets_no_gradient(name):
    model, batch = build(name), make_batch((5, 3), (20, 11))
    model(batch).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(pad_batch(batch, 4, float("nan"))).square().sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_with_missing_inputs_logits_and_gradients_are_finite_and_every_parameter_has_one(name):
    model = build(name).train()
    full = make_batch((0, 5, 0, 3), (0, 0, 9, 11), has_rna=(True, False, False, True))
    nobody = Bag(torch.zeros(4, 0, DIM), torch.zeros(4, 0, 2), *torch.zeros(2, 4, 0).bool())
    cases = [full, only(full, 10), only(full, 20), only(full), replace(full, bags={10: nobody, 20: nobody})]
    cases += [replace(full, expression={}), replace(full, expression={}, bags={})]
    for batch in cases:
        logits = model(batch)
        assert logits.shape == (4, 3)
        assert logits.isfinite().all()
        logits.square().sum().backward()
        for parameter in model.parameters():
            assert parameter.grad is not None, "a rank of a DDP run would wait for it"
            assert parameter.grad.isfinite().all()
        model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", ["mean", "abmil", "transmil", "mcat"])
def test_a_missing_magnification_does_not_count(name):
    model, batch = build(name), make_batch((5, 0), (20, 11))
    coarse = model(one_patient(only(batch, 10, 20), 0))
    torch.testing.assert_close(model(batch)[0], coarse[0])
    torch.testing.assert_close(model(batch)[1], model(only(batch, 20))[1])
    assert not torch.allclose(model(batch)[0], model(only(batch, 20))[0])


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_features_and_autocast_give_close_logits(name):
    model, batch = build(name), make_batch()
    halves = {m: replace(bag, features=bag.features.half()) for m, bag in batch.bags.items()}
    expected = model(batch)
    torch.testing.assert_close(model(replace(batch, bags=halves)), expected, atol=5e-3, rtol=5e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=5e-2, rtol=5e-2)


def test_features_of_another_encoder_are_refused():
    with pytest.raises(ValueError, match="12 wide, the network was built for 16"):
        GatedABMIL(16, 3)(make_batch())
    with pytest.raises(ValueError, match="needs genes"):
        RNANetwork({}, 3)
    with pytest.raises(ValueError, match="hidden"):
        RNANetwork(N_GENES, 3, ())
    with pytest.raises(ValueError, match="no multiple of 8"):
        TransMIL(DIM, 3, 12)
    with pytest.raises(ValueError, match="do not divide"):
        MCAT(DIM, N_GENES, 3, 16, group_sizes=(1, 2))


def test_nystrom_attention_with_one_landmark_per_token_is_plain_attention():
    layer = NystromAttention(32, heads=2, landmarks=64, iterations=30).double().eval()
    tokens = torch.randn(1, 64, 32, dtype=torch.float64)
    query, key, value = (x.unflatten(-1, (2, -1)).transpose(1, 2) for x in layer.qkv(tokens).chunk(3, -1))
    attended = (query @ key.transpose(-1, -2) / 4).softmax(-1) @ value + layer.conv(value)
    expected = layer.out(attended.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(tokens), expected, atol=1e-10, rtol=0)


def test_a_bag_with_fewer_tokens_than_landmarks_gets_one_landmark_per_token():
    layer = NystromAttention(16, landmarks=64).eval()
    tokens = torch.randn(1, 5, 16)
    other = NystromAttention(16, landmarks=5).eval()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(tokens), other(tokens))


def test_transmil_fills_the_last_row_of_the_square_with_the_first_tokens():
    stream = build("transmil").streams["10x"]
    tokens = torch.randn(1, 7, DIM)  # a square of 3 × 3 lacks two
    filled = torch.cat([tokens, tokens[:, :2]], 1)
    torch.testing.assert_close(stream(tokens), stream(filled))


def test_mcat_is_co_attention_of_every_gene_group_on_every_tile():
    model, batch = build("mcat"), make_batch((5, 3), (9, 4))
    stream, bag = model.streams["10x"], batch.bags[10]
    genes = torch.cat([batch.expression["tumor"], batch.expression["tme"]], 1).split(model.group_sizes, 1)
    weight, bias = stream.attend.in_proj_weight.chunk(3), stream.attend.in_proj_bias.chunk(3)
    for i in range(2):
        tokens = stream.project(bag.features[i][bag.mask[i]])  # (N, d)
        attended, groups = [], []
        for net, values in zip(stream.genes, genes, strict=True):
            group = net(values[i])
            query = weight[0] @ group + bias[0]
            key, value = tokens @ weight[1].T + bias[1], tokens @ weight[2].T + bias[2]
            attention = torch.stack([query @ k / 4 for k in key]).softmax(0)  # the square root of d is 4
            attended.append(stream.attend.out_proj(attention @ value))
            groups.append(group)
        both = [stream.tissue_encoder(torch.stack(attended)[None]), stream.gene_encoder(torch.stack(groups)[None])]
        expected = stream.head(stream.join(torch.cat(both, 1)))[0]
        logits = stream(bag.features[i : i + 1], bag.mask[i : i + 1], [values[i : i + 1] for values in genes])[0]
        torch.testing.assert_close(logits, expected)


def test_gene_groups_are_of_equal_size():
    assert even_groups(20) == [4, 4, 3, 3, 3, 3]
    assert even_groups(4) == [1, 1, 1, 1]
