"""Bags of training patients for a backbone: missing values are filled in every precision, and draws are bounded."""

import numpy as np
import pytest
import torch

from dmml.data.dataset import Patient
from dmml.training.backbone_data import _bag

MEAN = np.array([1.0, -2.0, 3.0])


def patient_with(features):
    n = len(features)
    return Patient(
        "P0", {20: features}, {20: np.zeros((n, 2), np.float32)}, {20: np.arange(n) % 2}, np.zeros(n, np.int64)
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_missing_values_become_the_training_mean_in_every_precision_of_a_store(dtype):
    features = np.array([[0.5, np.nan, 2.0], [np.nan, 1.0, np.nan]], dtype)
    bag = _bag(patient_with(features), 20, MEAN, max_tokens=10)
    assert bag.features[0].tolist() == [[0.5, -2.0, 2.0], [1.0, 1.0, 3.0]]
    assert bag.features.dtype == torch.from_numpy(features).dtype


def test_no_more_than_the_stated_tokens_are_read_and_slides_are_numbered_anew():
    bag = _bag(patient_with(np.ones((50, 3), np.float16)), 20, MEAN, max_tokens=7)
    assert bag.features.shape == (1, 7, 3)
    assert bag.slide.max() + 1 == bag.n_slides <= 2
