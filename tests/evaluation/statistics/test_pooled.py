"""Pooled metrics against slow loops: patients of different folds are never compared."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from dmml.cohort.clinical.follow_up import censoring_curve
from dmml.evaluation.bootstrap import resamples
from dmml.evaluation.evaluate import evaluate
from dmml.evaluation.metrics import concordance_within
from dmml.evaluation.statistics import weighted
from dmml.evaluation.statistics.pooled import FoldPredictions, corrected_resampled_p, pooled_metric
from dmml.evaluation.statistics.weighted import estimate

N = 40


@pytest.fixture
def cohort():
    rng = np.random.default_rng(3)
    time = rng.integers(1, 30, N).astype(float) * 50  # ties of days are there
    event = (rng.random(N) < 0.6).astype(float)
    risk = np.round(rng.normal(size=N), 1)  # and of risks
    fold = rng.integers(0, 3, N)
    risk += fold * 100  # scales that are no scale of the others
    return pd.DataFrame({"time": time, "event": event, "risk": risk, "fold": fold})


def parts_of(cohort, tau=800.0, metrics=("c_index", "c_index_ipcw", "auc_700", "ibs")):
    parts = []
    for _, table in cohort.groupby("fold"):
        predictions = table.reset_index(drop=True)
        for day in (300.0, 700.0, 1500.0):
            predictions[f"survival_{day:g}"] = np.exp(-day / 1000 * (1 + (predictions["risk"] % 100).rank() / 10))
        curve = censoring_curve(predictions["time"], predictions["event"])
        parts.append(FoldPredictions(table.index.to_numpy(), predictions, curve, dict.fromkeys(metrics, tau)))
    return parts


def drawn(cohort, weights):
    """The patients of a resample as rows of their own."""
    return cohort.loc[np.repeat(cohort.index, weights.astype(int))].reset_index(drop=True)


def loop(cohort, weight=lambda i, row: 1.0, counts_as_pair=None):
    top = bottom = 0.0
    rows = list(cohort.itertuples())
    for i in rows:
        for j in rows:
            outlived = i.time < j.time or (i.time == j.time and not j.event)
            if i.fold != j.fold or not (counts_as_pair(i, j) if counts_as_pair else i.event and outlived):
                continue
            w = weight(i.fold, i)
            top += w * (1.0 if i.risk > j.risk else 0.5 if i.risk == j.risk else 0.0)
            bottom += w
    return top / bottom


def test_pooled_concordance_equals_a_loop_over_pairs_of_one_fold(cohort):
    metric = pooled_metric("c_index", parts_of(cohort))
    assert estimate(metric, N) == pytest.approx(loop(cohort))
    assert estimate(metric, N) == pytest.approx(
        concordance_within(cohort["time"], cohort["event"], cohort["fold"], cohort["risk"])
    )
    crossing = estimate(weighted.harrell(cohort["time"], cohort["event"], cohort["risk"]), N)
    assert abs(estimate(metric, N) - crossing) > 0.01  # pairs across folds would be seen


def test_a_resample_counts_a_patient_as_often_as_drawn(cohort):
    counts = resamples(N, cohort["fold"] * 2 + cohort["event"], 5, seed=1, whole=True)
    values = pooled_metric("c_index", parts_of(cohort))(counts)
    expected = [loop(drawn(cohort, row)) for row in counts]
    # Two copies of one patient are a pair only for a loop over rows: same day, both dead, so not comparable.
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_concordance_and_auc_weight_pairs_by_the_censoring_of_their_fold(cohort):
    parts = parts_of(cohort)
    curves = {int(part.table["fold"].iloc[0]): part.censoring for part in parts}

    def weight(fold, row):
        return 1 / float(curves[fold].before(row.time))

    expected = loop(
        cohort,
        lambda fold, row: weight(fold, row) ** 2,
        lambda i, j: i.event and i.time < 800 and (i.time < j.time or (i.time == j.time and not j.event)),
    )
    assert estimate(pooled_metric("c_index_ipcw", parts), N) == pytest.approx(expected)
    expected = loop(cohort, weight, lambda i, j: i.event and i.time <= 700 < j.time)
    assert estimate(pooled_metric("auc_700", parts), N) == pytest.approx(expected)


def test_with_one_fold_every_metric_equals_that_of_a_single_cohort(cohort):
    part = parts_of(cohort.assign(fold=0))[0]
    context = {"censoring": {"time": part.censoring.time, "survival": part.censoring.survival}, "horizons": [700.0]}
    table = part.table.assign(patient_id=[f"P{i}" for i in range(N)])
    metrics = evaluate(table, context)
    metrics.pop("hazard_ratio")  # it is not pooled, but has a stratum per fold
    assert {"c_index", "c_index_ipcw", "ibs", "auc_700"} <= set(metrics)
    tau = {name: entry.get("tau", np.inf) for name, entry in metrics.items()}
    fold = FoldPredictions(part.index, part.table, part.censoring, tau)
    for name, entry in metrics.items():
        assert estimate(pooled_metric(name, [fold]), N) == pytest.approx(entry["value"], rel=1e-6), name


def test_the_brier_score_is_the_mean_over_patients_with_the_censoring_of_their_fold(cohort):
    parts = parts_of(cohort)
    alone = [
        estimate(
            pooled_metric("ibs", [FoldPredictions(np.arange(len(p.index)), p.table, p.censoring, p.tau)]), len(p.index)
        )
        for p in parts
    ]
    sizes = [len(part.index) for part in parts]
    assert estimate(pooled_metric("ibs", parts), N) == pytest.approx(np.average(alone, weights=sizes))


def test_a_fold_in_which_a_metric_is_undefined_is_left_out(cohort):
    parts = parts_of(cohort)
    without = [parts[0], FoldPredictions(parts[1].index, parts[1].table, parts[1].censoring, {}), parts[2]]
    for name in ("c_index_ipcw", "ibs", "auc_700"):
        assert estimate(pooled_metric(name, without), N) == pytest.approx(
            estimate(pooled_metric(name, [parts[0], parts[2]]), N)
        )
    assert np.isnan(estimate(pooled_metric("ibs", [without[1]]), N))


def test_a_patient_tested_by_two_seeds_is_drawn_once(cohort):
    first, again = parts_of(cohort), parts_of(cohort.assign(risk=-cohort["risk"]))
    counts = resamples(N, None, 7, whole=True)
    both = pooled_metric("c_index", [*first, *again])(counts)
    np.testing.assert_allclose(both, 0.5, atol=1e-6)  # opposite risks cancel in each draw only with the same patients


def classes(seed=5):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(3), N).round(2)
    return rng.integers(0, 3, N), probability, rng.integers(0, 2, N)


def test_macro_auc_counts_pairs_within_a_fold():
    label, probability, fold = classes()
    parts = [
        FoldPredictions(np.flatnonzero(fold == k), label=label[fold == k], probability=probability[fold == k])
        for k in (0, 1)
    ]
    expected = []
    for c in range(3):
        top = bottom = 0.0
        for i in range(N):
            for j in range(N):
                if fold[i] == fold[j] and label[i] == c and label[j] != c:
                    p, q = probability[i, c], probability[j, c]
                    top, bottom = top + (1.0 if p > q else 0.5 if p == q else 0.0), bottom + 1
        expected.append(top / bottom)
    assert estimate(pooled_metric("auc", parts), N) == pytest.approx(np.mean(expected))


def test_accuracy_counts_patients_of_all_folds_together():
    label, probability, fold = classes()
    parts = [
        FoldPredictions(np.flatnonzero(fold == k), label=label[fold == k], probability=probability[fold == k])
        for k in (0, 1)
    ]
    assert estimate(pooled_metric("accuracy", parts), N) == pytest.approx((probability.argmax(1) == label).mean())
    weights = resamples(N, None, 3, whole=True)
    hits = (probability.argmax(1) == label).astype(float)
    np.testing.assert_allclose(pooled_metric("accuracy", parts)(weights), weights @ hits / N, rtol=1e-6)


def test_the_corrected_resampled_t_test_equals_one_by_hand():
    d = np.array([0.02, 0.05, -0.01, 0.04, 0.03])
    statistic = 0.026 / np.sqrt((1 / 5 + 0.25) * np.var(d, ddof=1))
    assert corrected_resampled_p(d, 0.25) == pytest.approx(2 * student.sf(statistic, 4))
    assert corrected_resampled_p(d, 0.25) > corrected_resampled_p(d, 0.0)  # the plain t-test is too sure
    assert corrected_resampled_p([*d, np.nan], 0.25) == pytest.approx(corrected_resampled_p(d, 0.25))
    assert np.isnan(corrected_resampled_p([0.1], 0.25))
    assert np.isnan(corrected_resampled_p([0.1, 0.1], 0.25))
