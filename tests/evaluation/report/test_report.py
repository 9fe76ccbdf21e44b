"""The report: files, self-containment, agreement with metrics.json, comparison of models, refusals."""

import argparse
import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from html_page import Page

from dmml.commands import report as command
from dmml.errors import InputError
from dmml.evaluation import metrics
from dmml.evaluation.bootstrap import paired_difference
from dmml.evaluation.comparison import adjusted, paired
from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.report.build import write_evaluation, write_report
from dmml.evaluation.report.tables import value_cell
from dmml.evaluation.report.text.findings import summary
from dmml.evaluation.result_folders import find_tests


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def written(survival_runs):
    """What `dmml report` printed for both runs; the page is in the last of them."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        run_command(*survival_runs)
    return output.getvalue()


def test_the_command_writes_one_self_contained_page(survival_runs, written):
    path = survival_runs[-1] / "report.html"
    assert written.startswith(f"{path} (2 tests, ")
    text = path.read_text()
    page = Page(text).check()
    assert len(page.ids) > 100
    assert "url(http" not in text
    assert "@import" not in text
    assert "fetch(" not in text
    assert path.stat().st_size < 2e6
    assert "prefers-color-scheme: dark" in text
    assert text.count("data:image/jpeg") == 2 * 2 * 5
    for word in ("Kaplan–Meier", "Calibration", "Paired differences", "gene coverage", "conflict", "best possible"):
        assert word.lower() in text.lower()
    assert "dmml test --config configs/held_out.yaml" in page.text
    assert not list(survival_runs[-1].glob(".*"))


def test_the_page_shows_the_metrics_and_differences_of_the_models(survival_runs, written):
    tests = [read_evaluation(test) for test in find_tests(survival_runs)]
    page = Page((survival_runs[-1] / "report.html").read_text())
    for test in tests:
        for name in ("c_index", "ibs", "share_of_oracle"):
            assert f"{test.metrics[name]['value']:.3f}" in page.text
    teacher, student = (test.with_outcome for test in tests)
    expected = paired_difference(
        metrics.concordance_index, student["risk"], teacher["risk"], student["time"], student["event"],
        strata=student["event"],
    )  # fmt: skip
    [pair] = adjusted(paired(tests))
    assert (pair.a.model, pair.b.model, pair.primary, pair.n) == ("student", "teacher", True, 60)
    assert pair.difference == pytest.approx(expected, abs=1e-6)
    first, second, third, fourth = summary(tests, [pair])
    assert "held_out (60 patients, 42 events), the student, which sees only slides" in first
    assert f"{tests[1].metrics['c_index']['value']:.2f} (95 % interval" in first
    assert second.startswith("The teacher, which also sees the RNA of ")
    assert f"{abs(expected.estimate):.3f}" in third
    assert "the true risk reaches" in fourth
    assert all(sentence in page.text for sentence in (first, second, third, fourth))


@pytest.mark.slow
def test_write_evaluation_writes_metrics_plots_and_page_and_no_other_file(survival_runs):
    folder = survival_runs[1] / "test" / "held_out"
    inputs = [folder / name for name in ("predictions.csv", "context.json", "attention.npz")]
    before = {path: path.read_bytes() for path in inputs}
    result = write_evaluation(folder)
    assert json.loads((folder / "metrics.json").read_text()) == result
    names = {path.name for path in (folder / "plots").iterdir()}
    assert {"kaplan_meier.png", "kaplan_meier.svg", "calibration.png", "calibration.svg"} <= names
    assert "attention_0_20x_tme.png" in names
    Page((folder / "report.html").read_text())
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_classification_is_reported(tmp_path, make):
    folders = [
        make.classes(tmp_path / "runs" / name, model=model, strength=strength, seed=seed)
        for name, model, strength, seed in (
            ("t", "teacher", 2.5, 3),
            ("s", "student", 0.7, 4),
            ("x", "late_fusion", 1, 5),
        )
    ]
    (folders[0] / "plots").mkdir()
    (folders[0] / "plots" / "stale.png").write_bytes(b"")
    assert set(write_evaluation(folders[0])) >= {"auc", "kappa_quadratic"}
    assert "stale.png" not in {path.name for path in (folders[0] / "plots").iterdir()}
    page = Page(write_report(folders, tmp_path / "all.html").read_text())
    for word in ("Metrics of each class", "Confusion", "ROC curves", "balanced accuracy", "adjusted by Holm's method"):
        assert word in page.text
    pairs = adjusted(paired([read_evaluation(test) for test in find_tests(folders)]))
    assert [(pair.a.run, pair.b.run, pair.primary) for pair in pairs] == [
        ("s", "t", True), ("t", "x", False), ("s", "x", False),
    ]  # fmt: skip
    assert pairs[0].difference.high < 0
    assert pairs[1].p_holm >= pairs[1].difference.p


def test_models_tested_on_other_outcomes_are_not_compared(tmp_path, cohort, make):
    a = make.survival(tmp_path / "a", cohort)
    b = make.survival(tmp_path / "b", cohort, model="teacher")
    table = pd.read_csv(b / "predictions.csv")
    table.loc[4, "time"] += 30
    table.to_csv(b / "predictions.csv", index=False)
    tests = [read_evaluation(test) for test in find_tests([a, b])]
    [pair] = adjusted(paired(tests))
    assert pair.refused == "they were tested on different outcomes (patient P004)"
    assert "a and b are not compared: they were tested on different outcomes" in " ".join(summary(tests, [pair]))
    Page(write_report([a, b], tmp_path / "out.html").read_text())


def test_each_cohort_is_reported_by_itself(tmp_path, make):
    run = tmp_path / "demo"
    make.survival(run, make.cohort(50, seed=1), name="north")
    make.survival(run, make.cohort(40, seed=2), name="south", oracle_risk=None)
    page = Page(write_report([run]).read_text())
    assert "On the cohort north (50 patients" in page.text
    assert "On the cohort south (40 patients" in page.text
    assert "Paired differences" not in page.text


@pytest.mark.slow
def test_a_page_of_five_tests_stays_small(tmp_path, make):
    run = tmp_path / "demo"
    for name in ("north", "south", "east", "west", "centre"):
        make.attention(make.survival(run, make.cohort(40, seed=1), name=name), slides=4)
    path = write_report([run])
    text = path.read_text()
    page = Page(text).check()
    assert path.stat().st_size < 2e6
    assert text.count("data:image/jpeg") == 5 * 2 * 5  # five tests, two slides, the slide and four maps of it
    assert page.text.count("2 of 4 slides are shown here") == 5
    assert write_evaluation(run / "test" / "north")
    page = (run / "test" / "north" / "report.html").read_text()
    assert page.count("data:image/jpeg") == 4 * 5
    assert "are shown here" not in page


def test_a_page_is_written_for_few_patients_and_unusual_names(tmp_path, make):
    generator = np.random.default_rng(0)
    folder = tmp_path / "test" / "<b>odd & cohort"
    folder.mkdir(parents=True)
    pd.DataFrame(
        {
            "patient_id": ["<script>a", "b", "c"],
            "time": [5.0, np.nan, 7],
            "event": [1, np.nan, 0],
            "risk": generator.random(3),
        }
    ).to_csv(folder / "predictions.csv", index=False)
    result = write_evaluation(folder)
    assert result["c_index"]["value"] is None
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert "cannot be evaluated: 1 of 2 patients with known outcome had the event" in page.text
    assert "<b>odd & cohort" in page.text
    page.check()
    assert "<script>a" not in text
    pd.read_csv(folder / "predictions.csv").drop(columns=["time", "event"]).to_csv(folder / "predictions.csv")
    assert write_evaluation(folder)["c_index"]["n"] == 0


def test_a_missing_run_or_result_is_named_with_the_way_out(tmp_path, cohort, make):
    with pytest.raises(InputError, match=r"nowhere is not a folder; train a model with `dmml fit"):
        run_command("nowhere")
    run = tmp_path / "runs" / "demo"
    run.mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"holds no test result; run `dmml test --config COHORT.yaml --ckpt_path .*best"
    ):
        run_command(run)
    (run / "config.yaml").write_text("{}")
    with pytest.raises(InputError, match=r"its training did not finish; run `dmml fit --config .*config.yaml"):
        run_command(run)
    folder = make.survival(run, cohort)
    with pytest.raises(InputError, match=r"--out .* is a folder; name a file"):
        run_command(run, "--out", tmp_path)
    (folder / "context.json").write_text("{half")
    with pytest.raises(InputError, match=r"context.json is not valid JSON"):
        write_evaluation(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["context.json", "predictions.csv"]


def test_a_missing_run_is_refused_before_anything_heavy_is_imported():
    code = (
        "import sys, argparse\nfrom dmml.commands import report\np = argparse.ArgumentParser()\n"
        "report.add_arguments(p)\ntry:\n    report.run(p.parse_args(['nowhere']))\nexcept ValueError:\n"
        "    heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'lifelines', 'lightning'} & set(sys.modules)\n"
        "    print('heavy:', heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "heavy: set()\n"


@pytest.mark.slow
def test_p_values_are_adjusted_over_all_cohorts_except_for_one_primary_comparison(tmp_path, make):
    runs = [tmp_path / name for name in ("t", "s")]
    for seed, name in enumerate(("a_north", "b_south", "c_west")):
        cohort = make.cohort(50, seed=seed)
        cohort.patient_id = [f"{name}{i}" for i in range(50)]
        for run, model, noise in zip(runs, ("teacher", "student"), (0.1, 2.0), strict=True):
            make.survival(run, cohort, model=model, noise=noise, name=name, oracle_risk=None, horizons=[365])
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(*runs, "--out", tmp_path / "all.html")
    page = Page((tmp_path / "all.html").read_text()).check()
    rows = next(table["rows"] for table in page.tables if table["caption"] == "Differences on the same patients")
    assert [row[1] for row in rows[1:]] == ["a_north", "b_south", "c_west"]
    assert ["primary" in row[0] for row in rows[1:]] == [True, False, False]
    tests = [read_evaluation(adjusted_pairs) for adjusted_pairs in find_tests(runs)]
    pairs = [paired([test for test in tests if test.cohort == name])[0] for name in ("a_north", "b_south", "c_west")]
    adjusted_pairs = adjusted(pairs)
    p = [pair.difference.p for pair in pairs]
    assert adjusted_pairs[0].p_holm == p[0]
    assert max(adjusted_pairs[1].p_holm, adjusted_pairs[2].p_holm) >= min(1, 2 * min(p[1:])) > min(p[1:])
    assert min(adjusted_pairs[1].p_holm, adjusted_pairs[2].p_holm) == pytest.approx(min(1, 2 * min(p[1:])))
    assert "The primary comparison is s − t on a_north, the first given cohort that has both." in page.text
    assert (
        "The p values of the 2 others are adjusted by Holm's method, over all cohorts of this page together."
        in page.text
    )
    assert page.text.count("the concordance of the student minus that of the teacher is") == 3
    assert page.text.count("by Holm)") == 2


def test_a_single_comparison_is_drawn(survival_runs, written):
    assert (survival_runs[-1] / "report_plots" / "differences.svg").is_file()


def test_undefined_values_have_no_sort_key():
    assert value_cell(float("nan")).order is None
    assert (value_cell(float("nan")).text, value_cell(0.5).order) == ("—", 0.5)
