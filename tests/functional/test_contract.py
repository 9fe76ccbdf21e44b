"""Every public function compared with its formula, evaluated with sixty digits, one sample after the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import localcontext

import pytest
import torch
from decimal_formulas import (
    exact,
    slow_agreement,
    slow_attention,
    slow_bernoulli,
    slow_concordance,
    slow_coordinate,
    slow_curve,
    slow_dpc,
    slow_edges,
    slow_expression,
    slow_kl,
    slow_merge,
    slow_nll,
    slow_similarity,
)

from dmml.functional import aggregation, consistency, coordination, distillation, survival

KINDS = ("plain", "single", "tied", "extreme", "partly empty", "nobody")


@pytest.fixture(autouse=True)
def _digits():
    with localcontext() as context:
        context.prec, context.Emin = 60, -(10**12)  # so that exp(−10⁸) can be represented
        yield


def numbers(kind, rows, *shape):
    """Values of a kind that single precision represents exactly, so that both precisions get the same numbers."""
    rows = {"single": 1, "nobody": 0}.get(kind, rows)
    values = torch.randn(rows, *shape)
    if kind == "tied":
        values = values.round() * 0.5
    if kind == "extreme":
        values = values.sign() * torch.tensor([1e4, 1e-4, 30.0])[torch.randint(0, 3, values.shape)]
    return values


def hit(kind, rows):
    return torch.zeros(rows) if kind == "partly empty" else torch.randint(0, 2, (rows,)).float()


def of_nll(kind):
    logits = numbers(kind, 9, 4)
    return logits, torch.randint(0, 4, (len(logits),)), hit(kind, len(logits)), torch.tensor(0.25)


def of_edges(kind):
    time = numbers(kind, 11).abs() * 1000
    event = torch.zeros(len(time)) if kind == "nobody" else hit("plain", len(time))
    event[:1] = 1
    return time, event, torch.tensor(4)


def of_expression(kind):
    measured = numbers(kind, 6, 3)
    has_rna = torch.rand(len(measured)) < (0.0 if kind == "partly empty" else 0.6)
    return numbers(kind, 6, 3), numbers(kind, 6, 3), measured, has_rna


def of_attention(kind):
    rows = len(numbers(kind, 5))
    mask = torch.rand(rows, 6) < 0.7
    coarse, fine = torch.rand(rows, 6).double() * mask, torch.rand(rows, 14).double()
    if kind == "extreme":
        coarse, fine = coarse**40, fine**40
    if kind == "tied":
        coarse, fine = torch.ones(rows, 6) * mask, torch.ones(rows, 14)
    if kind == "partly empty":
        mask[0], coarse[0], fine[1] = False, 0, 0
    parent = torch.full((rows, 14), -1)
    for i in range(rows):
        real = mask[i].nonzero().flatten()
        if len(real):
            drawn = real[torch.randint(0, len(real), (14,))]
            parent[i] = torch.where(torch.rand(14) < 0.8, drawn, -1)
    return coarse, fine * (parent >= 0), parent, mask


def of_similarity(kind):
    a, b = numbers(kind, 5, 4), numbers(kind, 5, 4)
    if kind == "partly empty":
        a[1:3] = 0
    return a, b


def of_softened(kind):
    student, teacher = numbers(kind, 6, 3), numbers(kind, 6, 3)
    return student, student.clone() if kind == "tied" else teacher, torch.tensor(2.0)


def of_rows(kind):
    tumor, tme = numbers("plain" if kind == "extreme" else kind, 12, 3), numbers(kind, 12, 3)
    if (
        kind == "extreme"
    ):  # rows of any length: within a row, the sign of a product that cancels would be left to chance
        scale = torch.tensor([1e6, 1e-6, 1.0]).repeat(4).unsqueeze(1)
        tumor, tme = tumor * scale, torch.randn(12, 3) / scale
    if kind == "tied":
        tme = -tumor
    if kind == "partly empty":
        tumor[::3], tme[::4] = 0, 0
    return tumor, tme, torch.tensor(0.25), torch.tensor(0.75)


def of_tokens(kind):
    tokens = torch.randn(3, 9, 3) * 1e4 if kind == "extreme" else numbers(kind, 3, 9, 3)
    if kind == "tied":
        tokens = tokens[:, [0, 1, 2, 0, 1, 2, 0, 0, 1]]
    mask = torch.rand(tokens.shape[:2]) < (0.2 if kind == "partly empty" else 0.8)
    return tokens, mask, torch.tensor(3), torch.tensor(3)


def of_merging(kind):
    tokens = numbers(kind, 3, 7, 3)
    weight = torch.rand(tokens.shape[:2]) + 0.1
    if kind == "extreme":
        weight = weight * 1e-20
    assignment = torch.randint(-1, 1 if kind == "partly empty" else 4, tokens.shape[:2])
    return tokens, weight, assignment, torch.tensor(4)


def of_pairs(kind):
    time = numbers(kind, 30).abs() * 100
    event = torch.zeros(len(time)) if kind == "partly empty" else hit(kind, len(time))
    return time, event, numbers(kind, 30)


@dataclass
class Contract:
    """A function, its formula, its inputs, and the arguments that must get a gradient."""

    fast: Callable
    slow: Callable
    draw: Callable
    smooth: tuple[int, ...] = (0,)
    plain: dict = field(default_factory=dict)

    def __call__(self, *tensors):
        return self.fast(*(x.item() if x.dim() == 0 else x for x in tensors), **self.plain)


CONTRACTS = {
    "discrete_time_nll": Contract(survival.discrete_time_nll, slow_nll, of_nll),
    "survival_curve": Contract(survival.survival_curve, slow_curve, lambda kind: (numbers(kind, 8, 5),)),
    "risk_score": Contract(
        survival.risk_score, lambda x: [-sum(row) for row in slow_curve(x)], lambda kind: (numbers(kind, 8, 5),)
    ),
    "interval_edges": Contract(survival.interval_edges, slow_edges, of_edges, ()),
    "concordance_index": Contract(survival.concordance_index, slow_concordance, of_pairs, ()),
    "scales alone": Contract(
        consistency.expression_consistency, slow_expression, lambda k: of_expression(k)[:2], (0, 1)
    ),
    "expression_consistency": Contract(consistency.expression_consistency, slow_expression, of_expression, (0, 1, 2)),
    "attention_consistency": Contract(consistency.attention_consistency, slow_attention, of_attention, ()),
    "batch_similarity_variance": Contract(
        consistency.batch_similarity_variance, slow_similarity, of_similarity, (0, 1)
    ),
    "attention_agreement_variance": Contract(
        consistency.attention_agreement_variance, slow_agreement, of_similarity, (0, 1)
    ),
    "softened_kl": Contract(distillation.softened_kl, slow_kl, of_softened),
    "softened_bernoulli_kl": Contract(distillation.softened_bernoulli_kl, slow_bernoulli, of_softened),
    "project": Contract(coordination.coordinate, slow_coordinate("project"), of_rows, (), {"rule": "project"}),
    "reflect": Contract(coordination.coordinate, slow_coordinate("reflect"), of_rows, (), {"rule": "reflect"}),
    "dpc_knn": Contract(aggregation.dpc_knn, slow_dpc, of_tokens, ()),
    "merge_tokens": Contract(aggregation.merge_tokens, slow_merge, of_merging, (0, 1)),
}
"""Coordination is never differentiated; gradients of the attention form vanish at empty tiles (see the test below)."""


def flat(values):
    if isinstance(values, list | tuple):
        return [x for value in values for x in flat(value)]
    return values.double().flatten().tolist() if isinstance(values, torch.Tensor) else [float(values)]


def cast(inputs, precision):
    return [x.to(precision) if x.is_floating_point() else x for x in inputs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONTRACTS)
def test_values_are_those_of_the_formula(name, kind):
    contract = CONTRACTS[name]
    if name == "interval_edges" and kind == "nobody":
        with pytest.raises(ValueError, match="at least one event"):
            contract(*contract.draw(kind))
        return
    for precision, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        inputs = cast(contract.draw(kind), precision)
        expected = flat(contract.slow(*(exact(x.tolist()) for x in inputs)))
        result = flat(contract(*inputs))
        assert len(result) == len(expected)
        size = max((abs(x) for x in expected if math.isfinite(x)), default=0.0)
        assert result == pytest.approx(expected, rel=tolerance, abs=tolerance * min(size, 1), nan_ok=True)


@pytest.mark.parametrize("kind", ["plain", "single", "partly empty"])
@pytest.mark.parametrize("name", [name for name, contract in CONTRACTS.items() if contract.smooth])
def test_gradients_are_those_of_the_formula(name, kind):
    contract = CONTRACTS[name]
    inputs = cast(contract.draw(kind), torch.float64)
    if name == "batch_similarity_variance" and kind == "partly empty":
        inputs = cast(contract.draw("plain"), torch.float64)  # a direction has no derivative at the zero vector
    for i in contract.smooth:
        inputs[i].requires_grad_()
    assert torch.autograd.gradcheck(contract, inputs)


def test_gradients_of_the_attention_form_are_those_of_the_formula_if_all_tiles_have_attention():
    coarse, fine = torch.rand(2, 4).double() + 0.1, torch.rand(2, 8).double() + 0.1
    parent, mask = torch.arange(8).expand(2, -1) % 4, torch.ones(2, 4, dtype=torch.bool)
    pair = coarse.requires_grad_(), fine.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: consistency.attention_consistency(a, b, parent, mask), pair)


@pytest.mark.parametrize("kind", ["plain", "extreme"])
@pytest.mark.parametrize("name", CONTRACTS)
def test_functions_compute_in_single_precision_inside_autocast(name, kind):
    inputs = cast(CONTRACTS[name].draw(kind), torch.float32)
    expected = flat(CONTRACTS[name](*inputs))
    with torch.autocast("cpu", torch.bfloat16):
        inside = flat(CONTRACTS[name](*inputs))
    assert inside == pytest.approx(expected, rel=1e-6, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", [name for name, contract in CONTRACTS.items() if contract.smooth])
def test_extreme_inputs_have_finite_values_and_gradients(name):
    inputs = cast(CONTRACTS[name].draw("extreme"), torch.float32)
    inputs[0].requires_grad_()
    value = CONTRACTS[name](*inputs)
    assert value.isfinite().all()
    value.sum().backward()
    assert inputs[0].grad.isfinite().all()
