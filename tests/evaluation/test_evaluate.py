"""From predictions.csv and context.json to metrics: their names and values, what is left out, and what is undefined."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines.utils import concordance_index as lifelines_concordance
from recomputed import hazard_ratio

from dmml.errors import InputError
from dmml.evaluation import metrics
from dmml.evaluation.evaluate import evaluate
from dmml.evaluation.predictions import curve_at, read_predictions
from dmml.functional.survival import survival_at


@pytest.fixture
def survival_test(tmp_path, cohort, make):
    return make.survival(tmp_path / "runs" / "demo", cohort)


def load(folder):
    return read_predictions(folder / "predictions.csv"), json.loads((folder / "context.json").read_text())


def test_survival_metrics_have_the_documented_names_and_values(survival_test):
    table, context = load(survival_test)
    result = evaluate(table, context)
    assert list(result) == [
        "c_index", "c_index_antolini", "c_index_ipcw", "ibs", "auc_365", "auc_1095", "hazard_ratio", "c_index_oracle",
        "share_of_oracle",
    ]  # fmt: skip
    for entry in result.values():
        assert {"value", "low", "high", "n", "events"} <= set(entry)
        assert entry["low"] < entry["value"] < entry["high"]
        assert entry["n"] == 60
    time, event, risk = table["time"], table["event"], table["risk"]
    assert result["c_index"]["value"] == pytest.approx(lifelines_concordance(time, -risk, event))
    assert result["c_index"]["events"] == event.sum()
    assert result["auc_365"]["events"] == ((time <= 365) & (event == 1)).sum()
    censoring = (context["censoring"]["time"], context["censoring"]["survival"])
    assert result["auc_1095"]["value"] == pytest.approx(metrics.auc_at(time, event, risk, 1095, censoring))
    tau = result["ibs"]["tau"]
    assert tau <= min(context["end"], time.max())
    times = np.linspace(0, tau * 0.999999, 400)
    fine = metrics.integrated_brier(time, event, curve_at(table, times), times, censoring)
    assert result["ibs"]["value"] == pytest.approx(fine, abs=5e-3)
    json.dumps(result, allow_nan=False)


def test_censoring_of_the_training_patients_is_used(survival_test):
    table, context = load(survival_test)
    other = context | {"censoring": {"time": [200, 900, 1800], "survival": [0.8, 0.4, 0.2]}}
    assert evaluate(table, other)["auc_1095"]["value"] != evaluate(table, context)["auc_1095"]["value"]
    assert evaluate(table, other)["c_index"] == evaluate(table, context)["c_index"]
    without = {key: value for key, value in context.items() if key != "censoring"}
    assert evaluate(table, without)["auc_1095"]["value"] == pytest.approx(
        metrics.auc_at(table["time"], table["event"], table["risk"], 1095)
    )


def test_the_true_risk_has_a_share_of_one_and_a_reversed_model_a_negative_one(survival_test, cohort):
    table, context = load(survival_test)
    perfect = evaluate(table.assign(risk=cohort.log_rate), context)
    assert perfect["share_of_oracle"]["value"] == pytest.approx(1)
    assert perfect["c_index"]["value"] == perfect["c_index_oracle"]["value"]
    assert evaluate(table.assign(risk=-cohort.log_rate), context)["share_of_oracle"]["value"] == pytest.approx(-1)
    c, best = (evaluate(table, context)[name]["value"] for name in ("c_index", "c_index_oracle"))
    share = evaluate(table, context)["share_of_oracle"]["value"]
    assert share == pytest.approx((c - 0.5) / (best - 0.5))


def test_unknown_outcomes_are_left_out(survival_test):
    table, context = load(survival_test)
    hidden = table.copy()
    hidden.loc[:9, ["time", "event"]] = np.nan
    assert evaluate(hidden, context)["c_index"] == evaluate(table.iloc[10:].reset_index(drop=True), context)["c_index"]
    nobody = evaluate(table.assign(time=np.nan, event=np.nan), context)
    assert all(entry["value"] is None and entry["n"] == 0 for entry in nobody.values())


def test_an_undefined_metric_is_null_with_a_reason(survival_test):
    table, context = load(survival_test)
    one = evaluate(table.assign(event=(table.index == 3).astype(int)), context)
    assert one["c_index"]["value"] is None
    assert "1 of 60 patients with known outcome had the event" in one["c_index"]["reason"]
    late = evaluate(table, context | {"horizons": [1]})["auc_1"]
    assert late["value"] is None
    assert "known to have died by day 1" in late["reason"]
    coxlike = evaluate(table.drop(columns=[name for name in table if name.startswith("survival_")]), context)
    assert coxlike["ibs"]["reason"] == "the model predicts no survival curve"
    assert coxlike["c_index"]["value"] is not None
    flat = evaluate(table.assign(risk=-2.0), context)
    assert flat["c_index"]["value"] == 0.5
    assert "same risk" in flat["c_index"]["note"]


def test_an_empty_context_is_sufficient(survival_test):
    table, _ = load(survival_test)
    result = evaluate(table, {})
    assert {"c_index", "c_index_ipcw", "ibs", "auc_365", "hazard_ratio"} <= set(result)
    assert "cut at the median risk of these patients" in result["hazard_ratio"]["note"]


def test_the_hazard_ratio_is_cut_at_the_training_median_and_says_where_a_group_is_empty(survival_test):
    table, context = load(survival_test)
    for cut in (table["risk"].quantile(0.3), table["risk"].quantile(0.6)):
        entry = evaluate(table, context | {"median_risk": cut})["hazard_ratio"]
        expected = hazard_ratio(table["time"], table["event"], table["risk"] > cut)
        assert [entry[name] for name in ("value", "low", "high", "p")] == pytest.approx(expected, rel=1e-4)
        assert "note" not in entry
    above = evaluate(table, context | {"median_risk": 1e9})["hazard_ratio"]
    assert above["value"] is None
    assert above["reason"].startswith("all 60 patients are at low risk")


def test_kappa_is_a_class_metric_of_ordered_classes_only(tmp_path, make):
    table, context = load(make.classes(tmp_path / "runs" / "grade"))
    result = evaluate(table, context)
    names = ["auc", "accuracy", "balanced_accuracy", "specificity_macro", "f1_macro", "kappa_quadratic", "ece"]
    assert list(result) == names
    predicted = table[["prob_G2", "prob_G3", "prob_G4"]].to_numpy().argmax(1)
    truth = table["label"].map({"G2": 0, "G3": 1, "G4": 2})
    assert result["accuracy"]["value"] == pytest.approx((predicted == truth).mean())
    assert "kappa_quadratic" not in evaluate(table, context | {"ordered": False})
    hidden = table.assign(label=table["label"].where(table["label"] != "G4"))
    part = evaluate(hidden, context)
    assert part["auc"]["n"] == (table["label"] != "G4").sum()
    assert part["auc"]["note"] == "classes without a patient, left out of the mean: G4"
    nobody = evaluate(table.drop(columns="label"), context)
    assert nobody["auc"]["reason"] == "no patient has a known label"
    alone = evaluate(table[table["label"] == "G2"], context)
    assert alone["auc"]["value"] is None
    assert "of one class" in alone["auc"]["reason"]


def test_two_classes_have_sensitivity_and_specificity_and_more_have_the_macro_specificity(tmp_path, make):
    folder = make.classes(tmp_path / "runs" / "two", classes=("wild type", "mutant"))
    table, context = load(folder)
    result = evaluate(table, context)
    assert list(result)[:5] == ["auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity"]
    assert "specificity_macro" not in result  # it would be the balanced accuracy again
    is_mutant, predicted = table["label"] == "mutant", table["prob_mutant"] > 0.5
    assert result["sensitivity"]["value"] == pytest.approx(predicted[is_mutant].mean())
    assert result["specificity"]["value"] == pytest.approx((~predicted)[~is_mutant].mean())
    for name in ("sensitivity", "specificity"):
        assert result[name]["low"] < result[name]["value"] < result[name]["high"]


def test_curves_from_columns_equal_those_of_the_task(make):
    """The columns hold the model's curve at edges, end and horizons: between them nothing may be lost."""
    generator = np.random.default_rng(0)
    curve = torch.tensor(np.cumprod(generator.uniform(0.5, 0.99, (5, 4)), axis=1))
    edges, end = torch.tensor(make.edges), make.end
    columns = torch.tensor([*make.edges, end, 365.0, 1095.0])
    values = survival_at(curve, edges, end, columns).numpy()
    table = pd.DataFrame({f"survival_{day:g}": values[:, k] for k, day in enumerate(columns.tolist())})
    days = np.linspace(0, 3200, 77)
    expected = survival_at(curve, edges, end, torch.tensor(days)).numpy()
    assert curve_at(table, days) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_damaged_predictions_are_refused_by_name(tmp_path):
    path = tmp_path / "predictions.csv"
    for text, message in [
        ("patient,risk\nA,1\n", "no column patient_id"),
        ("patient_id,risk\nA,1\nA,2\n", "has two rows for the patient A"),
        ("patient_id,risk\nA,1\nB,\n", "patient B has no number in risk"),
        ("", "cannot be read as a table"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_predictions(path)
    path.write_text("patient_id,label,prob_a,prob_b\n007,b,0.5,0.5\nNA,x,0.5,0.5\n")
    table = read_predictions(path)
    assert table["patient_id"].tolist() == ["007", "NA"]
    with pytest.raises(InputError, match="patient NA has the label 'x', which is none of"):
        evaluate(table, {})
    with pytest.raises(InputError, match="neither a column risk or predicted_value nor columns prob_"):
        evaluate(table[["patient_id"]], {})
