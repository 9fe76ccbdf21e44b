"""The student's slot for an aggregation, and attention from tissue to tissue before both subspaces get the tokens."""

from functools import partial

import pytest
import torch
from batches import make_batch
from models import PROGRAMS, build

from dmml.nn.aggregator import Aggregator, TokenAggregator
from dmml.types import SUBSPACES

ATTENDING = partial(TokenAggregator, tissue_attention=True)


class MeanAggregator(Aggregator):
    """An aggregation as users may write it: the mean of all tokens, as a plain pair."""

    def forward(self, tokens, bag):
        share = bag.mask / bag.mask.sum(1, keepdim=True).clamp_min(1)
        return {s: (share.unsqueeze(1) @ tokens[s]).squeeze(1) for s in SUBSPACES}, dict.fromkeys(SUBSPACES, share)


def test_a_users_aggregation_takes_the_place_of_the_default():
    batch = make_batch((5, 0, 7, 4), (20, 11, 28, 16))
    model = build("student", aggregator=MeanAggregator, programs=PROGRAMS, n_merged=3)
    assert model.aggregator["10x"].n_merged == 3
    output = model(batch)
    torch.testing.assert_close(output.attention[20, "tme"].sum(1), torch.ones(4))
    assert not output.prototypes
    model.losses(batch).total.backward()
    assert model.projection["20x"].linear.weight.grad.any()


def test_tissue_attention_is_computed_once_per_magnification_before_the_subspaces_part():
    """The two gradients that a rule gets are those of the attended tokens, and their sum reaches the attention."""
    batch, seen = make_batch(), []
    model = build("student", aggregator=ATTENDING, programs=PROGRAMS)
    calls = []
    for m in (10, 20):
        part = model.aggregator[f"{m}x"].tissue_attention
        part.register_forward_hook(lambda module, inputs, output, m=m: calls.append(m))

    def swallow_tme(tumor, tme):
        seen.append((tumor, tme))
        return tumor, tme * 0

    weights = [model.aggregator["20x"].tissue_attention.out.weight, model.projection["20x"].linear.weight]
    gradients = []
    for rule in (lambda tumor, tme: (tumor, tme), swallow_tme):
        model.zero_grad()
        model.set_shared_rule(rule)
        model.losses(batch).total.backward()
        gradients.append([weight.grad.clone() for weight in weights])
    assert sorted(calls) == [10, 10, 20, 20]
    assert {tumor.shape for tumor, _ in seen} == {(4, 7, 16), (4, 28, 16)}
    assert all(not torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    still = [name for name, p in model.aggregator.named_parameters() if "tissue_attention" in name and p.grad is None]
    assert still == []


def test_tissue_attention_changes_the_output_and_can_be_reduced_to_the_default():
    torch.manual_seed(0)
    plain, attending = build("student"), build("student", aggregator=ATTENDING)
    attending.load_state_dict(plain.state_dict(), strict=False)
    batch = make_batch()
    assert not torch.allclose(plain(batch).logits, attending(batch).logits, atol=1e-4)
    for part in attending.aggregator.values():
        torch.nn.init.zeros_(part.tissue_attention.out.weight)
        torch.nn.init.zeros_(part.tissue_attention.out.bias)
    assert torch.equal(plain(batch).logits, attending(batch).logits)


def test_a_token_reads_the_rest_of_its_slide_through_tissue_attention():
    batch = make_batch((5,), (30,), slides=[2])
    model = build("student", aggregator=ATTENDING)
    part, bag = model.aggregator["20x"], batch.bags[20]
    tokens = torch.randn(1, 30, 16, requires_grad=True)
    part.shared_tokens(tokens, bag)[0, 0].sum().backward()
    reaches = tokens.grad[0].abs().sum(1) > 0
    assert torch.equal(reaches, bag.slide[0] == 0), "tokens of its own slide, and none of another"


@pytest.mark.parametrize("aggregator", [TokenAggregator, ATTENDING])
def test_a_student_without_tissue_of_a_patient_gives_finite_gradients(aggregator):
    model, batch = build("student", aggregator=aggregator), make_batch((5, 0), (0, 0))
    model.losses(batch).total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
