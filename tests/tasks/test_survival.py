"""The survival task: fit, encode, likelihood, predictions, metric."""

import math

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index as lifelines_concordance

from dmml.errors import InputError
from dmml.functional.survival import discrete_time_nll, interval_edges, risk_score
from dmml.tasks import Survival


def outcome(n=40, seed=0):
    random = np.random.default_rng(seed)
    time, event = random.random(n) * 2000, (random.random(n) < 0.5).astype(float)
    time[3], event[5] = np.nan, np.nan
    return {"time": time, "event": event}


def test_fit_takes_edges_from_events_and_the_end_from_all():
    task, data = Survival(), outcome()
    task.fit(data)
    use = ~(np.isnan(data["time"]) | np.isnan(data["event"]))
    time, event = data["time"][use], data["event"][use]
    assert task.edges == pytest.approx(interval_edges(torch.tensor(time), torch.tensor(event), 4).tolist())
    assert task.end == time.max()
    assert Survival(**task.init_args()).init_args() == task.init_args()
    stated = Survival(n_intervals=3, edges=[10, 20], end=30)
    stated.fit(data)
    assert (stated.edges, stated.end) == ([10.0, 20.0], 30.0)


def quantile(values, share):
    """The value that a share of the sorted values lies below, on the straight line between its two neighbours."""
    values = sorted(values)
    position = share * (len(values) - 1)
    left = int(position)
    right = min(left + 1, len(values) - 1)
    return values[left] + (position - left) * (values[right] - values[left])


@pytest.mark.parametrize("n_intervals", [1, 2, 4, 5])
def test_edges_from_all_are_quantiles_of_the_times_of_censored_patients_too(n_intervals):
    data = outcome(41, 3)
    pairs = [(t, e) for t, e in zip(data["time"], data["event"], strict=True) if t == t and e == e]
    times = {"all": [t for t, _ in pairs], "events": [t for t, e in pairs if e == 1]}
    for edges_from, relevant in times.items():
        task = Survival(n_intervals, edges_from=edges_from)
        task.fit(data)
        assert task.edges == pytest.approx([quantile(relevant, k / n_intervals) for k in range(1, n_intervals)])
        assert task.end == max(times["all"])
        again = Survival(**task.init_args())
        assert again.init_args() == task.init_args()
        assert again.edges_from == edges_from
        stated = Survival(3, edges=[10.0, 20.0], edges_from=edges_from)
        stated.fit(data)
        assert stated.edges == [10.0, 20.0]  # days that are given are never replaced


def test_fit_refuses_outcomes_that_give_no_intervals():
    with pytest.raises(ValueError, match="edges_from must be one of events, all; got 'training'"):
        Survival(edges_from="training")
    with pytest.raises(InputError, match="fewer than the 4 intervals"):
        Survival(edges_from="all").fit({"time": [1.0, 2, 3, 4, 5], "event": [1, 0, 0, 0, 1]})
    with pytest.raises(InputError, match="fewer than the 4 intervals"):
        Survival().fit({"time": [1.0, 2, 3, 4, 5], "event": [1, 0, 0, 0, 1]})
    with pytest.raises(InputError, match="no training patient"):
        Survival(n_intervals=2, edges=[10.0]).fit({"time": [np.nan], "event": [1.0]})
    with pytest.raises(ValueError, match="3 edges"):
        Survival(n_intervals=4, edges=[1.0])
    with pytest.raises(ValueError, match="ascend"):
        Survival(n_intervals=3, edges=[20.0, 10.0])
    with pytest.raises(ValueError, match="end"):
        Survival(n_intervals=2, edges=[20.0], end=10.0)
    with pytest.raises(RuntimeError, match="no edges"):
        Survival().loss(torch.zeros(1, 4), Survival().encode({"time": [1.0], "event": [1]}))


def test_encode_marks_patients_without_an_outcome():
    target = Survival(edges=[1.0, 2, 3]).encode({"time": [5.0, None, 7.0], "event": [1, 0, None]})
    assert target["observed"].tolist() == [True, False, False]
    assert target["time"].dtype == torch.float32
    assert target["event"][0] == 1
    assert target["time"].isfinite().all()


def test_loss_and_likelihood_follow_their_formulas_and_are_zero_without_an_outcome():
    task = Survival(n_intervals=3, edges=[100.0, 500.0], alpha=0.5)
    target = task.encode({"time": [50.0, 100.0, 499.0, 500.0, np.nan], "event": [1, 0, 1, 0, 1]})
    logits = torch.randn(5, 3, requires_grad=True)
    interval = torch.tensor([0, 1, 1, 2, 0])
    expected = discrete_time_nll(logits, interval, target["event"], 0.5)
    loss = task.loss(logits, target)
    torch.testing.assert_close(loss[:4], expected[:4])
    torch.testing.assert_close(
        task.log_likelihood(logits, target)[:4], -discrete_time_nll(logits, interval, target["event"])[:4]
    )
    assert loss[4] == 0
    assert task.log_likelihood(logits, target)[4] == 0
    assert task.paper_confidence(logits, target)[4] == 0
    loss.sum().backward()
    assert (logits.grad[4] == 0).all()


def test_predictions_are_columns_of_days():
    task = Survival(n_intervals=3, edges=[200.0, 800.0], end=1500.0)
    columns = task.predictions(torch.randn(4, 3))
    assert list(columns) == ["risk", "survival_200", "survival_365", "survival_800", "survival_1095", "survival_1500"]
    curve = torch.stack([columns[name] for name in list(columns)[1:]])
    assert (curve.diff(dim=0) <= 0).all()
    assert all(value.shape == (4,) for value in columns.values())
    logits = torch.randn(30, 3)
    assert torch.equal(task.predictions(logits)["risk"].argsort(), risk_score(logits).argsort())
    torch.testing.assert_close(columns["survival_200"], columns["survival_200"].clamp(0, 1))


def test_the_metric_is_harrells_concordance_over_all_batches():
    task, data = Survival(edges=[300.0, 600, 1200], end=2000.0), outcome(60, 1)
    target = task.encode(data)
    logits, metric = torch.randn(60, 4), task.metrics()
    for rows in torch.arange(60).split(7):
        use = rows[target["observed"][rows]]
        metric.update(logits[use], {name: values[use] for name, values in target.items()})
    use = target["observed"].numpy()
    expected = lifelines_concordance(data["time"][use], -risk_score(logits).numpy()[use], data["event"][use])
    assert metric.compute()["c_index"].item() == pytest.approx(expected, abs=1e-6)
    metric.reset()
    assert math.isnan(metric.compute()["c_index"].item())


def test_divergence_is_of_hazards_not_of_classes():
    task, logits = Survival(), torch.randn(5, 4)
    assert task.divergence(logits + 3, logits, 2.0).mean() > 0.1, "a softmax would not see a shift of all hazards"
    assert task.context()["task"] == "survival"


def test_the_loss_on_a_backbone_leaves_calibrated_levels_where_they_are():
    rng = np.random.default_rng(6)
    time, censored = rng.exponential(500, 600), rng.uniform(0, 3000, 600)
    task = Survival(n_intervals=3, edges=[100.0, 500.0], end=9000.0)
    target = task.encode({"time": np.minimum(time, censored), "event": (time < censored).astype(float)})
    bias, _ = task.calibrate(np.zeros((600, 1)), target)

    def pull(loss):
        logits = torch.tensor(bias).requires_grad_(True)
        loss(logits.expand(600, 3), target).mean().backward()
        return logits.grad.abs().max().item()

    assert pull(task.loss_on_backbone) < 1e-3
    assert pull(task.loss) > 0.02
    weighted = Survival(n_intervals=3, edges=[100.0, 500.0], end=9000.0, alpha=0.5)
    assert pull(weighted.loss_on_backbone) == pull(weighted.loss)
