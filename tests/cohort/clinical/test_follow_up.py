"""The censoring distribution and the horizons that patients reach, counted by hand and against lifelines."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from dmml.cohort.clinical.follow_up import censoring_curve, horizons_reached


def test_the_censoring_curve_equals_one_counted_by_hand():
    # Day 2: one dies, one is censored; the dead is no longer at risk of censoring, so G falls by 1 of 3.
    curve = censoring_curve([1, 2, 2, 3, 4], [1, 1, 0, 0, 1])
    assert curve.time.tolist() == [1, 2, 3, 4]
    assert curve.survival == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    assert curve.before(2) == 1
    assert curve.at(2) == pytest.approx(2 / 3)
    assert curve.at([0.5, 99]) == pytest.approx([1, 1 / 3])
    assert curve.last_day_above(0.5) == 3
    assert curve.last_day_above(0.1) == np.inf


def test_the_censoring_curve_agrees_with_lifelines_if_no_day_is_shared():
    generator = np.random.default_rng(0)
    time, event = generator.permutation(60) + 1.0, generator.integers(0, 2, 60).astype(float)
    curve = censoring_curve(time, event)
    fitted = KaplanMeierFitter().fit(time, 1 - event)
    assert curve.at(time) == pytest.approx(fitted.predict(time).to_numpy())


def test_a_death_comes_before_a_censoring_on_the_same_day():
    # Days 1 died, 2 censored, 3 died and censored (the death first), 4 censored.
    curve = censoring_curve([1.0, 2, 3, 3, 4], [1.0, 0, 1, 0, 0])
    assert curve.plain() == {"time": [1, 2, 3, 4], "survival": pytest.approx([1, 3 / 4, 3 / 8, 0])}


def test_horizons_need_a_tenth_of_the_patients():
    time = np.array([100.0] * 8 + [400.0, 2000.0])
    assert horizons_reached(time) == [365.0, 1095.0, 1825.0]
    assert horizons_reached(np.append(time, 100.0)) == [365.0]
    assert horizons_reached([]) == []
