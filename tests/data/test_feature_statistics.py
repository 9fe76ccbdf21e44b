"""Training statistics of features: each patient has the same weight, missing values are ignored, and no other patient is read."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from cohorts import data_of, simulated

from dmml.data.collate import Collate
from dmml.data.dataset import Patient, PatientReader
from dmml.data.feature_statistics import fill_missing, fillings, fit_feature_statistics
from dmml.store import FeatureStore, SlideFeatures


class Tokens:
    """A reader of tokens at 20x, which are given or drawn when they are read."""

    def __init__(self, tokens, draw=None):
        self.tokens, self.draw = tokens, draw
        self.slides = {patient: ["slide"] for patient in (map(str, range(1_000)) if tokens is None else tokens)}

    def read(self, patient_id):
        features = self.tokens[patient_id] if self.draw is None else self.draw(patient_id)
        return Patient(patient_id, {} if features is None else {20: features}, {}, {}, np.zeros(0, np.int64))


def by_loop(tokens, feature):
    """Mean and spread of one feature, token by token, each patient with weight 1."""
    weights, values = [], []
    for features in tokens.values():
        present = [float(v) for v in features[:, feature] if not np.isnan(v)]
        values += present
        weights += [1 / max(1, len(present))] * len(present)
    mean = np.average(values, weights=weights)
    return mean, np.sqrt(np.average((np.array(values) - mean) ** 2, weights=weights))


@pytest.fixture
def tokens():
    random = np.random.default_rng(0)
    features_of = {f"P{i}": random.normal(3 * i, 1 + i, (1 + 7 * i, 5)).astype(np.float32) for i in range(6)}
    for features in features_of.values():
        features[random.random(features.shape) < 0.2] = np.nan
    for features in features_of.values():
        features[:, 3] = 2.5
    features_of["P2"][:, 1] = np.nan
    return features_of


def test_each_patient_has_the_same_weight_and_missing_values_are_ignored(tokens):
    statistics = fit_feature_statistics(Tokens(tokens), list(tokens), [10, 20])
    assert set(statistics) == {"20"}
    for feature in (0, 1, 2, 4):
        mean, scale = by_loop(tokens, feature)
        assert statistics["20"]["mean"][feature] == pytest.approx(mean, rel=1e-12)
        assert statistics["20"]["scale"][feature] == pytest.approx(scale, rel=1e-12)
    assert (statistics["20"]["mean"][3], statistics["20"]["scale"][3]) == (2.5, 1.0)
    assert all(type(value) is float for value in statistics["20"]["mean"] + statistics["20"]["scale"])


def test_a_feature_without_values_has_mean_0_and_scale_1_and_large_means_lose_no_precision(tokens):
    for features in tokens.values():
        features[:, 4] = np.nan
        features[:, 2] = 0
    exact = {p: features.astype(np.float64) for p, features in tokens.items()}
    for i, features in enumerate(exact.values()):
        features[:, 2] = 1e9 + i
    statistics = fit_feature_statistics(Tokens(exact), list(exact), [20])["20"]
    assert (statistics["mean"][4], statistics["scale"][4]) == (0.0, 1.0)
    assert statistics["mean"][2] == 1e9 + 2.5
    assert statistics["scale"][2] == 1.0  # 1.7 on 1e9 is less than float32 holds
    for features in exact.values():
        features[:, 2] -= 9.9e8
    statistics = fit_feature_statistics(Tokens(exact), list(exact), [20])["20"]
    assert statistics["scale"][2] == pytest.approx(np.std(np.arange(6)), rel=1e-9)


def test_statistics_of_a_bounded_sample_are_close_to_those_of_all_tokens_and_reproducible(tokens):
    many = {p: np.random.default_rng(i).normal(i, 1, (5_000, 3)) for i, p in enumerate(tokens)}
    whole = fit_feature_statistics(Tokens(many), list(many), [20], max_tokens_per_patient=5_000)
    some, again = (fit_feature_statistics(Tokens(many), list(many), [20], 500, seed=3) for _ in range(2))
    assert some == again
    assert some != whole
    assert some["20"]["mean"] == pytest.approx(whole["20"]["mean"], abs=0.1)
    assert some["20"]["scale"] == pytest.approx(whole["20"]["scale"], rel=0.05)
    trend = {"P0": np.arange(10_000.0)[:, None]}
    assert fit_feature_statistics(Tokens(trend), ["P0"], [20], 100)["20"]["mean"][0] == pytest.approx(5_000, abs=51)


def test_of_very_many_patients_evenly_spaced_ones_with_slides_are_read():
    many = {f"P{i}": np.full((1, 1), i, np.float32) for i in range(1_000)}
    reader = Tokens(many)
    without = {patient: [] for patient in list(many)[::2]}
    reader.slides |= without
    patients, read, real = list(many), [], reader.read
    reader.read = lambda patient: read.append(patient) or real(patient)
    statistics = fit_feature_statistics(reader, patients, [20], max_patients=100)["20"]
    assert len(read) == len(set(read)) == 100
    assert not set(read) & set(without)
    assert {patients.index(b) - patients.index(a) for a, b in pairwise(read)} == {10}
    assert statistics["mean"][0] == pytest.approx(500, abs=10)
    assert statistics["scale"][0] == pytest.approx(np.std(range(1_000)), rel=0.02)
    assert statistics == fit_feature_statistics(reader, patients, [20], max_patients=100)["20"]


def test_memory_does_not_grow_with_patients():
    def peak(patients):
        reader = Tokens(None, lambda p: np.random.default_rng(int(p)).normal(size=(3_000, 64)).astype(np.float32))
        tracemalloc.start()
        fit_feature_statistics(reader, [str(i) for i in range(patients)], [20], 1_000)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(40) < 1.2 * peak(2)


def test_the_batch_holds_the_training_mean_where_a_value_is_missing(tmp_path):
    store = FeatureStore.create(
        tmp_path / "v.zarr", {"name": "v", "dim": 3}, {20: 0.5}, content="vectors", dtype="float32"
    )
    values = {"a": [[1.0, np.nan, 1e6]], "b": [[3.0, 2.0, np.nan], [np.nan, 4.0, 2e6]], "c": [[np.nan, np.nan, 5e5]]}
    for name, rows in values.items():
        store.write(name, {20: SlideFeatures(np.array(rows), np.zeros((len(rows), 2)))}, {})
    reader = PatientReader(store, {p: [p] for p in values}, [20])
    fitted = {"feature_statistics": fit_feature_statistics(reader, ["a", "b"], [20])}
    assert fitted["feature_statistics"]["20"]["mean"] == [2.0, 3.0, 1.5e6]
    collate = Collate([20], list(values), {}, torch.zeros(3, dtype=torch.bool), {}, fillings(store, fitted))
    batch = collate([reader.read(p) for p in values])
    features = batch.bags[20].features
    assert features.dtype == torch.float32
    assert features[0, 0].tolist() == [1.0, 3.0, 1e6]
    assert features[1].tolist() == [[3.0, 2.0, 1.5e6], [2.0, 4.0, 2e6]]
    assert features[2, 0].tolist() == [2.0, 3.0, 5e5]
    assert not features[~batch.bags[20].mask].any()


def test_a_store_of_tiles_is_not_filled(tmp_path):
    tiles = FeatureStore.create(tmp_path / "t.zarr", {"name": "v", "dim": 3}, {20: 0.5})
    assert fillings(tiles, {"feature_statistics": {"20": {"mean": [0.0] * 3, "scale": [1.0] * 3}}}) == {}
    assert fillings(None, {}) == {}
    half = torch.tensor([[[float("nan"), 2.0]]], dtype=torch.float16)
    filled = fill_missing(half, torch.tensor([0.5, 9.0]))
    assert filled.dtype == torch.float16
    assert filled.tolist() == [[[0.5, 2.0]]]


@pytest.mark.slow
def test_statistics_do_not_change_with_the_features_of_test_patients(tmp_path_factory):
    folder = simulated(tmp_path_factory)
    data = data_of(folder)
    data.setup("fit")
    train = data.patients("train")
    before = data.fitted({})["feature_statistics"]
    assert set(before) == {"10", "20"}

    changed = data_of(folder)
    changed.setup("fit")
    changed.reader = Altered(changed.reader, set(train))
    assert changed.fitted({})["feature_statistics"] == before
    everyone = [*train, *data.patients("val")]
    assert changed.feature_statistics(everyone) != data.feature_statistics(everyone)  # the altered features would show


class Altered:
    """A reader that returns other features for every patient who is not spared."""

    def __init__(self, reader, spared):
        self.reader, self.spared, self.slides = reader, spared, reader.slides

    def read(self, patient_id):
        patient = self.reader.read(patient_id)
        if patient_id in self.spared:
            return patient
        features = {m: 7 + 0 * np.asarray(values) for m, values in patient.features.items()}
        return Patient(patient_id, features, patient.position, patient.slide, patient.parent)
