"""Metrics of predicted values equal those of scikit-learn and SciPy on repeated patients."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score

from dmml.evaluation.values import metrics
from dmml.evaluation.values.metrics import PredictedValues

generator = np.random.default_rng(0)
VALUE = np.round(generator.normal(50, 10, 40))  # with ties
PREDICTED = np.round(VALUE * 0.5 + generator.normal(20, 6, 40))
WEIGHTS = generator.multinomial(40, np.full(40, 1 / 40), 3)
SLOW = {
    "r2": r2_score,
    "mae": mean_absolute_error,
    "mean_error": lambda y, p: (p - y).mean(),
    "slope": lambda y, p: LinearRegression().fit(p[:, None], y).coef_[0],
    "pearson": lambda y, p: stats.pearsonr(y, p)[0],
    "spearman": lambda y, p: stats.spearmanr(y, p)[0],
}
FAST = {
    "r2": metrics.r_squared(VALUE, PREDICTED),
    "mae": metrics.mean_absolute_error(VALUE, PREDICTED),
    "mean_error": metrics.mean_error(VALUE, PREDICTED),
    "slope": metrics.calibration_slope(VALUE, PREDICTED),
    "pearson": metrics.pearson([PredictedValues(VALUE, PREDICTED)]),
    "spearman": metrics.spearman([PredictedValues(VALUE, PREDICTED)]),
}


@pytest.mark.parametrize("name", FAST)
def test_a_weighted_metric_is_that_of_repeated_patients(name):
    expected = [SLOW[name](np.repeat(VALUE, row), np.repeat(PREDICTED, row)) for row in WEIGHTS]
    np.testing.assert_allclose(FAST[name](WEIGHTS.astype(np.float32)), expected, rtol=1e-6)


@pytest.mark.parametrize("correlation", [metrics.pearson, metrics.spearman])
def test_a_correlation_over_folds_does_not_depend_on_the_folds_levels(correlation):
    halves = [slice(0, 20), slice(20, 40)]
    folds = [PredictedValues(VALUE[part], PREDICTED[part], np.arange(40)[part]) for part in halves]
    moved = [folds[0], PredictedValues(VALUE[20:], PREDICTED[20:] + 1000, np.arange(20, 40))]
    np.testing.assert_allclose(correlation(folds)(WEIGHTS), correlation(moved)(WEIGHTS), rtol=1e-9)


def test_metrics_of_constants_are_undefined():
    ones, weights = np.ones(5), np.ones((1, 5))
    assert np.isnan(metrics.r_squared(ones, np.arange(5))(weights)).all()
    assert np.isnan(metrics.calibration_slope(np.arange(5), ones)(weights)).all()
    assert np.isnan(metrics.pearson([PredictedValues(ones, np.arange(5.0))])(weights)).all()
