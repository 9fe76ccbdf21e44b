"""The report of a cross-validation: sentences, values and plots, hostile names, and damaged folders."""

import argparse
import json
import sys

import numpy as np
import pandas as pd
import pytest
from html_page import Page
from recomputed import log_rank

from dmml.commands import report as command
from dmml.errors import InputError
from dmml.evaluation import interval_settings
from dmml.evaluation.crossval.model_names import MODELS, inputs_of
from dmml.evaluation.crossval.plots import calibrations_of, models_by_metric, models_with_curves, risk_group_plot
from dmml.evaluation.crossval.report import write_crossval_report
from dmml.evaluation.crossval.results import read_crossval
from dmml.evaluation.crossval.sentences import outlying_sentences, summary
from dmml.evaluation.crossval.training_curves import fold_curves, training_plots_by_model
from dmml.evaluation.statistics.log_rank import stratified_log_rank
from dmml.experiment.crossval.table import format_tables
from dmml.nn.baselines.registry import BASELINES

FOLDS = 3
POOLED = {
    "teacher": (0.70, 0.61, 0.78),
    "rna_linear": (0.72, 0.63, 0.80),
    "histology_abmil": (0.58, 0.49, 0.67),
    "clinical": (0.66, 0.57, 0.75),
    "rna_linear+clinical": (0.75, 0.66, 0.83),
}


def entry(value, low, high):
    folds = [value - 0.02, value, value + 0.02]
    return {"folds": folds, "mean": value, "sd": 0.02, "pooled": {"value": value, "low": low, "high": high}}


def pair(a, b, difference, low, high, p, holm=None):
    row = {"a": a, "b": b, "metric": "c_index", "difference": difference, "low": low, "high": high, "p": p}
    row |= {"p_resampled": 0.4, "primary": holm is None}
    return row if holm is None else row | {"p_holm": holm}


def content(cohort="luad", models=POOLED, more=("ibs",)):
    return {
        "cohort": cohort,
        "task": "survival",
        "primary_metric": "c_index",
        "patients": 90,
        "events": 47,
        "units": [{"repeat": 0, "fold": fold, "seed": 0} for fold in range(FOLDS)],
        "models": {
            name: {"c_index": entry(*values)} | {m: entry(0.2, 0.15, 0.25) for m in more}
            for name, values in models.items()
        },
        "paired": [
            pair("teacher", "rna_linear", -0.02, -0.06, 0.02, 0.31),
            pair("teacher", "histology_abmil", 0.12, 0.03, 0.21, 0.01, 0.02),
            pair("rna_linear+clinical", "clinical", 0.09, 0.01, 0.17, 0.03, 0.06),
        ],
        "added_to_clinical": {"rna_linear": {"chi2": 15.2, "p": 0.0001, "p_holm": 0.0002, "coefficient": 0.6, "n": 90}},
    }


def write_crossval(folder, cohort, crossval=None, plan=None):
    """A collected cross-validation whose risks of fold k live on a scale of their own."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(2)
    fold = np.arange(len(cohort.time)) % FOLDS
    tables = []
    for name in (crossval or content())["models"]:
        risk = cohort.log_rate + generator.normal(size=len(fold)) + 100.0 * fold
        table = pd.DataFrame({"model": name, "fold": fold, "repeat": 0, "seed": 0, "patient_id": cohort.patient_id})
        tables.append(table.assign(time=cohort.time, event=cohort.event, risk=risk, survival_365=0.7))
    pd.concat(tables).to_csv(folder / "oof_predictions.csv", index=False)
    (folder / "crossval.json").write_text(json.dumps(crossval or content()))
    data = {"expression": "e.parquet", "features": "f.zarr", "covariates": ["age", "stage"]}
    (folder / "plan.json").write_text(json.dumps(plan or {"dmml": "0.1.0", "data": data, "file": {"clinical": "ab12"}}))
    return folder


@pytest.fixture
def folder(tmp_path, make):
    return write_crossval(tmp_path / "cv", make.cohort(90, seed=5))


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_the_summary_names_the_best_model_and_what_each_input_adds(folder):
    sentences = summary(read_crossval(folder))
    assert "On the cohort luad (90 patients, 47 events)" in sentences[0]
    assert (
        "0.75 (95 % interval 0.66 to 0.83), is that of a linear model of the RNA joined with the clinical"
        in sentences[0]
    )
    assert "the best of 5 models" in sentences[0]
    assert "the teacher, which sees slides and RNA, minus that of a linear model of the RNA is −0.020" in sentences[1]
    assert sentences[1].endswith("no clear difference between the two.")
    assert sentences[2] == "The clinical covariates alone (age, stage) reach 0.66 (95 % interval 0.57 to 0.75)."
    assert sentences[3].startswith("Adding RNA (a linear model) gives 0.75 (95 % interval 0.66 to 0.83), a difference")
    assert "a difference of +0.090 (95 % interval 0.010 to 0.170" in sentences[3]
    assert "p = 0.060 by Holm" in sentences[3]
    assert (
        "likelihood-ratio test p < 0.001 by Holm: the score improves the fit; for the gain in concordance, the"
        in sentences[3]
    )
    assert sentences[3].endswith("but after adjustment for the number of comparisons it may be due to chance.")
    assert sentences[4].startswith("What RNA adds to slides (teacher − slides, gated ABMIL): +0.120")
    assert "a gain in these patients, which may not hold from fold to fold" in sentences[4]
    assert sentences[4].endswith("(resampled t-test p = 0.40).")
    assert "give no reason to prefer the network" in sentences[5]
    assert "the p values of the 2 others are adjusted by Holm's method" in sentences[-1]


def with_hazard_ratios(**more):
    """The same results with a hazard ratio of every model, of which one is undefined."""
    crossval = content() | more
    ratio = {"value": 2.345, "low": 1.21, "high": 4.56, "p": 0.0117, "n": 90, "events": 47, "folds": [2.0, None, 3.0]}
    crossval["hazard_ratio"] = dict.fromkeys(crossval["models"], ratio)
    undefined = {"value": None, "low": None, "high": None, "n": 90, "events": 47, "folds": [None] * FOLDS}
    crossval["hazard_ratio"]["clinical"] = undefined | {"reason": "all 90 patients are at low risk"}
    return crossval


def write_medians(folder):
    """The median risk of each fold's training patients, for every model."""
    for model in content()["models"]:
        write_contexts(folder, model, [{"median_risk": -7.0 + 100 * fold} for fold in range(FOLDS)])


def test_hazard_ratios_are_shown_with_the_risk_groups_and_are_absent_from_earlier_results(tmp_path, make):
    crossval = with_hazard_ratios()
    folder = write_crossval(tmp_path / "cv", make.cohort(90, seed=5), crossval)
    write_medians(folder)
    page = Page(write_crossval_report(folder).read_text()).check()
    [table] = [t for t in page.tables if t["caption"].startswith("Hazard ratio of high against low risk, each fold")]
    rows = {row[0]: row[1:] for row in table["rows"][1:]}
    assert len(rows) == len(crossval["models"])
    assert next(row for name, row in rows.items() if "teacher" in name) == ["2.35", "1.21–4.56", "0.012", "90", "47"]
    clinical = next((name, row) for name, row in rows.items() if "all 90 patients are at low risk" in name)
    assert clinical[1] == ["—", "", "", "90", "47"]
    assert "hazard ratio 2.35 (1.21 to 4.56)" in page.text  # in the plots
    assert "by Cox regression: 2.35 (95 % interval 1.21 to 4.56, p = 0.012)" in page.text
    assert "No hazard ratio is given: all 90 patients are at low risk" in page.text
    old = write_crossval(tmp_path / "old", make.cohort(90, seed=5))
    write_medians(old)
    without = Page(write_crossval_report(old).read_text()).check()
    assert "azard ratio" not in without.text
    assert "divided within each fold at the median risk" in without.text


def test_the_page_has_the_level_and_the_resamples_that_the_results_record(tmp_path, make):
    folder = write_crossval(tmp_path / "cv", make.cohort(90, seed=5), with_hazard_ratios(level=0.8, resamples=300))
    write_medians(folder)
    text = Page(write_crossval_report(folder).read_text()).check().text.replace("\N{NO-BREAK SPACE}", " ")
    assert "80 % interval" in text
    assert "95 %" not in text
    assert "300 patient-bootstrap resamples" in text
    assert interval_settings.LEVEL == 0.95
    old = write_crossval(tmp_path / "old", make.cohort(90, seed=5))
    assert read_crossval(old).level == 0.95
    assert "95 % interval" in Page(write_crossval_report(old).read_text()).text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_summary_distinguishes_a_better_fit_from_a_better_concordance(tmp_path, make):
    crossval = content()
    crossval["paired"][2] |= {"low": -0.01, "p": 0.09, "p_holm": 0.18}
    words = summary(read_crossval(write_crossval(tmp_path / "cv", make.cohort(90), crossval)))
    assert words[3].endswith("the score improves the fit, but these patients show no clear gain in concordance.")
    crossval["added_to_clinical"]["rna_linear"] |= {"p": 0.03, "p_holm": 0.3}
    words = summary(read_crossval(write_crossval(tmp_path / "cw", make.cohort(90), crossval)))
    assert words[3].endswith("no clear difference between the two.")


def test_the_summary_says_whether_a_gain_holds_from_fold_to_fold(tmp_path, make):
    crossval = content()
    crossval["paired"][1]["p_resampled"] = 0.02
    words = summary(read_crossval(write_crossval(tmp_path / "cv", make.cohort(90), crossval)))
    assert words[4].endswith(
        "a gain in these patients, which also holds from fold to fold (resampled t-test p = 0.020)."
    )
    crossval["paired"][1]["p_resampled_holm"] = 0.08
    words = summary(read_crossval(write_crossval(tmp_path / "cw", make.cohort(90), crossval)))
    assert words[4].endswith("which may not hold from fold to fold (resampled t-test p = 0.080 by Holm).")


def test_the_summary_leaves_out_the_gain_by_an_absent_input(tmp_path, make):
    plan = {"data": {"expression": "e.parquet"}}
    sentences = " ".join(summary(read_crossval(write_crossval(tmp_path / "rna", make.cohort(90), plan=plan))))
    assert "What RNA adds" not in sentences
    assert "the teacher, which sees RNA, minus" in sentences
    assert inputs_of("teacher", {"RNA"}) == "RNA"
    assert inputs_of("teacher", {"RNA", "slides"}) == "slides and RNA"


def test_the_inputs_of_every_model_are_those_that_its_network_reads():
    for name, baseline in BASELINES.items():
        assert MODELS[name].needs == baseline.reads
        assert inputs_of(name, {"RNA", "slides"}) == " and ".join(sorted(baseline.reads, reverse=True))


@pytest.mark.slow
def test_the_page_holds_every_value_and_the_plots_are_saved_next_to_it(folder, capsys):
    run_command(folder)
    path = folder / "report.html"
    assert capsys.readouterr().out.startswith(f"{path} (cross-validation, ")
    page = Page(path.read_text()).check()
    assert path.stat().st_size < 1e6
    for name, (value, low, high) in POOLED.items():
        assert f"{value:.2f} {low:.2f}–{high:.2f}" in page.text, name
    by_caption = {table["caption"]: table["rows"] for table in page.tables}
    rows = next(rows for caption, rows in by_caption.items() if caption.startswith("Differences of"))
    assert [row[1] for row in rows[1:]] == ["−0.020", "0.120", "0.090"]
    assert [row[4] for row in rows[1:]] == ["", "0.020", "0.060"]
    rows = next(rows for caption, rows in by_caption.items() if caption.startswith("What a model's out-of-fold score"))
    assert rows[1] == ["RNA, linear", "15.20", "< 0.001", "< 0.001", "0.60", "90"]
    rows = next(rows for caption, rows in by_caption.items() if caption.endswith("in every fold"))
    assert rows[1] == ["teacher", "0.680", "0.700", "0.720"]
    assert "dmml crossval --config CONFIG.yaml --models teacher,rna_linear,histology_abmil,clinical" in page.text
    assert "ab12" in page.text
    assert "RNA, linear, fold 1: 0.720" in page.titles
    names = {file.name for file in (folder / "plots").iterdir()}
    pictures = {"models_c_index", "models_ibs", "differences", "folds", "thirds_teacher", "thirds_rna_linear"}
    assert {f"{name}.{kind}" for name in pictures for kind in ("png", "svg")} <= names
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_the_page_repeats_the_recorded_command(folder):
    (folder / "provenance.json").write_text(json.dumps({"command": "dmml crossval --config my.yaml", "finished": "x"}))
    page = Page(write_crossval_report(folder, folder / "other.html").read_text())
    assert "dmml crossval --config my.yaml" in page.text
    assert "CONFIG.yaml" not in page.text
    assert (folder / "other_plots" / "folds.svg").is_file()


def write_contexts(folder, model, contexts):
    for fold, context in enumerate(contexts):
        fold_folder = folder / f"fold_{fold}" / model
        fold_folder.mkdir(parents=True)
        (fold_folder / "context.json").write_text(json.dumps(context))


def test_risk_groups_are_divided_at_the_training_median_of_each_fold(folder):
    cuts = [-6.5, 93.0, 193.5]
    for model in ("teacher", "rna_linear+clinical"):
        write_contexts(folder, model, [{"median_risk": cut} for cut in cuts])
    rows = pd.read_csv(folder / "oof_predictions.csv").query("model == 'teacher'").reset_index(drop=True)
    high = np.array([risk > cuts[fold] for risk, fold in zip(rows["risk"], rows["fold"], strict=True)])
    plot = risk_group_plot(read_crossval(folder), "teacher")
    for group, name in ((~high, "low risk"), (high, "high risk")):
        assert f"{group.sum()} patients at {name} ({int(rows['event'][group].sum())} events)" in plot.caption
    assert 0 < high.sum() < len(rows)
    assert high.sum() % 15  # no equal halves: the cut is not the tested patients' own
    p = log_rank(*(rows[name].to_numpy() for name in ("time", "event")), high, rows["fold"].to_numpy())
    assert ("log-rank p < 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}") in plot.alt
    assert "The log-rank test compares the patients of a fold with each other" in plot.caption
    assert plot.name == "risk_groups_teacher"
    assert "divided within each fold at the median risk of its training patients" in plot.caption
    joined = risk_group_plot(read_crossval(folder), "rna_linear+clinical")
    assert "of its training patients that the join was fitted to" in joined.caption


@pytest.mark.slow
def test_calibration_is_evaluated_only_at_horizons_of_every_fold(folder):
    write_contexts(folder, "teacher", [{"horizons": [365.0]}, {"horizons": []}, {"horizons": [365.0]}])
    calibrations, absent = calibrations_of(read_crossval(folder), "teacher")
    assert calibrations == []
    assert absent[0] == (
        "teacher, 1 year: not evaluated, because fewer than 10 % of the training patients of fold 1 are at risk at that time."
    )
    assert [one.day for one in calibrations_of(read_crossval(folder), "clinical")[0]] == [365]
    write_contexts(folder, "rna_linear+clinical", [{"horizons": []}] * FOLDS)
    page = Page(write_crossval_report(folder).read_text()).check()
    assert "teacher, 1 year: not evaluated, because fewer than" in page.text


def test_a_patient_of_several_random_splits_counts_once(folder):
    table = pd.read_csv(folder / "oof_predictions.csv")
    again = table[table["fold"] == 0].assign(fold=1, risk=lambda rows: rows["risk"] + 1000)
    table = pd.concat([table[table["fold"] == 0], again, table[table["fold"] > 0]])
    table.to_csv(folder / "oof_predictions.csv", index=False)
    rows = read_crossval(folder).predictions_of("teacher")
    assert rows["patient_id"].is_unique
    assert len(rows) == 90
    assert rows["risk"].max() < 500


def test_without_training_medians_patients_are_divided_into_thirds_within_each_fold(folder):
    result = read_crossval(folder)
    rows = pd.read_csv(folder / "oof_predictions.csv").query("model == 'teacher'").reset_index(drop=True)
    third = np.zeros(len(rows), int)
    for fold in range(FOLDS):
        members = rows.index[rows["fold"] == fold]
        ordered = sorted(members, key=lambda row: rows.loc[row, "risk"])
        for place, row in enumerate(ordered):
            third[row] = 3 * place // len(ordered)
    expected = stratified_log_rank(rows["time"], rows["event"], third, rows["fold"])
    plot = risk_group_plot(result, "teacher")
    counts = [(int((third == k).sum()), int(rows["event"][third == k].sum())) for k in range(3)]
    for (n, events), name in zip(counts, ("low risk", "intermediate risk", "high risk"), strict=True):
        assert f"{n} patients at {name} ({events} events)" in plot.caption
    assert expected < 0.01
    assert "log-rank p < 0.001" in plot.alt if expected < 0.001 else f"= {expected:.3f}" in plot.alt
    assert [line.name for line in plot.readout.lines] == ["low risk", "middle", "high risk"]
    assert "because the folders of the fits keep no training median" in plot.caption


def test_a_model_and_its_join_share_a_row(folder):
    plot = models_by_metric(read_crossval(folder), "c_index")
    labels = [text.get_text() for text in plot.figure.axes[0].get_yticklabels()]
    assert labels == ["teacher", "RNA, linear", "slides, gated ABMIL", "clinical covariates"]
    assert "RNA, linear + clinical: 0.750 (0.660 to 0.830)" in plot.tooltips.values()
    assert models_with_curves(read_crossval(folder))[:3] == ["rna_linear+clinical", "teacher", "rna_linear"]


def test_undefined_values_are_reported_with_the_reason(tmp_path, make):
    crossval = content(models={name: POOLED[name] for name in ("teacher", "histology_abmil")}, more=())
    crossval["paired"] = crossval["paired"][1:2]
    nothing = {"value": None, "low": None, "high": None}
    crossval["models"]["histology_abmil"]["c_index"] = {
        "folds": [None] * FOLDS, "mean": None, "sd": None, "pooled": nothing, "undefined": {"fold 0": "no event"},
    }  # fmt: skip
    crossval["paired"][0] |= {"difference": None, "low": None, "high": None, "p": None, "p_holm": None}
    crossval["missing"] = {"late_fusion": ["fold 2"]}
    page = Page(write_crossval_report(write_crossval(tmp_path / "cv", make.cohort(90), crossval)).read_text()).check()
    assert "undefined in fold 0: no event (slides, gated ABMIL)" in page.text
    assert "late fusion is left out, because it is not finished in fold 2." in page.text
    assert "What RNA adds to slides" not in page.text


def test_markup_in_names_from_files_is_shown_as_text(tmp_path, make):
    bad = '<img src=x onerror="alert(1)">'
    crossval = content("<script>alert(1)</script>", {"clinical": POOLED["clinical"], bad: (0.6, 0.5, 0.7)}, ())
    crossval["paired"] = [pair(bad, "clinical", 0.2, 0.1, 0.3, 0.01, 0.01)]
    crossval["models"][bad]["c_index"]["undefined"] = {bad: bad}
    plan = {"data": {"expression": bad, "covariates": [bad]}, "file": {bad: bad}}
    text = write_crossval_report(write_crossval(tmp_path / "cv", make.cohort(90), crossval, plan)).read_text()
    page = Page(text).check()  # an element or handler of theirs would be met here
    assert "<script>alert" not in text
    assert "<img" not in text
    assert any(bad in title for title in page.titles)
    assert "<script>alert(1)</script>" in page.text


def test_a_cross_validation_of_classes_is_reported(tmp_path):
    generator = np.random.default_rng(0)
    crossval = content()
    crossval |= {
        "primary_metric": "auc",
        "events": None,
        "task": "classification",
        "paired": [],
        "added_to_clinical": {},
    }
    crossval["models"] = {"teacher": {"auc": entry(0.8, 0.7, 0.9)}}
    folder = tmp_path / "cv"
    folder.mkdir()
    (folder / "crossval.json").write_text(json.dumps(crossval))
    probability = generator.dirichlet([1, 1], 30)
    table = pd.DataFrame({"model": "teacher", "fold": np.arange(30) % 3, "patient_id": [f"P{i}" for i in range(30)]})
    table = table.assign(label=generator.choice(["NA", "G4"], 30), prob_NA=probability[:, 0], prob_G4=probability[:, 1])
    table.to_csv(folder / "oof_predictions.csv", index=False)
    page = Page(write_crossval_report(folder).read_text()).check()
    assert "The highest AUC, 0.80" in page.text
    assert "Confusion: teacher" in page.text
    assert (folder / "plots" / "confusion.png").is_file()


def test_an_unusable_folder_is_refused_in_one_line(folder, tmp_path, make):
    with pytest.raises(InputError, match=r"is a cross-validation, which has a report of its own; give it alone"):
        run_command(folder, tmp_path)
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "plan.json").write_text("{}")
    with pytest.raises(InputError, match=r"begun has no crossval.json, because some folds are not finished"):
        run_command(begun)
    (folder / "oof_predictions.csv").write_text("model,fold\nteacher,0\n")
    with pytest.raises(InputError, match=r"oof_predictions.csv has no column patient_id"):
        run_command(folder)
    for text, words in (("{half", "is not valid JSON"), ("[]", "is not a JSON object"), ("{}", "has no cohort")):
        (folder / "crossval.json").write_text(text)
        with pytest.raises(InputError, match=words) as error:
            run_command(folder)
        assert "\n" not in str(error.value)
    assert not (folder / "report.html").exists()


def write_training(folder, model, best_epoch=3, epochs=6):
    """Curves of a network in every fold; the validation loss of fold 1 rises."""
    for fold in range(FOLDS):
        fold_folder = folder / f"fold_{fold}" / model
        fold_folder.mkdir(parents=True)
        epoch = np.arange(epochs)
        rise = 0.3 * epoch if fold == 1 else 0
        table = pd.DataFrame({"epoch": epoch, "step": epoch, "train/loss": 5.0, "train/task": 2 - 0.1 * epoch})
        table.assign(**{"val/loss": 1.5 + rise}).to_csv(fold_folder / "metrics.csv", index=False)
        (fold_folder / "context.json").write_text(json.dumps({"chosen_epoch": best_epoch - 1}))


@pytest.mark.slow
def test_an_outlying_fold_is_named_and_its_training_curve_is_marked(tmp_path, make):
    crossval = content()
    crossval["models"]["teacher"]["c_index"]["folds"][1] = 0.431
    apart = {"repeat": 0, "fold": 1, "seed": 0, "value": 0.431, "median": 0.7, "lowest": 0.68, "highest": 0.72}
    crossval["outlying_folds"] = [{"model": "teacher", **apart}]
    folder = write_crossval(tmp_path / "cv", make.cohort(90), crossval)
    write_training(folder, "teacher")
    page = Page(write_crossval_report(folder).read_text()).check()
    assert (
        "In fold 1 the concordance is far from that of the other folds: teacher (0.431; other folds 0.680 to "
        "0.720). See the training curves below and the folder fold_1/teacher."
    ) in " ".join(page.text.split())
    assert (
        "fold 1, epoch 3 of 6 chosen, validation loss 2.100, Concordance (Harrell) of the test patients 0.431"
        in page.titles
    )
    assert (
        "fold 0, epoch 3 of 6 chosen, validation loss 1.500, Concordance (Harrell) of the test patients 0.680"
        in page.titles
    )
    assert (folder / "plots" / "training_teacher.png").stat().st_size > 5000
    assert not (folder / "plots" / "training_clinical.png").exists()  # a regression has no curve
    curves = fold_curves(read_crossval(folder), "teacher")
    assert curves[0].training.tolist() == pytest.approx([2, 1.9, 1.8, 1.7, 1.6, 1.5])  # the task's term, as validation
    assert [curve.is_outlier for curve in curves] == [False, True, False]


def test_each_training_curve_states_the_share_of_the_deep_part(tmp_path, make):
    folder = write_crossval(tmp_path / "cv", make.cohort(90), content())
    write_training(folder, "teacher")
    for fold in range(FOLDS):
        path = folder / f"fold_{fold}" / "teacher" / "metrics.csv"
        shares = [1.0, 1.0, 0.25 if fold == 1 else 0.0, 1.0, 1.0, 1.0]
        pd.read_csv(path).assign(**{"val/deep_share": shares}).to_csv(path, index=False)
    result = read_crossval(folder)
    curves = fold_curves(result, "teacher")
    assert [curve.deep_share for curve in curves] == [0.25 if fold == 1 else 0.0 for fold in range(FOLDS)]
    assert "share of the deep part 25 %" in curves[1].tooltip("concordance")
    [(plot, _)] = training_plots_by_model(result).values()
    assert f"The deep part takes part in the predictions of 1 of these {FOLDS} fits" in plot.caption


def test_an_outlying_regression_is_reported_with_its_folder_instead_of_curves(tmp_path, make):
    crossval = content()
    apart = {"repeat": 0, "fold": 1, "seed": 0, "value": 0.431, "median": 0.7, "lowest": 0.68, "highest": 0.72}
    crossval["outlying_folds"] = [{"model": "clinical", **apart}]
    folder = write_crossval(tmp_path / "cv", make.cohort(90), crossval)
    write_training(folder, "teacher")
    assert outlying_sentences(read_crossval(folder))[0].endswith("See the folder fold_1/clinical.")
    crossval["outlying_folds"].append({"model": "teacher", **apart})
    (folder / "crossval.json").write_text(json.dumps(crossval))
    both = outlying_sentences(read_crossval(folder))[0]
    assert both.endswith("See the training curves below and the folder fold_1/teacher.")
    console = format_tables(crossval)
    assert "clinical in fold 1: 0.431, far from its other folds (0.680 to 0.720)\n" in f"{console}\n"
    assert (
        "teacher in fold 1: 0.431, far from its other folds (0.680 to 0.720); report.html shows its training" in console
    )


@pytest.mark.slow
def test_only_outlying_training_curves_of_many_are_drawn_and_the_others_are_counted(tmp_path, make):
    crossval = content(models={"teacher": POOLED["teacher"], "rna_linear": POOLED["rna_linear"]})
    crossval["units"] = [{"repeat": repeat, "fold": fold, "seed": 0} for repeat in range(4) for fold in range(FOLDS)]
    for entries in crossval["models"].values():
        entries["c_index"]["folds"] = [0.7] * 11 + [0.4]
    apart = {"repeat": 3, "fold": 2, "seed": 0, "value": 0.4, "median": 0.7, "lowest": 0.7, "highest": 0.7}
    crossval["outlying_folds"] = [{"model": "teacher", **apart}]
    folder = write_crossval(tmp_path / "cv", make.cohort(90), crossval)
    write_training(folder, "teacher")
    for repeat in (1, 2, 3):
        write_training(folder / f"repeat_{repeat}", "teacher")
    page = Page(write_crossval_report(folder).read_text()).check()
    assert any(title.startswith("fold 2, repeat 3, epoch 3") for title in page.titles)
    assert "2 more fits are not drawn" in page.text


@pytest.mark.slow
def test_folders_without_curves_give_a_page_without_a_training_section(folder):
    page = Page(write_crossval_report(folder).read_text()).check()
    assert "Training" not in page.text
    assert "is far from" not in page.text


def test_a_plot_of_the_user_is_in_the_report(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "fold_plots.py").write_text(
        "from dmml.evaluation.plots import Plot, new_figure\n\n\n"
        "def risk_by_fold(results):\n"
        "    figure, axes = new_figure()\n"
        "    axes.plot(results.predictions['fold'], results.predictions['risk'], 'o')\n"
        "    return Plot('risk_by_fold', 'Risk by fold', figure, f'{len(results.models)} models.')\n\n\n"
        "def folds(results):\n"
        "    return Plot('folds', 'Folds', new_figure()[0])\n"
    )
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "fold_plots", raising=False)
    run_command(folder, "--plot", "fold_plots:risk_by_fold")
    page = Page((folder / "report.html").read_text()).check()
    assert "Further plots" in page.text
    assert "5 models." in page.text
    assert f"dmml report {folder} --plot fold_plots:risk_by_fold" in page.text
    assert (folder / "plots" / "risk_by_fold.svg").is_file()
    with pytest.raises(InputError, match=r"--plot fold_plots:folds: the report has another plot with the name folds"):
        run_command(folder, "--plot", "fold_plots:folds")
