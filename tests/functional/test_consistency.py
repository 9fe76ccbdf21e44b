"""Consistency and decorrelation, compared with loops."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from dmml.functional.consistency import (
    attention_agreement_variance,
    attention_consistency,
    batch_similarity_variance,
    decorrelation,
    expression_consistency,
)


def test_expression_consistency_is_the_documented_sum():
    a, b, measured = (torch.randn(6, 5) for _ in range(3))
    has_rna = torch.tensor([True, False, True, True, False, True])
    for i, value in enumerate(expression_consistency(a, b, measured, has_rna)):
        expected = sum((x - y) ** 2 for x, y in zip(a[i].tolist(), b[i].tolist(), strict=True)) / 5
        if has_rna[i]:
            expected += ((a[i] - measured[i]) ** 2).mean().item() / 2 + ((b[i] - measured[i]) ** 2).mean().item() / 2
        assert value.item() == pytest.approx(expected, rel=1e-5)
    everybody = expression_consistency(a, b, measured)
    torch.testing.assert_close(everybody, expression_consistency(a, b, measured, torch.ones(6, dtype=torch.bool)))
    torch.testing.assert_close(expression_consistency(a, b), (a - b).square().mean(1))


def test_rows_without_rna_are_ignored_even_when_nan():
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    measured = torch.full((3, 4), float("nan"))
    value = expression_consistency(a, b, measured, torch.zeros(3, dtype=torch.bool))
    value.sum().backward()
    torch.testing.assert_close(value, expression_consistency(a, b))
    assert a.grad.isfinite().all()


def test_expression_consistency_is_not_minimised_by_collapse():
    measured = torch.randn(200, 5)
    constant = torch.zeros(200, 5)
    assert expression_consistency(constant, constant).sum() == 0, "scales that agree are not enough ..."
    assert expression_consistency(constant, constant, measured).mean() > 0.5, "... where RNA is known"
    assert expression_consistency(measured, measured, measured).sum() == 0


def test_expression_consistency_has_the_documented_shapes_and_gradient():
    assert expression_consistency(torch.zeros(3, 0), torch.zeros(3, 0), torch.zeros(3, 0)).tolist() == [0, 0, 0]
    assert expression_consistency(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    a, b, m = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(expression_consistency, (a, b, m))


def slow_attention_consistency(a10, a20, parent, mask):
    n = len(a10)
    summed = [0.0] * n
    for a, p in zip(a20, parent, strict=True):
        if p >= 0:
            summed[p] += a
    p = np.array([a * m for a, m in zip(a10, mask, strict=True)], dtype=float)
    q = np.array([a * m for a, m in zip(summed, mask, strict=True)], dtype=float)
    if p.sum() == 0 or q.sum() == 0:
        return 0.0
    return jensenshannon(p / p.sum(), q / q.sum()) ** 2  # scipy gives the square root, in nats


def test_attention_consistency_agrees_with_scipy_with_orphans_and_padding():
    a10, a20 = torch.rand(5, 6), torch.rand(5, 20)
    parent = torch.randint(-1, 6, (5, 20))
    mask = torch.ones(5, 6, dtype=torch.bool)
    mask[1, 4:] = False
    a10[1, 4:] = 0
    parent[1] = parent[1].clamp(max=3)
    mask[2] = False
    a10[2] = 0
    parent[3] = -1
    value = attention_consistency(
        a10 / a10.sum(1, keepdim=True).clamp_min(1e-9), a20 / a20.sum(1, keepdim=True), parent, mask
    )
    for i in range(5):
        expected = slow_attention_consistency(a10[i].tolist(), a20[i].tolist(), parent[i].tolist(), mask[i].tolist())
        assert value[i].item() == pytest.approx(expected, abs=1e-6)
    assert value[2] == 0
    assert value[3] == 0


def test_attention_consistency_is_between_0_and_ln_2():
    parent = torch.tensor([[0, 0, 1, 1]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    same = attention_consistency(torch.tensor([[0.7, 0.3]]), torch.tensor([[0.3, 0.4, 0.1, 0.2]]), parent, mask)
    apart = attention_consistency(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.5, 0.5]]), parent, mask)
    assert same.item() == pytest.approx(0, abs=1e-7)
    assert apart.item() == pytest.approx(math.log(2), abs=1e-6)
    no_fine = attention_consistency(
        torch.ones(2, 3), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool)
    )
    assert no_fine.tolist() == [0, 0]


def test_attention_consistency_gradient_is_finite_at_zero_attention():
    a10 = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    a20 = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], requires_grad=True)
    parent = torch.tensor([[0, 0, 1], [-1, -1, -1]])
    attention_consistency(a10, a20, parent, torch.tensor([[True, True], [False, False]])).sum().backward()
    assert a10.grad.isfinite().all()
    assert a20.grad.isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 7])
def test_attention_agreement_variance_is_eq_7_of_the_paper(n):
    a, b = torch.rand(n, 9).softmax(1), torch.rand(n, 9).softmax(1)
    agreement = []
    for i in range(n):
        c = 0.0
        for d in range(9):
            c += a[i, d].item() * b[i, d].item()
        agreement.append(c)
    mean = sum(agreement) / n
    expected = sum((c - mean) ** 2 for c in agreement) / n
    assert attention_agreement_variance(a, b).item() == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert (expected == 0) == (n == 1), "the biased variance of one patient is 0"
    uniform = torch.full((n, 9), 1 / 9)
    assert attention_agreement_variance(uniform, uniform) < 1e-14, "magnifications that agree equally well pay nothing"
    assert attention_agreement_variance(a[:0], b[:0]) == 0


def test_batch_similarity_variance_is_the_released_form():
    a, b = torch.randn(6, 9), torch.randn(6, 9)
    s = a.double().numpy() @ b.double().numpy().T
    diagonal = [row[i] / np.sqrt((row**2).sum()) for i, row in enumerate(s)]
    assert batch_similarity_variance(a, b).item() == pytest.approx(1e4 * np.var(diagonal, ddof=1), rel=1e-4)
    assert batch_similarity_variance(a[:1], b[:1]) == 0
    assert batch_similarity_variance(a[:0], b[:0]) == 0
    assert batch_similarity_variance(torch.zeros(4, 3), torch.zeros(4, 3)) == 0
    wide = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(batch_similarity_variance, (wide, torch.randn(4, 5, dtype=torch.float64)))


@pytest.mark.parametrize("function", [batch_similarity_variance, decorrelation])
def test_products_stay_in_single_precision_under_autocast(function):
    a, b = torch.randn(8, 64), torch.randn(8, 64)
    plain = function(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        inside = function(a, b)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, plain, rtol=1e-6, atol=1e-6)


def test_decorrelation_is_the_mean_squared_correlation():
    a, b = torch.randn(30, 4), torch.randn(30, 4)
    corner = np.corrcoef(a.T.double().numpy(), b.T.double().numpy())[:4, 4:]
    assert decorrelation(a, b).item() == pytest.approx((corner**2).mean(), rel=1e-4)
    assert decorrelation(a[:1], b[:1]) == 0
    assert decorrelation(a, a * 3 + 1) > decorrelation(a, b)
    assert decorrelation(torch.ones(5, 3), torch.randn(5, 3)).isfinite()
