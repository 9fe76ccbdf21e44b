"""A metric that cannot be computed is undefined, with a reason, and never 0 or 0.5."""

import numpy as np
import pandas as pd
import pytest

from dmml.evaluation.evaluate import evaluate

NAMES = ["G2", "G3", "G4"]


def survivors(make, n=40, **columns):
    cohort = make.cohort(n)
    table = pd.DataFrame({"patient_id": cohort.patient_id, "time": cohort.time, "event": cohort.event})
    return table.assign(**make.predicted(cohort.log_rate)).assign(**columns)


def assert_undefined(results, names):
    for name in names:
        entry = results[name]
        assert entry["value"] is None, name
        assert entry["low"] is entry["high"] is None
        assert len(entry["reason"]) > 10, name


@pytest.mark.parametrize("events", [0, 1])
def test_without_events_every_metric_is_undefined(make, events):
    event = np.zeros(40)
    event[:events] = 1
    results = evaluate(survivors(make, event=event), {"horizons": [365, 1095]})
    assert set(results) >= {"c_index", "c_index_ipcw", "ibs", "auc_365", "auc_1095"}
    assert_undefined(results, results)


def test_without_outcomes_every_metric_is_undefined(make):
    assert_undefined(results := evaluate(survivors(make, time=np.nan), {"horizons": [365]}), results)


def test_a_day_that_no_patient_reached_or_before_any_death_has_no_auc(make):
    table = survivors(make)
    table["time"] = table["time"].clip(upper=300) + 10.0
    results = evaluate(table, {"horizons": [5.0, 900.0]})
    assert_undefined(results, ["auc_5", "auc_900"])
    assert results["c_index"]["value"] > 0.6


def test_without_comparable_pairs_concordance_is_undefined(make):
    results = evaluate(survivors(make, time=100.0, event=1.0), {"horizons": [365]})
    assert_undefined(results, ["c_index", "c_index_ipcw", "auc_365"])


def test_a_note_says_that_every_patient_has_the_same_risk(make):
    table = survivors(make)
    results = evaluate(table.assign(risk=1.0), {"horizons": [365]})
    assert results["c_index"]["value"] == 0.5
    assert "every patient has the same risk" in results["c_index"]["note"]


def test_a_model_without_curves_has_no_brier_score(make):
    table = survivors(make)
    results = evaluate(table[["patient_id", "time", "event", "risk"]], {"horizons": [365]})
    assert_undefined(results, ["ibs"])
    assert results["auc_365"]["value"] > 0.6


def classified(labels):
    probability = np.random.default_rng(0).dirichlet([2, 2, 2], len(labels))
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(len(labels))], "label": labels})
    return table.assign(**{f"prob_{name}": probability[:, k] for k, name in enumerate(NAMES)})


def test_a_single_class_has_an_accuracy_but_no_metric_that_compares_classes():
    results = evaluate(classified(["G3"] * 20), {"classes": NAMES})
    assert_undefined(results, ["auc", "balanced_accuracy", "specificity_macro", "f1_macro"])
    assert results["accuracy"]["value"] is not None
    assert results["accuracy"]["n"] == 20


def test_a_class_that_does_not_occur_is_named():
    results = evaluate(classified(["G3", "G2"] * 15), {"classes": NAMES})
    assert "G4" in results["auc"]["note"]
    assert "G4" in results["balanced_accuracy"]["note"]
    assert "G4" in results["specificity_macro"]["note"]


def test_without_labels_class_metrics_are_undefined():
    assert_undefined(results := evaluate(classified([np.nan] * 5), {"classes": NAMES}), results)


def test_a_true_risk_without_an_interval_is_not_distinguished_from_chance():
    time, event = [10, 20, 1, 2, 3, 4, 5], [1, 1, 0, 0, 0, 0, 0]
    patients = [f"P{i}" for i in range(7)]
    table = pd.DataFrame({"patient_id": patients, "time": time, "event": event, "risk": np.arange(7.0)})
    truth = dict(zip(patients, [2.0, 1.0, 0, 0, 0, 0, 0], strict=True))
    results = evaluate(table, {"horizons": [], "oracle_risk": truth})
    assert results["c_index_oracle"]["value"] == 1
    assert_undefined(results, ["share_of_oracle"])


def test_deaths_after_the_training_follow_up_are_the_stated_reason_of_an_undefined_auc(make):
    table = survivors(make)
    early = {"time": [1.0, 50.0], "survival": [0.5, 0.0]}  # nobody was followed past day 50
    results = evaluate(table, {"horizons": [1095], "censoring": early})
    assert ((table["time"] <= 1095) & (table["event"] > 0)).any()
    assert_undefined(results, ["auc_1095"])
    assert "no training patient was followed" in results["auc_1095"]["reason"]
    results = evaluate(table, {"horizons": [0.5], "censoring": early})
    assert results["auc_0.5"]["reason"].startswith("no patient is known to have died by day 0.5")
