"""Survival with the Cox likelihood: what the loss is, when it is refused, and that it learns."""

import math

import numpy as np
import pytest
import torch
from batches import make_batch
from lifelines import KaplanMeierFitter
from models import build

from dmml.errors import InputError
from dmml.functional.cox import cox_partial_nll
from dmml.functional.survival import concordance_index, discrete_time_nll, risk_score, survival_curve
from dmml.tasks import Classification, Survival

EDGES = {"n_intervals": 3, "edges": [100.0, 500.0], "end": 2000.0}


def test_the_loss_adds_the_partial_likelihood_and_log_likelihood_stays_discrete():
    task, plain = Survival(**EDGES, likelihood="cox", alpha=0.5), Survival(**EDGES, alpha=0.5)
    target = task.encode({"time": [50.0, 100.0, 499.0, 500.0, np.nan], "event": [1, 0, 1, 0, 1]})
    logits = torch.randn(5, 3, requires_grad=True)
    eta = (-(1 - logits.detach().double().sigmoid()).log().sum(1)).log()
    partial = [math.log(eta[:4].exp().sum()) - eta[0], 0, math.log(eta[2:4].exp().sum()) - eta[2], 0, 0]
    interval = torch.tensor([0, 1, 1, 2, 0])
    discrete = discrete_time_nll(logits, interval, target["event"], 0.5) * target["observed"]
    loss = task.loss(logits, target)
    torch.testing.assert_close(loss, discrete + torch.tensor(partial, dtype=torch.float32))
    torch.testing.assert_close(plain.loss(logits, target), discrete)
    assert torch.equal(task.log_likelihood(logits, target), plain.log_likelihood(logits, target))
    assert torch.equal(task.paper_confidence(logits, target), plain.paper_confidence(logits, target))
    loss.sum().backward()
    assert (logits.grad[4] == 0).all()


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_extreme_logits_and_batches_without_an_event_give_finite_losses(value):
    task = Survival(**EDGES, likelihood="cox")
    signs = torch.tensor([[1.0, -1, 1], [-1, -1, -1], [1, 1, 1], [-1, 1, -1]])
    for event in ([1, 1, 1, 1], [0, 0, 0, 0], [np.nan] * 4):
        logits = (signs * value).requires_grad_()
        loss = task.loss(logits, task.encode({"time": [3.0, 3.0, 700.0, 200.0], "event": event}))
        loss.sum().backward()
        assert loss.isfinite().all()
        assert logits.grad.isfinite().all()
    logits = torch.randn(4, 3)
    censored = task.encode({"time": [3.0, 3.0, 700.0, 200.0], "event": [0, 0, 0, 0]})
    assert torch.equal(task.loss(logits, censored), Survival(**EDGES).loss(logits, censored))


def test_the_likelihood_is_stored_and_an_unknown_one_is_refused():
    task = Survival(**EDGES, likelihood="cox")
    assert task.init_args()["likelihood"] == "cox"
    assert Survival(**task.init_args()).init_args() == task.init_args()
    assert Survival().likelihood == "discrete"
    with pytest.raises(ValueError, match="likelihood must be one of discrete, cox"):
        Survival(likelihood="efron")


def outcome(n, events, unknown=0):
    time, event = np.arange(1.0, n + 1), np.zeros(n)
    event[:events] = 1
    time[n - unknown :] = np.nan
    return {"time": time, "event": event}


@pytest.mark.parametrize(
    ("batch_size", "data", "message"),
    [
        (8, outcome(100, 30), r"one of 8 patients holds 2\.4 .*30 events among 100 .*hold 14 patients or more"),
        (13, outcome(100, 30), r"holds 3\.9"),
        (64, outcome(20, 3), r"one of 64 patients holds 3\.0 .*; set likelihood: discrete$"),
        (64, outcome(50, 0), r"holds 0\.0 .*; set likelihood: discrete$"),
        (10, outcome(100, 100, unknown=70), r"holds 3\.0 .*30 events .*14 patients or more"),
    ],
)
def test_batches_that_cannot_hold_enough_events_are_refused_in_one_line(batch_size, data, message):
    with pytest.raises(InputError, match=message) as error:
        Survival(likelihood="cox").check_batch(batch_size, data)
    assert "\n" not in str(error.value)
    Survival().check_batch(batch_size, data)


def test_the_batch_size_that_the_refusal_names_is_enough():
    Survival(likelihood="cox").check_batch(14, outcome(100, 30))
    Survival(likelihood="cox").check_batch(14, outcome(100, 100, unknown=70))
    Survival(likelihood="cox").check_batch(64, outcome(20, 4))
    Classification(classes=["a", "b"]).check_batch(1, {"label": ["a"]})


def cohort(n, seed, censored=0.5):
    """Exponential times with log-hazard x₀ − x₁ per 500 days beside six columns of noise, half of them censored."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=generator)
    true = x[:, 0] - x[:, 1]
    time = -torch.rand(n, generator=generator).clamp_min(1e-6).log() * 500 / true.exp()
    leaves = -torch.rand(n, generator=generator).clamp_min(1e-6).log() * 500 * (1 - censored) / censored
    return x, true, {"time": torch.minimum(time, leaves).numpy(), "event": (time <= leaves).float().numpy()}


def test_training_learns_the_order_of_risk_and_keeps_the_level_of_the_curve():
    x, _, data = cohort(400, 0)
    task = Survival(likelihood="cox")
    task.fit(data)
    task.check_batch(40, data)
    target, model = task.encode(data), torch.nn.Linear(8, 4)
    fresh, true, held_out = cohort(600, 1)
    start = concordance_index(held_out["time"], held_out["event"], risk_score(model(fresh)))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        for rows in torch.randperm(400).split(40):
            optimiser.zero_grad()
            task.loss(model(x[rows]), {name: values[rows] for name, values in target.items()}).mean().backward()
            optimiser.step()
    logits = model(fresh).detach()
    learned = concordance_index(held_out["time"], held_out["event"], risk_score(logits))
    oracle = concordance_index(held_out["time"], held_out["event"], true)
    assert start < 0.65
    assert oracle > 0.75
    assert learned > oracle - 0.03
    observed = KaplanMeierFitter().fit(held_out["time"], held_out["event"]).predict(task.edges).to_numpy()
    np.testing.assert_allclose(survival_curve(logits)[:, :3].mean(0).numpy(), observed, atol=0.08)


def test_the_partial_likelihood_alone_leaves_the_level_free():
    """Why the discrete one stays beside it: a shift of all log-risks changes nothing."""
    _, true, data = cohort(50, 2)
    target = Survival(**EDGES).encode(data)
    values = [cox_partial_nll(true + shift, *target.values()) for shift in (0.0, 5.0)]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-4)


def test_a_teacher_trains_with_the_cox_likelihood_and_stores_it():
    task = Survival(edges=[300.0, 700, 1300], end=2000.0, likelihood="cox")
    teacher = build("teacher", task=task)
    assert teacher.hparams["task"]["init_args"]["likelihood"] == "cox"
    terms = teacher.losses(make_batch())
    terms.total.backward()
    assert terms.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in teacher.parameters())
