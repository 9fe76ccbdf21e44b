"""Padding, token order and other patients of a batch change no output; empty bags give zeros; all parameters learn."""

import pytest
import torch
from batches import make_bag, pad_bag, shuffle_bag
from torch import nn

from dmml.nn.aggregator import TokenAggregator
from dmml.nn.fusion import DeformableFusion, GatedPoolFusion
from dmml.nn.heads import ProgramHead
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.types import SUBSPACES, Bag

WIDTH = 16


class Network(nn.Module):
    """Any of the networks behind one signature: (bag, condition) → (B, F) and attention {name: (B, N)}."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.network = {
            "deformable": lambda: DeformableFusion(WIDTH),
            "gated": lambda: GatedPoolFusion(WIDTH),
            "aggregator": lambda: TokenAggregator(WIDTH, n_merged=4, dropout=0.0),
            "single_aggregator": lambda: TokenAggregator(WIDTH, n_merged=1, dropout=0.0),
            "attending_aggregator": lambda: TokenAggregator(WIDTH, n_merged=4, dropout=0.0, tissue_attention=True),
            "prototypes": lambda: PrototypeAggregator(WIDTH),
            "unmerged": lambda: TokenAggregator(WIDTH, n_merged=None, dropout=0.0),
            "programs": lambda: ProgramHead(WIDTH, 7),
        }[kind]()
        with torch.no_grad():  # offsets start near 0, attention blocks at 0: give them something to do
            for name, parameter in self.network.named_parameters():
                if "offset" in name or not parameter.any():
                    parameter.normal_(std=0.3)

    def forward(self, bag: Bag, condition: torch.Tensor):
        tokens = bag.features
        if self.kind == "programs":
            return self.network(tokens, bag.mask), {}
        if self.kind in ("deformable", "gated"):
            embedding, attention, _ = self.network(tokens, bag, condition)
            return embedding, {"both": attention}
        tokens = self.network.shared_tokens(tokens, bag)
        embeddings, attention, _ = self.network({"tumor": tokens, "tme": tokens * 0.5 + 1}, bag)
        return torch.cat([embeddings[s] for s in SUBSPACES], 1), attention


KINDS = (
    "deformable",
    "gated",
    "aggregator",
    "single_aggregator",
    "attending_aggregator",
    "prototypes",
    "unmerged",
    "programs",
)


@pytest.fixture(params=KINDS)
def network(request):
    return Network(request.param).eval()


def rows(bag: Bag, i: int) -> Bag:
    return Bag(*(getattr(bag, name)[i : i + 1, bag.mask[i]] for name in ("features", "position", "mask", "slide")))


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("extra", [1, 90, 700])
def test_padding_changes_no_output(network, extra):
    bag, condition = make_bag([40, 150, 1], WIDTH, slides=[1, 3, 1]), torch.randn(3, WIDTH)
    expected, attention = network(bag, condition)
    padded, padded_attention = network(pad_bag(bag, extra), condition)
    close(padded, expected)
    for name, values in padded_attention.items():
        close(values[:, :150], attention[name])
        assert (values[:, 150:] == 0).all()


def test_the_order_of_tokens_changes_no_output(network):
    bag, condition = make_bag([300, 70], WIDTH, slides=[2, 1]), torch.randn(2, WIDTH)
    order = torch.randperm(300)
    expected, attention = network(bag, condition)
    shuffled, shuffled_attention = network(shuffle_bag(bag, order), condition)
    close(shuffled, expected)
    for name, values in shuffled_attention.items():
        close(values, attention[name][:, order])


@pytest.mark.parametrize("largest", [64, 65, 400, 2000])
def test_other_patients_of_the_batch_change_no_output(network, largest):
    """Patients with one window or several, with one slide or three, next to a patient of any size."""
    counts = [3, 50, 64, 65, min(100, largest), largest]
    bag, condition = make_bag(counts, WIDTH, slides=[1, 1, 3, 1, 2, 3]), torch.randn(6, WIDTH)
    together, attention = network(bag, condition)
    for i, n in enumerate(counts):
        alone, alone_attention = network(rows(bag, i), condition[i : i + 1])
        close(alone[0], together[i])
        for name, values in alone_attention.items():
            close(values[0], attention[name][i, :n])


def test_attention_is_a_distribution_over_real_tokens(network):
    bag = make_bag([30, 0, 1, 129], WIDTH)
    for attention in network(bag, torch.randn(4, WIDTH))[1].values():
        torch.testing.assert_close(attention.sum(1), torch.tensor([1.0, 0, 1, 1]), atol=1e-5, rtol=0)
        assert (attention >= 0).all()
        assert (attention[~bag.mask] == 0).all()


@pytest.mark.parametrize("garbage", [0.0, 1e4])
def test_empty_bags_give_zeros_and_finite_gradients(network, garbage):
    bag = make_bag([9, 0], WIDTH)
    bag.features[~bag.mask] = garbage
    bag.features.requires_grad_()
    embedding, attention = network(bag, torch.randn(2, WIDTH))
    assert (embedding[1] == 0).all()
    (embedding.square().sum() + sum(a.square().sum() for a in attention.values())).backward()
    assert bag.features.grad.isfinite().all()
    assert (bag.features.grad[1] == 0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    alone, _ = network(make_bag([0, 0], WIDTH), torch.randn(2, WIDTH))
    assert alone.shape == embedding.shape


def test_every_parameter_learns_and_none_is_skipped_when_bags_are_empty(network):
    bag, condition = make_bag([60, 30], WIDTH, slides=[2, 1]), torch.randn(2, WIDTH)
    embedding, _ = network(bag, condition)
    embedding.square().sum().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A softmax over merged tokens of one cluster, and shifts that a softmax does not see, have no gradient by nature.
    allowed = ("score.tumor.bias", "score.tme.bias", "qkv.bias") if "aggregator" in network.kind else ()
    if network.kind == "single_aggregator":
        allowed += ("qkv.weight", "pool", "norm_attention")
    assert [name for name in still if not any(word in name for word in allowed)] == []
    network.zero_grad(set_to_none=True)
    empty, _ = network(Bag(bag.features * 0, bag.position, bag.mask & False, bag.slide), condition)
    empty.sum().backward()
    assert all(p.grad is not None for p in network.parameters()), "a rank with an empty bag must not skip a parameter"


def test_bfloat16_autocast_is_finite_and_close(network):
    bag, condition = make_bag([80, 0, 200], WIDTH, slides=[1, 1, 3]), torch.randn(3, WIDTH)
    expected, _ = network(bag, condition)
    with torch.autocast("cpu", torch.bfloat16):
        embedding, attention = network(bag, condition)
        embedding.float().square().sum().backward()
    assert embedding.isfinite().all()
    assert all(a.isfinite().all() for a in attention.values())
    assert all(p.grad.isfinite().all() for p in network.parameters())
    if (
        "aggregator" not in network.kind and network.kind != "prototypes"
    ):  # clusters may change with the rounding of features
        torch.testing.assert_close(embedding.float(), expected, atol=0.15, rtol=0.1)
