"""The classification task: fit, encode, loss, predictions, metric."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dmml.errors import InputError
from dmml.tasks import Classification

LABELS = ["G2", "G3", None, "G3", "G4", float("nan"), " ", "G3"]


def test_fit_takes_classes_and_balanced_weights_from_labels():
    task = Classification(class_weights="balanced")
    with pytest.raises(RuntimeError, match="no classes"):
        _ = task.n_outputs
    task.fit({"label": LABELS})
    assert task.classes == ["G2", "G3", "G4"]
    assert task.class_weights == pytest.approx([5 / 3, 5 / 9, 5 / 3])
    assert sum(task.class_weights[task.classes.index(x)] for x in ("G2", "G3", "G3", "G3", "G4")) / 5 == pytest.approx(
        1
    )
    assert Classification(**task.init_args()).init_args() == task.init_args()
    ordered = Classification(classes=["G4", "G3", "G2"])
    ordered.fit({"label": LABELS})
    assert ordered.classes == ["G4", "G3", "G2"], "classes that are given keep their order"


def test_messages_name_the_label():
    with pytest.raises(InputError, match="G5"):
        Classification(classes=["G2", "G3"]).encode({"label": ["G2", "G5"]})
    with pytest.raises(InputError, match="at least two"):
        Classification().fit({"label": ["G2", "G2", None]})
    with pytest.raises(InputError, match="G9"):
        Classification(classes=["G2", "G9"], class_weights="balanced").fit({"label": ["G2"]})
    with pytest.raises(ValueError, match="different"):
        Classification(classes=["G2", "G2"])
    with pytest.raises(ValueError, match="equal"):
        Classification(class_weights="equal")
    with pytest.raises(ValueError, match="2 class_weights"):
        Classification(classes=["a", "b"], class_weights=[1.0])


def test_encode_and_loss_leave_out_unknown_labels():
    task = Classification(classes=["G2", "G3", "G4"], class_weights=[1.0, 2.0, 3.0])
    target = task.encode({"label": LABELS})
    assert target["observed"].tolist() == [True, True, False, True, True, False, False, True]
    assert target["label"].dtype == torch.int64
    logits = torch.randn(8, 3, requires_grad=True)
    loss, likelihood = task.loss(logits, target), task.log_likelihood(logits, target)
    for i, label in enumerate(LABELS):
        is_class = label in ("G2", "G3", "G4")
        index = ["G2", "G3", "G4"].index(label) if is_class else 0
        log_p = logits[i].double().softmax(0)[index].log().item()
        assert likelihood[i].item() == pytest.approx(log_p if is_class else 0, abs=1e-5)
        assert loss[i].item() == pytest.approx(-(index + 1) * log_p if is_class else 0, abs=1e-4)
    torch.testing.assert_close(task.paper_confidence(logits, target)[0], logits[0].softmax(0)[0])
    assert task.paper_confidence(logits, target)[2] == 0
    loss.sum().backward()
    assert (logits.grad[~target["observed"]] == 0).all()


def test_predictions_are_probabilities_by_class_name():
    logits = torch.randn(5, 3)
    columns = Classification(classes=["G2", "G3", "x y"]).predictions(logits)
    assert list(columns) == ["prob_G2", "prob_G3", "prob_x y"]
    torch.testing.assert_close(torch.stack(list(columns.values()), 1), logits.double().softmax(1))


def test_the_metric_is_the_macro_auc_of_the_classes_that_occur():
    task, logits, label = Classification(classes=["a", "b", "c"]), torch.randn(40, 3), torch.randint(0, 3, (40,))
    metric = task.metrics()
    for rows in torch.arange(40).split(9):
        metric.update(logits[rows], {"label": label[rows]})
    expected = roc_auc_score(label, logits.softmax(1), multi_class="ovr", average="macro")
    assert metric.compute()["auc"].item() == pytest.approx(expected, abs=1e-6)
    metric.reset()
    label = label % 2
    metric.update(logits, {"label": label})
    expected = (
        roc_auc_score(label == 0, logits.softmax(1)[:, 0]) + roc_auc_score(label == 1, logits.softmax(1)[:, 1])
    ) / 2
    assert metric.compute()["auc"].item() == pytest.approx(expected, abs=1e-6)
    metric.reset()
    metric.update(logits[:3], {"label": torch.zeros(3, dtype=torch.long)})
    assert math.isnan(metric.compute()["auc"].item()), "one class alone: undefined, not a half"


def test_a_class_without_patients_does_not_change_the_auc_of_the_others(recwarn):
    auc = Classification(["G2", "G3", "G4"]).metrics()["auc"]
    logits, label = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 6)
    auc.update(logits, {"label": label})
    probability = logits.softmax(1)
    by_class = [roc_auc_score(label == c, probability[:, c]) for c in (0, 1)]
    assert float(auc.compute()) == pytest.approx(sum(by_class) / 2)
    auc.reset()
    auc.update(logits, {"label": torch.ones(12, dtype=torch.long)})
    assert torch.isnan(auc.compute())
    assert not recwarn.list


def test_class_weights_set_the_levels_of_a_linear_predictor():
    label = torch.tensor([0] * 90 + [1] * 10)
    target = {"label": label, "observed": torch.ones(100, dtype=torch.bool)}
    predictor = np.zeros((100, 2))  # tells nothing: all that is left is how often a class is there
    shares = []
    for weights in (None, "balanced"):
        task = Classification(class_weights=weights)
        task.fit({"label": ["ab"[i] for i in label]})
        bias, _ = task.calibrate(predictor, target)
        shares.append(torch.tensor(bias).softmax(0)[1].item())
    assert shares == pytest.approx([0.1, 0.5], abs=0.01)
