"""Softened divergences compared with torch.distributions in float64."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from dmml.functional.distillation import softened_bernoulli_kl, softened_kl


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_softened_kl_is_that_of_torch_distributions(temperature):
    student, teacher = torch.randn(9, 4) * 3, torch.randn(9, 4) * 3
    t, s = (Categorical(logits=x.double() / temperature) for x in (teacher, student))
    expected = temperature**2 * kl_divergence(t, s).mean()
    assert softened_kl(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_softened_bernoulli_kl_is_that_of_torch_distributions(temperature):
    student, teacher = torch.randn(9, 4) * 3, torch.randn(9, 4) * 3
    t, s = (Bernoulli(logits=x.double() / temperature) for x in (teacher, student))
    expected = temperature**2 * kl_divergence(t, s).sum(1).mean()
    assert softened_bernoulli_kl(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("function", [softened_kl, softened_bernoulli_kl])
def test_divergences_are_0_for_equal_logits_and_positive_otherwise(function):
    logits = torch.randn(5, 3)
    assert function(logits, logits, 2.0).item() == pytest.approx(0, abs=1e-7)
    assert function(torch.zeros(0, 3), torch.zeros(0, 3), 2.0) == 0
    assert function(logits, torch.randn(5, 3), 2.0) > 0
    teacher = torch.randn(5, 3, dtype=torch.float64)
    student = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: function(x, teacher, 2.0), student)
    with torch.autocast("cpu", torch.bfloat16):
        assert function(logits.bfloat16(), logits, 2.0).dtype == torch.float32


@pytest.mark.parametrize("function", [softened_kl, softened_bernoulli_kl])
def test_extreme_logits_give_finite_values_and_gradients(function):
    teacher = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
    student = teacher.flip(1).clone().requires_grad_()
    value = function(student, teacher, 2.0)
    value.backward()
    assert value.isfinite()
    assert value > 100
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() > 0


def test_a_confident_teacher_is_not_rounded_away():
    """1 − σ(t) is 0 in single precision from t = 17 on, but the term that it weights is not."""
    student, teacher = torch.tensor([[40.0]]), torch.tensor([[20.0]])
    # With q = e⁻²⁰ the chance of a miss: q · (log q − log e⁻⁴⁰) = 20 q, less q for the hit.
    assert softened_bernoulli_kl(student, teacher, 1.0).item() == pytest.approx(19 * math.exp(-20), rel=0.01)
