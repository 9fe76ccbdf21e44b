"""Planned batches: each patient occurs once, budgets hold, and processes get equal shares."""

import numpy as np
import pytest

from dmml.data.samplers import PatientBatches, balanced_weights
from dmml.errors import InputError


def sizes_of(n, seed=0):
    fine = np.random.default_rng(seed).integers(40, 4000, n)
    return np.stack([fine // 4, fine], 1)


def padded(sizes, batch):
    return sizes[batch].max(0).sum() * len(batch)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"pack": 4}, {"token_budget": 9000}, {"pack": 8, "token_budget": 9000}])
@pytest.mark.parametrize("n", [7, 53])
def test_every_patient_occurs_once_and_processes_have_equal_shares(n, options, world):
    sizes = sizes_of(n)
    for epoch in range(6):
        samplers = [PatientBatches(sizes, 4, 1, True, rank=rank, world=world, **options) for rank in range(world)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shares = [list(sampler) for sampler in samplers]
        assert {len(share) for share in shares} == {len(samplers[0])}
        assert all(request.epoch == epoch for share in shares for request in share)
        rows = [row for share in shares for request in share for row in request.rows]
        assert set(rows) == set(range(n))
        batches = [request.rows for share in shares for request in share]
        assert len(rows) == n or min(map(len, batches)) == max(map(len, batches)) == 1  # nothing left to split
        assert max(map(len, batches)) <= 4
        if "token_budget" in options:
            assert all(len(batch) == 1 or padded(sizes, batch) <= 9000 for batch in batches)


def test_validation_batches_keep_their_order_over_processes():
    sizes = sizes_of(23)
    one = [request.rows for request in PatientBatches(sizes, 5)]
    two = [[request.rows for request in PatientBatches(sizes, 5, rank=rank, world=2)] for rank in range(2)]
    assert two == [one[::2], one[1::2]]
    assert [row for batch in one for row in batch] == list(range(23))
    few = [list(PatientBatches(sizes[:3], 5, rank=rank, world=3)) for rank in range(3)]
    assert sorted(request.rows for share in few for request in share) == [[0], [1], [2]]
    with pytest.raises(InputError, match=r"trainer\.devices"):
        PatientBatches(sizes[:2], 5, world=3)


def test_packing_reduces_padding_and_keeps_the_order_random():
    sizes = sizes_of(400)
    plain, packed = (PatientBatches(sizes, 8, 0, True, pack=pack) for pack in (1, 16))
    by_hand = 1 - sizes.sum() / sum(padded(sizes, batch) for batch in plain.plan(0))
    assert plain.padding() == pytest.approx(by_hand)
    assert plain.padding() > 0.35
    assert packed.padding() < 0.1
    assert packed.plan(0) != packed.plan(1)
    means = [sizes[batch, 1].mean() for batch in packed.plan(0)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.4  # not from small to large


def test_a_resumed_epoch_continues_where_it_stopped():
    sizes = sizes_of(40)
    whole, resumed = (PatientBatches(sizes, 4, 3, True, pack=2) for _ in range(2))
    whole.set_epoch(5)
    resumed.resume(5, 4)
    assert list(resumed) == list(whole)[4:]
    resumed.set_epoch(6)
    whole.set_epoch(6)
    assert list(resumed) == list(whole)


def test_rare_groups_are_drawn_as_often_as_common_ones():
    groups = [1.0] * 5 + [0.0] * 44 + [float("nan")]
    weights = balanced_weights(groups)
    assert weights[:5].sum() == pytest.approx(weights[5:49].sum())
    sampler = PatientBatches(sizes_of(50), 5, 0, True, weights=weights)
    rows = np.array([row for epoch in range(40) for batch in sampler.plan(epoch) for row in batch])
    assert (rows < 5).mean() == pytest.approx(0.5, abs=0.05)
    assert (rows == 49).mean() == pytest.approx(1 / 50, abs=0.01)


def test_rare_groups_are_drawn_as_often_under_a_budget_of_tokens():
    groups = [1.0] * 5 + [0.0] * 45
    sizes = np.random.default_rng(3).integers(1, 1000, (50, 1))
    sampler = PatientBatches(sizes, 8, 0, True, token_budget=2000, weights=balanced_weights(groups))
    plans = [sampler.plan(epoch) for epoch in range(60)]
    assert {len(plan) for plan in plans} == {len(sampler)}
    by_epoch = [np.mean([row < 5 for batch in plan for row in batch]) for plan in plans]
    assert np.mean(by_epoch) == pytest.approx(0.5, abs=0.05)
    assert min(by_epoch) > 0.25, "in no epoch everybody once, which would be 0.1"
    for plan in plans:
        for batch in plan:
            assert len(batch) == 1 or sizes[batch].max() * len(batch) <= 2000


def test_weights_of_many_patients_are_counted_once():
    groups = [str(i % 3) for i in range(200_000)]
    assert balanced_weights(groups) == pytest.approx(np.ones(200_000), abs=1e-4)
