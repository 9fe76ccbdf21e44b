"""The paper's aggregation: two clusters of tissue, merged by significance, as prototypes of the two subspaces."""

import math

import pytest
import torch
from batches import make_bag, pad_bag, shuffle_bag
from sklearn.metrics import adjusted_rand_score
from torch import nn

from dmml.errors import InputError
from dmml.functional.aggregation import PRINTED, PeakScore, dpc_knn
from dmml.nn.merger import cluster_tissue
from dmml.nn.neighbourhood import neighbourhood_order
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.nn.paper.clustering import PeakClusters, cluster_around_peaks
from dmml.nn.projection import TokenProjection
from dmml.types import SUBSPACES, Bag

WIDTH = 16


def run(part, bag, features=None):
    """Run an aggregation as a student does. → (embeddings (B, 2d), `Aggregated`)."""
    tokens = part.shared_tokens(bag.features if features is None else features, bag)
    result = part(dict.fromkeys(SUBSPACES, tokens), bag)
    return torch.cat([result.embeddings[s] for s in SUBSPACES], 1), result


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.fixture(params=[False, True])
def part(request):
    return PrototypeAggregator(WIDTH, tissue_attention=request.param).eval()


@pytest.mark.parametrize("score", [PeakScore(), PRINTED])
@pytest.mark.parametrize("n_clusters", [1, 2, 5])
def test_clusters_are_exact_up_to_the_number_of_candidates(score, n_clusters):
    """The order along the curve breaks ties only, so clusters are those of `dpc_knn`, which has its own plain loop."""
    bag = make_bag([300, 40, 1, 0], 8, slides=[2, 1, 1, 1])
    assignment, _ = cluster_around_peaks(bag.features, bag, n_clusters, 5, score)
    assert torch.equal(assignment, dpc_knn(bag.features, bag.mask, n_clusters, 5, score)[0])


def test_more_tokens_join_the_peaks_of_evenly_spaced_candidates():
    bag = make_bag([500, 90], 8, slides=[2, 1])
    assignment, _ = cluster_around_peaks(bag.features, bag, 3, max_candidates=100)
    assert torch.equal(assignment[1], dpc_knn(bag.features, bag.mask, 3)[0][1]), "no more tokens than candidates"
    order = sorted(range(500), key=lambda n: (int(bag.slide[0, n]), neighbourhood_order(bag)[0].tolist().index(n)))
    candidates = [order[int((j + 0.5) * 5)] for j in range(100)]
    few = bag.features[:1, candidates]
    peaks = few[0, dpc_knn(few, torch.ones(1, 100, dtype=torch.bool), 3)[1][0]]
    expected = [min(range(3), key=lambda c: float((bag.features[0, n] - peaks[c]).square().sum())) for n in range(500)]
    assert assignment[0].tolist() == expected


def test_prototypes_are_those_of_a_plain_loop(part):
    """Eq. 12 with the significance exp(w_s · z), and the assignment of clusters to subspaces by the learned direction."""
    bag = make_bag([90, 40, 3], WIDTH, slides=[2, 1, 1])
    embeddings, result = run(part, bag)
    tokens = part.shared_tokens(bag.features, bag)
    assignment, _ = cluster_around_peaks(tokens, bag, 2, 5, PeakScore(False, True))
    for i in range(3):
        prototypes, weights = [], {}
        for k in (0, 1):
            rows = [n for n in range(90) if assignment[i, n] == k]
            omega = [math.exp(part.significance(tokens[i, n]).item()) for n in rows]
            prototypes.append(sum(w * tokens[i, n] for w, n in zip(omega, rows, strict=True)) / sum(omega))
            weights |= {n: w / sum(omega) for w, n in zip(omega, rows, strict=True)}
        projected = [part.direction(c).item() for c in prototypes]
        g = 1 / (1 + math.exp(-math.exp(part.log_scale.item()) * (projected[0] - projected[1])))
        close(embeddings[i, :WIDTH], g * prototypes[0] + (1 - g) * prototypes[1])
        close(embeddings[i, WIDTH:], (1 - g) * prototypes[0] + g * prototypes[1])
        for n, weight in weights.items():
            first = g if assignment[i, n] == 0 else 1 - g
            assert result.attention["tumor"][i, n].item() == pytest.approx(weight * first, rel=1e-4, abs=1e-7)
            assert result.attention["tme"][i, n].item() == pytest.approx(weight * (1 - first), rel=1e-4, abs=1e-7)
            assert result.prototypes[i, n] == (0 if first >= 0.5 else 1)
    assert (result.prototypes[~bag.mask] == -1).all()


def test_neither_the_order_of_clusters_nor_padding_order_or_batch_mates_matter(part, monkeypatch):
    bag = make_bag([90, 1, 400, 0], WIDTH, slides=[2, 1, 3, 1])
    embeddings, result = run(part, bag)
    padded, padded_result = run(part, pad_bag(bag, 300, 1e3))
    close(padded, embeddings)
    assert torch.equal(padded_result.prototypes[:, :400], result.prototypes)
    order = torch.randperm(400)
    shuffled, shuffled_result = run(part, shuffle_bag(bag, order))
    close(shuffled, embeddings)
    assert torch.equal(shuffled_result.prototypes, result.prototypes[:, order])
    alone = Bag(*(x[:1, :90] for x in (bag.features, bag.position, bag.mask, bag.slide)))
    close(run(part, alone)[0][0], embeddings[0])
    assert torch.equal(run(part, alone)[1].prototypes[0], result.prototypes[0, :90])

    def swapped(*arguments):
        assignment, originals = cluster_around_peaks(*arguments)
        return PeakClusters(torch.where(assignment < 0, assignment, 1 - assignment), originals)

    monkeypatch.setattr("dmml.nn.paper.aggregator.cluster_around_peaks", swapped)
    other, other_result = run(part, bag)
    close(other, embeddings)
    assert torch.equal(other_result.prototypes, result.prototypes)


def test_one_token_is_both_prototypes_and_no_token_gives_zeros(part):
    bag = make_bag([1, 0, 50], WIDTH)
    embeddings, result = run(part, bag)
    token = part.shared_tokens(bag.features, bag)[0, 0]
    close(embeddings[0], torch.cat([token, token]))
    assert (embeddings[1] == 0).all()
    assert (result.prototypes[:2] == -1).all(), "one cluster is neither the tumor's nor the microenvironment's"
    for s in SUBSPACES:
        close(result.attention[s].sum(1), torch.tensor([1.0, 0, 1]))
    nobody, _ = run(part, make_bag([0, 0], WIDTH))
    assert nobody.shape == (2, 2 * WIDTH)
    constant = make_bag([30], WIDTH)
    same = Bag(torch.ones_like(constant.features), constant.position, constant.mask, constant.slide)
    equal, _ = run(part, same)
    close(equal[:, :WIDTH], equal[:, WIDTH:])


def test_a_subspace_with_gradients_of_its_own_gets_those_of_its_own_tokens(part):
    """Where the tokens of both subspaces are two tensors with equal values, the results are equal, and so is the sum."""
    bag = make_bag([60, 20], WIDTH)
    tokens = part.shared_tokens(bag.features, bag).detach()
    one = tokens.clone().requires_grad_()
    two = {s: tokens.clone().requires_grad_() for s in SUBSPACES}
    weights = torch.randn(2, 2 * WIDTH)
    gradients = []
    for tokens_of in (dict.fromkeys(SUBSPACES, one), two):
        part.zero_grad()
        result = part(tokens_of, bag)
        (torch.cat([result.embeddings[s] for s in SUBSPACES], 1) * weights).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in part.named_parameters() if p.grad is not None})
    close(two["tumor"].grad + two["tme"].grad, one.grad)
    assert two["tumor"].grad.any()
    assert two["tme"].grad.any()
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient)


def test_every_parameter_learns_also_where_a_patient_has_one_cluster(part):
    for _, parameter in part.named_parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    bag = make_bag([60, 1, 0], WIDTH, slides=[2, 1, 1])
    embeddings, _ = run(part, bag, bag.features.requires_grad_())
    embeddings.square().sum().backward()
    assert [name for name, p in part.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in part.parameters())
    assert bag.features.grad.isfinite().all()
    assert (bag.features.grad[~bag.mask] == 0).all()


def test_copies_of_a_token_have_the_cluster_of_the_one_that_is_kept():
    part, bag = PrototypeAggregator(WIDTH, tissue_attention=False).eval(), make_bag([80], WIDTH)
    once, result = run(part, bag)
    twice = Bag(*(torch.cat([x, x], 1) for x in (bag.features, bag.position, bag.mask, bag.slide)))
    twice.slide[:, 80:] = 1
    again, again_result = run(part, twice)
    close(again, once)
    assert torch.equal(again_result.prototypes, result.prototypes.repeat(1, 2))
    assert set(result.prototypes[0].tolist()) == {0, 1}


def test_without_clustering_each_subspace_has_a_gated_pool(part):
    pooled = PrototypeAggregator(WIDTH, None, tissue_attention=part.tissue_attention is not None).eval()
    bag = make_bag([60, 0], WIDTH)
    embeddings, result = run(pooled, bag)
    tokens = pooled.shared_tokens(bag.features, bag)
    for s in SUBSPACES:
        close(result.embeddings[s], (result.attention[s].unsqueeze(1) @ tokens).squeeze(1))
    assert (embeddings[1] == 0).all()
    assert not torch.allclose(*embeddings[0].chunk(2), atol=1e-4)
    assert result.prototypes is None


@pytest.mark.parametrize("n_merged", [0, 1, 8, 32])
def test_any_other_number_of_clusters_is_refused(n_merged):
    with pytest.raises(InputError, match=rf"n_merged is {n_merged}; set it to 2, or to null"):
        PrototypeAggregator(WIDTH, n_merged)


def planted(n, types, share, seed):
    """A slide with two types of tissue, of which the first is a disc, and the type of each token."""
    torch.manual_seed(seed)
    bag, side = make_bag([n], types.shape[1]), n**0.5
    centre, radius = torch.rand(2) * side, side * (share / math.pi) ** 0.5
    kind = ((bag.position[0] / 112 - 0.5 - centre).norm(dim=1) >= radius).long()
    return Bag(bag.features + types[kind], bag.position, bag.mask, bag.slide), kind


def dice(label, kind):
    """Dice of the tokens that are labelled as 0 and those that are of kind 0."""
    return (2 * ((label == 0) & (kind == 0)).sum() / ((label == 0).sum() + (kind == 0).sum())).item()


@pytest.mark.parametrize("tissue_attention", [False, True])
def test_two_planted_types_of_tissue_are_found(tissue_attention):
    torch.manual_seed(3)
    types, project = torch.randn(2, 64), TokenProjection(64, 128).eval()
    part, scores = PrototypeAggregator(128, tissue_attention=tissue_attention).eval(), []
    with torch.no_grad():
        for seed, n, share in ((0, 400, 0.3), (1, 900, 0.4), (2, 900, 0.15), (3, 2500, 0.5), (4, 2500, 0.1)):
            bag, kind = planted(n, types, share, seed)
            label = run(part, bag, project(bag.features, bag.mask))[1].prototypes[0]
            scores.append(adjusted_rand_score(kind, label))
    assert min(scores) > 0.93


def test_windows_may_make_a_cluster_of_one_outlying_token_where_peaks_do_not():
    """Why the prototypes are not clustered window by window."""
    torch.manual_seed(3)
    types, project = torch.randn(2, 64), TokenProjection(64, 128).eval()
    bag, kind = planted(900, types, 0.15, 2)
    with torch.no_grad():
        tokens = project(bag.features, bag.mask)
    by_windows, by_peaks = cluster_tissue(tokens, bag, 2)[0], cluster_around_peaks(tokens, bag, 2).assignment[0]
    assert by_windows.bincount().min() == 1
    assert adjusted_rand_score(kind, by_peaks) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("tumor", [0, 1])
def test_the_feature_distance_teaches_which_type_is_the_tumors(tumor):
    """Whichever of two planted types a teacher embeds as the tumor's, the prototypes of other slides learn its name."""
    torch.manual_seed(3)
    types, project = torch.randn(2, 64), TokenProjection(64, 128).eval().requires_grad_(False)
    part = PrototypeAggregator(128)
    slides = [planted(300, types, 0.4, seed) for seed in range(8)]
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    for step in range(80):
        bag, kind = slides[step % 4]
        tokens = project(bag.features, bag.mask)
        target = torch.cat([tokens[0, kind == (tumor, 1 - tumor)[i]].mean(0) for i in (0, 1)])
        loss = (run(part, bag, tokens)[0][0] - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    labels = [run(part, bag, project(bag.features, bag.mask))[1].prototypes[0] for bag, _ in slides[4:]]
    assert min(dice(label, (kind != tumor).long()) for label, (_, kind) in zip(labels, slides[4:], strict=True)) > 0.9


def test_the_printed_density_does_not_separate_two_types_that_the_scaled_one_separates():
    """Why `printed_density` is no default: without the division by √d, density outweighs separation."""
    torch.manual_seed(3)
    types, project = torch.randn(2, 64), TokenProjection(64, 128).eval()
    mean = {}
    for printed in (False, True):
        part, scores = PrototypeAggregator(128, tissue_attention=False, printed_density=printed).eval(), []
        for seed in range(6):
            bag, kind = planted(400, types, 0.4, seed)
            with torch.no_grad():
                label = run(part, bag, project(bag.features, bag.mask))[1].prototypes[0]
            scores.append(adjusted_rand_score(kind, label))
        mean[printed] = sum(scores) / len(scores)
    assert mean[False] > 0.95
    assert mean[True] < 0.7
