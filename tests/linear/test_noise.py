"""The variance of residuals is chosen with the variances of the blocks, and Huber's likelihood bears outliers."""

import numpy as np
import pytest

from dmml.linear.evidence import fit_blocks, fit_with_variances, with_fitted_noise
from dmml.linear.likelihoods import HuberLikelihood, NormalLikelihood

generator = np.random.default_rng(0)
X = generator.normal(size=(200, 5)) / np.sqrt(5)
WEIGHT = np.array([1.0, -1.0, 0.5, 0.0, 0.0])
NOISE = 0.2
Y = X @ WEIGHT + np.sqrt(NOISE) * generator.normal(size=200)


@pytest.mark.parametrize("kind", [NormalLikelihood, HuberLikelihood])
def test_derivatives_are_those_of_the_value(kind):
    likelihood, weight, step = kind(Y, 0.3), np.full((5, 1), 0.4), 1e-5
    gradient, information = likelihood.derivatives(X, X @ weight)
    for j in range(5):
        ends = [weight + sign * step * np.eye(5)[:, j : j + 1] for sign in (-1, 1)]
        low, high = (likelihood.value(X @ end) for end in ends)
        assert gradient[j] == pytest.approx((high - low) / (2 * step), rel=1e-4)
        slopes = [likelihood.derivatives(X, X @ end)[0] for end in ends]
        np.testing.assert_allclose(-information[j], (slopes[1] - slopes[0]) / (2 * step), rtol=1e-3, atol=1e-4)


def test_the_fitted_noise_is_that_of_the_residuals():
    model = fit_blocks(NormalLikelihood(Y), {"x": X})
    assert np.exp(model.log_variance["noise"]) == pytest.approx(NOISE, rel=0.25)
    assert with_fitted_noise(NormalLikelihood(Y), model).noise == np.exp(model.log_variance["noise"])
    again = fit_with_variances(NormalLikelihood(Y), {"x": X}, model.log_variance)
    np.testing.assert_allclose(again.weights["x"], model.weights["x"], atol=1e-6)


def test_outliers_change_huber_s_weights_less():
    spoiled = Y.copy()
    spoiled[:10] += 15
    errors = {
        kind: np.abs(fit_blocks(kind(spoiled), {"x": X}).weights["x"][:, 0] - WEIGHT).max()
        for kind in (NormalLikelihood, HuberLikelihood)
    }
    assert errors[HuberLikelihood] < 0.5 * errors[NormalLikelihood]
