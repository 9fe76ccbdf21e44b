"""Ridge regression by marginal likelihood, compared with the n × n form of the same Gaussian process."""

import numpy as np
import pytest
from linear_outcomes import block
from scipy.stats import multivariate_normal

from dmml.linear.gaussian import _Marginal, fit_regression, fit_regression_with_variances


def kernel(blocks, log_variance):
    n = len(next(iter(blocks.values())))
    return sum(np.exp(log_variance[b]) * x @ x.T for b, x in blocks.items()) + np.exp(log_variance["noise"]) * np.eye(n)


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    blocks = {"signal": block(rng, 60, 4), "wide": block(rng, 60, 90)}
    targets = (
        blocks["signal"] @ rng.standard_normal((4, 3)) * 5 + rng.standard_normal((60, 3)) * [1, 2, 0.5] + [7, 0, -3]
    )
    return blocks, targets


def test_marginal_likelihood_is_that_of_the_n_by_n_gaussian(planted):
    blocks, targets = planted
    y = (targets - targets.mean(0)) / targets.std(0)
    model = _Marginal(targets, blocks)
    for values in ([-1.0, -1.0, -1.0], [1.5, -6.0, -0.3], [-3.0, 2.0, -2.5]):
        covariance = kernel(blocks, dict(zip([*blocks, "noise"], values, strict=True)))
        slow = -sum(multivariate_normal(cov=covariance).logpdf(column) for column in y.T)
        slow -= y.size / 2 * np.log(2 * np.pi)  # the constant that is left out
        assert model.negative_log_likelihood(np.array(values)) == pytest.approx(slow, abs=1e-6)


def test_predictions_are_the_posterior_mean_of_the_gaussian_process(planted):
    blocks, targets = planted
    log_variance = {"signal": 0.4, "wide": -2.0, "noise": -0.7}
    model = fit_regression_with_variances(targets, blocks, log_variance)
    rng = np.random.default_rng(1)
    new = {name: rng.standard_normal((9, x.shape[1])) for name, x in blocks.items()}
    cross = sum(np.exp(log_variance[b]) * new[b] @ x.T for b, x in blocks.items())
    slow = cross @ np.linalg.solve(kernel(blocks, log_variance), targets - targets.mean(0)) + targets.mean(0)
    np.testing.assert_allclose(model.predict(new), slow, atol=1e-8)
    assert model.log_variance == log_variance


def test_the_informative_block_gets_the_variance(planted):
    blocks, targets = planted
    model = fit_regression(targets, blocks)
    spread = {name: (x @ model.weights[name]).std() for name, x in blocks.items()}
    assert spread["wide"] < 0.2 * spread["signal"]
    residual = targets - model.predict(blocks)
    assert residual.std(0) == pytest.approx([1, 2, 0.5], rel=0.25)


def test_hardly_anything_is_predicted_of_targets_that_are_noise():
    fractions = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        blocks = {"a": block(rng, 80, 6), "b": block(rng, 80, 60)}
        targets = rng.standard_normal((80, 4))
        fractions.append(fit_regression(targets, blocks).predict(blocks).std() / targets.std())
    assert np.median(fractions) < 0.25


@pytest.mark.filterwarnings("error")
def test_a_constant_target_and_two_patients_give_finite_predictions():
    rng = np.random.default_rng(2)
    blocks = {"a": block(rng, 12, 5)}
    constant = fit_regression(np.column_stack([np.full(12, 4.0), rng.standard_normal(12)]), blocks)
    np.testing.assert_allclose(constant.predict(blocks)[:, 0], 4.0, atol=1e-9)
    few = fit_regression_with_variances(np.array([[1.0], [3.0]]), {"a": blocks["a"][:2]}, {"a": 0.0, "noise": 0.0})
    assert np.isfinite(few.predict(blocks)).all()
