"""Cox's partial likelihood compared with loops in float64 and with lifelines, and at extreme values."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter

from dmml.functional.cox import cox_partial_nll, log_cumulative_hazard


def slow_nll(log_risk, time, event, observed):
    """The definition, patient by patient."""
    values = []
    for i in range(len(time)):
        if not observed[i] or not event[i]:
            values.append(0.0)
            continue
        at_risk = [j for j in range(len(time)) if observed[j] and time[j] >= time[i]]
        values.append(math.log(sum(math.exp(log_risk[j]) for j in at_risk)) - log_risk[i])
    return values


def patients(n, ties=False, censored=0.4, seed=0):
    random = np.random.default_rng(seed)
    time = random.integers(1, 6, n).astype(float) if ties else random.random(n) * 2000
    event = (random.random(n) > censored).astype(float)
    return random.normal(size=n), time, event, random.random(n) < 0.85


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_value_of_every_patient_is_that_of_the_loop(ties, dtype):
    log_risk, time, event, observed = patients(60, ties)
    assert event.sum() > 20
    assert not observed.all()
    nll = cox_partial_nll(
        torch.tensor(log_risk, dtype=dtype), torch.tensor(time), torch.tensor(event), torch.tensor(observed)
    )
    assert nll.dtype == dtype
    expected = torch.tensor(slow_nll(log_risk, time, event, observed), dtype=dtype)
    torch.testing.assert_close(nll, expected)


def test_the_sum_is_the_likelihood_that_lifelines_maximises():
    """Without ties all treatments of ties agree; the likelihood is compared at the estimate of lifelines."""
    random = np.random.default_rng(3)
    x, event = random.normal(size=(80, 2)), (random.random(80) < 0.6).astype(float)
    time = random.exponential(np.exp(-x @ np.array([0.8, -0.5])))
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "time": time, "event": event})
    fitter = CoxPHFitter().fit(table, "time", "event")
    observed = torch.ones(80, dtype=torch.bool)
    inputs = (torch.tensor(time), torch.tensor(event), observed)
    value = cox_partial_nll(torch.tensor(x @ fitter.params_.to_numpy()), *inputs).sum()
    assert value.item() == pytest.approx(-fitter.log_likelihood_, abs=1e-6)

    beta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([beta], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = cox_partial_nll(torch.tensor(x) @ beta, *inputs).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose(beta.detach().numpy(), fitter.params_.to_numpy(), atol=1e-4)


def test_ties_share_one_risk_set():
    """Each of three tied events of equal risk is compared with all four patients, as by Breslow."""
    nll = cox_partial_nll(
        torch.zeros(4), torch.tensor([5.0, 5, 5, 9]), torch.tensor([1.0, 1, 1, 0]), torch.ones(4, dtype=torch.bool)
    )
    torch.testing.assert_close(nll, torch.tensor([math.log(4)] * 3 + [0.0]))


def test_a_censored_patient_is_at_risk_until_the_day_of_censoring():
    """A patient censored on the day of the event is still at risk; one censored a day before is not."""
    event, all_seen = torch.tensor([1.0, 0]), torch.ones(2, dtype=torch.bool)
    same = cox_partial_nll(torch.zeros(2), torch.tensor([7.0, 7]), event, all_seen)
    before = cox_partial_nll(torch.zeros(2), torch.tensor([7.0, 6]), event, all_seen)
    torch.testing.assert_close(torch.stack([same[0], before[0]]), torch.tensor([math.log(2), 0.0]))


def test_gradients_are_those_of_finite_differences():
    log_risk, time, event, observed = patients(9, ties=True, censored=0.3, seed=1)
    rest = torch.tensor(time), torch.tensor(event), torch.tensor(observed)
    eta = torch.tensor(log_risk, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cox_partial_nll(x, *rest), (eta,))
    logits = torch.tensor([[0.3, -1.0], [-30.0, -26.0], [-23.9, 2.0], [25.0, -11.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(log_cumulative_hazard, (logits.requires_grad_(),))


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_extreme_risks_give_finite_values_and_gradients(scale):
    eta = (torch.linspace(-1, 1, 7) * scale).requires_grad_()
    time, event = torch.arange(7.0).flip(0), torch.ones(7)
    nll = cox_partial_nll(eta, time, event, torch.ones(7, dtype=torch.bool))
    nll.sum().backward()
    assert nll.isfinite().all()
    assert (nll >= 0).all()
    assert eta.grad.isfinite().all()
    worst_last = cox_partial_nll(eta.detach(), time.flip(0), event, torch.ones(7, dtype=torch.bool))
    assert worst_last.sum() > nll.sum() + scale, "who lives longest must not have the highest risk"


def test_a_batch_without_events_gives_zero_and_a_zero_gradient():
    eta = torch.randn(5, requires_grad=True)
    for event, observed in ((torch.zeros(5), torch.ones(5)), (torch.ones(5), torch.zeros(5))):
        nll = cox_partial_nll(eta, torch.rand(5), event, observed.bool())
        (gradient,) = torch.autograd.grad(nll.sum(), eta)
        assert (nll == 0).all()
        assert (gradient == 0).all()
    assert cox_partial_nll(torch.zeros(0), torch.zeros(0), torch.zeros(0), torch.zeros(0).bool()).shape == (0,)


def test_unobserved_patients_are_ignored_whatever_their_values():
    log_risk, time, event, _ = (torch.tensor(x) for x in patients(12))
    observed = torch.tensor([True] * 8 + [False] * 4)
    alone = cox_partial_nll(log_risk[:8], time[:8], event[:8], observed[:8])
    time[8:], event[8:] = torch.tensor([1e9, 0.0, -1.0, 50]), 1.0
    for garbage in (0.0, 1e4, float("inf"), float("nan")):
        eta = log_risk.clone()
        eta[8:] = garbage
        eta.requires_grad_()
        nll = cox_partial_nll(eta, time, event, observed)
        torch.testing.assert_close(nll[:8], alone)
        assert (nll[8:] == 0).all()
        nll.sum().backward()
        assert (eta.grad[8:] == 0).all()
        assert eta.grad.isfinite().all()


def test_log_cumulative_hazard_is_minus_log_survival():
    logits = torch.randn(50, 4, dtype=torch.float64) * 3
    survival = (1 - logits.sigmoid()).prod(1)
    torch.testing.assert_close(log_cumulative_hazard(logits), (-survival.log()).log())
    torch.testing.assert_close(
        log_cumulative_hazard(logits.float()), (-survival.log()).log().float(), atol=1e-5, rtol=1e-5
    )


def test_log_cumulative_hazard_has_a_gradient_where_survival_has_none():
    """At logits of −1e4, S is 1 in any precision while η still distinguishes patients; at +1e4 it grows as log x."""
    logits = torch.tensor([[-1e4] * 4, [-300.0] * 4, [-12.0] * 4, [1e4] * 4], requires_grad=True)
    eta = log_cumulative_hazard(logits)
    expected = torch.tensor([-1e4 + math.log(4), -300 + math.log(4), -12 + math.log(4), math.log(4e4)])
    torch.testing.assert_close(eta, expected, atol=1e-5, rtol=1e-6)
    eta.sum().backward()
    torch.testing.assert_close(logits.grad[:3], torch.full((3, 4), 0.25), atol=1e-3, rtol=0)  # η has 7 digits
    torch.testing.assert_close(logits.grad[3], torch.full((4,), 1 / 4e4), atol=1e-9, rtol=1e-4)
    around = torch.linspace(-12.001, -11.999, 2001).unsqueeze(1)
    assert (log_cumulative_hazard(around).diff() >= 0).all(), "no step where the two formulas meet"
    assert log_cumulative_hazard(torch.randn(2, 3).bfloat16()).dtype == torch.float32
