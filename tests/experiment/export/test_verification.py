"""The comparison with PyTorch notices every kind of difference."""

import numpy as np
import pytest
import torch

from dmml.experiment.export.verification import SIZES, Case, cases, largest_difference, simulate_inputs


def test_the_largest_difference_names_its_output():
    reference = {"risk": np.array(1.0), "attention": np.array([0.5, 0.5])}
    assert largest_difference({"risk": np.array(1.5), "attention": np.array([0.5, 0.4])}, reference) == (0.5, "risk")


@pytest.mark.parametrize("value", [np.array([0.5, np.nan]), np.array([0.5])], ids=["NaN", "shape"])
def test_a_nan_or_another_shape_is_an_infinite_difference(value):
    assert largest_difference({"a": value}, {"a": np.array([0.5, 0.5])}) == (np.inf, "a")


def test_nan_in_both_and_no_tokens_are_no_difference():
    values = {"a": np.array([np.nan]), "b": np.zeros(0), "c": np.array([-1, 1])}
    assert largest_difference(values, values)[0] == 0


def test_all_sizes_several_slides_copies_and_empty_magnifications_are_verified():
    assert {1, 100, 20_000} <= set(SIZES)
    assert len(SIZES) >= 6
    listed = cases((10, 20))
    assert [case.n_tokens for case in listed[: len(SIZES)]] == list(SIZES)
    assert {case.empty for case in listed} == {None, 10, 20}
    assert any(case.n_slides > 1 for case in listed)
    assert any(case.has_copies for case in listed)
    assert all(case.empty is None for case in cases((20,))), "a patient needs some tile"


def test_a_simulated_patient_has_the_statistics_of_the_training_features():
    statistics = {m: (torch.full((6,), 3.0), torch.full((6,), 2.0)) for m in (10, 20)}
    slides, coarse, _, _, fine, position, slide = simulate_inputs(Case(4_000, n_slides=3), (10, 20), statistics)
    assert len(slides) == 3
    assert len(coarse) == 1_000
    assert len(fine) == len(position) == 4_000
    assert slide.unique().tolist() == [0, 1, 2]
    assert fine.mean() == pytest.approx(3, abs=1)
    assert fine.std() == pytest.approx(2, rel=0.4)


def test_copies_share_features_and_position():
    statistics = {20: (torch.zeros(6), torch.ones(6))}
    _, features, position, _ = simulate_inputs(Case(10, has_copies=True), (20,), statistics)
    assert torch.equal(features[::2], features[1::2])
    assert torch.equal(position[::2], position[1::2])
