"""Part of a large patient's tokens, drawn anew in each training epoch; tokens keep their parents."""

import numpy as np
import pytest

from dmml.data.dataset import Patient, PatientDataset, PatientReader, subsample
from dmml.data.samplers import PlannedBatch
from dmml.data.token_draw import draw_tokens


def patient_of(parent, n_coarse):
    """A patient whose features are the row of a coarse tile, and the parent's row of a fine one."""
    features = {10: np.arange(n_coarse)[:, None].astype(np.float16), 20: parent[:, None].astype(np.float16)}
    position = {m: np.zeros((len(x), 2), np.float32) for m, x in features.items()}
    return Patient("P", features, position, {m: np.zeros(len(x), int) for m, x in features.items()}, parent)


def grid(side=12, orphans=5):
    """A patient of `side`² parents with one to four children each, and some children without."""
    generator = np.random.default_rng(1)
    parent = np.repeat(np.arange(side * side), generator.integers(1, 5, side * side))
    parent = generator.permutation(np.concatenate([parent, np.full(orphans, -1)]))
    return patient_of(parent, side * side)


def reader_of(patient):
    reader = PatientReader(None, {"P": []}, (10, 20))
    reader._cache["P"] = patient
    return reader


def test_parents_are_drawn_with_all_their_children():
    patient = grid()
    seen = []
    for epoch in range(5):
        part = subsample(patient, 100, (0, epoch))
        again = subsample(patient, 100, (0, epoch))
        assert all(np.array_equal(part.features[m], again.features[m]) for m in (10, 20))
        kept = part.features[10][:, 0].astype(int)
        assert 60 < len(part.parent) <= 100
        for new, old in enumerate(kept):
            assert (part.parent == new).sum() == (patient.parent == old).sum()
        inside = part.parent >= 0
        assert np.array_equal(part.features[20][inside, 0], part.features[10][part.parent[inside], 0])
        seen.append(set(kept))
    assert len(set.union(*seen)) > 1.5 * len(seen[0])  # anew each epoch
    assert subsample(patient, 10_000, (0, 0)) is patient


def test_one_limit_bounds_a_single_magnification_and_divides_no_parent():
    assert len(draw_tokens({20: 50}, np.full(50, -1), 7, (0, 0), "P")[20]) == 7
    rows = draw_tokens({10: 1, 20: 30}, np.zeros(30, int), 7, (0, 0), "P")
    assert len(rows[20]) == 30  # a parent is never cut


def test_one_limit_leaves_a_quarter_at_10x_and_a_limit_of_its_own_leaves_all():
    patient = patient_of(np.repeat(np.arange(300), 4), 300)
    assert [len(subsample(patient, 200, (0, 0)).features[m]) for m in (10, 20)] == [50, 200]
    assert [len(subsample(patient, {10: 200, 20: 200}, (0, 0)).features[m]) for m in (10, 20)] == [200, 200]


@pytest.mark.parametrize(
    "limits", [{10: 60, 20: 60}, {10: 60}, {20: 60}, {10: 1, 20: 300}, {10: 500, 20: 100}, {10: 100, 20: 500}]
)
def test_limits_per_magnification_are_used_in_full_and_children_of_drawn_tiles_come_first(limits):
    patient = grid()
    counts = {m: len(x) for m, x in patient.features.items()}
    for epoch in range(5):
        rows = draw_tokens(counts, patient.parent, limits, (0, epoch), "P")
        assert {m: len(drawn) for m, drawn in rows.items()} == {m: min(n, limits.get(m, n)) for m, n in counts.items()}
        assert all((np.diff(drawn) > 0).all() for drawn in rows.values())
        drawn_parents, fine = set(rows[10].tolist()), set(rows[20].tolist())
        children = {row for row, parent in enumerate(patient.parent) if parent in drawn_parents}
        others = {row for row, parent in enumerate(patient.parent) if parent >= 0 and parent not in drawn_parents}
        assert children <= fine or not fine & others
        part = subsample(patient, limits, (0, epoch))
        inside = part.parent >= 0
        assert np.array_equal(part.features[20][inside, 0], part.features[10][part.parent[inside], 0])


def test_limits_per_magnification_draw_every_tile_equally_often():
    patient = patient_of(np.concatenate([np.repeat(np.arange(100), 4), np.full(100, -1)]), 100)
    drawn = [draw_tokens({10: 100, 20: 500}, patient.parent, {10: 40, 20: 100}, (0, e), "P") for e in range(2000)]
    for m, share in ((10, 0.4), (20, 0.2)):
        often = np.bincount(np.concatenate([rows[m] for rows in drawn]), minlength=len(patient.features[m])) / 2000
        assert often == pytest.approx(np.full(len(often), share), abs=0.05)  # 4.5 standard errors
    orphans = np.mean([(patient.parent[rows[20]] < 0).mean() for rows in drawn])
    assert orphans == pytest.approx(0.2, abs=0.01)


def test_limits_per_magnification_hold_for_patients_with_one_of_them():
    none = np.zeros(0, int)
    assert len(draw_tokens({10: 50}, none, {10: 7, 20: 3}, (0, 0), "P")[10]) == 7
    assert len(draw_tokens({20: 50}, np.full(50, -1), {10: 7, 20: 3}, (0, 0), "P")[20]) == 3
    assert draw_tokens({20: 50}, np.full(50, -1), {10: 7}, (0, 0), "P") == {}


def test_tokens_are_drawn_in_training_only():
    reader = reader_of(grid())
    dataset = PatientDataset(reader, ["P"], max_tokens=50)
    assert len(dataset[PlannedBatch(0, [0])][0].parent) <= 50
    assert dataset[PlannedBatch(None, [0])][0] is reader._cache["P"]


@pytest.mark.parametrize("limits", [70, {10: 30, 20: 70}, {10: 30}])
def test_sizes_for_the_plan_of_batches_are_never_exceeded(limits, monkeypatch):
    reader = reader_of(grid())
    counts = [len(reader._cache["P"].features[m]) for m in (10, 20)]
    reader.store = object()
    monkeypatch.setattr(reader, "sizes_of", lambda patients: np.array([counts]))
    dataset = PatientDataset(reader, ["P"], limits)
    assert dataset.sizes(from_store=True, training=False).tolist() == [counts]
    (planned,) = dataset.sizes(from_store=True, training=True).tolist()
    actual = [len(dataset[PlannedBatch(0, [0])][0].features[m]) for m in (10, 20)]
    assert actual == planned if isinstance(limits, dict) else all(np.less_equal(actual, planned))
