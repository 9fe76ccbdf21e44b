"""Programs predicted from slides: cross-fitted predictions, and how good they are."""

import numpy as np
import pytest

from dmml.backbone import fit_programs as module
from dmml.backbone.fit_programs import fit_programs
from dmml.linear.gaussian import fit_regression_with_variances

N = 60
FOLDS = [np.arange(N) % 5 == k for k in range(5)]


def simulated(seed=0):
    rng = np.random.default_rng(seed)
    design = rng.standard_normal((N, 6)) / np.sqrt(6)
    measured = 2 * design @ rng.standard_normal((6, 3)) + 0.5 * rng.standard_normal((N, 3))
    return design, measured - measured.mean(0)


def test_a_patients_measurement_does_not_affect_that_patients_prediction(monkeypatch):
    """Variances are fixed, because all patients together determine them."""
    held = {"shift": 0.0, "noise": -1.0}
    monkeypatch.setattr(module, "fit_regression", lambda y, x: fit_regression_with_variances(y, x, held))
    design, measured = simulated()
    has_both = np.arange(N) >= 5
    before = fit_programs(measured, {"shift": design}, has_both, FOLDS).cross_fitted
    for patient in (7, 31):
        changed = measured.copy()
        changed[patient] += 10
        after = fit_programs(changed, {"shift": design}, has_both, FOLDS).cross_fitted
        np.testing.assert_allclose(after[patient], before[patient], atol=1e-12)
        others = FOLDS[(patient + 1) % 5]
        assert np.abs(after[others] - before[others]).max() > 0.05
    # Who has no RNA teaches nothing and is predicted all the same.
    changed = measured.copy()
    changed[0] = np.nan
    np.testing.assert_array_equal(fit_programs(changed, {"shift": design}, has_both, FOLDS).cross_fitted, before)
    assert np.isfinite(before[0]).all()


def test_cross_fitted_predictions_are_as_good_as_those_of_new_patients():
    of_training, of_new = [], []
    for seed in range(5):
        design, measured = simulated(seed)
        halves = np.arange(N) < N // 2
        fitted = fit_programs(measured, {"shift": design}, halves, FOLDS)
        of_training.append(np.corrcoef(fitted.cross_fitted[halves].ravel(), measured[halves].ravel())[0, 1])
        of_new.append(np.corrcoef((design @ fitted.weights["shift"])[~halves].ravel(), measured[~halves].ravel())[0, 1])
    assert np.mean(of_training) == pytest.approx(np.mean(of_new), abs=0.05)
