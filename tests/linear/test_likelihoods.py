"""Likelihoods of a linear predictor: values compared with formulas, and derivatives with finite differences."""

import numpy as np
import pytest
from linear_outcomes import classes_of, cox_of

from dmml.linear.likelihoods import CoxLikelihood, MultinomialLikelihood


def likelihoods(rng, n=25):
    risk = rng.standard_normal(n)
    return {
        "cox": cox_of(rng, risk),
        "cox with ties": cox_of(rng, risk, ties=True),
        "classes": classes_of(rng, rng.standard_normal((n, 3))),
    }


@pytest.mark.parametrize("name", ["cox", "cox with ties", "classes"])
def test_gradient_and_information_are_those_of_finite_differences(name):
    rng = np.random.default_rng(1)
    likelihood = likelihoods(rng)[name]
    x = rng.standard_normal((25, 4))
    weights = rng.standard_normal((4, likelihood.n_outputs)) * 0.5
    gradient, information = likelihood.derivatives(x, x @ weights)
    eps, n_free = 1e-4, weights.size

    def value(step):
        return likelihood.value(x @ (weights + step.reshape(weights.shape)))

    steps = np.eye(n_free) * eps
    numeric = np.array([(value(s) - value(-s)) / (2 * eps) for s in steps])
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)
    curvature = np.array(
        [[(value(a + b) - value(a - b) - value(b - a) + value(-a - b)) / (4 * eps**2) for b in steps] for a in steps]
    )
    np.testing.assert_allclose(information, -curvature, atol=2e-5)


def test_efrons_value_is_the_sum_over_events_in_a_loop():
    time, event = np.array([3.0, 3, 5, 5, 5, 8, 9]), np.array([1, 1, 1, 1, 0, 0, 1])
    eta = np.array([0.3, -1.0, 0.8, 0.1, 0.5, -0.2, 0.4])
    expected = 0.0
    for t in (3, 5, 9):
        died = [i for i in range(7) if time[i] == t and event[i]]
        at_risk = sum(np.exp(eta[i]) for i in range(7) if time[i] >= t)
        tied = sum(np.exp(eta[i]) for i in died)
        for k, i in enumerate(died):
            expected += eta[i] - np.log(at_risk - k / len(died) * tied)
    assert CoxLikelihood(time, event).value(eta[:, None]) == pytest.approx(expected, abs=1e-12)


def test_a_constant_does_not_change_coxs_value_and_large_predictors_do_not_overflow():
    rng = np.random.default_rng(2)
    likelihood = likelihoods(rng)["cox with ties"]
    eta = rng.standard_normal((25, 1))
    assert likelihood.value(eta + 900) == pytest.approx(likelihood.value(eta), abs=1e-8)
    assert np.isfinite(likelihood.value(eta * 500))
    gradient, information = likelihood.derivatives(np.eye(25), eta * 500)
    assert np.isfinite(gradient).all()
    assert np.isfinite(information).all()


@pytest.mark.filterwarnings("error")
def test_a_cohort_without_events_has_zero_value_and_derivatives():
    likelihood = CoxLikelihood([5.0, 7.0, 9.0], [0, 0, 0])
    gradient, information = likelihood.derivatives(np.ones((3, 2)), np.ones((3, 1)))
    assert likelihood.value(np.ones((3, 1))) == 0
    assert not gradient.any()
    assert not information.any()


def test_a_subset_is_the_likelihood_of_those_patients_alone():
    rng = np.random.default_rng(3)
    rows = np.arange(25) % 3 != 0
    for likelihood in likelihoods(rng).values():
        eta = rng.standard_normal((25, likelihood.n_outputs))
        if isinstance(likelihood, CoxLikelihood):
            expected = CoxLikelihood(likelihood.time[rows], likelihood.event[rows])
        else:
            expected = MultinomialLikelihood(likelihood.label[rows], 3)
        assert likelihood.subset(rows).value(eta[rows]) == expected.value(eta[rows])
