"""Predicted values in evaluation: metrics with intervals, groups, recalibration, examples and plots."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmml.evaluation.endpoints.find import endpoint_of
from dmml.evaluation.endpoints.regression import RegressionEndpoint
from dmml.evaluation.evaluate import evaluate
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.examples import choose_examples
from dmml.evaluation.predictions import predictions_table
from dmml.evaluation.recalibration import recalibrate
from dmml.evaluation.statistics.added_value import added_to_value
from dmml.evaluation.subgroups import by_subgroup
from dmml.evaluation.values.plots import group_errors_plot

CONTEXT = {"task": "regression", "value_name": "purity", "unit": "%", "mean": 50.0, "sd": 10.0}


def patients(n: int = 60, error: float = 3.0, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    value = generator.normal(50, 10, n)
    rows = [
        {"patient_id": f"P{i}", "value": value[i], "predicted_value": value[i] + error * generator.normal()}
        for i in range(n)
    ]
    rows[0]["value"] = None
    return predictions_table(rows)


def evaluation(table: pd.DataFrame) -> Evaluation:
    return Evaluation(Path("test"), Path("run"), table, CONTEXT)


def test_the_column_of_predicted_values_names_the_endpoint():
    assert isinstance(endpoint_of({}, ["patient_id", "predicted_value"]), RegressionEndpoint)
    assert isinstance(endpoint_of({"primary_metric": "r2"}), RegressionEndpoint)


def test_every_metric_has_an_interval_around_it_over_patients_with_a_value():
    metrics = evaluate(patients(), CONTEXT)
    assert list(metrics) == ["r2", "pearson", "spearman", "mae", "mean_error", "calibration_slope"]
    for entry in metrics.values():
        assert entry["low"] < entry["value"] < entry["high"]
        assert entry["n"] == 59
    assert metrics["r2"]["value"] == pytest.approx(0.9, abs=0.05)


def test_undefined_metrics_say_why():
    table = patients().assign(value=7.0)
    metrics = evaluate(table, CONTEXT)
    assert metrics["r2"]["reason"] == "all 60 patients have the same value"
    assert metrics["mae"]["value"] is not None
    assert evaluate(patients().assign(predicted_value=5.0), CONTEXT)["pearson"]["reason"].startswith(
        "the model predicts"
    )
    assert evaluate(patients().assign(value=np.nan), CONTEXT)["r2"]["reason"] == "no patient has a known outcome"


def test_groups_state_their_mean_error_and_sites_are_drawn():
    table = patients()
    table.loc[:29, "predicted_value"] += 8.0
    groups = pd.DataFrame({"site": ["A"] * 30 + ["B"] * 30}, index=table["patient_id"])
    rows = by_subgroup(table, CONTEXT, groups)
    assert [row["second"]["metric"] for row in rows] == ["mean_error", "mean_error"]
    assert rows[0]["second"]["low"] > 5 > rows[1]["second"]["high"]
    plot = group_errors_plot(rows, "site", "purity", "%")
    assert plot is not None
    assert plot.name == "errors_by_site"
    assert group_errors_plot(rows, "sex", "purity") is None


def test_recalibration_repairs_a_wrong_scale_and_leaves_the_correlation():
    table = patients(200)
    table["predicted_value"] = 20 + 2 * table["predicted_value"]
    content, recalibrated = recalibrate(evaluation(table), 0.5)
    assert recalibrated is not None
    assert content["coefficients"]["slope"] == pytest.approx(0.5, abs=0.1)
    assert content["metrics"]["mae"]["after"]["value"] < content["metrics"]["mae"]["before"]["value"] / 5
    assert "pearson" not in content["metrics"]
    content, recalibrated = recalibrate(evaluation(patients(12)), 0.5)
    assert recalibrated is None
    assert "patients among the 6 patients of the share, of 10 needed" in content["reason"]


def test_examples_have_the_smallest_and_the_largest_errors():
    table = patients()
    table.loc[5, "predicted_value"] = table.loc[5, "value"]
    table.loc[7, "predicted_value"] = table.loc[7, "value"] + 100
    examples = choose_examples(table.to_dict("records"), list(table["patient_id"]))
    assert list(examples)[:2] == ["P5", "P7"]
    assert examples["P7"]["verdict"].startswith("error 100: predicted ")


def test_a_model_that_adds_to_the_clinical_one_is_recognised():
    clinical, model = patients(80, 8.0, 1).dropna(), patients(80, 3.0, 1).dropna()
    noise = clinical.assign(predicted_value=np.random.default_rng(5).normal(size=len(clinical)))
    assert added_to_value([clinical], [model])["p"] < 1e-6
    assert added_to_value([clinical], [noise])["p"] > 0.01


def test_a_page_has_the_plot_of_measured_and_predicted_values():
    [plot] = RegressionEndpoint().plots(evaluation(patients()))
    assert plot.name == "agreement"
    assert "predicted purity (%)" in plot.inline_svg("p")
