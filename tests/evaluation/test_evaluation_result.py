"""The evaluation of a test is one object: made from memory or files alike, and each of its numbers is computed once."""

from collections import Counter

import pandas as pd
import pytest

from dmml.evaluation import evaluation_result
from dmml.evaluation.endpoints.survival import SurvivalEndpoint
from dmml.evaluation.evaluation_result import evaluation_of, read_evaluation
from dmml.evaluation.predictions import write_table
from dmml.evaluation.report.build import write_evaluation
from dmml.evaluation.result_files import write_calibration, write_recalibration
from dmml.evaluation.result_folders import find_tests


def evaluation_in(folder):
    [result] = find_tests([folder])
    return read_evaluation(result)


@pytest.fixture
def calls(monkeypatch):
    """Counts computations by name."""
    counts = Counter()

    def count(owner, name):
        function = getattr(owner, name)

        def counted(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    for name in ("calibration_at", "risk_groups", "read_predictions"):
        count(evaluation_result, name)
    count(SurvivalEndpoint, "evaluate")
    return counts


def test_writing_every_file_of_a_test_computes_each_number_once(make, tmp_path, calls):
    folder = make.survival(tmp_path / "run", make.cohort(), horizons=[365, 1095])
    evaluation = evaluation_in(folder)
    assert not calls["evaluate"], "nothing is computed before it is needed"
    write_calibration(evaluation)
    write_recalibration(evaluation, None)
    write_evaluation(evaluation)
    assert calls == {"read_predictions": 1, "evaluate": 1, "calibration_at": 2, "risk_groups": 1}
    assert {"metrics.json", "calibration.json", "report.html", "plots"} <= {path.name for path in folder.iterdir()}


def test_recalibration_evaluates_the_other_patients_before_and_after(make, tmp_path, calls):
    evaluation = evaluation_in(make.survival(tmp_path / "run", make.cohort(120), horizons=[365, 1095]))
    write_recalibration(evaluation, 0.4)
    assert (calls["evaluate"], calls["calibration_at"]) == (2, 4)
    write_recalibration(evaluation, None)
    assert not list(evaluation.folder.glob("recalibrated.*"))


def test_an_evaluation_in_memory_equals_the_one_read_from_files(make, tmp_path):
    evaluation = evaluation_in(make.survival(tmp_path / "run", make.cohort()))
    rows = evaluation.predictions.to_dict("records")
    in_memory = evaluation_of(evaluation.folder, evaluation.run_folder, rows, evaluation.context)
    pd.testing.assert_frame_equal(in_memory.predictions, evaluation.predictions)
    assert in_memory.context == evaluation.context
    write_table(evaluation.folder / "predictions.csv", rows)
    assert evaluation_in(evaluation.folder).metrics == in_memory.metrics


def test_without_outcomes_there_is_nothing_to_calibrate(make, tmp_path):
    folder = make.survival(tmp_path / "run", make.cohort())
    pd.read_csv(folder / "predictions.csv").assign(time=None).to_csv(folder / "predictions.csv", index=False)
    (folder / "calibration.json").write_text("of an earlier test")
    assert write_calibration(evaluation_in(folder)) is None
    assert not (folder / "calibration.json").exists()


def test_classes_have_no_risk_groups(make, tmp_path):
    evaluation = evaluation_in(make.classes(tmp_path / "run"))
    assert evaluation.risk_groups is None
    assert evaluation.horizons == evaluation.calibrations == []
    assert set(evaluation.metrics) >= {"auc", "accuracy"}
