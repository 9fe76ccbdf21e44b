"""The bootstrap against its own slow form, closed forms, and hand counts."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import bootstrap

from dmml.evaluation import metrics
from dmml.evaluation.bootstrap import holm, interval, paired_difference, resamples
from dmml.evaluation.statistics import weighted
from dmml.evaluation.statistics.bca import Correction, jackknife_weights, percentiles, two_sided_p
from dmml.evaluation.statistics.censoring import as_censoring


def draw(n=60, seed=0):
    generator = np.random.default_rng(seed)
    death, censored = generator.exponential(900, n), generator.exponential(1500, n)
    good = -np.log(death) + generator.normal(0, 0.5, n)
    poor = good + generator.normal(0, 2.0, n)
    return np.minimum(death, censored), (death <= censored).astype(int), good, poor


def test_resamples_keep_the_strata_and_the_seed():
    strata = np.array([0] * 10 + [1] * 5 + [2])
    counts = resamples(16, strata, 300)
    assert counts.shape == (300, 16)
    np.testing.assert_allclose(counts[:, :10].sum(1), 10, rtol=1e-6)
    np.testing.assert_allclose(counts[:, 10:15].sum(1), 5, rtol=1e-6)
    assert (counts[:, 15] == 1).all()
    assert counts[:, :10].std() > 0.8  # drawn, not left as they are
    assert (counts == resamples(16, strata, 300)).all()
    assert (counts != resamples(16, strata, 300, seed=1)).any()
    whole = resamples(16, strata, 300, whole=True)
    assert (whole == whole.round()).all()
    assert (whole[:, 10:15].sum(1) == 5).all()


@pytest.mark.parametrize("size", [2, 5, 40])
def test_the_mean_of_a_small_stratum_has_the_textbook_variance(size):
    values = np.random.default_rng(size).normal(size=size)
    means = resamples(size, None, 40_000) @ values / size
    assert means.var() == pytest.approx(values.var(ddof=1) / size, rel=0.04)


def test_the_matrix_form_equals_one_call_per_resample():
    time, event, a, b = draw()
    censoring = (np.sort(time), np.linspace(1, 0.3, len(time)))
    curve = as_censoring(censoring, time, event)
    for metric, form in (
        (metrics.concordance_index, weighted.harrell(time, event, a)),
        (
            partial(metrics.concordance_ipcw, censoring=censoring, tau=1500.0),
            weighted.uno(time, event, a, curve, 1500.0),
        ),
        (partial(metrics.auc_at, day=400.0, censoring=censoring), weighted.dynamic_auc(time, event, a, 400.0, curve)),
    ):
        counts = resamples(len(time), event, 40, whole=True)
        rows = [np.repeat(np.arange(len(time)), row.astype(int)) for row in counts]
        assert form(counts) == pytest.approx([metric(time[row], event[row], a[row]) for row in rows], abs=1e-6)
        fast = paired_difference(metric, a, b, time, event, strata=event)
        slow = paired_difference(lambda *data, m=metric: m(*data), a, b, time, event, strata=event, n_resamples=400)
        assert fast == pytest.approx(slow, abs=0.03)
        assert fast.estimate == pytest.approx(slow.estimate, abs=1e-6)


def test_a_corrected_interval_equals_that_of_scipy():
    values = np.random.default_rng(3).exponential(size=40)
    ours = interval(lambda x: float(x.mean()), values, n_resamples=20_000)
    scipy_interval = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", random_state=0).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((scipy_interval.low, scipy_interval.high), abs=0.02)
    assert ours.low > percentiles(np.random.default_rng(0).choice(values, (20_000, 40)).mean(1))[0] + 0.01


def test_every_patient_is_left_out_by_one_jackknife_group():
    assert (jackknife_weights(5) == 1 - np.eye(5)).all()
    groups = jackknife_weights(1000)
    assert groups.shape == (200, 1000)
    assert ((1 - groups).sum(0) == 1).all()
    assert ((1 - groups).sum(1) == 5).all()


@pytest.mark.parametrize("correction", [Correction(0.3, 0.05), Correction(-0.8, -0.1), Correction(0.0, 0.12)])
def test_a_corrected_p_value_agrees_with_its_interval(correction):
    for mean in np.linspace(-3.5, 3.5, 57):
        draws = np.random.default_rng(0).normal(mean, 1, 4000)
        low, high = percentiles(draws, correction)
        if min(abs(low), abs(high)) > 0.02:
            assert (low > 0 or high < 0) == (two_sided_p(draws, correction) < 0.05)


def test_the_interval_of_a_mean_has_the_textbook_width():
    values = np.random.default_rng(0).normal(size=400)
    result = interval(lambda x: float(x.mean()), values)
    assert result.value == values.mean()
    assert (result.high - result.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.06)


def test_intervals_cover_the_truth_about_as_often_as_stated():
    # 200 cohorts whose true concordance is known from a huge one.
    time, event, good, _ = draw(4000, seed=123)
    truth = metrics.concordance_index(time, event, good)
    hits = 0
    for seed in range(200):
        t, e, g, _ = draw(80, seed=seed)
        result = interval(metrics.concordance_index, t, e, g, strata=e, n_resamples=300)
        hits += result.low <= truth <= result.high
    assert 0.90 <= hits / 200 <= 0.99


def test_a_paired_difference_has_a_sign_and_a_narrower_interval_than_an_unpaired_one():
    time, event, a, b = draw(150)
    ab = paired_difference(metrics.concordance_index, a, b, time, event, strata=event)
    ba = paired_difference(metrics.concordance_index, b, a, time, event, strata=event)
    assert ab.estimate == pytest.approx(
        metrics.concordance_index(time, event, a) - metrics.concordance_index(time, event, b)
    )
    assert ab.estimate == -ba.estimate
    assert (ab.low, ab.high) == pytest.approx((-ba.high, -ba.low))
    assert ab.low > 0
    assert ab.p < 0.05
    near = paired_difference(metrics.concordance_index, a, a + 0.1 * b, time, event, strata=event)
    alone = interval(metrics.concordance_index, time, event, a, strata=event)
    assert near.high - near.low < 0.6 * (alone.high - alone.low)


def test_no_difference_has_p_one_and_chance_rarely_has_a_small_p():
    time, event, a, _ = draw()
    same = paired_difference(metrics.concordance_index, a, a, time, event)
    assert same == (0, 0, 0, 1)
    small = 0
    for seed in range(100):
        t, e, _, _ = draw(60, seed)
        noise = np.random.default_rng(1000 + seed).normal(size=(2, 60))
        small += paired_difference(metrics.concordance_index, *noise, t, e, strata=e, n_resamples=300).p < 0.05
    assert small <= 12


def test_a_p_value_agrees_with_its_interval():
    draws = np.random.default_rng(0).normal(1.9, 1, 2000)
    low, high = percentiles(draws)
    assert (low > 0 or high < 0) == (two_sided_p(draws) < 0.05)
    assert two_sided_p(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert two_sided_p(np.array([np.nan])) != two_sided_p(np.array([np.nan]))


def test_undefined_resamples_are_left_out_unless_more_than_half_are_undefined():
    assert percentiles(np.array([np.nan, 1.0, 1.0])) == (1, 1)
    assert np.isnan(percentiles(np.array([np.nan, np.nan, 1.0]))).all()


def test_holm_s_adjustment_equals_one_by_hand():
    assert holm([0.01, 0.04, 0.03, np.nan]) == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)
    assert holm([0.5, 0.9]).tolist() == [1, 1]


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"every array needs one row per patient; got \[3, 3, 3, 2\] rows"):
        paired_difference(metrics.concordance_index, [1, 2, 3], [1, 2], [1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match="strata has 2 labels for 3 patients"):
        interval(metrics.concordance_index, [1, 2, 3], [1, 1, 1], [1, 2, 3], strata=[0, 1])
