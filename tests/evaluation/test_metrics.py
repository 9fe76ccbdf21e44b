"""Survival metrics against loops over pairs, scikit-learn, lifelines and torchsurv."""

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index as lifelines_concordance
from sklearn.metrics import roc_auc_score

from dmml.cohort.clinical.follow_up import CensoringCurve, censoring_curve
from dmml.evaluation import metrics
from dmml.evaluation.statistics import weighted


def draw(n=80, seed=0, integer=False):
    generator = np.random.default_rng(seed)
    death, censored = generator.exponential(900, n), generator.exponential(1500, n)
    time, event = np.minimum(death, censored), (death <= censored).astype(int)
    if integer:
        time = np.ceil(time / 120)  # many ties
    risk = -np.log(death) + generator.normal(0, 0.8, n)
    return time, event, np.round(risk, 1)


def slow_uno(time, event, risk, curve, tau):
    top = bottom = 0.0
    for i in range(len(time)):
        if not event[i] or time[i] >= tau:
            continue
        weight = 1 / curve.before(time[i]) ** 2
        for j in range(len(time)):
            if time[i] < time[j] or (time[i] == time[j] and not event[j]):
                bottom += weight
                top += weight * (1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0)
    return top / bottom


def slow_auc(time, event, risk, day, curve):
    top = bottom = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and time[i] <= day < time[j]:
                bottom += 1 / curve.before(time[i])
                top += (1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j])) / curve.before(time[i])
    return top / bottom


def slow_brier(time, event, survival, times, curve):
    scores = []
    for k, day in enumerate(times):
        total = 0.0
        for i in range(len(time)):
            if time[i] <= day and event[i]:
                total += survival[i, k] ** 2 / curve.before(time[i])
            elif time[i] > day:
                total += (1 - survival[i, k]) ** 2 / curve.at(day)
        scores.append(total / len(time))
    return np.trapezoid(scores, times) / (times[-1] - times[0])


@pytest.mark.parametrize("integer", [False, True])
def test_concordances_and_auc_agree_with_loops(integer):
    time, event, risk = draw(integer=integer)
    curve = censoring_curve(*draw(200, seed=5, integer=integer)[:2])
    censoring = (curve.time, curve.survival)
    tau = np.quantile(time, 0.8)
    assert metrics.concordance_index(time, event, risk) == pytest.approx(lifelines_concordance(time, -risk, event))
    assert metrics.concordance_ipcw(time, event, risk, censoring, tau) == pytest.approx(
        slow_uno(time, event, risk, curve, tau)
    )
    test_censoring = censoring_curve(time, event)
    assert metrics.concordance_ipcw(time, event, risk, tau=tau) == pytest.approx(
        slow_uno(time, event, risk, test_censoring, tau)
    )
    for day in np.quantile(time, [0.3, 0.6]):
        assert metrics.auc_at(time, event, risk, day, censoring) == pytest.approx(
            slow_auc(time, event, risk, day, curve)
        )


def test_without_censoring_weighted_metrics_equal_plain_ones():
    time, _, risk = draw()
    event = np.ones_like(time)
    assert metrics.concordance_ipcw(time, event, risk) == pytest.approx(metrics.concordance_index(time, event, risk))
    assert metrics.auc_at(time, event, risk, 500) == pytest.approx(roc_auc_score(time <= 500, risk))


def test_the_concordance_with_weights_equals_that_of_functional_and_accepts_groups():
    time, event, risk = draw(integer=True)
    ones = weighted.estimate(weighted.harrell(time, event, risk), len(time))
    assert ones == pytest.approx(metrics.concordance_index(time, event, risk))
    fold = np.arange(len(time)) % 3
    pairs = [((time[i] < time[j]) or (time[i] == time[j] and not event[j])) and event[i] and fold[i] == fold[j]
             for i in range(len(time)) for j in range(len(time))]  # fmt: skip
    wins = [(risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]) for i in range(len(time)) for j in range(len(time))]
    assert metrics.concordance_within(time, event, fold, risk) == pytest.approx(np.dot(pairs, wins) / np.sum(pairs))


def test_a_computation_in_blocks_of_rows_gives_the_same(monkeypatch):
    time, event, risk = draw(integer=True)
    whole = metrics.concordance_ipcw(time, event, risk, tau=6.0)
    monkeypatch.setattr(weighted, "BLOCK_ROWS", 7)
    assert metrics.concordance_ipcw(time, event, risk, tau=6.0) == pytest.approx(whole, rel=1e-12)


def test_concordances_and_auc_agree_with_torchsurv():
    from torchsurv.metrics.auc import Auc
    from torchsurv.metrics.cindex import ConcordanceIndex

    generator = np.random.default_rng(0)
    time = generator.permutation(80) + 1 + generator.random(80) / 2
    event, risk = (generator.random(80) < 0.6).astype(float), generator.normal(size=80) - time / 60
    curve = censoring_curve(time, event)
    inverse = torch.tensor(1 / np.where(event > 0, curve.before(time), 1)).float()
    tensors = (torch.tensor(risk).float(), torch.tensor(event).bool(), torch.tensor(time).float())
    torchsurv_value = float(ConcordanceIndex()(*tensors))
    assert weighted.estimate(weighted.harrell(time, event, risk), 80) == pytest.approx(torchsurv_value, abs=1e-5)
    torchsurv_value = float(ConcordanceIndex()(*tensors, weight=inverse, tmax=torch.tensor(50.0)))
    assert weighted.estimate(weighted.uno(time, event, risk, curve, 50), 80) == pytest.approx(torchsurv_value, abs=1e-5)
    # The weight of those alive at the day cancels out.
    day = {"new_time": torch.tensor([50.0]), "weight_new_time": torch.tensor([1.0])}
    torchsurv_value = float(Auc()(*tensors, weight=inverse, **day)[0])
    assert weighted.estimate(weighted.dynamic_auc(time, event, risk, 50, curve), 80) == pytest.approx(
        torchsurv_value, abs=1e-5
    )


def test_integrated_brier_agrees_with_a_loop_and_with_torchsurv():
    from torchsurv.metrics.brier_score import BrierScore

    time, event, risk = draw()
    times = np.linspace(50, np.quantile(time, 0.8), 30)
    survival = np.exp(-np.exp(risk)[:, None] * times)
    curve = censoring_curve(time, event)
    value = metrics.integrated_brier(time, event, survival, times)
    assert value == pytest.approx(slow_brier(time, event, survival, times, curve))
    score = BrierScore()
    score(
        torch.tensor(survival),
        torch.tensor(event).bool(),
        torch.tensor(time),
        torch.tensor(times),
        torch.tensor(1 / np.where(event, curve.before(time), 1)),
        torch.tensor(1 / curve.at(times)),
    )
    assert value == pytest.approx(float(score.integral()), rel=1e-6)


def test_a_constant_prediction_of_a_half_has_a_brier_score_of_a_quarter():
    time, _, _ = draw()
    times = np.linspace(1, 900, 10)
    assert metrics.integrated_brier(time, np.ones_like(time), np.full((80, 10), 0.5), times) == pytest.approx(0.25)


def test_an_undefined_metric_is_nan():
    assert np.isnan(metrics.concordance_ipcw([5, 6, 7], [0, 0, 0], [1, 2, 3]))
    assert np.isnan(metrics.auc_at([5, 6, 7], [1, 1, 1], [1, 2, 3], 10))
    assert np.isnan(metrics.auc_at([5, 6, 7], [1, 1, 1], [1, 2, 3], 1))
    survival = np.array([[0.9, np.nan]] * 3)
    assert np.isnan(metrics.integrated_brier([5, 6, 7], [1, 1, 1], survival, [1, 6]))
    gone = CensoringCurve(np.array([4.0]), np.array([0.0]))
    assert np.isnan(metrics.concordance_ipcw([5, 6, 7], [1, 1, 1], [3, 2, 1], gone))
    assert metrics.concordance_ipcw([3, 6, 7], [1, 1, 1], [3, 2, 1], gone, tau=5) == 1


def test_unequal_lengths_and_missing_times_are_refused():
    with pytest.raises(ValueError, match="2 times, 3 events"):
        metrics.concordance_ipcw([1, 2], [1, 1, 0], [1, 2], ([1], [1]))
    with pytest.raises(ValueError, match="time is missing for 1 patients"):
        metrics.auc_at([1, np.nan], [1, 1], [1, 2], 1.5, ([1], [1]))
