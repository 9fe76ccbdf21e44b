"""The task of continuous values: fit, encode, losses, predictions, metric."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from dmml.errors import InputError
from dmml.tasks import Regression
from dmml.tasks.presentation import Headline

VALUES = np.array([10.0, 20.0, np.nan, 60.0])


def fitted(**options) -> Regression:
    task = Regression(**options)
    task.fit({"value": VALUES})
    return task


def test_the_scale_is_that_of_the_known_values_and_stays_with_the_task():
    task = fitted()
    assert (task.mean, task.sd) == pytest.approx((30.0, np.std([10, 20, 60])))
    again = Regression(**task.init_args())
    again.fit({"value": np.array([0.0, 1.0, 2.0])})
    assert again.init_args() == task.init_args(), "fitted values are kept"
    with pytest.raises(RuntimeError, match="no mean"):
        Regression().scale()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.nan, 5.0, 7.0, np.nan], r"2 of 4 training patients have a known value; at least 3 are needed"),
        ([5.0, 5.0, 5.0, np.nan], r"all 3 training patients with a known value have 5, so nothing can be learned"),
    ],
)
def test_too_few_values_and_a_constant_one_are_refused_in_a_line(values, message):
    with pytest.raises(InputError, match=message):
        Regression().fit({"value": np.array(values)})


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="huber, squared"):
        Regression(loss="absolute")
    with pytest.raises(ValueError, match="above 0"):
        Regression(sd=0.0)
    with pytest.raises(InputError, match="not a number"):
        Regression().encode({"value": np.array(["high", None], object)})


def test_unknown_values_are_kept_apart_and_known_ones_come_back():
    task = fitted()
    target = task.encode({"value": np.array([0.1, np.nan, 1234.5])})
    assert target["observed"].tolist() == [True, False, True]
    assert task.decode(target) == {"value": [0.1, None, 1234.5]}
    assert task.loss(torch.ones(3, 1), target)[1] == 0


def test_predictions_undo_the_standardisation():
    task = fitted()
    target = task.encode({"value": VALUES})
    logits = task.standardised(target["value"])[:, None]
    np.testing.assert_allclose(task.predictions(logits)["predicted_value"][target["observed"]], [10, 20, 60], rtol=1e-5)
    assert task.loss(logits, target).abs().max() < 1e-9


def test_huber_s_loss_is_squared_near_0_and_linear_far_away():
    target = fitted().encode({"value": np.array([30.0, 30.0])})
    logits = torch.tensor([[0.5], [10.0]])
    near, far = fitted().loss(logits, target).tolist()
    assert near == pytest.approx(0.125)
    assert far == pytest.approx(
        torch.nn.functional.huber_loss(torch.tensor(10.0), torch.tensor(0.0), delta=1.345).item()
    )
    assert fitted(loss="squared").loss(logits, target).tolist() == pytest.approx([0.125, 50.0])


def test_magnifications_are_averaged_without_those_that_a_patient_lacks():
    logits, available = torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[True], [True]])
    assert fitted().combine(logits, available).item() == 2
    assert fitted().combine(logits, torch.tensor([[False], [True]])).item() == 3


def test_the_divergence_is_that_of_two_normal_distributions():
    student, teacher = torch.tensor([[1.0]]), torch.tensor([[3.0]])
    normals = [torch.distributions.Normal(x, 2.0) for x in (student, teacher)]
    expected = 4 * torch.distributions.kl_divergence(*normals).item()
    assert fitted().divergence(student, teacher, 2.0).item() == pytest.approx(expected)


def test_the_metric_is_the_mean_absolute_error_in_the_units_of_the_value():
    task = fitted()
    metric = task.metrics()
    metric.update(torch.zeros(2, 1), task.encode({"value": np.array([20.0, 60.0])}))
    assert metric.compute()["mae"].item() == pytest.approx(20.0)


def test_a_headline_states_three_digits_and_the_unit():
    headline = Headline("predicted_value", unit="%")
    assert [headline.text(x) for x in (0.0123456, 63.27, 1234.4, -7.0)] == ["0.0123 %", "63.3 %", "1234 %", "−7.00 %"]


def test_an_interval_is_in_the_units_of_the_value():
    task = fitted(name="tumor purity", unit="%")
    errors = np.linspace(-1, 1, 39) * 20
    logits = torch.zeros(39, 1)
    conformal = task.conformal()
    calibration = conformal.fit(logits, task.encode({"value": 30 + errors}), None)
    promise = conformal.promise(calibration, torch.zeros(1, 1), None)
    assert (promise["low"] + promise["high"]) / 2 == pytest.approx(30.0)
    [sentence] = conformal.sentences(promise)
    assert sentence == "With a probability of at least 90 %, the tumor purity lies between 11.1 and 48.9 %."
    assert "too few" in conformal.fit(logits[:5], task.encode({"value": 30 + errors[:5]}), None)["reason"]


@dataclass
class PatientAnswer:
    """What a presentation reads of an answer."""

    headline: Headline
    value: float
    prediction: dict[str, float]
    views: dict[int, dict[str, float]] = field(default_factory=dict)


def test_an_answer_is_in_the_units_of_the_value_beside_the_training_patients():
    presentation = fitted(name="purity", unit="%").presentation()
    headline = presentation.headline({"predicted_value": 51.6})
    answer = PatientAnswer(headline, 51.6, {"predicted_value": 51.6}, {10: {"predicted_value": 40.0}})
    assert presentation.summary(answer, "the 3 training patients of luad") == (
        "Predicted purity: 51.6 % (mean of the 3 training patients of luad: 30.0 %, standard deviation 21.6 %)"
    )
    assert presentation.outlook(answer, "") == "The value is 1.0 standard deviations above the training patients' mean"
    assert presentation.side({"predicted_value": 20.0}, None) == "below the training patients' mean"
    assert "1 is 21.6 %" in presentation.tile_unit(headline)
    plot = presentation.plot(answer)
    assert plot.description == "Predicted purity: 51.6 %"
    assert "purity (%)" in plot.inline_svg("p")
