"""Linear baselines against lifelines and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from sklearn.linear_model import LogisticRegression
from survival_rows import survival_rows

from dmml.errors import InputError
from dmml.evaluation.predictions import prediction_row, read_predictions, write_table
from dmml.experiment.crossval.linear_models import predict_joined
from dmml.experiment.crossval.penalty_choice import InnerFold, choose_penalty, fit_regression
from dmml.functional.survival import concordance_index
from dmml.linear.ridge import PENALTIES, choose, cox_log_likelihood, fit_cox, fit_logistic, rotate
from dmml.tasks import Classification, Survival
from dmml.tasks.ridge.cox_regression import breslow


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_ridge_cox_agrees_with_lifelines(penalty):
    x, time, event = survival_rows(60, 4)
    frame = pd.DataFrame(x).assign(time=time, event=event)
    lifelines_weights = CoxPHFitter(penalizer=penalty, l1_ratio=0.0).fit(frame, "time", "event").params_.to_numpy()
    np.testing.assert_allclose(fit_cox(x, time, event, penalty), lifelines_weights, atol=2e-4)


def in_years(n, p):
    """Outcomes recorded in whole years, a dozen patients to each."""
    x, time, event = survival_rows(n, p)
    return x, np.ceil(time / 200), event


def test_events_on_the_same_day_count_as_efron_counts_them():
    x, time, event = in_years(80, 3)
    assert pd.Series(time[event == 1]).duplicated().mean() > 0.5
    frame = pd.DataFrame(x).assign(time=time, event=event)
    fitted = CoxPHFitter(penalizer=1e-6).fit(frame, "time", "event")
    weights = fit_cox(x, time, event, 1e-6)
    np.testing.assert_allclose(weights, fitted.params_.to_numpy(), atol=1e-4)
    assert cox_log_likelihood(x @ weights, time, event) == pytest.approx(fitted.log_likelihood_, abs=1e-3)
    group = np.arange(80) % 3
    fitted = CoxPHFitter(penalizer=1e-6).fit(frame.assign(group=group), "time", "event", strata="group")
    np.testing.assert_allclose(fit_cox(x, time, event, 1e-6, group), fitted.params_.to_numpy(), atol=1e-4)


def test_strata_agree_with_lifelines():
    x, time, event = survival_rows(60, 2)
    group = np.arange(60) % 3
    frame = pd.DataFrame(x).assign(time=time, event=event, group=group)
    fitted = CoxPHFitter(penalizer=1e-6).fit(frame, "time", "event", strata="group")
    weights = fit_cox(x, time, event, 1e-6, group)
    np.testing.assert_allclose(weights, fitted.params_.to_numpy(), atol=1e-4)
    assert cox_log_likelihood(x @ weights, time, event, group) == pytest.approx(fitted.log_likelihood_, abs=1e-3)


def test_a_rotation_of_the_columns_does_not_change_the_ridge_solution():
    x, time, event = survival_rows(20, 9)
    rotated = rotate(x)
    assert rotate(survival_rows(12, 50)[0]).rows.shape[1] <= 12
    np.testing.assert_allclose(rotated.rows @ rotated.basis.T, x, atol=1e-10)
    rotated_back = rotated.basis @ fit_cox(rotated.rows, time, event, 0.2)
    np.testing.assert_allclose(rotated_back, fit_cox(x, time, event, 0.2), atol=1e-6)


def test_a_strong_penalty_shrinks_the_weights_to_the_centre():
    x, time, event = survival_rows(30, 2)
    np.testing.assert_allclose(fit_cox(x, time, event, 1e6, centre=0.3), 0.3, atol=1e-5)


def test_ridge_logistic_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    label = (x @ rng.normal(size=(3, 3)) + rng.normal(size=(80, 3))).argmax(1)
    penalty = 0.05
    weights = fit_logistic(x, label, 3, penalty)
    sklearn_model = LogisticRegression(C=1 / (penalty * 80), tol=1e-10, max_iter=5000).fit(x, label)
    np.testing.assert_allclose(weights[:-1].T, sklearn_model.coef_, atol=1e-3)
    np.testing.assert_allclose(
        weights[-1] - weights[-1].mean(), sklearn_model.intercept_ - sklearn_model.intercept_.mean(), atol=1e-3
    )


def test_breslow_agrees_with_lifelines():
    x, time, event = survival_rows(40, 2)
    reference = CoxPHFitter(penalizer=0.1, baseline_estimation_method="breslow").fit(
        pd.DataFrame(x).assign(time=time, event=event), "time", "event"
    )
    beta = reference.params_.to_numpy()
    days, hazard = breslow(x @ beta, time, event)
    lifelines_hazard = reference.baseline_cumulative_hazard_.iloc[:, 0]  # at the mean patient, who is 0 here
    np.testing.assert_allclose(hazard, lifelines_hazard.loc[days].to_numpy(), rtol=1e-4)


def outcome_of(time, event):
    return {"time": time, "event": event}


def folds_of(x, outcome, n=5):
    part = np.arange(len(x)) % n

    def fold(k):
        rest, out = part != k, part == k
        return InnerFold(x[rest], of(outcome, rest), x[out], of(outcome, out))

    return [fold(k) for k in range(n)]


def of(outcome, rows):
    return {name: values[rows] for name, values in outcome.items()}


def fitted(task, x, outcome):
    return fit_regression(task.regression(), x, outcome, choose_penalty(task.regression(), folds_of(x, outcome))[0])


def test_a_signal_among_many_genes_is_detected_and_predictions_are_complete():
    factor, time, event = survival_rows(150, 2)
    x = factor @ np.random.default_rng(1).normal(size=(2, 400)) + np.random.default_rng(2).normal(size=(150, 400))
    train, test = slice(0, 110), slice(110, 150)
    task = Survival(n_intervals=3)
    task.fit(outcome_of(time[train], event[train]))
    model = fitted(task, x[train], outcome_of(time[train], event[train]))
    columns = model.predictions(x[test])
    assert concordance_index(time[test], event[test], columns["risk"]) > 0.6
    days = sorted(float(name.split("_")[1]) for name in columns if name.startswith("survival_"))
    assert {f"survival_{day:g}" for day in [*task.edges, task.end]} <= set(columns)  # the days of the networks
    curve = np.column_stack([columns[f"survival_{day:g}"] for day in days])
    assert ((curve > 0) & (curve <= 1)).all()
    assert (np.diff(curve, axis=1) <= 0).all()
    high, low = columns["risk"].argmax(), columns["risk"].argmin()
    assert (curve[high] < curve[low]).all()


def test_noise_gets_the_stronger_penalty():
    def penalty(seed, strength):
        x, time, event = survival_rows(110, 20, seed, strength)
        return choose_penalty(Survival().regression(), folds_of(x, outcome_of(time, event)))[0]

    noise, signal = ([penalty(seed, strength) for seed in range(9)] for strength in (0.0, 1.0))
    assert np.median(noise) > 10 * np.median(signal)


def test_a_few_covariates_of_many_patients_are_practically_not_penalised():
    x, time, event = survival_rows(400, 4)
    model = fitted(Survival(), x, outcome_of(time, event))
    frame = pd.DataFrame(x).assign(time=time, event=event)
    unpenalised = CoxPHFitter().fit(frame, "time", "event").params_.to_numpy()
    assert np.corrcoef(x @ model.weight[:, 0], x @ unpenalised)[0, 1] > 0.999
    held_by_the_grid = fit_regression(Survival().regression(), x, outcome_of(time, event), PENALTIES[-1]).weight[:, 0]
    np.testing.assert_allclose(held_by_the_grid, unpenalised, atol=1e-3)


def test_the_chosen_penalty_does_not_depend_on_the_centre_of_the_columns():
    x, time, event = survival_rows(60, 3)
    one, other = (
        fit_regression(Survival().regression(), x + shift, outcome_of(time, event), 0.1).weight for shift in (0.0, 5.0)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_models_of_the_inner_folds_have_the_chosen_penalty_and_leave_out_their_patients():
    x, time, event = survival_rows(60, 3)
    outcome = outcome_of(time, event)
    folds = folds_of(x, outcome)
    penalty, models = choose_penalty(Survival().regression(), folds)
    assert penalty in PENALTIES
    for fold, model in zip(folds, models, strict=True):
        alone = fit_regression(Survival().regression(), fold.x, fold.outcome, penalty)
        np.testing.assert_allclose(model.weight, alone.weight, atol=1e-4)


def test_held_out_patients_without_an_event_leave_the_strongest_penalty():
    assert choose([1.0, 1.0, 0.5]) == 0
    assert choose([float("nan"), 0.1, 0.2]) == 2
    x, time, event = survival_rows(40, 3)
    none = {"time": np.zeros(0), "event": np.zeros(0)}
    fold = InnerFold(x, outcome_of(time, event), x[:0], none)
    assert choose_penalty(Survival().regression(), [fold])[0] == pytest.approx(PENALTIES[0])


def test_no_event_and_one_class_are_refused():
    x, time, event = survival_rows(20, 2)
    with pytest.raises(InputError, match="fold 2: no training patient has the event"):
        fit_regression(Survival().regression(), x, outcome_of(time, event * 0), 1.0, "fold 2")
    with pytest.raises(InputError, match="all of one class"):
        fit_regression(Classification(classes=["a", "b"]).regression(), x, {"label": np.zeros(20, int)}, 1.0)


def test_classes_choose_their_penalty_by_held_out_patients():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(90, 5))
    label = (x[:, :3] + 0.5 * rng.normal(size=(90, 3))).argmax(1)
    task = Classification(classes=["a", "b", "c"])
    signal, noise = (
        choose_penalty(task.regression(), folds_of(x, {"label": y}))[0] for y in (label, rng.permutation(label))
    )
    assert noise > 10 * signal
    columns = fitted(task, x, {"label": label}).predictions(x)
    assert (np.column_stack(list(columns.values())).argmax(1) == label).mean() > 0.8


def test_a_join_gives_weight_to_the_score_that_predicts():
    rng = np.random.default_rng(1)
    _, time, event = survival_rows(120, 2)
    knows = -np.log(time)[:, None]
    knows = (knows - knows.mean()) / knows.std()
    noise = rng.normal(size=(120, 1))
    first = Survival().regression().join(knows, noise, outcome_of(time, event)).weight[:, 0]
    second = Survival().regression().join(noise, knows, outcome_of(time, event)).weight[:, 0]
    assert first[0] > 3 * abs(first[1])
    assert second[1] > 3 * abs(second[0])
    none = Survival().regression().join(knows[:0], noise[:0], outcome_of(time[:0], event[:0])).weight[:, 0]
    np.testing.assert_allclose(none, 0.3)  # nobody to learn from: equal weights, not a constant risk


def test_with_many_patients_the_prior_of_a_join_hardly_matters():
    x, time, event = survival_rows(600, 2)
    few, many = (
        Survival().regression().join(x[:n, :1], x[:n, 1:], outcome_of(time[:n], event[:n])).weight[:, 0]
        for n in (12, 600)
    )
    unpenalised = fit_cox(x, time, event, 1e-9)
    np.testing.assert_allclose(many, unpenalised, atol=0.05)
    assert np.abs(few - 0.3).max() < np.abs(unpenalised - 0.3).max()


def test_joining_classes_mixes_logits():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 3, 150)
    knows = np.eye(3)[label] * 2 + rng.normal(size=(150, 3)) * 0.5
    noise = rng.normal(size=(150, 3))
    task = Classification(classes=["a", "b", "c"])
    weight = task.regression().join(noise, knows, {"label": label}).weight
    assert weight.shape == (6, 3)
    assert weight[3, 0] > 3 * abs(weight[0, 0])
    assert np.count_nonzero(weight) == 6


class FewPatients:
    """The part of a fold's data that `predict_joined` uses: 40 patients with two classes."""

    def __init__(self):
        self.patients = [f"P{i:02d}" for i in range(40)]
        self.labels = {patient: "AB"[i % 2] for i, patient in enumerate(self.patients)}

    def with_outcome(self, part):
        return self.patients[:30] if part == "train" else []

    def target(self, task, patients):
        return {"label": np.array(["AB".index(self.labels[patient]) for patient in patients])}

    def outcome_columns(self, task, patients):
        return {"label": [self.labels[patient] for patient in patients]}


def test_joined_models_keep_every_column_that_is_neither_prediction_nor_outcome(tmp_path):
    data, task = FewPatients(), Classification(["A", "B"])
    generator = np.random.default_rng(0)
    for folder, other in (("clinical", {}), ("network", {"n_tokens_10x": 4, "scanner": "left", "dose": 0.5})):
        (tmp_path / folder).mkdir()
        for file, patients in (("inner.csv", data.patients[:30]), ("predictions.csv", data.patients[30:])):
            share = generator.uniform(0.2, 0.8, len(patients))
            rows = [
                prediction_row(p, {"label": data.labels[p]}, {"prob_A": a, "prob_B": 1 - a}, True) | other
                for p, a in zip(patients, share, strict=True)
            ]
            write_table(tmp_path / folder / file, rows)
    inner, outer, _ = predict_joined(tmp_path / "network", tmp_path / "clinical", data, task)
    for row in (inner[0], outer[-1]):
        assert list(row) == [
            "patient_id", "label", "prob_A", "prob_B", "has_expression", "n_tokens_10x", "scanner", "dose",
        ]  # fmt: skip
        assert (row["n_tokens_10x"], row["scanner"], row["dose"]) == (4, "left", 0.5)
    assert [row["patient_id"] for row in outer] == data.patients[30:]
    assert outer[0]["prob_A"] != read_predictions(tmp_path / "network/predictions.csv")["prob_A"][0]
