"""Limits hold for the stated share of new values, exactly, as a count over all ways to leave one value out shows."""

import numpy as np
import pytest

from dmml.evaluation.limits.quantiles import lower_limit, min_sample, upper_limit


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("n", [9, 19, 24, 60])
def test_at_most_the_stated_share_of_left_out_values_exceed_the_upper_limit(n, share):
    values = np.random.default_rng(n).normal(size=n + 1)
    above = []
    for i in range(n + 1):
        limit = upper_limit(np.delete(values, i), share)
        above.append(limit is not None and values[i] > limit)
    if n < min_sample(share):
        assert not any(above)
    else:
        assert share - 1 / (n + 1) < np.mean(above) <= share + 1e-12


@pytest.mark.parametrize(("share", "n"), [(0.05, 19), (0.1, 9), (0.2, 4), (0.5, 1)])
def test_the_smallest_sample_with_a_limit_is_the_one_that_is_stated(share, n):
    assert min_sample(share) == n
    assert upper_limit(np.arange(n), share) == n - 1
    assert upper_limit(np.arange(n - 1), share) is None


@pytest.mark.parametrize(("n", "share", "expected"), [(10, 0.01, 1 / 11), (99, 0.01, 1 / 100), (199, 0.01, 2 / 200)])
def test_few_left_out_values_lie_below_the_lower_limit(n, share, expected):
    values = np.random.default_rng(1).permutation(n + 1)
    below = [values[i] < lower_limit(np.delete(values, i), share) for i in range(n + 1)]
    assert np.mean(below) == pytest.approx(expected)
