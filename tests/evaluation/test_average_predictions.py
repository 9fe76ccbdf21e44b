"""Predictions of several models for the same patients are averaged, each quantity on its scale."""

import numpy as np
import pandas as pd
import pytest

from dmml.evaluation.average_predictions import average_predictions
from dmml.evaluation.predictions import curve_at


def survival(risk, order=("a", "b"), **columns):
    table = pd.DataFrame({"patient_id": ["a", "b"], "time": [10.0, 20.0], "event": [1.0, 0.0], "risk": risk} | columns)
    return table.set_index("patient_id").loc[list(order)].reset_index()


ONE = survival([1.0, 2.0], survival_100=[0.8, 0.6], survival_200=[0.4, 0.3])
TWO = survival([3.0, 2.0], order="ba", survival_150=[0.6, 0.9], survival_250=[0.2, 0.5])
"""The models have other intervals, and their tables another order"""


def test_risks_are_averaged_and_outcomes_stay():
    mean = average_predictions([ONE, TWO])
    assert mean["patient_id"].tolist() == ["a", "b"]
    assert mean["risk"].tolist() == [2.0, 2.0]
    assert mean["sd_risk"].tolist() == [pytest.approx(np.sqrt(2)), 0.0]
    assert mean[["time", "event"]].equals(ONE[["time", "event"]])


def test_survival_is_averaged_on_the_days_of_all_models_up_to_the_first_end():
    mean = average_predictions([ONE, TWO])
    assert [name for name in mean if name.startswith("survival_")] == ["survival_100", "survival_150", "survival_200"]
    days = [100, 150, 200]
    by_hand = (curve_at(ONE, days) + curve_at(TWO.iloc[::-1], days)) / 2
    assert np.allclose(mean[[f"survival_{day}" for day in days]], by_hand)
    assert np.sqrt(0.8 * 0.4) == pytest.approx(curve_at(ONE, [150])[0, 0])
    assert (mean["sd_survival_150"] > 0).all()


def test_probabilities_are_averaged_and_still_sum_to_one():
    tables = [
        pd.DataFrame({"patient_id": ["a", "b"], "label": ["G2", "G3"], "prob_G2": p, "prob_G3": 1 - np.array(p)})
        for p in ([0.9, 0.2], [0.5, 0.4], [0.1, 0.6])
    ]
    mean = average_predictions(tables)
    assert np.allclose(mean["prob_G2"], [0.5, 0.4])
    assert np.allclose(mean[["prob_G2", "prob_G3"]].sum(axis=1), 1)
    assert mean["sd_prob_G2"][0] == pytest.approx(0.4)
    assert mean["label"].tolist() == ["G2", "G3"]


def test_one_model_is_its_own_mean_without_a_spread():
    mean = average_predictions([ONE])
    assert np.allclose(mean[["risk", "survival_100", "survival_200"]], ONE[["risk", "survival_100", "survival_200"]])
    assert not [name for name in mean if name.startswith("sd_")]


def test_other_patients_are_refused():
    with pytest.raises(ValueError, match="different patients"):
        average_predictions([ONE, ONE.replace({"patient_id": {"b": "c"}})])
