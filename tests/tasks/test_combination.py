"""Combination of magnifications against float64 means, and at the ends of what logits can be."""

import math

import pytest
import torch

from dmml.functional.survival import survival_curve
from dmml.tasks import Classification, Survival, Task

TASKS = {
    "survival": lambda **k: Survival(n_intervals=3, edges=[100.0, 500.0], end=900.0, **k),
    "classification": lambda **k: Classification(classes=["a", "b", "c"], **k),
}


@pytest.fixture(params=TASKS)
def kind(request):
    return request.param


def prediction(kind, logits):
    """What is averaged: class probabilities or survival curves, in float64."""
    logits = logits.double()
    return logits.softmax(-1) if kind == "classification" else torch.cumprod(1 - logits.sigmoid(), -1)


@pytest.mark.parametrize("n_magnifications", [1, 2, 3])
def test_mean_is_the_mean_of_predictions(kind, n_magnifications):
    logits = torch.randn(n_magnifications, 8, 3) * 3
    combined = TASKS[kind]().combine(logits, torch.ones(n_magnifications, 8, dtype=torch.bool))
    torch.testing.assert_close(prediction(kind, combined), prediction(kind, logits).mean(0), atol=1e-5, rtol=1e-4)


def test_a_magnification_without_tokens_weighs_nothing(kind):
    logits = torch.randn(2, 4, 3)
    available = torch.tensor([[True, True, False, False], [True, False, True, False]])
    p = prediction(kind, TASKS[kind]().combine(logits, available))
    each = prediction(kind, logits)
    torch.testing.assert_close(p[0], each[:, 0].mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(p[1], each[0, 1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(p[2], each[1, 2], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(p[3], each[:, 3].mean(0), atol=1e-6, rtol=1e-5)
    hidden = logits.clone()
    hidden[1, 1], hidden[0, 2] = 1e4, -1e4
    for combination in ("mean", "confidence", "max_confidence"):
        task = TASKS[kind](combination=combination)
        torch.testing.assert_close(task.combine(hidden, available)[1:3], task.combine(logits, available)[1:3])


@pytest.mark.parametrize("combination", ["mean", "confidence", "max_confidence"])
@pytest.mark.parametrize("value", [1e4, -1e4])
def test_extreme_logits_stay_finite_with_finite_gradients(kind, combination, value):
    task = TASKS[kind](combination=combination)
    for other in (value, -value, 0.0):
        logits = torch.full((2, 4, 3), value)
        logits[1] = other
        logits[0, :, 1] = -value
        logits.requires_grad_()
        available = torch.tensor([[True, True, False, False], [True, False, True, False]])
        combined = task.combine(logits, available)
        target = task.encode(
            {"time": [50.0, 200, 600, 50], "event": [1, 0, 1, 0]}
            if kind == "survival"
            else {"label": ["a", "b", "c", None]}
        )
        loss = task.loss(combined, target)
        loss.sum().backward()
        assert combined.isfinite().all()
        assert loss.isfinite().all()
        assert logits.grad.isfinite().all()
        assert torch.stack(list(task.predictions(combined.detach()).values())).isfinite().all()


def test_extreme_curves_are_averaged_correctly():
    """One magnification is sure of death, the other of survival: the mean curve is a half."""
    logits = torch.stack([torch.full((1, 3), 1e4), torch.full((1, 3), -1e4)])
    combined = TASKS["survival"]().combine(logits, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(survival_curve(combined), torch.full((1, 3), 0.5))


def test_the_combination_of_one_magnification_is_that_magnification(kind):
    logits = torch.randn(1, 5, 3)
    combined = TASKS[kind]().combine(logits, torch.ones(1, 5, dtype=torch.bool))
    expected = logits[0] if kind == "survival" else logits[0].log_softmax(-1)
    torch.testing.assert_close(combined, expected, atol=1e-5, rtol=1e-5)


def test_max_confidence_takes_the_more_confident_magnification_and_in_a_tie_the_finer(kind):
    task = TASKS[kind](combination="max_confidence")
    sure, unsure = torch.tensor([4.0, 0, 0]), torch.tensor([0.1, 0, 0])
    tied = torch.tensor([0.0, 4, 0])  # the same top probability, another class
    logits = torch.stack([torch.stack([sure, unsure, sure, sure]), torch.stack([unsure, sure, tied, sure])])
    available = torch.ones(2, 4, dtype=torch.bool)
    available[1, 3] = False
    expected = torch.stack([sure, sure, tied, sure])
    assert torch.equal(task.combine(logits, available), expected)


def slow_confidence(kind, logits):
    """Largest probability of one prediction, outcome by outcome, in plain floats."""
    if kind == "classification":
        weights = [math.exp(x - max(logits)) for x in logits]
        return max(weights) / sum(weights)
    alive, outcomes = 1.0, []
    for x in logits:
        hazard = 1 / (1 + math.exp(-x))
        outcomes.append(alive * hazard)
        alive *= 1 - hazard
    assert sum(outcomes) + alive == pytest.approx(1)
    return max(*outcomes, alive)


@pytest.mark.slow
@pytest.mark.parametrize("n_magnifications", [1, 2, 3])
def test_confidence_is_a_mean_of_logits_weighted_by_the_largest_probability(kind, n_magnifications):
    logits, available = torch.randn(n_magnifications, 40, 3) * 3, torch.rand(n_magnifications, 40) < 0.7
    combined = TASKS[kind](combination="confidence").combine(logits, available)
    for i in range(40):
        rows = [m for m in range(n_magnifications) if available[m, i]] or list(range(n_magnifications))
        confidence = {m: slow_confidence(kind, logits[m, i].double().tolist()) for m in rows}
        for c in range(3):
            expected = sum(confidence[m] * logits[m, i, c].item() for m in rows) / sum(confidence.values())
            assert combined[i, c].item() == pytest.approx(expected, abs=1e-5)


def test_a_task_without_probabilities_weights_all_magnifications_equally():
    class Level(Task):
        pass

    logits = torch.randn(2, 5, 1)
    combined = Level(combination="confidence").combine(logits, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(combined, logits.mean(0))


def test_an_empty_batch_is_combined_and_gradients_are_exact(kind):
    task = TASKS[kind]()
    assert task.combine(torch.zeros(2, 0, 3), torch.ones(2, 0, dtype=torch.bool)).shape == (0, 3)
    logits = torch.randn(2, 2, 3, requires_grad=True)
    available = torch.tensor([[True, False], [True, True]])
    combined = task.combine(logits, available)
    combined[:, 0].sum().backward()
    step = 1e-2
    for index in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 0)):
        moved = logits.detach().clone()
        moved[index] += step
        above = task.combine(moved, available)[:, 0].sum()
        moved[index] -= 2 * step
        slope = (above - task.combine(moved, available)[:, 0].sum()) / (2 * step)
        assert logits.grad[index].item() == pytest.approx(slope.item(), abs=2e-3)


def test_an_unknown_combination_is_refused_by_name():
    with pytest.raises(ValueError, match="median"):
        Survival(combination="median")
