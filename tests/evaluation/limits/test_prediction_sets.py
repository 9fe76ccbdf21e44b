"""Sets of classes hold the true class as often as they promise."""

import numpy as np
import pytest

from dmml.evaluation.limits.prediction_sets import fit_sets, prediction_set


def patients(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 3) that are wrong in size, and labels (n,)."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, n)
    logits = generator.normal(size=(n, 3)) + 0.8 * np.eye(3)[label]
    wrong = np.exp(3 * logits)
    return wrong / wrong.sum(1, keepdims=True), label


def test_a_set_holds_the_classes_that_a_slow_form_of_the_definition_admits():
    probability, label = patients(39, 0)
    calibration = fit_sets(probability, label)
    scores = [1 - p[y] for p, y in zip(probability, label, strict=True)]
    for row in patients(20, 1)[0]:
        # A class is left out if, with its score among the others, it is among the largest 10 %.
        slow = {c for c in range(3) if sum(s >= 1 - row[c] for s in scores) + 1 > 0.1 * (len(scores) + 1)}
        classes = prediction_set(calibration, row, ["0", "1", "2"])
        assert set(map(int, classes)) == (slow or {int(row.argmax())})
        assert [row[int(c)] for c in classes] == sorted((row[int(c)] for c in classes), reverse=True)


def test_over_many_calibrations_the_sets_of_an_overconfident_model_hold_the_true_class_in_90_percent():
    covered = []
    for seed in range(400):
        calibration = fit_sets(*patients(39, 2 * seed))
        probability, label = patients(25, 2 * seed + 1)
        covered += [
            str(y) in prediction_set(calibration, p, ["0", "1", "2"]) for p, y in zip(probability, label, strict=True)
        ]
    # (n + 1) · 0.9 is whole, so that the promise is exact; the standard error of the mean is 0.4 points.
    assert np.mean(covered) == pytest.approx(0.9, abs=0.012)


def test_eight_patients_are_too_few_for_90_percent_and_nine_are_enough():
    assert "too few for 90 %, 9 are needed" in fit_sets(*patients(8, 0))["reason"]
    assert "reason" not in fit_sets(*patients(9, 0))


def test_a_set_is_never_empty():
    assert prediction_set({"limit": 0.01}, np.array([0.3, 0.4, 0.3]), ["a", "b", "c"]) == ["b"]
