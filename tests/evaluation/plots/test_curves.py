"""ROC, precision–recall and decision curves of a test: their areas, their bands, and what is undefined."""

import re

import numpy as np
import pandas as pd
import pytest

from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.report.sections import decision_section
from dmml.evaluation.result_folders import find_tests


def evaluation_in(folder):
    [result] = find_tests([folder])
    return read_evaluation(result)


def plots_of(evaluation):
    return {plot.name: plot for plot in evaluation.endpoint.plots(evaluation)}


def areas(plot):
    """{name: (area, low, high)} of the legend."""
    pattern = re.compile(r"(.+): ([\d.]+) \(([\d.]+)–([\d.]+)\)")
    texts = [text.get_text() for text in plot.figure.axes[0].get_legend().get_texts()]
    return {match[1]: tuple(map(float, match.groups()[1:])) for match in map(pattern.fullmatch, texts)}


def test_the_areas_at_the_horizons_are_the_metrics_with_their_intervals(tmp_path, cohort, make):
    evaluation = evaluation_in(make.survival(tmp_path / "run", cohort))
    legend = areas(plots_of(evaluation)["roc"])
    for name, metric in (("1 year", "auc_365"), ("3 years", "auc_1095")):
        entry = evaluation.metrics[metric]
        assert legend[name] == pytest.approx((entry["value"], entry["low"], entry["high"]), abs=0.0051)


def test_the_areas_of_two_classes_are_the_auc_and_of_more_their_mean(tmp_path, make):
    two = evaluation_in(make.classes(tmp_path / "two", classes=("low", "high")))
    [(name, area)] = areas(plots_of(two)["roc"]).items()
    entry = two.metrics["auc"]
    assert name == "high"
    assert area == pytest.approx((entry["value"], entry["low"], entry["high"]), abs=0.0051)
    three = evaluation_in(make.classes(tmp_path / "three"))
    mean = np.mean([area[0] for area in areas(plots_of(three)["roc"]).values()])
    assert mean == pytest.approx(three.metrics["auc"]["value"], abs=0.0051)
    plot = plots_of(three)["precision_recall"]
    assert set(plot.layers.values()) == set(areas(plot)) == {"G2", "G3", "G4"}


def test_a_class_without_patients_has_no_curve_and_the_caption_says_so(tmp_path, make):
    folder = make.classes(tmp_path / "run")
    table = pd.read_csv(folder / "predictions.csv")
    table[table["label"] != "G4"].to_csv(folder / "predictions.csv", index=False)
    plot = plots_of(evaluation_in(folder))["roc"]
    assert set(areas(plot)) == {"G2", "G3"}
    assert "No curve for G4, without cases or without controls." in plot.caption


def test_decision_curves_have_a_plot_and_four_rows_for_each_outcome(tmp_path, cohort, make):
    section = decision_section(evaluation_in(make.survival(tmp_path / "run", cohort)))
    assert [plot.name for plot in section.plots] == ["decision_event_by_1_year", "decision_event_by_3_years"]
    [table] = section.tables
    assert len(table.rows) == 8
    for row in table.rows:
        model, everybody, difference = (cell.order for cell in row[1:4])
        assert difference == pytest.approx(model - everybody)
        assert all(cell.hint for cell in row[1:4])
    classes = decision_section(evaluation_in(make.classes(tmp_path / "classes")))
    assert len(classes.plots) == 3


def test_a_horizon_that_nobody_reaches_has_no_curve_and_a_sentence(tmp_path, cohort, make):
    folder = make.survival(tmp_path / "run", cohort, horizons=[365, 1095, 2500, 4000])
    table = pd.read_csv(folder / "predictions.csv")
    table["event"] *= table["time"] < 1000
    table["time"] = table["time"].clip(upper=2000)
    table.to_csv(folder / "predictions.csv", index=False)
    section = decision_section(evaluation_in(folder))
    assert len(section.plots) == 2
    assert any("2500 days: nobody is followed that long" in sentence for sentence in section.sentences)
    assert any("4000 days: the model predicts no survival there" in sentence for sentence in section.sentences)
    undefined = [row for row in section.tables[0].rows if row[0].text.startswith("event by 2500")]
    assert {cell.text for row in undefined for cell in row[2:4]} == {"—"}
