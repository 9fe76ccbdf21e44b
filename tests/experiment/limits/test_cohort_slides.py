"""Limits of slides come from training patients alone, and a tested cohort's slides are judged by them."""

import shutil

import numpy as np
import pytest
from cohorts import data_of, simulated

from dmml.experiment.limits.cohort_slides import count_unlike, training_slide_limits
from dmml.store import FeatureStore, SlideFeatures

SPLIT = {"folds": 6, "seed": 0}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return simulated(tmp_path_factory)


def data_for_fit(folder):
    data = data_of(folder, split=SPLIT)
    data.setup("fit")
    return data


def with_other_slides(folder, target, patients):
    """A copy of the cohort in which the slides of some patients have other features, fewer tiles and another scale."""
    shutil.copytree(folder, target)
    slides = data_for_fit(folder).reader.slides
    store = FeatureStore(target / "development" / "features.zarr", mode="r+")
    for slide in [slide for patient in patients for slide in slides[patient]]:
        bags = {m: store.read(slide, m) for m in (10, 20)}
        coarse = SlideFeatures(np.array(bags[10].features) + np.float16(3), np.array(bags[10].position))
        fine = SlideFeatures(
            np.array(bags[20].features[:4]), np.array(bags[20].position[:4]), np.array(bags[20].parent[:4])
        )
        store.write(slide, {10: coarse, 20: fine}, store.slide_attributes(slide) | {"mpp": 0.11})
    return target


def test_slides_of_validation_and_test_patients_change_nothing(cohort, tmp_path):
    data = data_for_fit(cohort)
    base = training_slide_limits(data)
    assert base["n_patients"] == len([p for p in data.patients("train") if data.has_tissue(p)]) >= 19
    assert base["threshold"] is not None
    unseen = [*data.patients("val"), *data.listed("test")]
    other = training_slide_limits(data_for_fit(with_other_slides(cohort, tmp_path / "unseen", unseen)))
    assert other == base  # to the last bit
    # The same change in training patients is seen: the comparison above can fail.
    few = data.patients("train")[:2]
    changed = training_slide_limits(data_for_fit(with_other_slides(cohort, tmp_path / "seen", few)))
    assert changed["mpp"]["low"] == 0.11
    assert changed["parts"]["10x"]["limit"] != base["parts"]["10x"]["limit"]
    assert changed["parts"]["10x"]["centre"] != base["parts"]["10x"]["centre"]


def test_a_tested_cohort_counts_the_patients_whose_slides_are_unlike(cohort, tmp_path):
    data = data_for_fit(cohort)
    limits, patients = training_slide_limits(data), data.patients("val")
    before = count_unlike(data, patients, limits)
    moved = data_for_fit(with_other_slides(cohort, tmp_path / "moved", patients[:2]))
    after = count_unlike(moved, patients, limits)
    assert before["of"] == after["of"] == len(patients)
    assert before["n"] <= 1
    assert after["n"] >= 2
    assert count_unlike(data, patients, limits | {"threshold": None}) == {}
