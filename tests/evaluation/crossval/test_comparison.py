"""Two cross-validations compared: the numbers of the page, the patients they rest on, and what is refused."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest
from html_page import Page

from dmml.commands import report as command
from dmml.errors import InputError
from dmml.evaluation import metrics
from dmml.evaluation.bootstrap import holm, resamples
from dmml.evaluation.crossval.comparison import compare_crossvals
from dmml.evaluation.crossval.results import read_crossval

FOLDS = 3


def write_survival(folder, cohort, noise, patients=None, fold=None):
    """A collected cross-validation with a model for each noise, whose risks have another scale in each fold."""
    folder.mkdir(parents=True)
    fold = np.arange(len(cohort.time)) % FOLDS if fold is None else fold
    tables = []
    for seed, (name, spread) in enumerate(noise.items()):
        risk = cohort.log_rate + spread * np.random.default_rng(seed).normal(size=len(fold)) + 100.0 * fold
        table = pd.DataFrame({"model": name, "fold": fold, "repeat": 0, "seed": 0, "patient_id": cohort.patient_id})
        tables.append(table.assign(time=cohort.time, event=cohort.event, risk=risk).iloc[:patients])
    pd.concat(tables).to_csv(folder / "oof_predictions.csv", index=False)
    write_content(folder, "c_index", noise)
    return folder


def write_classes(folder, strength, fold=None):
    folder.mkdir(parents=True)
    label = np.random.default_rng(0).integers(0, 3, 120)
    generator = np.random.default_rng(int(10 * strength))
    logits = generator.normal(size=(120, 3))
    logits[np.arange(120), label] += strength
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table = pd.DataFrame({"model": "teacher", "fold": np.arange(120) % FOLDS, "repeat": 0, "seed": 0})
    table = table.assign(patient_id=[f"P{i}" for i in range(120)], label=np.array(["G2", "G3", "G4"])[label])
    table[["prob_G2", "prob_G3", "prob_G4"]] = probability
    table.to_csv(folder / "oof_predictions.csv", index=False)
    write_content(folder, "auc", ["teacher"])
    return folder


def write_content(folder, metric, models):
    entry = {"folds": [0.6] * FOLDS, "mean": 0.6, "sd": 0.0, "pooled": {"value": 0.6, "low": 0.5, "high": 0.7}}
    content = {
        "cohort": "luad",
        "primary_metric": metric,
        "patients": 90,
        "events": 40,
        "units": [{"repeat": 0, "fold": fold, "seed": 0} for fold in range(FOLDS)],
        "models": {name: {metric: entry} for name in models},
        "paired": [],
    }
    (folder / "crossval.json").write_text(json.dumps(content))


@pytest.fixture
def two(tmp_path, make):
    cohort = make.cohort(90, seed=5)
    first = write_survival(tmp_path / "first", cohort, {"teacher": 0.3, "student": 0.5, "clinical": 2.0})
    second = write_survival(tmp_path / "second", cohort, {"student": 0.5, "teacher": 3.0})
    return first, second


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


def compare(first, second, *more_pairs):
    return {(row.a, row.b): row for row in compare_crossvals(read_crossval(first), read_crossval(second), more_pairs)}


def concordance(folder, model, weights=None):
    """Harrell's concordance over pairs within folds, of patients that are repeated as their weights say."""
    rows = read_crossval(folder).predictions_of(model).sort_values("patient_id").reset_index(drop=True)
    rows = rows if weights is None else rows.loc[np.repeat(np.arange(len(rows)), weights)]
    return metrics.concordance_within(rows["time"], rows["event"], rows["fold"], rows["risk"])


def test_models_of_the_same_name_and_chosen_ones_are_compared_within_folds(two):
    rows = compare(*two, ("clinical", "student"))
    assert list(rows) == [("teacher", "teacher"), ("student", "student"), ("clinical", "student")]
    for (a, b), row in rows.items():
        values = concordance(two[0], a), concordance(two[1], b)
        assert (row.value_a.value, row.value_b.value) == pytest.approx(values)
        assert row.difference.estimate == pytest.approx(values[0] - values[1], abs=1e-6)
        assert row.difference.low <= row.difference.estimate <= row.difference.high
        assert (row.n, row.only_a, row.only_b) == (90, 0, 0)
    assert rows["teacher", "teacher"].difference.low > 0
    adjusted = holm([row.difference.p for row in rows.values()])
    np.testing.assert_allclose([row.p_holm for row in rows.values()], adjusted)


def test_the_interval_is_that_of_resampled_patients(two):
    difference = compare(*two)["teacher", "teacher"].difference
    table = read_crossval(two[0]).predictions_of("teacher").sort_values("patient_id")
    strata = table.groupby(["event", "fold"]).ngroup().to_numpy()
    draws = resamples(90, strata, 400, whole=True).astype(int)
    slow = [concordance(two[0], "teacher", w) - concordance(two[1], "teacher", w) for w in draws]
    assert np.quantile(slow, [0.025, 0.975]) == pytest.approx([difference.low, difference.high], abs=0.02)


def test_a_cross_validation_does_not_differ_from_itself(two):
    for row in compare(two[0], two[0]).values():
        assert row.difference[:3] == (0, 0, 0)
        assert row.difference.p == 1


def test_classes_are_compared_by_the_auc_within_folds(tmp_path):
    row = compare(write_classes(tmp_path / "a", 2.0), write_classes(tmp_path / "b", 0.5))["teacher", "teacher"]
    assert row.difference.low > 0
    assert row.events is None


def test_numbers_of_folds_do_not_matter_but_their_patients_do(tmp_path, make, two):
    cohort, other = make.cohort(90, seed=5), (np.arange(90) + 1) % FOLDS
    renumbered = write_survival(tmp_path / "renumbered", cohort, {"teacher": 0.3}, fold=other)
    assert compare(two[0], renumbered)["teacher", "teacher"].n == 90
    moved = write_survival(tmp_path / "moved", cohort, {"teacher": 0.3}, fold=np.arange(90) // 30)
    with pytest.raises(InputError, match=r"different folds: no fold of .* has the test patients of fold 0"):
        compare(two[0], moved)


def test_the_patients_that_both_have_are_compared_and_the_others_are_named(tmp_path, make, two, capsys):
    cohort = make.cohort(90, seed=5)
    fewer = write_survival(tmp_path / "fewer", cohort, {"teacher": 3.0}, patients=80)
    row = compare(two[0], fewer)["teacher", "teacher"]
    assert (row.n, row.only_a, row.only_b, row.events) == (80, 10, 0, cohort.event[:80].sum())
    run_command(two[0], fewer)
    warning, written = capsys.readouterr().out.splitlines()
    assert warning.startswith(f"the patients differ: 10 are only in {two[0]} and 0 only in {fewer}")
    assert str(fewer / "comparison_with_first.html") in written


def test_the_page_has_every_number_and_leaves_the_own_reports_alone(two):
    (two[1] / "report.html").write_text("its own")
    run_command(*two, "--pair", "clinical:student")
    path = two[1] / "comparison_with_first.html"
    page = Page(path.read_text()).check()
    rows = compare(*two, ("clinical", "student"))
    for row in rows.values():
        assert f"{row.value_a.value:.3f}" in page.text
        assert f"{row.difference.estimate:.3f}".replace("-", "−") in page.text
    assert "clinical covariates − student" in page.text
    assert "dmml report" in page.text
    assert "--pair clinical:student" in page.text
    stored = json.loads(path.with_suffix(".json").read_text())
    assert [row["difference"]["estimate"] for row in stored["models"]] == [r.difference.estimate for r in rows.values()]
    assert (two[1] / "report.html").read_text() == "its own"
    assert (two[1] / "comparison_with_first_plots" / "differences.svg").is_file()
    assert path.stat().st_size < 2e5


def test_what_cannot_be_compared_is_refused_in_one_line(two, tmp_path, make):
    classes = write_classes(tmp_path / "classes", 1.0)
    other = write_survival(tmp_path / "other", make.cohort(90, seed=6), {"teacher": 0.3})
    renamed = write_survival(tmp_path / "renamed", make.cohort(90, seed=5), {"mine": 0.3})
    for arguments, message in (
        ((two[0], classes), "is judged by c_index and .* by auc"),
        ((two[0], other), "different outcomes of patient P000"),
        ((two[0], renamed), "no model of the same name"),
        ((*two, "--pair", "teacher:x"), "has no model x; it has student, teacher"),
        ((*two, "--pair", "teacher"), "name two models as FIRST:SECOND"),
        ((*two, "--plot", "m:f"), "leave it out to compare two"),
        ((two[0], "--pair", "teacher:student"), "name the folders of two"),
        ((*two, renamed), "give it alone"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            run_command(*arguments)
        assert "\n" not in str(raised.value)
    assert not list(two[1].glob("comparison*"))
