"""`torch.compile` gives the results of eager PyTorch on the CPU, for bags of any length and without recompiling.

The C++ of three parts takes about 100 CPU seconds when it is built for the first time, a third of that from its cache.
"""

import os
import shutil
from functools import partial

import pytest
import torch
import torch._dynamo
from batches import make_bag, make_batch
from models import PROGRAMS, build
from torch._dynamo.utils import counters

from dmml.nn.aggregator import TokenAggregator
from dmml.nn.fusion import DeformableFusion, GatedPoolFusion
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.nn.paper.fusion import PaperFusion
from dmml.types import SUBSPACES, Bag, Batch

pytestmark = pytest.mark.slow

WIDTH = 16
AGGREGATIONS = {
    "default": {"n_merged": 4},
    "tissue attention": {"n_merged": 4, "aggregator": partial(TokenAggregator, tissue_attention=True)},
    "prototypes": {"n_merged": 2, "aggregator": PrototypeAggregator},
}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def compiler():
    """Set the options with which Inductor compiles fastest; the kernels are real."""
    from torch._inductor import config

    if shutil.which(os.environ.get("CXX", "g++")) is None:
        reason = "torch.compile on the CPU needs a C++ compiler; install g++ or name one in CXX"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with config.patch({"compile_threads": 1, "cpp.simdlen": 1, "aot_inductor.debug_compile": True}):  # the last is -O0
        yield


def any_length(bag: Bag) -> Bag:
    """The bag, marked as dynamic in the number of tokens and in nothing else."""
    for tensor in (bag.features, bag.position, bag.mask, bag.slide):
        torch._dynamo.mark_dynamic(tensor, 1)
    bag.n_slides = int(bag.slide.max()) + 1  # as the data module counts it, so that no tensor is asked for its value
    return bag


def flat(output):
    """All tensors of an output, in a fixed order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if output is None:  # what a model without a fitted backbone leaves out
        return []
    values = (
        output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else vars(output).values()
    )
    return [tensor for value in values for tensor in flat(value)]


def check(eager, compiled, *inputs):
    expected, result = flat(eager(*inputs)), flat(compiled(*inputs))
    assert len(expected) == len(result)
    for a, b in zip(result, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    return expected, result


@pytest.mark.parametrize(
    ("kind", "condition", "backend"),
    [
        (GatedPoolFusion, (2, WIDTH), "inductor"),
        (DeformableFusion, (2, WIDTH), "inductor"),
        (PaperFusion, (2, 3, WIDTH), "aot_eager"),  # traced alike; its kernels would take half a minute more
    ],
    ids=["gated pool", "deformable", "paper"],
)
def test_a_fusion_is_compiled_once_for_all_bags(kind, condition, backend, compiler):
    fusion = kind(WIDTH).eval()
    compiled = torch.compile(fusion, backend=backend, fullgraph=True)
    with torch.no_grad():
        for n in (40, 90, 7):
            bag = any_length(make_bag([n, n // 2], WIDTH, slides=[1, 2]))
            check(fusion, compiled, bag.features, bag, torch.randn(condition))
    assert counters["stats"]["unique_graphs"] == 1


def test_inductor_compiles_the_students_aggregation(compiler):
    """The layers that read every token are compiled once for all lengths; the clustering between them stays eager."""
    part = TokenAggregator(WIDTH, n_merged=4).eval()
    compiled = torch.compile(part, backend="inductor", dynamic=True)
    with torch.no_grad():
        for n in (24, 70, 700, 5000):
            bag = any_length(make_bag([n, n // 2], WIDTH))
            tokens = {s: bag.features * (i + 1) for i, s in enumerate(SUBSPACES)}
            for tensor in tokens.values():
                torch._dynamo.mark_dynamic(tensor, 1)
            check(part, compiled, tokens, bag)
    assert counters["stats"]["unique_graphs"] <= 2, "one more beyond 4,096 tokens, by the choice of the compiler"


@pytest.mark.parametrize("aggregation", AGGREGATIONS.values(), ids=list(AGGREGATIONS))
def test_a_whole_student_and_its_gradients_are_captured(aggregation):
    """It is traced over several windows, made functional and differentiated ahead of time, with eager kernels."""
    model = build("student", programs=PROGRAMS, magnifications=[20], **aggregation)
    compiled = torch.compile(model, backend="aot_eager")
    batch = make_batch((30, 40), (90, 150), has_rna=[True, False])
    batch.bags[20].n_slides = 1
    gradients = []
    for output in check(model, compiled, batch):
        model.zero_grad()
        sum(x.square().sum() for x in output if x.requires_grad).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


class OfTensors(torch.nn.Module):
    """The logits of a student as a function of tensors alone, which `torch.export` needs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *tensors):
        bags = {}
        for m, (features, position) in zip((10, 20), (tensors[:2], tensors[2:]), strict=True):
            index = torch.zeros(features.shape[:2], dtype=torch.long)
            bags[m] = Bag(features, position, index == 0, index, n_slides=1)
        nobody = torch.zeros(len(tensors[0]), dtype=torch.bool)
        return self.model(Batch(["P"] * len(nobody), bags, bags[20].slide, {}, nobody)).logits


@pytest.mark.parametrize("aggregation", AGGREGATIONS.values(), ids=list(AGGREGATIONS))
def test_a_student_is_exported_for_bags_of_one_length(aggregation):
    """By tracing: the clustering is not compiled, and `strict=True` refuses that for every student."""
    model = OfTensors(build("student", **aggregation))
    first, other = (
        [x for bag in make_batch((30,), (90,)).bags.values() for x in (bag.features, bag.position)] for _ in "ab"
    )
    with torch.no_grad():
        exported = torch.export.export(model, tuple(first), strict=False).module()
        torch.testing.assert_close(exported(*first), model(*first), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(exported(*other), model(*other), atol=1e-5, rtol=1e-5)
