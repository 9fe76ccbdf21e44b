"""ROC and precision–recall curves against scikit-learn, and their areas against the metrics of the same names."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from dmml.cohort.clinical.follow_up import censoring_curve
from dmml.evaluation import metrics
from dmml.evaluation.bootstrap import resamples, weighted_band
from dmml.evaluation.statistics import classification, weighted
from dmml.evaluation.statistics.curves.separation import GRID, class_separation, survival_separation
from dmml.evaluation.statistics.weighted import estimate


def classes(n=120, seed=0, digits=12):
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, n)
    logits = generator.normal(size=(n, 3))
    logits[np.arange(n), label] += 1
    probability = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).round(digits)
    return label, probability


def survival(n=150, seed=0):
    generator = np.random.default_rng(seed)
    death, censored = generator.exponential(900, n), generator.uniform(200, 2500, n)
    risk = np.round(-np.log(death) + generator.normal(0, 0.8, n), 1)
    return np.minimum(death, censored), (death <= censored).astype(int), risk


@pytest.mark.parametrize("digits", [12, 1])
def test_the_points_are_those_of_scikit_learn(digits):
    label, probability = classes(digits=digits)
    separation = class_separation(label, probability, 1)
    false, true, _ = roc_curve(label == 1, probability[:, 1], drop_intermediate=False)
    np.testing.assert_allclose(separation.roc_points(), (false, true))
    precision, recall, _ = precision_recall_curve(label == 1, probability[:, 1])
    np.testing.assert_allclose(separation.precision_points(), (recall[:-1][::-1], precision[:-1][::-1]))
    ours = estimate(separation.average_precision, len(label))
    assert ours == pytest.approx(average_precision_score(label == 1, probability[:, 1]))


@pytest.mark.parametrize("digits", [12, 1])
def test_the_area_under_a_class_curve_is_the_auc(digits):
    label, probability = classes(digits=digits)
    false, true = class_separation(label, probability, 2).roc_points()
    auc = estimate(classification.class_auc(label, probability, 2), len(label))
    assert np.trapezoid(true, false) == pytest.approx(auc)


@pytest.mark.parametrize("day", [365, 1095])
def test_the_area_under_a_survival_curve_is_the_auc_at_the_day(day):
    time, event, risk = survival()
    curve = censoring_curve(time, event)
    separation = survival_separation(time, event, risk, day, curve)
    false, true = separation.roc_points()
    assert np.trapezoid(true, false) == pytest.approx(metrics.auc_at(time, event, risk, day))
    assert estimate(weighted.pair_share([separation.pairs]), len(time)) == pytest.approx(
        metrics.auc_at(time, event, risk, day)
    )


@pytest.mark.parametrize("kind", ["roc", "precision", "average_precision"])
def test_a_weight_counts_a_patient_that_often(kind):
    label, probability = classes(digits=1)
    weights = np.random.default_rng(0).integers(0, 3, len(label))
    drawn = np.repeat(np.arange(len(label)), weights)
    of_weights = getattr(class_separation(label, probability, 0), kind)(weights[None].astype(float))
    repeated = class_separation(label[drawn], probability[drawn], 0)
    np.testing.assert_allclose(of_weights, getattr(repeated, kind)(np.ones((1, len(drawn)))))


def test_the_band_contains_the_curve_and_narrows_with_more_patients():
    widths = []
    for n in (60, 600):
        label, probability = classes(n)
        band = weighted_band(class_separation(label, probability, 0).roc, resamples(n, label, 400))
        assert len(band.value) == len(GRID)
        assert (band.low <= band.value).all()
        assert (band.value <= band.high).all()
        widths.append((band.high - band.low).mean())
    assert widths[1] < 0.6 * widths[0]


def test_without_a_case_the_curve_is_undefined():
    time, event, risk = survival()
    separation = survival_separation(time, event, risk, 0.01, censoring_curve(time, event))
    assert not separation.is_defined
    assert np.isnan(separation.roc(np.ones((2, len(time))))).all()
