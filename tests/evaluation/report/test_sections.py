"""Sections of a report: examples, programs, shift, recalibration, and the values at the pointer."""

import json

import numpy as np
import pandas as pd
import pytest
from html_page import Page
from scipy.stats import spearmanr

from dmml.errors import InputError
from dmml.evaluation import metrics
from dmml.evaluation.bootstrap import paired_difference
from dmml.evaluation.comparison import across_cohorts, adjusted
from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.examples import MIN_PAIRS, choose_examples
from dmml.evaluation.genes.programs import read_programs, spearman
from dmml.evaluation.plots.forest import differences_forest
from dmml.evaluation.plots.survival import kaplan_meier_plot
from dmml.evaluation.report.build import write_evaluation, write_report
from dmml.evaluation.report.sections import sections_of
from dmml.evaluation.report.text.findings import cohort_change_sentences
from dmml.evaluation.result_folders import find_tests
from dmml.evaluation.statistics.survival_curves import risk_groups

BAD = '"><img src=x onerror=alert(1)>'


def concordance_of_patient(rows, i):
    """Share of the pairs with patient i that are in order, pair by pair; None with too few."""
    credit, pairs = 0.0, 0
    for j, other in enumerate(rows):
        early, late = (rows[i], other) if (rows[i]["time"], -rows[i]["event"]) < (other["time"], -other["event"]) else (
            other, rows[i],
        )  # fmt: skip
        tied = early["time"] == late["time"] and early["event"] == late["event"]
        if j == i or tied or not early["event"]:
            continue
        pairs += 1
        credit += 0.5 if early["risk"] == late["risk"] else float(early["risk"] > late["risk"])
    return credit / pairs if pairs >= MIN_PAIRS else None


def test_examples_are_the_patients_with_the_highest_and_lowest_concordance(cohort):
    generator = np.random.default_rng(0)
    risk = (cohort.log_rate + 1.5 * generator.normal(size=len(cohort.time))).round(1)
    rows = [
        {"patient_id": p, "time": float(np.round(t, -1)), "event": int(e), "risk": float(r)}
        for p, t, e, r in zip(cohort.patient_id, cohort.time, cohort.event, risk, strict=True)
    ]
    examples = choose_examples(
        [*rows, {"patient_id": "unknown", "time": "", "event": "", "risk": 1.0}], cohort.patient_id
    )
    shares = {row["patient_id"]: concordance_of_patient(rows, i) for i, row in enumerate(rows)}
    defined_shares = {patient: share for patient, share in shares.items() if share is not None}
    verdicts = [example["verdict"] for example in examples.values()]
    assert [words.split(":")[0] for words in verdicts] == ["right", "wrong", "right", "wrong"]
    for patient, example in examples.items():
        assert f": {100 * defined_shares[patient]:.0f} % of " in example["verdict"]
    shares_of_examples = [defined_shares[patient] for patient in examples]
    assert sorted([shares_of_examples[0], shares_of_examples[2]]) == sorted(defined_shares.values())[-2:]
    assert sorted([shares_of_examples[1], shares_of_examples[3]]) == sorted(defined_shares.values())[:2]
    few = choose_examples(rows, cohort.patient_id[:3])
    assert set(few) <= set(cohort.patient_id[:3])


def test_examples_are_chosen_for_classes_and_without_outcomes():
    rows = [
        {"patient_id": "a", "label": "G2", "prob_G2": 0.9, "prob_G3": 0.1},
        {"patient_id": "b", "label": "G3", "prob_G2": 0.8, "prob_G3": 0.2},
        {"patient_id": "c", "label": "G3", "prob_G2": 0.4, "prob_G3": 0.6},
        {"patient_id": "d", "label": None, "prob_G2": 0.99, "prob_G3": 0.01},
    ]
    examples = choose_examples(rows, ["a", "b", "c", "d"])
    assert {patient: example["verdict"] for patient, example in examples.items()} == {
        "a": "right: predicted G2 with 90 %", "b": "wrong: predicted G2 with 80 %", "c": "right: predicted G3 with 60 %",
    }  # fmt: skip
    without = [{"patient_id": f"p{i}", "risk": 0.1} for i in range(9)]
    assert choose_examples(without, [f"p{i}" for i in range(2, 9)]) == {f"p{i}": {} for i in range(2, 6)}
    assert choose_examples([], []) == {}


def test_programs_are_correlated_with_rna_and_risk(tmp_path, cohort, make):
    generator = np.random.default_rng(1)
    folder = make.survival(tmp_path / "run", cohort)
    n = len(cohort.patient_id)
    measured = np.where(np.arange(n) < 40, generator.normal(size=n), np.nan)
    near, far = np.nan_to_num(measured) + generator.normal(size=(2, n))
    table = {
        "patient_id": cohort.patient_id,
        "tumor|10x|A|B": near,
        "tumor|20x|A|B": far,
        "tumor|measured|A|B": measured,
    }
    table["tme|20x|" + BAD] = cohort.log_rate
    pd.DataFrame(table).iloc[::-1].to_csv(folder / "programs.csv", index=False)
    test = read_evaluation(find_tests([folder])[0])
    first, second = read_programs(test)
    risk = test.predictions["risk"]
    assert (first.subspace, first.name, first.measured) == ("tme", BAD, 0)
    assert np.isnan(first.agreement)
    assert first.with_answer == pytest.approx(spearmanr(cohort.log_rate, risk).statistic)
    is_measured = ~np.isnan(measured)
    expected = spearmanr(((near + far) / 2)[is_measured], measured[is_measured]).statistic
    assert (second.name, second.measured, second.agreement) == ("A|B", 40, pytest.approx(expected))
    assert np.isnan(spearman(np.arange(9.0), np.arange(9.0)))
    write_evaluation(folder)
    page = Page((folder / "report.html").read_text()).check()
    assert f"A|B (tumor) is predicted best, with {expected:.2f}" in page.text
    assert BAD in page.text
    assert (folder / "plots" / "programs.svg").is_file()
    (folder / "programs.csv").write_text("patient_id,nonsense\nP000,1\n")
    with pytest.raises(InputError, match=r"programs.csv cannot be read as a table of programs"):
        write_evaluation(folder)


def test_shift_and_recalibration_have_sections_of_their_own(tmp_path, cohort, make):
    folder = make.survival(tmp_path / "run", cohort)
    group = {
        "column": BAD,
        "level": "III",
        "metric": "c_index",
        "value": 0.61,
        "low": 0.5,
        "high": 0.7,
        "n": 20,
        "events": 9,
    }
    small = {"column": "site", "level": "A", "metric": "c_index", "value": None, "low": None, "high": None, "n": 3}
    shift = {"missing": {"patients without RNA": {"n": 6, "of": 60}}, "words": [f"Missing: {BAD}."]}
    shift |= {"subgroups": [group, small | {"events": None, "reason": "3 patients of known outcome"}], "features": {}}
    (folder / "shift.json").write_text(json.dumps(shift))
    before = {"value": 0.21, "low": 0.15, "high": 0.27, "n": 40, "events": 20}
    recalibrated = {"share": 0.3, "n_used": 18, "n": 42, "method": "H' = …", "coefficients": {"slope": 1.25}}
    recalibrated |= {
        "metrics": {"ibs": {"before": before, "after": before | {"value": 0.187}}},
        "words": ["Judged on 42."],
    }
    recalibrated["calibration"] = {
        "365": {when: {"predicted": 0.7, "slope": 1.0, "intercept": None} for when in ("before", "after")}
    }
    (folder / "recalibrated.json").write_text(json.dumps(recalibrated))
    write_evaluation(folder)
    page = Page((folder / "report.html").read_text()).check()
    tables = {table["caption"]: table["rows"] for table in page.tables}
    assert tables["Missing data"][1:] == [["patients without RNA", "6", "60"]]
    groups = tables["By site, and by groups of the clinical table"]
    assert groups[1] == [f"{BAD}: III", "0.610", "0.500–0.700", "20", "9"]
    assert groups[2][:2] == ["site: A3 patients of known outcome", "—"]
    assert tables["The same patients before and after recalibration"][1][1:] == ["0.2100.150–0.270", "0.1870.150–0.270"]
    assert "Fitted on 30 % of the cohort (18 patients)" in page.text
    assert "slope 1.25" in page.text
    lead = page.text[: page.text.index("Metrics with 95 % intervals")]
    assert "0.187" not in lead
    (folder / "shift.json").write_text('{"features": {"20x": {"map": {}}}}')
    with pytest.raises(InputError, match=r"shift.json is damaged"):
        sections_of(read_evaluation(find_tests([folder])[0]))
    (folder / "shift.json").write_text("[1]")
    with pytest.raises(InputError, match=r"shift.json is not a JSON object; run `dmml test` again"):
        sections_of(read_evaluation(find_tests([folder])[0]))


def test_calibration_is_shown_in_a_table(tmp_path, make):
    folder = make.survival(tmp_path / "run", make.cohort(300, seed=8), noise=0.0)
    test = read_evaluation(find_tests([folder])[0])
    page = Page(write_report([folder], tmp_path / "r.html").read_text()).check()
    rows = next(t["rows"] for t in page.tables if t["caption"].startswith("Calibration at the horizons"))
    year = test.calibrations[0]
    assert rows[1][:3] == ["1 year", f"{year.observed:.2f}", f"{year.predicted:.2f}"]
    assert rows[1][5].endswith(f"χ² {year.chi2:.1f}, {year.df} df")
    assert page.layers == {"1 year", "3 years"}
    assert sum(title.startswith("1 year, 60 patients: ") for title in page.titles) == 5


@pytest.mark.slow
def test_results_of_one_checkpoint_on_three_cohorts_are_compared(tmp_path, cohort, make):
    run = tmp_path / "demo"
    for name, noise in (("a_whole", 0.2), ("b_no_rna", 1.5), ("c_one_scale", 0.3)):
        make.survival(run, cohort, noise=noise, name=name, seed=4, model="teacher", horizons=[365])
    other = make.cohort(30, seed=9)
    other.patient_id = [f"Q{i}" for i in range(30)]
    make.survival(run, other, name="d_elsewhere", horizons=[365])
    tests = [read_evaluation(test) for test in find_tests([run])]
    pairs = adjusted(across_cohorts(tests))
    assert [(pair.a.cohort, pair.b.cohort, pair.n) for pair in pairs] == [
        ("b_no_rna", "a_whole", 60), ("c_one_scale", "a_whole", 60),
    ]  # fmt: skip
    whole, without = (test.with_outcome for test in tests[:2])
    expected = paired_difference(
        metrics.concordance_index, without["risk"], whole["risk"], whole["time"], whole["event"], strata=whole["event"]
    )
    assert pairs[0].difference == pytest.approx(expected, abs=1e-6)
    assert pairs[0].p_holm >= pairs[0].difference.p
    page = Page(write_report([run]).read_text()).check()
    assert cohort_change_sentences(pairs)[0] in page.text
    assert f"changes by −{abs(expected.estimate):.3f}" in cohort_change_sentences(pairs)[0]
    captions = [table["caption"] for table in page.tables]
    assert captions.count("Metrics with 95 % intervals") == 4
    assert page.text.count("the true risk reaches") == 1
    assert {f"t{number}-1" for number in range(1, 5)} <= set(page.ids)
    assert {"models.png", "differences.svg"} <= {file.name for file in (run / "report_plots").iterdir()}


def test_values_shown_at_the_pointer_are_those_of_the_curve(cohort):
    groups = risk_groups(pd.DataFrame({"time": cohort.time, "event": cohort.event, "risk": cohort.log_rate}), None)
    plot = kaplan_meier_plot(groups)
    assert "<svg" in plot.inline_svg("a")
    readout = json.loads(plot.readout.to_json())
    assert readout["heading"] == "{} years"
    x0, y0, x1, y1 = readout["box"]
    assert 0 < x0 < x1 <= 1
    assert 0 <= y0 < y1 < 1
    for curve, line in zip(groups.curves, readout["lines"], strict=True):
        assert (line["name"], line["step"]) == (curve.name, True)
        assert line["x"] == pytest.approx(curve.time / 365.25, rel=1e-3)
        assert line["y"] == pytest.approx(curve.survival, rel=1e-3)
    left, right = readout["range"]
    drawn = groups.curves[0].time.max() / 365.25
    assert left == 0
    assert right > drawn


def test_a_difference_is_clear_only_after_adjustment():
    rows = [
        ("a − b", {"difference": 0.1, "low": 0.02, "high": 0.2, "p": 0.03}),
        ("a − c", {"difference": 0.1, "low": 0.02, "high": 0.2, "p": 0.06}),
        ("b − c", {"difference": 0.0, "low": -0.1, "high": 0.1, "p": 0.9}),
        ("b − d", {"difference": None, "low": None, "high": None, "p": None}),
    ]
    plot = differences_forest(rows, "difference")
    marks = [line for line in plot.figure.axes[0].lines if (line.get_gid() or "").count("-") == 2]
    assert [mark.get_markerfacecolor() for mark in marks if "interval" not in mark.get_gid()] == [
        "#0072b2",
        "none",
        "none",
    ]
    assert list(plot.tooltips.values())[2] == "b − c: 0.000 (−0.100 to 0.100)"
    assert differences_forest(rows[3:], "difference") is None


@pytest.mark.slow
def test_a_patient_whose_id_is_markup_is_shown_as_text(tmp_path, cohort, make):
    folder = make.survival(tmp_path / "run", cohort)
    make.attention(folder, slides=1)
    with np.load(folder / "attention.npz") as file:
        arrays = dict(file)
    [fact] = json.loads(str(arrays.pop("meta")))
    fact |= {"patient_id": BAD, "verdict": "wrong: 10 % of 40 pairs in order", "chosen": f"Chosen {BAD}."}
    np.savez(folder / "attention.npz", meta=json.dumps([fact]), **arrays)
    table = pd.read_csv(folder / "predictions.csv")
    table.loc[0, "patient_id"] = BAD
    table.to_csv(folder / "predictions.csv", index=False)
    write_evaluation(folder)
    page = Page((folder / "report.html").read_text()).check()  # refuses handlers and links of theirs
    assert f"wrong: 10 % of 40 pairs in order ; patient {BAD}, slide S0" in page.text
    assert f"Chosen {BAD}." in page.text
    assert "<img src=x" not in (folder / "report.html").read_text()
