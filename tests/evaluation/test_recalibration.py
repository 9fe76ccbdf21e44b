"""Recalibration on a share of a cohort, and the formal calibration test, against closed forms and known truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression

from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.recalibration import draw_share, fit_classes, fit_survival, recalibrate
from dmml.evaluation.statistics.calibration import calibration_at, greenwood_test


def survival_table(cohort, columns):
    return pd.DataFrame({"patient_id": cohort.patient_id, "time": cohort.time, "event": cohort.event, **columns})


def evaluated(predictions, **context):
    return Evaluation(Path("test"), Path("run"), predictions, context)


def test_the_share_is_drawn_within_strata():
    stratum = np.array([0] * 40 + [1] * 10)
    drawn = draw_share(stratum, 0.3)
    assert (drawn[:40].sum(), drawn[40:].sum()) == (12, 3)
    assert (drawn == draw_share(stratum, 0.3)).all()
    assert (drawn != draw_share(stratum, 0.3, seed=1)).any()


def test_survival_coefficients_undo_a_known_distortion(make):
    cohort = make.cohort(3000, seed=2)
    days = np.arange(20.0, 3001.0, 20.0)
    # H = rate · t; predictions H_p with H = e^0.5 H_p^1.4, that is H_p = (H / e^0.5)^(1 / 1.4).
    right = np.exp(cohort.log_rate)[:, None] * np.array(days)
    columns = {f"survival_{day:g}": np.exp(-((right[:, k] / np.exp(0.5)) ** (1 / 1.4))) for k, day in enumerate(days)}
    a, b = fit_survival(survival_table(cohort, {"risk": cohort.log_rate, **columns}))
    assert a == pytest.approx(0.5, abs=0.06)
    assert b == pytest.approx(1.4, abs=0.06)
    same = fit_survival(survival_table(cohort, make.predicted(cohort.log_rate)))
    assert same == pytest.approx((0, 1), abs=0.08)


def test_class_coefficients_equal_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 4000)
    logit = 2.5 * (label - 0.5) + generator.normal(size=4000)
    probability = np.column_stack([1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))])
    offsets, b = fit_classes(label, probability)
    sklearn_model = LogisticRegression(C=1e6).fit(logit[:, None], label)
    assert b == pytest.approx(sklearn_model.coef_[0, 0], rel=0.02)
    assert offsets[1] - offsets[0] == pytest.approx(sklearn_model.intercept_[0], abs=0.03)


def test_evaluated_patients_are_not_used_and_their_predictions_improve(make):
    cohort = make.cohort(400, seed=3)
    predictions = survival_table(cohort, make.predicted(cohort.log_rate + 1.2))  # far too many deaths foretold
    content, table = recalibrate(evaluated(predictions, horizons=[1095], end=make.end), 0.3)
    used = set(predictions["patient_id"]) - set(table["patient_id"])
    assert content["n_used"] == len(used)
    assert content["n"] == len(table) == 400 - len(used)
    assert content["coefficients"]["intercept"] < -0.5
    ibs = content["metrics"]["ibs"]
    assert ibs["after"]["value"] < ibs["before"]["value"] - 0.02
    day = content["calibration"]["1095"]
    assert abs(day["after"]["predicted"] - day["after"]["observed"]) < 0.08
    assert day["before"]["observed"] - day["before"]["predicted"] > 0.15
    assert day["after"]["p"] > 0.01 > day["before"]["p"]
    assert "c_index" not in content["metrics"]  # the order of the patients is what it was
    merged = predictions.merge(table, on="patient_id", suffixes=("", "_after"))
    assert (merged["risk"] == merged["risk_after"]).all()
    # Changing outcomes of the judged changes nothing that was fitted.
    other = predictions.copy()
    rows = other["patient_id"].isin(table["patient_id"])
    other.loc[rows, "time"] = other.loc[rows, "time"].to_numpy()[::-1]
    again, _ = recalibrate(evaluated(other, horizons=[1095], end=make.end), 0.3)
    assert again["coefficients"] == content["coefficients"]


def test_classes_are_recalibrated_unless_patients_are_too_few():
    generator = np.random.default_rng(1)
    label = generator.integers(0, 3, 600)
    logits = generator.normal(size=(600, 3))
    logits[np.arange(600), label] += 1
    predicted = np.exp(4 * logits)  # four times too sure
    predicted /= predicted.sum(1, keepdims=True)
    names = ["a", "b", "c"]
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(600)], "label": np.array(names)[label]})
    table = table.assign(**{f"prob_{name}": predicted[:, k] for k, name in enumerate(names)})
    content, after = recalibrate(evaluated(table, classes=names), 0.4)
    assert content["coefficients"]["slope"] == pytest.approx(0.25, abs=0.06)
    assert content["metrics"]["ece"]["after"]["value"] < content["metrics"]["ece"]["before"]["value"] / 2
    assert after[[f"prob_{name}" for name in names]].sum(1).to_numpy() == pytest.approx(1)
    few, none = recalibrate(evaluated(table.iloc[:30], classes=names), 0.3)
    assert none is None
    assert "of 10 needed" in few["reason"]


def test_without_censoring_the_formal_test_compares_shares():
    generator = np.random.default_rng(0)
    time = generator.exponential(1000, 200)
    predicted = np.repeat([0.2, 0.5], 100) + np.arange(200) * 1e-6
    statistic, df, p, reason = greenwood_test(time, np.ones(200), predicted, 700)
    order = np.arange(200)
    groups, waiting = [], []
    for part in np.array_split(order, 10):
        waiting += list(part)
        if (time[waiting] <= 700).sum() >= 15 and (time[waiting] >= 700).sum() >= 8:
            groups.append(waiting)
            waiting = []
    groups[-1] += waiting
    expected = 0.0
    for group in groups:
        share = (time[group] > 700).mean()
        expected += (share - predicted[group].mean()) ** 2 / (share * (1 - share) / len(group))
    assert statistic == pytest.approx(expected)
    assert df == len(groups) >= 2
    assert p == pytest.approx(chi2.sf(expected, df))
    assert reason == ""


def test_the_formal_test_has_the_greenwood_variance_of_lifelines(make):
    cohort = make.cohort(60, seed=5)
    day = 900.0
    statistic, df, *_ = greenwood_test(cohort.time, cohort.event, np.full(60, 0.5), day)
    groups = np.split(np.arange(60), [30]) if df == 2 else None
    fitted = [KaplanMeierFitter().fit(cohort.time[g], cohort.event[g]) for g in groups or [np.arange(60)]]
    expected = 0.0
    for one in fitted:
        table = one.event_table[(one.event_table.index <= day) & (one.event_table["observed"] > 0)]
        d, n = table["observed"].to_numpy(), table["at_risk"].to_numpy()
        survival = one.predict(day)
        expected += (survival - 0.5) ** 2 / (survival**2 * (d / (n * (n - d))).sum())
    assert df in (1, 2) or np.isnan(statistic)
    if np.isfinite(statistic):
        assert statistic == pytest.approx(expected)


def test_right_predictions_pass_as_often_as_the_level_says_and_wrong_ones_fail(make):
    passed = {0.0: [], 0.8: []}
    for seed in range(150):
        cohort = make.cohort(250, seed=seed)
        for late, results in passed.items():
            survival = np.exp(-np.exp(cohort.log_rate + late) * 1095)
            results.append(greenwood_test(cohort.time, cohort.event, survival, 1095)[2] >= 0.05)
    assert 0.88 <= np.mean(passed[0.0]) <= 0.99
    assert np.mean(passed[0.8]) < 0.1


def test_with_too_few_events_there_is_no_test_and_the_intercept_is_observed_over_expected(make):
    cohort = make.cohort(400, seed=1)
    table = survival_table(cohort, make.predicted(cohort.log_rate + 0.4))
    calibration = calibration_at(table, 1095)
    followed = np.minimum(cohort.time, 1095)
    observed = ((cohort.event > 0) & (cohort.time <= 1095)).sum()
    expected = (np.exp(cohort.log_rate + 0.4) * followed).sum()
    assert calibration.intercept == pytest.approx(np.log(observed / expected), abs=1e-3)
    assert calibration.intercept_low < -0.4 < calibration.intercept_high
    assert calibration.plain()["groups"][0]["n"] == 80
    few = calibration_at(table.iloc[:30], 365)
    assert np.isnan(few.p)
    assert few.plain()["p"] is None
    assert "15 events" in few.reason


def test_the_slope_is_that_of_a_cox_model(make):
    cohort = make.cohort(200, seed=9)
    predictions = survival_table(cohort, make.predicted(1.5 * cohort.log_rate))
    calibration = calibration_at(predictions, 1095)
    score = np.log(-np.log(predictions["survival_1095"]))
    table = pd.DataFrame({"t": np.minimum(cohort.time, 1095), "e": cohort.event * (cohort.time <= 1095), "x": score})
    assert calibration.slope == pytest.approx(CoxPHFitter().fit(table, "t", "e").params_["x"], rel=1e-3)
