"""Class metrics against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from dmml.evaluation.statistics import classification as ours
from dmml.evaluation.statistics.weighted import estimate


def draw(n=120, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, n)
    logits = generator.normal(size=(n, classes)).round(1)
    logits[np.arange(n), label] += 0.8
    return label, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_every_metric_equals_that_of_scikit_learn(classes):
    label, probability = draw(classes=classes)
    n, predicted = len(label), probability.argmax(1)
    expected = {
        ours.accuracy: sk.accuracy_score(label, predicted),
        ours.balanced_accuracy: sk.balanced_accuracy_score(label, predicted),
        ours.macro_specificity: np.mean([sk.recall_score(label != c, predicted != c) for c in range(classes)]),
        ours.macro_f1: sk.f1_score(label, predicted, average="macro"),
        ours.quadratic_kappa: sk.cohen_kappa_score(label, predicted, weights="quadratic"),
        ours.macro_auc: sk.roc_auc_score(label, probability, multi_class="ovr")
        if classes > 2
        else sk.roc_auc_score(label, probability[:, 1]),
    }
    for metric, value in expected.items():
        assert estimate(metric(label, probability), n) == pytest.approx(value), metric.__name__
    assert (ours.confusion(label, probability) == sk.confusion_matrix(label, predicted)).all()


def loop_specificity(label, predicted, weights):
    """Mean over the classes with patients of the share of the others that are not taken for the class."""
    values = []
    for c in sorted(set(label[weights > 0].tolist())):
        others = weights[label != c].sum()
        if others:
            values.append(weights[(label != c) & (predicted != c)].sum() / others)
    return np.mean(values) if values else np.nan


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_specificity_of_every_resample_is_that_of_a_loop(classes):
    label, probability = draw(40, classes)
    generator = np.random.default_rng(5)
    weights = generator.multinomial(40, np.full(40, 1 / 40), 30).astype(float)
    weights[0, label == 0] = 0  # a class without patients in a resample
    weights[1, label != 1] = 0  # a resample of a single class
    values = ours.macro_specificity(label, probability)(weights)
    expected = [loop_specificity(label, probability.argmax(1), row) for row in weights]
    assert values == pytest.approx(expected, nan_ok=True)
    assert np.isnan(values[1])
    # A constant answer is right about all classes but one.
    constant = np.tile(np.eye(classes)[0], (40, 1))
    assert estimate(ours.macro_specificity(label, constant), 40) == pytest.approx(1 - 1 / classes)


def test_two_classes_have_a_sensitivity_and_a_specificity_whose_mean_is_the_balanced_accuracy():
    label, probability = draw(classes=2)
    n, predicted = len(label), probability.argmax(1)
    sensitivity, specificity, balanced, macro = (
        estimate(metric(label, probability), n)
        for metric in (
            ours.second_class_sensitivity,
            ours.second_class_specificity,
            ours.balanced_accuracy,
            ours.macro_specificity,
        )
    )
    assert sensitivity == pytest.approx(sk.recall_score(label, predicted))
    assert specificity == pytest.approx(sk.recall_score(label, predicted, pos_label=0))
    assert balanced == pytest.approx((sensitivity + specificity) / 2)
    assert macro == pytest.approx(balanced)  # so this one is not reported for two classes


def test_a_weight_counts_as_a_repetition():
    label, probability = draw()
    counts = np.random.default_rng(1).multinomial(len(label), np.full(len(label), 1 / len(label)))[None]
    drawn = np.repeat(np.arange(len(label)), counts[0])
    metrics = (ours.macro_auc, ours.macro_f1, ours.balanced_accuracy, ours.macro_specificity, ours.quadratic_kappa)
    for metric in metrics:
        repeated = estimate(metric(label[drawn], probability[drawn]), len(drawn))
        assert metric(label, probability)(counts.astype(np.float32))[0] == pytest.approx(repeated, rel=1e-5)


def test_calibration_error_equals_torchmetrics_for_many_patients_and_a_loop_for_few():
    label, probability = draw(n=500)
    reference = multiclass_calibration_error(
        torch.tensor(probability), torch.tensor(label), num_classes=3, n_bins=15, norm="l1"
    )
    assert estimate(ours.calibration_error(label, probability), 500) == pytest.approx(float(reference), abs=1e-6)
    label, probability = draw(n=60)
    probability = 0.9 * probability + 0.1 * np.random.default_rng(2).dirichlet([1, 1, 1], 60)  # no ties
    confidence, hit = probability.max(1), probability.argmax(1) == label
    order = np.argsort(confidence)
    loop = sum(abs(hit[part].mean() - confidence[part].mean()) * len(part) / 60 for part in np.array_split(order, 3))
    assert estimate(ours.calibration_error(label, probability), 60) == pytest.approx(loop)


def test_an_absent_class_is_left_out_and_a_single_class_is_undefined():
    label, probability = draw(classes=3)
    keep = label < 2
    label, probability = label[keep], probability[keep]
    parts = [sk.roc_auc_score(label == c, probability[:, c]) for c in range(2)]
    assert estimate(ours.macro_auc(label, probability), len(label)) == pytest.approx(np.mean(parts))
    assert np.isnan(estimate(ours.macro_auc(np.zeros(5, int), probability[:5]), 5))
    table = ours.per_class(label, probability, ["a", "b", "c"])
    assert table["patients"].tolist() == [(label == 0).sum(), (label == 1).sum(), 0]
    assert np.isnan(table["recall"][2])
    predicted = probability.argmax(1)
    assert table["specificity"].tolist() == pytest.approx(
        [np.mean(predicted[label != c] != c) for c in range(3)]  # the absent class has patients of other classes
    )
    assert np.isnan(table["auc"][2])


@pytest.mark.parametrize(
    ("classes", "ordered"),
    [
        (["G2", "G3", "G4"], True),
        (["I", "II", "III", "IV"], True),
        (["stage 1", "stage 2", "stage 3"], True),
        (["GBM-IDHwt", "Astrocytoma-IDHmut", "Oligodendroglioma"], False),
        (["G4", "G3", "G2"], False),
        (["G2", "G3"], False),
    ],
)
def test_ordered_classes_are_recognised_by_their_names(classes, ordered):
    assert ours.looks_ordered(classes) is ordered
