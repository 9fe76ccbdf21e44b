"""The level of intervals and the number of resamples are set in one place; numbers and sentences follow."""

import json
import re

import numpy as np
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter

from dmml.evaluation import bootstrap, interval_settings
from dmml.evaluation.report.build import write_evaluation
from dmml.evaluation.statistics.survival_curves import kaplan_meier


def evaluated(make, folder, **context):
    """Metrics and page of a small test."""
    test = make.survival(folder, make.cohort(), **context)
    return write_evaluation(test), (test / "report.html").read_text()


def test_another_level_is_used_in_metrics_plots_and_sentences(make, tmp_path, monkeypatch):
    metrics, page = evaluated(make, tmp_path / "a")
    monkeypatch.setattr(interval_settings, "LEVEL", 0.8)
    narrow, narrow_page = evaluated(make, tmp_path / "b")
    for name, entry in metrics.items():
        assert narrow[name]["value"] == entry["value"]
        if entry["low"] is not None:
            assert narrow[name]["high"] - narrow[name]["low"] < 0.9 * (entry["high"] - entry["low"]), name
    levels = re.compile(r"(\d+) %(?= (?:interval|band|patient-bootstrap))|(?<=Intervals: )(\d+) %")
    for text, level in ((page, "95"), (narrow_page, "80")):
        matches = levels.findall(text.replace("\N{NO-BREAK SPACE}", " "))
        assert {number for match in matches for number in match if number} == {level}
        assert len(matches) > 10


def test_another_number_of_resamples_is_used_for_every_interval_and_in_the_note(make, tmp_path, monkeypatch):
    drawn = []
    draw = bootstrap.resamples

    def record(*args, **options):
        weights = draw(*args, **options)
        drawn.append(len(weights))
        return weights

    monkeypatch.setattr(interval_settings, "RESAMPLES", 50)
    monkeypatch.setattr("dmml.evaluation.evaluate.resamples", record)
    _, page = evaluated(make, tmp_path / "a")
    assert set(drawn) == {50}
    assert "50 patient-bootstrap resamples" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert bootstrap.resamples(4).shape == (50, 4)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_every_interval_in_the_file_of_metrics_states_its_level(make, tmp_path, monkeypatch, level):
    monkeypatch.setattr(interval_settings, "LEVEL", level)
    folders = [make.survival(tmp_path / "a", make.cohort()), make.classes(tmp_path / "b")]
    for folder in folders:
        write_evaluation(folder)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {entry.get("interval_level") for entry in metrics.values() if entry["low"] is not None} == {level}
        assert not any("interval_level" in entry for entry in metrics.values() if entry["low"] is None)
    assert metrics["accuracy"]["interval_level"] == level


def test_the_default_level_of_curves_is_that_of_lifelines(make):
    cohort = make.cohort()
    assert interval_settings.alpha() == KaplanMeierFitter().alpha == CoxPHFitter().alpha
    curve, lifelines_fit = kaplan_meier(cohort.time, cohort.event), KaplanMeierFitter().fit(cohort.time, cohort.event)
    band = lifelines_fit.confidence_interval_survival_function_.to_numpy()
    np.testing.assert_array_equal(curve.low, band[:, 0])
    assert interval_settings.normal_quantile() == pytest.approx(1.96, abs=5e-5)
