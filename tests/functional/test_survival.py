"""Discrete-time survival compared with loops in float64, and concordance with lifelines."""

import math

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index as lifelines_concordance

from dmml.functional.survival import (
    concordance_index,
    discrete_time_nll,
    followed_log_likelihood,
    interval_edges,
    log_interval_hazard,
    risk_score,
    survival_at,
    survival_curve,
    time_to_interval,
)


def slow_nll(logits, interval, event, alpha):
    values = []
    for row, y, happened in zip(logits.double().tolist(), interval.tolist(), event.tolist(), strict=True):
        hazard = [1 / (1 + math.exp(-x)) for x in row]
        alive = 1.0
        for h in hazard[:y]:
            alive *= 1 - h
        if happened:
            values.append(-(math.log(alive) + math.log(hazard[y])))
        else:
            values.append(-math.log(alive * (1 - hazard[y])) * (1 - alpha))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("n_intervals", [1, 2, 5])
def test_nll_is_that_of_the_formula(alpha, n_intervals):
    logits = torch.randn(40, n_intervals) * 2
    interval, event = torch.randint(0, n_intervals, (40,)), torch.randint(0, 2, (40,)).float()
    torch.testing.assert_close(
        discrete_time_nll(logits, interval, event, alpha).double(),
        slow_nll(logits, interval, event, alpha),
        atol=1e-5,
        rtol=1e-5,
    )


def test_probabilities_of_all_outcomes_sum_to_one():
    logits = torch.randn(1, 4)
    deaths = sum(discrete_time_nll(logits, torch.tensor([y]), torch.ones(1)).neg().exp() for y in range(4))
    survivors = discrete_time_nll(logits, torch.tensor([3]), torch.zeros(1)).neg().exp()
    assert (deaths + survivors).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("event", [0.0, 1.0])
def test_nll_and_gradient_are_finite_and_nonzero_at_extreme_logits(value, event):
    logits = torch.full((4, 4), value, requires_grad=True)
    loss = discrete_time_nll(logits, torch.arange(4), torch.full((4,), event))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
    wrong = (value > 0 and event == 0) or (value < 0 and event == 1)
    assert bool(logits.grad.abs().max() > 0.5) == (wrong or value > 0)  # a saturated mistake still has a gradient


def test_nll_has_the_gradients_of_finite_differences_and_the_documented_precision():
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    interval, event = torch.tensor([0, 1, 2, 3, 0, 3]), torch.tensor([1.0, 0, 1, 0, 0, 1])
    assert torch.autograd.gradcheck(lambda x: discrete_time_nll(x, interval, event, 0.3), logits)
    assert torch.autograd.gradcheck(risk_score, logits)
    half = discrete_time_nll(logits.detach().bfloat16(), interval, event)
    assert half.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert discrete_time_nll(logits.detach().float(), interval, event).dtype == torch.float32


def test_the_likelihood_of_follow_up_is_the_density_of_a_piecewise_constant_hazard():
    rng = np.random.default_rng(3)
    hazard = torch.tensor(rng.uniform(0.05, 0.9, (40, 3)))
    rate = -torch.log1p(-hazard)  # per length of the interval
    interval, event, share = rng.integers(0, 3, 40), rng.integers(0, 2, 40).astype(float), rng.uniform(0, 1, 40)
    expected = [
        -rate[i, :y].sum() - share[i] * rate[i, y] + event[i] * math.log(rate[i, y]) for i, y in enumerate(interval)
    ]
    result = followed_log_likelihood(torch.logit(hazard), *(torch.tensor(x) for x in (interval, event, share)))
    torch.testing.assert_close(result, torch.stack(expected))


def test_the_likelihood_of_follow_up_estimates_survival_correctly_in_a_wide_last_interval():
    """The hazard is constant, and most patients are censored in the first tenth of a single, very long interval."""
    rng = np.random.default_rng(4)
    time, censored, end = rng.exponential(1.0, 4000), rng.uniform(0, 2, 4000), 20.0
    event = torch.tensor((time < censored).astype(float))
    share = torch.tensor(np.minimum(time, censored) / end)
    interval, grid = torch.zeros(4000, dtype=torch.long), torch.linspace(-3, 40, 400, dtype=torch.float64)
    values = [followed_log_likelihood(x.expand(4000, 1), interval, event, share).sum() for x in grid]
    rate = log_interval_hazard(grid[int(np.argmax(values))].view(1, 1)).exp() / end
    assert rate.item() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_log_hazard_of_an_interval_is_finite_with_a_nonzero_gradient_for_all_logits(dtype):
    logits = torch.tensor([[-1e4, -100.0, -13.0, -11.0, 0.0, 20.0, 1e4]], dtype=dtype, requires_grad=True)
    value = log_interval_hazard(logits)
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad.isfinite().all()
    assert (logits.grad > 0).all()
    torch.testing.assert_close(value[0, 4].item(), math.log(math.log(2)), atol=1e-6, rtol=1e-6)


def test_empty_batches_give_empty_results():
    none = torch.zeros(0, 4)
    assert discrete_time_nll(none, torch.zeros(0, dtype=torch.long), torch.zeros(0)).shape == (0,)
    assert survival_curve(none).shape == (0, 4)
    assert risk_score(none).shape == (0,)
    assert survival_at(none, torch.tensor([1.0, 2, 3]), 4.0, torch.tensor([2.0])).shape == (0, 1)


def test_curve_and_risk_are_those_of_the_hazards():
    logits = torch.randn(7, 5)
    alive = torch.cumprod(1 - logits.double().sigmoid(), 1)
    torch.testing.assert_close(survival_curve(logits).double(), alive, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(risk_score(logits).double(), -alive.sum(1), atol=1e-6, rtol=1e-5)
    assert risk_score(torch.full((1, 4), 3.0)) > risk_score(torch.full((1, 4), -3.0)), "higher risk is worse"


def test_edges_are_quantiles_of_the_event_times_alone():
    time, event = torch.rand(50) * 1000, torch.randint(0, 2, (50,))
    edges = interval_edges(time, event, 4)
    expected = np.quantile(time.double().numpy()[event.numpy() == 1], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(edges.numpy(), expected, rtol=1e-12)
    moved = torch.where(event == 1, time, time * 17)
    assert torch.equal(edges, interval_edges(moved, event, 4)), "censored times must not move an edge"
    assert interval_edges(time, event, 1).shape == (0,)
    with pytest.raises(ValueError, match="event"):
        interval_edges(time, torch.zeros(50), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_the_interval_is_the_number_of_edges_that_are_not_above(dtype):
    edges = torch.tensor([100.5, 365.0, 365.0, 1000.25], dtype=torch.float64)
    time = torch.tensor([0, 100, 101, 364, 365, 366, 1000, 1001, 5000]).to(dtype)
    expected = [sum(edge <= t for edge in edges.tolist()) for t in time.double().tolist()]
    assert time_to_interval(time, edges).tolist() == expected


def test_an_event_at_an_edge_belongs_to_the_interval_above_even_in_single_precision():
    time = torch.tensor([100.1, 200.2, 300.3, 400.4, 500.5], dtype=torch.float64)
    edges = interval_edges(time, torch.ones(5), 2)  # 300.3, which is no float32
    assert time_to_interval(time.float(), edges).tolist() == [0, 0, 1, 1, 1]


def slow_survival_at(curve, edges, end, day):
    if day < 0 or day > end:
        return math.nan
    knots, values = [0.0, *edges, end], [1.0, *curve]
    for left, right, a, b in zip(knots, knots[1:], values, values[1:], strict=False):
        if left <= day <= right:
            share = (day - left) / (right - left)
            return math.exp((1 - share) * math.log(a) + share * math.log(b))
    raise AssertionError(day)


def test_survival_between_edges_is_log_linear_and_undefined_beyond_the_end():
    curve = survival_curve(torch.randn(5, 4))
    edges, end = [100.0, 365.0, 700.5], 1500.0
    days = [0.0, 1.0, 50.0, 100.0, 101.0, 365.0, 700.5, 1000.0, 1500.0, 1500.01, -1.0]
    value = survival_at(curve, torch.tensor(edges), end, torch.tensor(days))
    expected = [[slow_survival_at(row, edges, end, day) for day in days] for row in curve.double().tolist()]
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, equal_nan=True)
    assert torch.equal(value[:, 0], torch.ones(5, dtype=torch.float64))


def test_survival_at_handles_a_curve_of_zeros_and_a_single_interval():
    value = survival_at(survival_curve(torch.full((1, 1), 1e4)), torch.zeros(0), 10.0, torch.tensor([0.0, 5.0, 10.0]))
    assert value[0, 0] == 1
    assert value[0, 2] == pytest.approx(0)
    assert value.isfinite().all()


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_concordance_agrees_with_lifelines_under_ties(levels):
    random = np.random.default_rng(levels)
    time, event = random.integers(1, levels + 1, 200), random.integers(0, 2, 200)
    risk = random.integers(0, levels, 200).astype(float)
    expected = lifelines_concordance(time, -risk, event)
    assert concordance_index(time, event, risk) == pytest.approx(expected, abs=1e-12)
    assert concordance_index(*(torch.tensor(x) for x in (time, event, risk))) == pytest.approx(expected, abs=1e-12)
    assert isinstance(concordance_index(time, event, risk), float)


def test_concordance_of_a_few_patients_is_that_counted_by_hand():
    # Comparable: (1, 2), (1, 3), (1, 4), (3, 4); patient 2 is censored before 3 dies.
    time, event, risk = [1.0, 2, 3, 4], [1, 0, 1, 0], [0.9, 0.1, 0.5, 0.5]
    assert concordance_index(time, event, risk) == pytest.approx(3.5 / 4)
    assert math.isnan(concordance_index([1.0, 2], [0, 0], [1.0, 2]))
    assert math.isnan(concordance_index([], [], []))
    assert concordance_index([5.0, 5.0], [1, 0], [2.0, 1.0]) == 1, "died and censored on one day: the dead died first"


def test_concordance_accepts_reversed_views_and_large_cohorts():
    random = np.random.default_rng(0)
    time, event, risk = random.random(2500), random.random(2500) < 0.4, random.random(2500)
    expected = lifelines_concordance(time, -risk, event)
    assert concordance_index(time[::-1], event[::-1], risk[::-1]) == pytest.approx(expected, abs=1e-12)
