"""Lower bounds of survival hold as often as they promise, also when patients are censored."""

import numpy as np
import pytest

from dmml.cohort.clinical.follow_up import CensoringCurve
from dmml.evaluation.limits.quantiles import upper_limit
from dmml.evaluation.limits.survival_bounds import bounds, fit_bounds, last_day, lower_bound

DAYS = np.arange(0.0, 1501.0)
NOBODY = CensoringCurve(np.zeros(0), np.zeros(0))
FOLLOWED = CensoringCurve(DAYS, np.clip(1 - (DAYS - 100) / 1900, 0, 1))
"""Censoring is uniform from day 100 to day 2,000."""


def predicted(risk: np.ndarray, days: np.ndarray) -> np.ndarray:
    """A model's chance of an event up to a day, which is too small by far."""
    return 1 - np.exp(-np.exp(0.5 * risk) * days / 2500)


def patients(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(risk, whole days of the event, whole days of censoring)."""
    generator = np.random.default_rng(seed)
    risk = generator.normal(size=n)
    return risk, np.ceil(generator.exponential(800 * np.exp(-risk))), np.ceil(generator.uniform(100, 2000, n))


def calibrated(n: int, seed: int, censoring: CensoringCurve) -> dict:
    risk, death, last_seen = patients(n, seed)
    last_seen = last_seen if len(censoring.time) else np.full(n, np.inf)
    tau = last_day(censoring, DAYS[-1])
    time = np.minimum(death, last_seen)
    return fit_bounds(predicted(risk, np.minimum(time, tau)), time, death <= last_seen, censoring, tau)


@pytest.mark.parametrize("level", [0.9, 0.5])
def test_the_bound_is_the_first_day_that_a_slow_form_of_the_definition_admits(level):
    calibration, alpha = calibrated(59, 0, FOLLOWED), 1 - level
    pairs = list(zip(calibration["scores"], calibration["weights"], strict=True))
    for risk in (-1.0, 0.0, 2.0):
        curve = predicted(risk, DAYS)
        for day, chance in zip(DAYS, curve, strict=True):
            weight = 1 / FOLLOWED.before(day)
            reached = sum(w for score, w in pairs if score <= chance)
            if reached + weight > alpha * (calibration["total"] + weight) or day >= calibration["tau"]:
                break
        assert lower_bound(calibration, level, DAYS, curve, FOLLOWED) == day


def test_without_censoring_the_bound_is_that_of_split_conformal_prediction():
    risk, death, _ = patients(39, 3)
    death = np.minimum(death, 1499)
    calibration = fit_bounds(predicted(risk, death), death, np.ones(39), NOBODY, 1500.0)
    threshold = -upper_limit(-predicted(risk, death), 0.1)
    curve = predicted(0.3, DAYS)
    assert lower_bound(calibration, 0.9, DAYS, curve, NOBODY) == DAYS[np.argmax(curve >= threshold)]


@pytest.mark.parametrize("censoring", [NOBODY, FOLLOWED], ids=["nobody is censored", "many are censored"])
def test_over_many_calibrations_events_come_after_the_bounds_of_a_wrong_model_as_often_as_promised(censoring):
    held = {0.9: [], 0.8: [], 0.5: []}
    for seed in range(300):
        calibration = calibrated(59, seed, censoring)
        risk, death, _ = patients(15, 10_000 + seed)
        for each_risk, day in zip(risk, death, strict=True):
            for bound in bounds(calibration, DAYS, predicted(each_risk, DAYS), censoring):
                held[bound["level"]].append(day >= bound["days"])
    for level, values in held.items():
        assert len(values) == 300 * 15
        # The promise is a minimum, and a patient's weight of up to 1 / 0.3 can raise the coverage by a few hundredths.
        assert level - 0.015 <= np.mean(values) <= level + 0.03, level


def test_no_bound_goes_beyond_the_day_until_which_enough_patients_are_followed():
    assert FOLLOWED.before(last_day(FOLLOWED, 5000)) >= 0.3 >= FOLLOWED.at(last_day(FOLLOWED, 5000))
    assert last_day(FOLLOWED, 700) == 700
    calibration = calibrated(59, 1, FOLLOWED)
    stated = bounds(calibration, DAYS, np.zeros(len(DAYS)), FOLLOWED)
    assert {each["days"] for each in stated} <= {calibration["tau"]}
    assert all(each["is_last"] for each in stated)


def test_too_few_patients_promise_nothing():
    calibration = calibrated(8, 0, NOBODY)
    assert "too few for 90 %, 9 are needed" in calibration["reason"]
    assert [each["level"] for each in bounds(calibration, DAYS, predicted(0.0, DAYS), NOBODY)] == [0.8, 0.5]
