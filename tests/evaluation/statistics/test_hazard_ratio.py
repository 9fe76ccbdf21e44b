"""The hazard ratio of two groups against a plain bisection of the partial likelihood, and the cases without one."""

import numpy as np
import pytest
from recomputed import hazard_ratio as by_bisection

from dmml.evaluation import interval_settings
from dmml.evaluation.statistics.hazard_ratio import hazard_ratio


def draw(n, seed, ratio=2.5, tied=False):
    generator = np.random.default_rng(seed)
    high = generator.random(n) < 0.5
    death = generator.exponential(800 / np.where(high, ratio, 1.0))
    end = generator.uniform(100, 2500, n)
    time = np.minimum(death, end)
    return (np.ceil(time / 200) if tied else time), (death <= end).astype(float), high


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_strata", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_ratio_interval_and_p_are_those_of_the_partial_likelihood(tied, n_strata, seed):
    time, event, high = draw(90, seed, tied=tied)
    strata = np.arange(90) % n_strata
    time = time * (1 + 5 * strata)  # strata have baseline hazards of their own
    result = hazard_ratio(time, event, high, strata)
    assert result.reason == ""
    *expected, p = by_bisection(time, event, high, strata)
    assert result[:3] == pytest.approx(expected, rel=1e-5)
    assert result.p == pytest.approx(p, rel=1e-3)
    swapped = hazard_ratio(time, event, ~high, strata)
    assert swapped.value == pytest.approx(1 / result.value, rel=1e-5)
    assert swapped.p == pytest.approx(result.p, rel=1e-4)


def test_strata_keep_folds_on_scales_of_their_own_apart():
    time, event, high = draw(200, 5)
    fold = np.arange(200) % 2
    slower = np.where(fold == 1, 50 * time, time)
    assert hazard_ratio(slower, event, high, fold).value == pytest.approx(
        hazard_ratio(slower + fold * 1e6, event, high, fold).value, rel=1e-5
    )
    one_stratum = hazard_ratio(slower, event, high).value
    assert abs(np.log(one_stratum) - np.log(hazard_ratio(slower, event, high, fold).value)) > 1e-3


def test_the_interval_follows_the_level(monkeypatch):
    data = draw(80, 1)
    wide = hazard_ratio(*data)
    monkeypatch.setattr(interval_settings, "LEVEL", 0.5)
    narrow = hazard_ratio(*data)
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
    assert narrow.p == wide.p


@pytest.mark.parametrize(
    ("time", "event", "high", "reason"),
    [
        ([1, 2, 3, 4], [0, 0, 0, 0], [0, 1, 0, 1], "none of the 4 patients had the event"),
        ([1, 2, 3, 4], [1, 1, 1, 0], [1, 1, 1, 1], "all 4 patients are at high risk"),
        ([1, 2, 3, 4], [1, 1, 1, 0], [0, 0, 0, 0], "all 4 patients are at low risk"),
        ([1, 2, 3, 4], [1, 0, 1, 0], [1, 0, 1, 0], "none of the 2 patients at low risk had the event, so no finite"),
        ([1, 2, 3, 4], [0, 1, 0, 1], [1, 0, 1, 0], "none of the 2 patients at high risk had the event, so no finite"),
        # Both groups have events, but those at low risk come when nobody at high risk is followed any more.
        ([1, 2, 3, 4], [1, 1, 1, 1], [1, 1, 0, 0], "none of the 2 patients at low risk had the event while patients of both"),
        ([1, 2, 3, 4], [0, 0, 1, 1], [1, 1, 0, 0], "no event happened while patients of both groups were followed"),
    ],
)  # fmt: skip
def test_without_a_finite_ratio_the_reason_is_given_and_no_number(time, event, high, reason):
    result = hazard_ratio(time, event, high)
    assert reason in result.reason
    assert np.isnan(result[:4]).all()


def test_an_event_counts_as_compared_only_with_patients_of_its_own_stratum():
    time, event, high = [1, 2, 1, 2], [1, 0, 1, 0], [1, 1, 0, 0]
    assert (
        "no event happened while patients of both groups were followed"
        in hazard_ratio(time, event, high, [0, 0, 1, 1]).reason
    )
    assert hazard_ratio(time, event, high, [0, 0, 0, 0]).reason == ""


@pytest.mark.parametrize("seed", range(30))
def test_small_cohorts_have_a_reason_exactly_where_the_likelihood_has_no_maximum(seed):
    generator = np.random.default_rng(seed)
    time = generator.integers(1, 6, 6).astype(float)
    event, high = generator.integers(0, 2, 6).astype(float), generator.random(6) < 0.5
    result = hazard_ratio(time, event, high)
    scores = [score(time, event, high, beta) for beta in (-25.0, 25.0)]
    if scores[0] > 1e-6 and scores[1] < -1e-6:  # the likelihood rises on the left and falls on the right
        assert result.reason == ""
        assert result.value == pytest.approx(by_bisection(time, event, high)[0], rel=1e-4)
    else:
        assert result.reason


def score(time, event, high, beta):
    """Derivative of Efron's log partial likelihood."""
    total = 0.0
    for day in sorted(set(time[event > 0])):
        dead = (time == day) & (event > 0)
        d = dead.sum()
        for k in range(d):
            n = [((time >= day) & (high == h)).sum() - k / d * (dead & (high == h)).sum() for h in (False, True)]
            total -= n[1] * np.exp(beta) / (n[0] + n[1] * np.exp(beta))
        total += (dead & high).sum()
    return total
