"""Intervals of a value hold the true value as often as they promise."""

import numpy as np
import pytest

from dmml.evaluation.limits.value_intervals import fit_intervals, value_interval


def test_over_many_calibrations_90_percent_of_intervals_hold_the_true_value():
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        errors = generator.standard_t(3, 44)  # heavy tails, for which a normal interval would be wrong
        calibration = fit_intervals(np.zeros(39), errors[:39])
        low, high = value_interval(calibration, 0.0)
        covered += [low <= error <= high for error in errors[39:]]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)


def test_too_few_patients_promise_nothing():
    assert fit_intervals(np.zeros(8), np.ones(8))["limit"] is None
    assert fit_intervals(np.zeros(9), np.ones(9))["limit"] == 1
