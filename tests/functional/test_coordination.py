"""Gradient coordination compared with its formulas, row by row."""

import numpy as np
import pytest
import torch

from dmml.functional.coordination import coordinate


def slow_resolve(u, v, rule):
    p = (u @ v) / (v @ v) * v
    if rule == "project":
        return u - p
    return np.linalg.norm(u - p) * (u - 2 * p) / np.linalg.norm(u - 2 * p)


@pytest.mark.parametrize("rule", ["project", "reflect"])
@pytest.mark.parametrize("confident", ["tumor", "tme"])
def test_gradients_are_those_of_a_loop_over_rows(rule, confident):
    tumor, tme = torch.randn(12, 7), torch.randn(12, 7)
    confidence = (0.8, 0.3) if confident == "tumor" else (0.3, 0.8)
    new_tumor, new_tme, conflict = coordinate(tumor, tme, *confidence, rule=rule)
    assert 0 < conflict.sum() < 12
    for i in range(12):
        a, b = tumor[i].double().numpy(), tme[i].double().numpy()
        assert conflict[i].item() == (a @ b < 0)
        if a @ b < 0 and confident == "tumor":
            b = slow_resolve(b, a, rule)
        elif a @ b < 0:
            a = slow_resolve(a, b, rule)
        np.testing.assert_allclose(new_tumor[i].numpy(), a, atol=1e-5)
        np.testing.assert_allclose(new_tme[i].numpy(), b, atol=1e-5)


def test_rows_without_a_change_are_bit_identical():
    tumor, tme = torch.randn(20, 5), torch.randn(20, 5)
    tumor[3], tme[4] = 0, 0
    tumor[5] = tme[5] = 0
    new_tumor, new_tme, conflict = coordinate(tumor, tme, 0.2, 0.9)
    assert torch.equal(new_tme, tme), "the confident side never moves"
    assert torch.equal(new_tumor[~conflict], tumor[~conflict])
    assert not torch.equal(new_tumor[conflict], tumor[conflict])
    assert not conflict[[3, 4, 5]].any()
    assert conflict.dtype == torch.bool
    same_tumor, same_tme, conflict_too = coordinate(tumor, tme, 0.5, 0.5)
    assert torch.equal(same_tumor, tumor)
    assert torch.equal(same_tme, tme)
    assert torch.equal(conflict_too, conflict), "a conflict is one whoever is confident"


def test_projection_leaves_no_conflict_and_never_lengthens_a_gradient():
    tumor, tme = torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 6, dtype=torch.float64)
    new_tumor, _, conflict = coordinate(tumor, tme, 0.1, 0.2)
    assert ((new_tumor * tme).sum(1)[conflict].abs() < 1e-12).all(), "double precision stays double"
    assert (new_tumor.norm(dim=1) <= tumor.norm(dim=1) + 1e-12).all()
    reflected, _, _ = coordinate(tumor, tme, 0.1, 0.2, rule="reflect")
    assert ((reflected * tme).sum(1)[conflict] > 0).all(), "the released rule over-corrects"


def test_the_example_of_the_paper_is_reproduced():
    g, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(coordinate(g, b, 0.1, 0.9)[0], torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(coordinate(g, b, 0.1, 0.9, rule="reflect")[0], torch.full((1, 2), 0.5**0.5))


@pytest.mark.parametrize("rule", ["project", "reflect"])
def test_scaling_and_reordering_rows_commute_with_coordination(rule):
    tumor, tme = torch.randn(9, 4), torch.randn(9, 4)
    new_tumor, new_tme, _ = coordinate(tumor, tme, 0.1, 0.2, rule=rule)
    big_tumor, big_tme, _ = coordinate(tumor * 1024, tme * 1024, 0.1, 0.2, rule=rule)
    torch.testing.assert_close(big_tumor, new_tumor * 1024, rtol=1e-6, atol=0)
    torch.testing.assert_close(big_tme, new_tme * 1024, rtol=0, atol=0)
    order = torch.randperm(9)
    assert torch.equal(coordinate(tumor[order], tme[order], 0.1, 0.2, rule=rule)[0], new_tumor[order])


@pytest.mark.parametrize("rule", ["project", "reflect"])
def test_opposite_tiny_and_huge_rows_give_finite_gradients(rule):
    tumor = torch.tensor([[1.0, 2.0], [1e-18, 0.0], [1e15, 1e15], [0.0, 0.0]])
    for new in coordinate(tumor, -tumor, 0.1, 0.2, rule=rule)[:2]:
        assert new.isfinite().all()


def test_confidences_per_row_half_precision_and_no_rows_are_possible():
    tumor, tme = torch.randn(4, 3), -torch.ones(4, 3)
    tumor = tumor.abs()
    first = torch.tensor([0.1, 0.9, 0.5, 0.1])
    new_tumor, new_tme, _ = coordinate(tumor, tme, first, torch.tensor([0.5, 0.5, 0.5, 0.5]))
    assert [torch.equal(new_tumor[i], tumor[i]) for i in range(4)] == [False, True, True, False]
    assert [torch.equal(new_tme[i], tme[i]) for i in range(4)] == [True, False, True, True]
    half = coordinate(tumor.bfloat16(), tme.bfloat16(), 0.1, 0.2)[0]
    assert half.dtype == torch.bfloat16
    empty = coordinate(torch.zeros(0, 3), torch.zeros(0, 3), 0.1, 0.2)
    assert empty[2].shape == (0,)


def test_an_unknown_rule_is_refused_by_name():
    with pytest.raises(ValueError, match="mirror"):
        coordinate(torch.zeros(1, 2), torch.zeros(1, 2), 0.1, 0.2, rule="mirror")
