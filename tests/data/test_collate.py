"""From a store to a padded batch: several slides per patient, missing data, and the order of an epoch."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from dmml.data.collate import Collate
from dmml.data.dataset import PatientReader
from dmml.data.samplers import EpochShuffle
from dmml.store import FeatureStore, SlideFeatures

DIM = 4


def bags(n10, n20, offset=0.0):
    random = np.random.default_rng(int(n10 * 100 + n20 + offset))

    def bag(n, parent=None):
        return SlideFeatures(
            random.normal(size=(n, DIM)).astype(np.float16), random.random((n, 2)).astype(np.float32), parent
        )

    out = {}
    if n10:
        out[10] = bag(n10)
    if n20:
        out[20] = bag(n20, random.integers(-1, max(n10, 1), n20).astype(np.int32) if n10 else None)
    return out


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(
        tmp_path / "f.zarr", {"name": "x", "weights": "w", "dim": DIM, "preprocessing": {}}, {10: 1.0, 20: 0.5}
    )
    for name, slide in {
        "a1": bags(3, 8),
        "a2": bags(2, 5, 1),
        "b": bags(4, 9),
        "c": bags(5, 0),
        "d": bags(0, 6),
    }.items():
        store.write(name, slide, {})
    return store


SLIDES = {"A": ["a1", "a2"], "B": ["b", "not_extracted"], "C": ["c"], "D": ["d"], "E": []}


def batch_of(store, patients, magnifications=(10, 20), **changes):
    reader = PatientReader(store, SLIDES, magnifications)
    ids = list(SLIDES)
    parts = {
        "expression": {"tumor": torch.arange(10.0).view(5, 2)},
        "has_expression": torch.tensor([True, False, True, True, False]),
    }
    parts |= {"target": {"time": torch.arange(5.0)}} | changes
    return Collate(magnifications, ids, **parts)([reader.read(p) for p in patients])


def test_a_batch_is_padded_and_keeps_features_positions_and_slides_of_each_patient(store):
    batch = batch_of(store, ["B", "A"])
    assert batch.patient_id == ["B", "A"]
    assert batch.bags[10].mask.sum(1).tolist() == [4, 5]
    assert batch.bags[20].mask.sum(1).tolist() == [9, 13]
    assert batch.bags[10].features.shape == (2, 5, DIM)
    a1, a2 = store.read("a1", 20), store.read("a2", 20)
    np.testing.assert_array_equal(batch.bags[20].features[1].numpy(), np.concatenate([a1.features, a2.features]))
    np.testing.assert_array_equal(batch.bags[20].position[1].numpy(), np.concatenate([a1.position, a2.position]))
    assert batch.bags[20].slide[1].tolist() == [0] * 8 + [1] * 5
    for bag in batch.bags.values():
        assert not bag.features[~bag.mask].any()
        assert bag.mask.dtype == torch.bool
        assert bag.slide.dtype == torch.int64
    assert batch.expression["tumor"].tolist() == [[2, 3], [0, 1]]
    assert batch.has_expression.tolist() == [False, True]
    assert batch.target["time"].tolist() == [1, 0]


def test_parents_follow_their_slide(store):
    batch = batch_of(store, ["A", "B"])
    expected = [*store.read("a1", 20).parent, *(p + 3 if p >= 0 else -1 for p in store.read("a2", 20).parent)]
    assert batch.parent[0].tolist() == expected
    assert batch.parent[1, :9].tolist() == store.read("b", 20).parent.tolist()
    assert batch.parent[1, 9:].tolist() == [-1] * 4
    assert batch.parent.shape == batch.bags[20].mask.shape
    assert batch.parent.dtype == torch.int64


def test_a_patient_may_lack_rna_slides_or_a_magnification(store):
    batch = batch_of(store, ["C", "D", "E", "A"])
    assert batch.bags[10].mask.sum(1).tolist() == [5, 0, 0, 5]
    assert batch.bags[20].mask.sum(1).tolist() == [0, 6, 0, 13]
    assert (batch.parent[:3] == -1).all()
    only_coarse = batch_of(store, ["C"])
    assert set(only_coarse.bags) == {10}
    assert only_coarse.parent.shape == (1, 0)
    nothing = batch_of(store, ["E", "E"])
    assert nothing.bags == {}
    assert nothing.parent.shape == (2, 0)
    assert set(batch_of(store, ["A"], magnifications=(20,)).bags) == {20}
    assert PatientReader(None, SLIDES, (10, 20)).read("A").features == {}


def test_repeated_reading_gives_the_same_and_the_cache_stays_within_its_budget(store):
    cached, none = PatientReader(store, SLIDES, (10, 20)), PatientReader(store, SLIDES, (10, 20), cache_gib=0)
    assert cached.read("A") is cached.read("A")
    first, again = none.read("A"), none.read("A")
    assert first is not again
    np.testing.assert_array_equal(first.features[20], again.features[20])


def test_the_order_of_an_epoch_follows_from_seed_and_epoch_alone():
    orders = {}
    for seed in (0, 1):
        sampler = EpochShuffle(50, seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            torch.manual_seed(epoch + 17)
            orders[seed, epoch] = tuple(sampler)
            assert sorted(orders[seed, epoch]) == list(range(50))
            assert tuple(sampler) == orders[seed, epoch]
    assert len(set(orders.values())) == 6
    resumed = EpochShuffle(50, 1)
    resumed.set_epoch(2)
    assert tuple(resumed) == orders[1, 2]
    assert len(EpochShuffle(50)) == 50


def test_lightning_sets_the_epoch(cohort):
    from cohorts import data_of

    from dmml.training.teacher import SubspaceTeacher

    class Noting(SubspaceTeacher):
        seen = ()

        def training_step(self, batch, batch_idx):
            self.seen = (*self.seen, *batch.patient_id)
            return super().training_step(batch, batch_idx)

    def orders():
        model = Noting(width=16)
        trainer = Trainer(
            max_epochs=2,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            accelerator="cpu",
        )
        trainer.fit(model, data_of(cohort))
        half = len(model.seen) // 2
        return model.seen[:half], model.seen[half:]

    first, second = orders()
    assert first != second
    assert sorted(first) == sorted(second)
    assert (first, second) == orders()
