"""The stratified log-rank test, against lifelines where that has one and against a plain loop."""

import numpy as np
import pytest
from lifelines.statistics import multivariate_logrank_test
from recomputed import log_rank

from dmml.evaluation.statistics.log_rank import stratified_log_rank


def patients(n=80, groups=2, seed=0, whole_days=True):
    generator = np.random.default_rng(seed)
    group = generator.integers(0, groups, n)
    time = generator.exponential(60 / (1 + 0.5 * group))
    time = np.ceil(time) if whole_days else time  # ties
    return time, (generator.random(n) < 0.6).astype(float), group


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("whole_days", [True, False])
def test_one_stratum_is_the_test_of_lifelines(groups, whole_days):
    time, event, group = patients(groups=groups, whole_days=whole_days)
    expected = multivariate_logrank_test(time, group, event).p_value
    assert stratified_log_rank(time, event, group, np.zeros(80)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("groups", [2, 3])
def test_twice_the_same_stratum_doubles_the_statistic_of_lifelines(groups):
    from scipy.stats import chi2

    time, event, group = patients(groups=groups)
    statistic = multivariate_logrank_test(time, group, event).test_statistic
    p = stratified_log_rank(*(np.tile(x, 2) for x in (time, event, group)), np.repeat(["a", "b"], 80))
    assert p == pytest.approx(chi2.sf(2 * statistic, groups - 1), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_strata_agree_with_a_plain_loop(seed):
    time, event, group = patients(120, seed=seed)
    stratum = np.random.default_rng(seed).integers(0, 3, 120)
    expected = log_rank(time, event, group == 1, stratum)
    assert stratified_log_rank(time, event, group, stratum) == pytest.approx(expected, rel=1e-9)


def test_a_stratum_that_differs_as_a_whole_is_not_taken_for_a_difference_of_groups():
    """High risk is frequent in a fold whose patients all die early."""
    generator = np.random.default_rng(1)
    stratum = np.repeat([0, 1], 300)
    group = generator.random(600) < np.where(stratum == 0, 0.8, 0.2)
    time = generator.exponential(np.where(stratum == 0, 20, 200))
    assert multivariate_logrank_test(time, group, np.ones(600)).p_value < 1e-9
    assert stratified_log_rank(time, np.ones(600), group, stratum) > 0.05


def test_without_an_event_among_two_groups_of_a_stratum_there_is_no_p():
    time, event = np.arange(1.0, 9), np.ones(8)
    by_stratum = np.repeat([0, 1], 4)
    assert np.isnan(stratified_log_rank(time, event, by_stratum, by_stratum))
    assert np.isnan(stratified_log_rank(time, np.zeros(8), np.tile([0, 1], 4), by_stratum))
    assert np.isnan(stratified_log_rank(time, event, np.zeros(8), by_stratum))
