"""Density-peaks clustering and merging, compared with plain loops."""

import math

import numpy as np
import pytest
import torch

from dmml.functional.aggregation import DEFAULT_SCORE, PRINTED, PeakScore, dpc_knn, merge_tokens


def slow_dpc(tokens, mask, n_clusters, k, score=DEFAULT_SCORE):
    """One sample, token by token, in float64; eqs. 10–11 as printed where the score says so."""
    real = [i for i in range(len(tokens)) if mask[i]]
    x = np.asarray(tokens, dtype=np.float64)
    assignment, centres = [-1] * len(tokens), [-1] * n_clusters
    if not real:
        return assignment, centres

    def distance(i, j):
        return math.sqrt(((x[i] - x[j]) ** 2).sum()) / math.sqrt(x.shape[1])

    density, delta = {}, {}
    width = x.shape[1] if score.printed_density else 1
    for i in real:
        nearest = sorted(distance(i, j) ** 2 * width for j in real)[:k]
        density[i] = math.exp(-sum(nearest) / len(nearest))
    largest = max(distance(i, j) for i in real for j in real)
    for i in real:
        denser = [j for j in real if density[j] > density[i] or (density[j] == density[i] and j < i)]
        delta[i] = min(distance(i, j) for j in denser) if denser else largest
        if score.printed_separation:
            delta[i] = (min if denser else max)(distance(i, j) ** 2 for j in denser or real)
    selected = sorted(real, key=lambda i: (-density[i] * delta[i], i))[:n_clusters]
    centres[: len(selected)] = selected
    for i in real:
        assignment[i] = min(range(len(selected)), key=lambda c: (distance(i, selected[c]), c))
    return assignment, centres


def check(tokens, mask, n_clusters, k=5, score=DEFAULT_SCORE):
    assignment, centres = dpc_knn(tokens, mask, n_clusters, k, score)
    assert assignment.shape == mask.shape
    assert centres.shape == (len(mask), n_clusters)
    for b in range(len(mask)):
        expected = slow_dpc(tokens[b].double().numpy(), mask[b].tolist(), n_clusters, k, score)
        assert (assignment[b].tolist(), centres[b].tolist()) == expected
    return assignment, centres


@pytest.mark.parametrize("k", [1, 3, 5, 100])
@pytest.mark.parametrize("n_clusters", [1, 3, 8])
def test_clusters_are_those_of_a_plain_loop(n_clusters, k):
    mask = torch.rand(4, 23) < 0.8
    mask[0], mask[3] = True, False
    check(torch.randn(4, 23, 6), mask, n_clusters, k)


@pytest.mark.parametrize("score", [PeakScore(True, False), PeakScore(False, True), PRINTED])
def test_the_printed_density_and_separation_are_those_of_a_plain_loop(score):
    mask = torch.rand(30, 23) < 0.8
    mask[0], mask[3] = True, False
    tokens = torch.randn(30, 23, 6)
    _, centres = check(tokens, mask, 3, score=score)
    assert not torch.equal(centres, dpc_knn(tokens, mask, 3)[1]), "another score makes other centres"
    check(torch.ones(2, 7, 3), torch.ones(2, 7, dtype=torch.bool), 3, score=score)


@pytest.mark.parametrize("scale", [1e-3, 15.0])
def test_the_scale_of_features_does_not_underflow_the_density(scale):
    check(torch.randn(3, 20, 5) * scale, torch.ones(3, 20, dtype=torch.bool), 4)


def test_features_that_lie_far_apart_are_not_all_tied():
    """exp(−D²) underflows for features in the hundreds, but the order of the densities is still determined."""
    tokens = torch.cat([torch.randn(1, 6, 4) * 300 + 5000, torch.randn(1, 6, 4)], 1)
    _, centres = dpc_knn(tokens, torch.ones(1, 12, dtype=torch.bool), 2)
    assert centres[0, 0] >= 6, "the dense group leads"


def test_duplicates_ties_and_constant_features_are_clustered_as_by_the_loop():
    points = torch.tensor([[0.0, 0], [0, 0], [4, 0], [4, 0], [4, 0], [0, 8], [0, 8], [0, 0]]).unsqueeze(0)
    check(points, torch.ones(1, 8, dtype=torch.bool), 3, k=3)
    check(points, torch.ones(1, 8, dtype=torch.bool), 6, k=3)
    assignment, centres = check(torch.ones(2, 7, 3), torch.ones(2, 7, dtype=torch.bool), 3)
    assert centres[0].tolist() == [0, 1, 2], "ties go to the lower index"
    assert assignment[0].tolist() == [0] * 7


def test_fewer_tokens_than_clusters_or_none_are_possible():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assignment, centres = check(torch.randn(2, 3, 4), mask, 5)
    assert (centres[0] >= 0).sum() == 2
    assert centres[1].tolist() == [-1] * 5
    assert assignment[1].tolist() == [-1] * 3
    for batch, n in ((0, 4), (2, 0), (0, 0)):
        assignment, centres = dpc_knn(torch.randn(batch, n, 4), torch.ones(batch, n, dtype=torch.bool), 3)
        assert assignment.shape == (batch, n)
        assert centres.shape == (batch, 3)
        assert (centres == -1).all() or batch == 0


def test_masked_tokens_are_ignored_whatever_their_values():
    tokens, mask = torch.randn(2, 12, 4), torch.ones(2, 12, dtype=torch.bool)
    expected = dpc_knn(tokens, mask, 3)
    for garbage in (0.0, 1e30, float("nan"), float("inf")):
        padded = torch.cat([tokens, torch.full((2, 5, 4), garbage)], 1)
        assignment, centres = dpc_knn(padded, torch.arange(17).expand(2, -1) < 12, 3)
        assert torch.equal(assignment[:, :12], expected[0])
        assert torch.equal(centres, expected[1])
        assert (assignment[:, 12:] == -1).all()


def test_clustering_is_deterministic_in_every_precision_and_needs_no_gradient():
    tokens, mask = torch.randn(2, 30, 8, requires_grad=True), torch.ones(2, 30, dtype=torch.bool)
    first, again = dpc_knn(tokens, mask, 4), dpc_knn(tokens, mask, 4)
    assert torch.equal(first[0], again[0])
    assert not first[0].requires_grad
    assert dpc_knn(tokens.bfloat16(), mask, 4)[0].dtype == torch.int64
    with torch.autocast("cpu", torch.bfloat16):
        inside = dpc_knn(tokens, mask, 4)
    assert torch.equal(inside[1], first[1]), "single precision inside autocast"


def test_merging_is_the_weighted_mean_of_a_cluster():
    tokens, weight = torch.randn(3, 10, 4), torch.rand(3, 10)
    assignment = torch.randint(-1, 3, (3, 10))
    assignment[2] = -1
    weight[1, assignment[1] == 2] = 0
    merged = merge_tokens(tokens, weight, assignment, 4)
    assert merged.shape == (3, 4, 4)
    for b in range(3):
        for c in range(4):
            rows = [i for i in range(10) if assignment[b, i] == c and weight[b, i] > 0]
            total = sum(weight[b, i].double() for i in rows)
            expected = sum((tokens[b, i].double() * weight[b, i].double() for i in rows), torch.zeros(4).double())
            torch.testing.assert_close(
                merged[b, c].double(), expected / total if rows else expected, atol=1e-5, rtol=1e-5
            )


def test_merging_has_finite_gradients_and_ignores_padding():
    tokens = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weight = (torch.rand(2, 6, dtype=torch.float64) + 0.1).requires_grad_()
    assignment = torch.tensor([[0, 0, 1, -1, 1, 0], [-1] * 6])
    assert torch.autograd.gradcheck(lambda t, w: merge_tokens(t, w, assignment, 3), (tokens, weight))
    poisoned = torch.where((assignment < 0).unsqueeze(-1), float("nan"), tokens.detach()).requires_grad_()
    merge_tokens(poisoned, weight.detach(), assignment, 3).sum().backward()
    assert poisoned.grad.isfinite().all()
    assert merge_tokens(torch.zeros(0, 4, 2), torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.long), 2).shape == (
        0,
        2,
        2,
    )
    assert merge_tokens(torch.zeros(2, 0, 2), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.long), 2).shape == (
        2,
        2,
        2,
    )
