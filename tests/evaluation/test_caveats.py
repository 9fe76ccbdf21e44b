"""A report marks a test on training patients wherever it appears, and draws no conclusion from it."""

import json

from html_page import Page

from dmml.evaluation.comparison import across_cohorts, adjusted, paired
from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.report.build import write_report
from dmml.evaluation.result_folders import find_tests

OVERLAP = {"n": 48, "of": 60}
MARK = "student (48 of 60 in training)"


def test_comparisons_with_a_test_on_training_patients_are_marked_and_have_no_verdict(make, tmp_path, cohort):
    runs = [tmp_path / "teacher", tmp_path / "student", tmp_path / "other"]
    make.survival(runs[0], cohort, "teacher", 0.8)
    make.survival(runs[1], cohort, "student", 0.1, training_patients=OVERLAP)
    make.survival(runs[2], cohort, "student", 0.9, seed=5)
    page = Page(write_report(runs, tmp_path / "all.html").read_text()).check()
    lead = page.text[: page.text.index("Models on held_out")]
    assert "student on held_out: 48 of the 60 patients tested were in the training or inner validation" in lead
    assert lead.index("48 of the 60") < lead.index("orders patients by risk")
    assert lead.count("(95 % interval") == 3, "the two other models and their difference"
    tests = [read_evaluation(test) for test in find_tests(runs)]
    models, differences = (next(t for t in page.tables if t["caption"].startswith(c)) for c in ("Models on", "Differ"))
    assert MARK in [row[0][: len(MARK)] for row in models["rows"]]
    marked = [row[0] for row in differences["rows"] if "in training" in row[0]]
    assert len(marked) == 2
    pairs = adjusted(paired(tests))
    assert [pair.primary for pair in pairs if pair.has_overlap] == [False, False]
    assert [(pair.a.run, pair.b.run) for pair in pairs if pair.primary] == [("other", "teacher")]


def test_a_report_on_training_patients_opens_with_their_number_and_without_a_plot(make, tmp_path, cohort):
    make.survival(tmp_path / "run", cohort, training_patients=OVERLAP)
    text = write_report([tmp_path / "run"]).read_text()
    page = Page(text).check()
    lead = text[text.index('class="lead"') : text.index("<nav")]
    assert "48 of the 60 patients tested" in lead
    assert "<svg" not in lead
    assert "wholly above" not in text
    table = next(t for t in page.tables if t["caption"] == "Metrics with 95 % intervals")
    assert table["rows"][1][0].startswith("Patients that the model was trained on")
    assert table["rows"][1][1] == "48"


def test_a_classification_test_on_training_patients_has_no_headline_either(make, tmp_path):
    make.classes(tmp_path / "run", training_patients={"n": 90, "of": 90})
    page = Page(write_report([tmp_path / "run"]).read_text()).check()
    assert "90 of the 90 patients tested" in page.text
    assert "classes apart with an AUC" not in page.text


def test_two_checkpoints_of_one_run_are_not_one_model_on_two_cohorts(make, tmp_path, cohort):
    run = tmp_path / "run"
    for name, digest in (("a", "best"), ("b", "last"), ("c", "last")):
        make.survival(run, cohort, name=name, checkpoint={"path": f"checkpoints/{digest}.ckpt", "sha256": digest})
    pairs = across_cohorts([read_evaluation(test) for test in find_tests([run])])
    assert [(pair.a.cohort, pair.b.cohort) for pair in pairs] == [("c", "b")]


def test_metrics_without_training_patients_have_no_entry_about_them(make, tmp_path, cohort):
    from dmml.evaluation.report.build import write_evaluation

    folder = make.survival(tmp_path / "run", cohort)
    write_evaluation(folder)
    assert "training_patients" not in json.loads((folder / "metrics.json").read_text())
