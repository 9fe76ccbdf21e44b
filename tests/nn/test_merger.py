"""Clustering of a slide's tokens in windows, and merging of each cluster."""

import pytest
import torch
from batches import make_bag, shuffle_bag

from dmml.functional.aggregation import dpc_knn
from dmml.nn.merger import MAX_POINTS, WINDOW, cluster_tissue, merge_informative
from dmml.nn.neighbourhood import curve_index_of, neighbourhood_order, originals_of
from dmml.types import Bag


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64, 65, 200, 1000])
@pytest.mark.parametrize("n_clusters", [1, 4, 8, 32])
def test_every_token_has_one_of_at_most_k_clusters(n, n_clusters):
    bag = make_bag([n, 9], 8)
    assignment = cluster_tissue(bag.features, bag, n_clusters)
    assert assignment.shape == bag.mask.shape
    assert (assignment[~bag.mask] == -1).all()
    real = assignment[0][bag.mask[0]]
    assert ((real >= 0) & (real < n_clusters)).all()
    assert len(real.unique()) == min(n, n_clusters), "distinct tokens fill as many clusters as there are tokens"
    assert torch.equal(assignment, cluster_tissue(bag.features, bag, n_clusters)), "deterministic"


def test_clusters_are_the_same_where_values_may_not_be_read(monkeypatch):
    """As during compilation or export, where no Python value can depend on a tensor's values."""
    bag = make_bag([300, 9], 8)
    expected = cluster_tissue(bag.features, bag, 8)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(cluster_tissue(bag.features, bag, 8), expected)


def test_few_tokens_are_clustered_exactly():
    bag = make_bag([MAX_POINTS], 8)
    order = neighbourhood_order(bag)
    exact, _ = dpc_knn(bag.features[:, order[0]], bag.mask, 5)
    assert torch.equal(cluster_tissue(bag.features, bag, 5)[:, order[0]], exact)


@pytest.mark.parametrize("tile_um", [112.0, 224.0, 100.0, 448.0])
def test_the_order_of_the_tokens_changes_no_cluster(tile_um):
    bag = make_bag([400], 8, tile_um=tile_um)
    order = torch.randperm(400)
    assert torch.equal(
        cluster_tissue(bag.features, bag, 8)[:, order],
        cluster_tissue(bag.features[:, order], shuffle_bag(bag, order), 8),
    )


def test_neighbourhood_order_keeps_slides_together_and_windows_compact():
    bag = make_bag([256, 100], 2, slides=[1, 3])
    order = neighbourhood_order(bag)
    assert sorted(order[0].tolist()) == list(range(256))
    slides = bag.slide[1, order[1, :100]]
    assert torch.equal(slides, slides.sort().values)
    assert not bag.mask[1, order[1, 100:]].any(), "padding last"
    window = bag.position[0, order[0, :WINDOW]]
    assert sorted((window.amax(0) - window.amin(0)).tolist()) == [3 * 112, 7 * 112], "32 neighbouring tiles are 4 x 8"


def test_equal_features_form_one_cluster():
    bag = make_bag([200, 130], 8)
    constant = torch.where(bag.mask.unsqueeze(-1), 1.0, 0.0).expand(-1, -1, 8)
    assignment = cluster_tissue(constant, bag, 8)
    assert (assignment[bag.mask] == 0).all(), "equal tokens are one cluster"
    two = constant * torch.where(bag.position[..., :1] > 800, 5.0, -5.0)
    assignment = cluster_tissue(two, bag, 8)
    for b in range(2):
        side = two[b, bag.mask[b], 0] > 0
        assert len(assignment[b, bag.mask[b]][side].unique()) == 1
        assert len(assignment[b, bag.mask[b]][~side].unique()) == 1


def test_separate_tissues_are_found_across_windows():
    """Four tissues scattered over a slide of many windows become four clusters."""
    bag, kind = make_bag([900], 8), torch.randint(0, 4, (900,))
    centre = torch.eye(8)[:4] * 3
    assignment = cluster_tissue(centre[kind].unsqueeze(0) + torch.randn(1, 900, 8) * 0.02, bag, 4)[0]
    clusters = [set(assignment[kind == i].tolist()) for i in range(4)]
    assert all(len(labels) == 1 for labels in clusters)
    assert len(set.union(*clusters)) == 4


def test_merging_weights_are_a_softmax_within_the_cluster():
    tokens, score = torch.randn(2, 9, 3), torch.randn(2, 9) * 3
    assignment = torch.randint(0, 3, (2, 9))
    assignment[1, 6:] = -1
    merged, relative_weight, log_weight = merge_informative(tokens, score, assignment, 4)
    for b in range(2):
        for c in range(4):
            rows = (assignment[b] == c).nonzero().flatten()
            weight = score[b, rows].softmax(0)
            torch.testing.assert_close(relative_weight[b, rows], weight)
            torch.testing.assert_close(log_weight[b, c], score[b, rows].logsumexp(0))
            torch.testing.assert_close(merged[b, c], weight @ tokens[b, rows] if len(rows) else torch.zeros(3))
    assert (relative_weight[1, 6:] == 0).all()
    extreme, relative_weight, _ = merge_informative(tokens, score * 1e4, assignment, 4)
    assert extreme.isfinite().all()
    assert relative_weight.isfinite().all()


def test_tiles_of_two_slides_at_one_position_are_not_taken_for_copies_by_chance():
    """Of thousands of pairs that differ, some agree in any single projection of their features."""
    torch.manual_seed(0)
    n = 20_000
    bag = make_bag([2 * n], 8)
    position = bag.position[:, :n].repeat(1, 2, 1)
    slide = torch.arange(2 * n).ge(n).long().unsqueeze(0)
    curve_index = curve_index_of(Bag(bag.features, position, bag.mask, slide))
    points = torch.randn(1, 2 * n, 8)
    assert torch.equal(originals_of(points, curve_index), torch.arange(2 * n).unsqueeze(0))
    points[:, n : n + 5] = points[:, :5] * (1 + 1e-6)
    originals = originals_of(points, curve_index)
    assert (originals == torch.arange(2 * n)).sum() == 2 * n - 5
    pairs = originals[0, :5], originals[0, n : n + 5]
    assert torch.equal(*pairs)
    assert all(kept in (i, n + i) for i, kept in enumerate(pairs[0].tolist()))


@pytest.mark.parametrize("n", [0, 1, 2, 33, 64, 65, 100, 600, 5000])
@pytest.mark.parametrize("n_clusters", [1, 8, 32])
def test_clusters_are_the_same_in_the_fixed_rounds_of_an_exported_network(monkeypatch, n, n_clusters):
    """An export adds masked tokens, to a multiple of a window."""
    bag = make_bag([n], 8)
    expected = cluster_tissue(bag.features, bag, n_clusters)
    missing = (-n % WINDOW) + 2 * MAX_POINTS
    longer = Bag(
        *(
            torch.cat([x, x.new_zeros(1, missing, *x.shape[2:])], 1)
            for x in (bag.features, bag.position, bag.mask, bag.slide)
        )
    )
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assignment = cluster_tissue(longer.features, longer, n_clusters)
    assert torch.equal(assignment[:, :n], expected)
    assert (assignment[:, n:] == -1).all()
