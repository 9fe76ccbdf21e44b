"""Merging a slide's tokens: the memory that it saves, the information that it keeps, and the effect of repeated tissue."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from batches import make_batch
from models import build
from torch.utils._python_dispatch import TorchDispatchMode

from dmml.nn.aggregator import TokenAggregator
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.types import Bag

ATTENDING = {"aggregator": partial(TokenAggregator, tissue_attention=True)}
PROTOTYPES = {"aggregator": PrototypeAggregator, "n_merged": 2}
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operation creates."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def largest_tensor_per_token(aggregation, n_tokens):
    """Elements per token of the largest tensor of a training step; constant if memory is linear in the tokens."""
    model = build("student", **aggregation, magnifications=[20]).train()
    batch = make_batch((1,), (n_tokens,))
    with LargestTensor() as largest:
        model.losses(batch).total.backward()
    return largest.elements / n_tokens


@pytest.mark.parametrize("aggregation", [{"n_merged": 1}, {"n_merged": 8}, {"n_merged": 32}, ATTENDING, PROTOTYPES])
def test_no_tensor_of_a_training_step_grows_faster_than_the_tokens(aggregation):
    """Prototypes compare at most 1,024 tokens with each other, which is most of the memory of a small slide."""
    small, large = largest_tensor_per_token(aggregation, 2000), largest_tensor_per_token(aggregation, 8000)
    assert large <= 1.05 * small
    assert large <= 200, "elements per token, at width 16 and windows of 32"


def test_without_merging_a_tensor_grows_faster_than_the_tokens():
    unmerged = {"n_merged": None}
    assert largest_tensor_per_token(unmerged, 1200) > 2.5 * largest_tensor_per_token(unmerged, 400)


@pytest.fixture
def keeps(monkeypatch):
    """The module `benchmarks/aggregation_keeps.py`."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import aggregation_keeps

    return aggregation_keeps


def test_eight_merged_tokens_keep_the_factors_that_all_tokens_show(keeps):
    """Cross-validated R² of six factors, compared with the R² from the mean of each true tissue, the upper limit."""
    slides = keeps.Slides(120)
    bag, tissue = slides.bags[20], slides.tissue[20]
    real = bag.mask.float()
    upper_limit = keeps.factor_r2(keeps._of_each_tissue(bag.features, real, tissue), slides.factors)
    assert upper_limit.min() > 0.9
    prototypes = torch.stack([bag.features[tissue == kind].mean(0) for kind in keeps.TISSUES])
    tokens, sizes = keeps.merged(bag, 8)
    assert tokens.shape == (120, 8, keeps.DIM)
    assert (sizes.sum(1) == bag.mask.sum(1)).all(), "every token is in one cluster"
    weighted = (tokens * (sizes / sizes.sum(1, keepdim=True)).unsqueeze(-1)).sum(1)
    mean = (bag.features * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)
    torch.testing.assert_close(weighted, mean, atol=1e-4, rtol=1e-4)
    kept = keeps.factor_r2(keeps.readings(tokens, sizes, prototypes)["mean of each tissue"], slides.factors)
    assert kept.mean() > 0.85 * upper_limit.mean(), f"{kept.round(2)} of {upper_limit.round(2)}"
    shuffled = keeps.factor_r2(keeps.readings(tokens, sizes, prototypes)["mean"], slides.factors[torch.randperm(120)])
    assert shuffled.mean() < 0.1, "shuffled factors are not predicted"


def repeated(batch, times):
    """A batch in which every token occurs several times at its position."""
    bags = {}
    for m, bag in batch.bags.items():
        tensors = (torch.cat([x] * times, 1) for x in (bag.features, bag.position, bag.mask, bag.slide))
        bags[m] = Bag(*tensors)
    return replace(batch, bags=bags, parent=torch.cat([batch.parent] * times, 1))


@pytest.mark.parametrize("aggregation", [{"n_merged": n} for n in (None, 1, 4, 8)] + [ATTENDING, PROTOTYPES])
@pytest.mark.parametrize("times", [2, 3])
def test_repeated_tissue_changes_no_output(aggregation, times):
    student, batch = (
        build("student", **aggregation),
        make_batch((40, 9, 70, 0), (160, 33, 250, 7), slides=[1, 1, 2, 1]),
    )
    with torch.no_grad():
        once, again = student(batch), student(repeated(batch, times))
    torch.testing.assert_close(again.logits, once.logits, atol=1e-5, rtol=1e-5)
    for key, embedding in once.embeddings.items():
        torch.testing.assert_close(again.embeddings[key], embedding, atol=1e-5, rtol=1e-5)
        n = once.attention[key].shape[1]
        copies = again.attention[key].unflatten(1, (times, n))
        torch.testing.assert_close(copies.sum(1), once.attention[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("aggregation", [{"n_merged": 1}, {"n_merged": 8}, ATTENDING, PROTOTYPES])
def test_a_slide_given_twice_changes_no_output_next_to_another_slide_on_the_same_lattice(aggregation):
    """The tiles of all slides lie on one lattice, so a tile of another slide lies between the two copies of a tile."""
    # The tissue-specific pool counts copies twice; only merging recognises them.
    student, batch = (
        build("student", **aggregation, tissue_specific=False),
        make_batch((40, 70), (160, 250), slides=[2, 2]),
    )
    bags, parent = {}, batch.parent
    for m, bag in batch.bags.items():
        position = bag.position.clone()
        for row in range(2):  # the second slide's tiles at the places of the first
            first, second = ((bag.slide[row] == i) & bag.mask[row] for i in range(2))
            n = min(first.sum(), second.sum())
            position[row, second.nonzero()[:n, 0]] = position[row, first.nonzero()[:n, 0]]
        bags[m] = replace(bag, position=position)
    once = replace(batch, bags=bags)
    again = {}
    for m, bag in bags.items():
        order = torch.cat([torch.arange(bag.mask.shape[1]), torch.randperm(bag.mask.shape[1])])
        copy = torch.arange(len(order)) >= bag.mask.shape[1]
        doubled = replace(
            bag, **{name: getattr(bag, name)[:, order] for name in ("features", "position", "mask", "slide")}
        )
        # Of the second half only the first slide's tokens are real: it is the patient's third slide.
        again[m] = replace(
            doubled,
            mask=doubled.mask & (~copy | (doubled.slide == 0)),
            slide=torch.where(copy, 2, doubled.slide),
            n_slides=3,
        )
        assert again[m].mask.sum() > bag.mask.sum()
    repeated_slide = replace(batch, bags=again, parent=torch.cat([parent, torch.full_like(parent, -1)], 1))
    with torch.no_grad():
        expected, actual = student(once), student(repeated_slide)
    torch.testing.assert_close(actual.logits, expected.logits, atol=1e-5, rtol=1e-5)
    for key, attention in expected.attention.items():
        torch.testing.assert_close(actual.attention[key].sum(1), attention.sum(1), atol=1e-5, rtol=1e-5)
