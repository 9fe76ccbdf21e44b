"""Variances of blocks by evidence: compared with independent slow forms, and their effect."""

import numpy as np
import pytest
from linear_outcomes import block, classes_of, cox_of, scaled
from scipy.optimize import minimize
from scipy.special import softmax

from dmml.linear.evidence import PRIOR_MEAN, PRIOR_SD, fit_blocks, fit_with_variances, log_evidence
from dmml.linear.likelihoods import CoxLikelihood
from dmml.linear.ridge import fit_cox, fit_logistic


def log_evidence_in_function_space(likelihood, blocks, log_variance):
    """l(f̂) − ½ f̂ᵀ K⁻¹ f̂ − ½ log det(I + K W), with K = Σ_b v_b X_b X_bᵀ and W by differences of l."""
    n = len(next(iter(blocks.values())))
    kernel = sum(np.exp(log_variance[name]) * x @ x.T for name, x in blocks.items()) + 1e-9 * np.eye(n)
    root = np.linalg.cholesky(kernel)

    def loss(z):
        return -likelihood.value((root @ z)[:, None]) + 0.5 * z @ z

    optimum = minimize(loss, np.zeros(n), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9})
    f = root @ optimum.x
    curvature = -likelihood.derivatives(np.eye(n), f[:, None])[1]
    _, log_det = np.linalg.slogdet(np.eye(n) - kernel @ curvature)
    return -optimum.fun - 0.5 * log_det, f


@pytest.mark.parametrize("ties", [False, True])
def test_evidence_and_mode_agree_with_laplaces_approximation_in_function_space(ties):
    rng = np.random.default_rng(4)
    blocks = {"wide": block(rng, 30, 50), "narrow": block(rng, 30, 3)}
    likelihood = cox_of(rng, 2 * blocks["narrow"][:, 0] + blocks["wide"].sum(1), ties)
    log_variance = {"wide": -0.5, "narrow": 1.2}
    model = fit_with_variances(likelihood, blocks, log_variance)
    evidence, f = log_evidence_in_function_space(likelihood, blocks, log_variance)
    assert log_evidence(likelihood, blocks, log_variance) == pytest.approx(evidence, abs=1e-4)
    np.testing.assert_allclose(model.predict(blocks)[:, 0], f, atol=1e-4)
    assert model.log_variance == log_variance


def test_laplaces_evidence_is_close_to_the_integral_over_a_single_weight():
    rng = np.random.default_rng(5)
    x = block(rng, 60, 1)
    likelihood, variance = cox_of(rng, x[:, 0]), 0.7
    beta = np.linspace(-8, 8, 4001)
    log_density = np.array([likelihood.value(x * b) for b in beta]) - beta**2 / (2 * variance)
    top = log_density.max()
    integral = top + np.log(np.exp(log_density - top).sum() * (beta[1] - beta[0]) / np.sqrt(2 * np.pi * variance))
    assert log_evidence(likelihood, {"x": x}, {"x": np.log(variance)}) == pytest.approx(integral, abs=0.02)


def test_with_given_variances_the_model_is_ridge_cox_with_the_matching_penalty():
    rng = np.random.default_rng(6)
    blocks = {"a": block(rng, 50, 4), "b": block(rng, 50, 7)}
    likelihood = cox_of(rng, blocks["a"][:, 0] * 2, ties=True)
    variances = {"a": 0.4, "b": 2.5}
    model = fit_with_variances(likelihood, blocks, {name: np.log(v) for name, v in variances.items()})
    # β_b = √v_b γ_b with one penalty on γ; the mean log-likelihood has a penalty of 1 / n then.
    x = np.hstack([blocks[name] * np.sqrt(v) for name, v in variances.items()])
    gamma = fit_cox(x, likelihood.time, likelihood.event, 1 / 50)
    np.testing.assert_allclose(model.predict(blocks)[:, 0], x @ gamma, atol=1e-4)


def test_an_uninformative_block_is_switched_off_next_to_an_informative_one():
    off = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        blocks = {"signal": block(rng, 150, 6), "noise": block(rng, 150, 40)}
        likelihood = cox_of(rng, 1.5 * scaled(blocks["signal"][:, :2].sum(1)[:, None])[:, 0])
        model = fit_blocks(likelihood, blocks)
        spread = {name: (x @ model.weights[name]).std() for name, x in blocks.items()}
        assert model.log_variance["signal"] > 0
        off.append(spread["noise"] < 0.15 * spread["signal"])
    assert sum(off) >= 3


def test_the_chosen_variances_are_better_than_those_around_them():
    rng = np.random.default_rng(7)
    blocks = {"a": block(rng, 80, 5), "b": block(rng, 80, 30)}
    likelihood = cox_of(rng, 1.5 * blocks["a"][:, 0] + 3 * blocks["b"][:, 0])

    def penalised(log_variance):
        prior = sum(((v - PRIOR_MEAN) / PRIOR_SD) ** 2 for v in log_variance.values()) / 2
        return log_evidence(likelihood, blocks, log_variance) - prior

    best = penalised(fit_blocks(likelihood, blocks).log_variance)
    grid = np.linspace(-6, 4, 11)
    assert best > max(penalised({"a": a, "b": b}) for a in grid for b in grid) - 1e-3


def test_the_search_with_more_than_three_blocks_finds_the_same_optimum():
    """Powell's method is used for four blocks; blocks without signal change little."""
    rng = np.random.default_rng(8)
    blocks = {"a": block(rng, 120, 5)} | {name: block(rng, 120, 10) for name in "bcd"}
    likelihood = cox_of(rng, 2 * scaled(blocks["a"][:, :1])[:, 0])
    few, many = fit_blocks(likelihood, {"a": blocks["a"]}), fit_blocks(likelihood, blocks)
    assert np.corrcoef(few.predict(blocks)[:, 0], many.predict(blocks)[:, 0])[0, 1] > 0.97
    assert abs(few.log_variance["a"] - many.log_variance["a"]) < 0.7


def test_classes_are_fitted_with_an_intercept_and_the_informative_block():
    rng = np.random.default_rng(9)
    blocks = {"signal": block(rng, 200, 4), "noise": block(rng, 200, 20)}
    logits = 6 * blocks["signal"] @ rng.standard_normal((4, 3)) + np.array([1.5, 0.0, -1.0])
    likelihood = classes_of(rng, logits)
    model = fit_blocks(likelihood, blocks)
    spread = {name: (x @ model.weights[name]).std() for name, x in blocks.items()}
    assert spread["noise"] < 0.2 * spread["signal"]
    accuracy = (model.predict(blocks).argmax(1) == likelihood.label).mean()
    assert accuracy > (logits.argmax(1) == likelihood.label).mean() - 0.04
    # At the mode the gradient of the penalised likelihood vanishes.
    x = np.hstack(list(blocks.values()))
    weights = np.vstack(list(model.weights.values()))
    owner = np.repeat([model.log_variance["signal"], model.log_variance["noise"]], [4, 20])
    gradient = likelihood.derivatives(x, model.predict(blocks))[0].reshape(-1, 3) - weights / np.exp(owner)[:, None]
    assert np.abs(gradient).max() < 1e-2


def test_with_given_variances_the_model_is_ridge_logistic_with_the_matching_penalty():
    rng = np.random.default_rng(11)
    x = block(rng, 90, 6)
    likelihood = classes_of(rng, 5 * x[:, :3] + np.array([1.0, 0.0, -0.5]))
    model = fit_with_variances(likelihood, {"x": x}, {"x": np.log(0.8)})
    weights = fit_logistic(x, likelihood.label, 3, 1 / (0.8 * 90))
    score = model.predict({"x": x})
    # Intercepts have a wide prior here and none there; the same constant for all classes changes nothing.
    np.testing.assert_allclose(softmax(score, 1), softmax(x @ weights[:-1] + weights[-1], 1), atol=2e-3)
    assert np.ptp(model.intercept) > 0.3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("event", [[0, 0, 0, 0, 0], [0, 1, 0, 0, 1]])
def test_few_or_no_events_give_bounded_weights_without_warning(event):
    rng = np.random.default_rng(10)
    blocks = {"a": block(rng, 5, 3), "b": block(rng, 5, 200)}
    likelihood = CoxLikelihood([3, 5, 9, 11, 20], event)
    model = fit_blocks(likelihood, blocks)
    assert np.abs(model.predict(blocks)).max() < (3 if any(event) else 1e-9)
    assert np.isfinite(log_evidence(likelihood, blocks, model.log_variance))


@pytest.mark.filterwarnings("error")
def test_separable_classes_and_an_empty_class_give_finite_weights():
    x = np.repeat([[-1.0], [1.0]], 10, 0)
    likelihood = classes_of(np.random.default_rng(0), np.hstack([100 * x, -100 * x, np.full((20, 1), -1e9)]))
    model = fit_blocks(likelihood, {"x": x})
    assert np.isfinite(model.weights["x"]).all()
    assert (model.predict({"x": x}).argmax(1) == likelihood.label).all()
    assert model.intercept[2] < model.intercept[:2].min()
