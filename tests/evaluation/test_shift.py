"""Shift against training, stain, and subgroups: known shifts are detected, and none where there is none."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from dmml.evaluation.metrics import concordance_index
from dmml.evaluation.plots.shift import shift_plot
from dmml.evaluation.report.text.shift import shift_sentences, verdict
from dmml.evaluation.shift import MAX_POINTS, compare, fit_reference
from dmml.evaluation.statistics.stain import NAMES, stain_of
from dmml.evaluation.statistics.two_samples import classifier_test
from dmml.evaluation.subgroups import by_subgroup

LOADINGS = np.random.default_rng(7).normal(size=(4, 30))


def patients(n, seed, offset=0.0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 4)) @ LOADINGS + generator.normal(size=(n, 30)) + offset


def test_shift_and_spread_of_columns_equal_those_by_hand():
    reference = fit_reference([[0.0, 10.0], [2.0, 14.0], [4.0, np.nan]], ["a", "b"])
    assert reference["mean"] == [2, 12]
    assert reference["std"] == pytest.approx([2, np.sqrt(8)], rel=1e-3)
    result = compare(reference, [[4.0, np.nan], [8.0, np.nan]])
    assert result["n_training"] == 3
    assert result["largest"] == [{"name": "a", "shift": 2.0, "spread": pytest.approx(np.sqrt(2))}]  # b is nowhere known
    assert result["share_shifted"] == 1
    assert "fewer than 20 training patients" in result["reason"]
    assert "auc" not in result
    assert "no patient" in compare(reference, np.zeros((0, 2)))["reason"]


@pytest.mark.slow
def test_samples_of_one_population_are_not_separated_and_p_is_uniform():
    results = [compare(fit_reference(patients(50, s)), patients(30, 1000 + s)) for s in range(60)]
    p = np.array([one["p"] for one in results])
    assert (p < 0.05).mean() <= 0.13
    assert 0.38 < p.mean() < 0.62
    assert np.mean([one["auc"] for one in results]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([one["median_shift"] for one in results]) == pytest.approx(results[0]["expected_shift"], rel=0.25)
    assert np.mean([one["median_spread"] for one in results]) == pytest.approx(1, abs=0.04)


@pytest.mark.slow
def test_many_columns_of_few_patients_raise_no_alarm():
    """The training patients whose mean and spread scale the 1,280 columns would otherwise look closer to each other than to new patients."""
    loadings = np.random.default_rng(7).normal(size=(6, 1280))
    p = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        training, cohort = (
            generator.normal(size=(n, 6)) @ loadings + generator.normal(size=(n, 1280)) for n in (60, 30)
        )
        p.append(compare(fit_reference(training), cohort)["p"])
    assert np.mean(np.array(p) < 0.05) <= 0.08
    assert 0.42 < np.mean(p) < 0.58


@pytest.mark.parametrize("direction", ["along the axes", "across them"])
def test_a_shift_is_detected_in_any_direction(direction):
    offset = 2.2 * LOADINGS[0] if direction == "along the axes" else 1.2 * np.random.default_rng(5).normal(size=30)
    result = compare(fit_reference(patients(60, 0)), patients(40, 1, offset))
    assert result["p"] <= 0.002
    assert result["auc"] > 0.85
    assert len(result["map"]["training"]) == 30  # the half that did not make the axes
    assert len(result["map"]["cohort"]) == 40


def test_the_classifier_is_scored_on_patients_it_was_not_fitted_to():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(40, 60)), generator.normal(size=(40, 60))  # more columns than it can fit
    assert classifier_test(*noise, permutations=9).auc == pytest.approx(0.5, abs=0.15)
    a, b = generator.normal(size=(60, 3)), generator.normal(size=(60, 3)) + np.array([1.5, 0, 0])
    result = classifier_test(a, b)
    expected = roc_auc_score(np.repeat([0, 1], 60), np.concatenate([a[:, 0], b[:, 0]]))
    assert result.auc == pytest.approx(expected, abs=0.06)
    assert result.scores_a.mean() < 0 < result.scores_b.mean()
    assert result.p == 0.001
    assert classifier_test(a, a, permutations=99).p > 0.3


def test_the_p_value_belongs_to_the_stated_auc():
    """By plain loops: each exchange of patients is a discriminant of its own."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(15, 2)), generator.normal(size=(12, 2)) + 0.8
    result = classifier_test(a, b, permutations=60, seed=4)
    generator = np.random.default_rng(4)
    parts = [generator.permutation(len(side)) % 5 for side in (a, b)]
    assert result.auc == pytest.approx(plain_auc(a, b, parts))
    both, chance = np.vstack([a, b]), []
    for _ in range(60):
        order = generator.permutation(27)
        chance.append(plain_auc(both[order[:15]], both[order[15:]], parts))
    assert result.p == (1 + sum(value >= result.auc - 1e-12 for value in chance)) / 61


def plain_auc(a, b, parts):
    values = []
    for fold in range(5):
        (low, out_low), (high, out_high) = (
            (side[part != fold], side[part == fold]) for side, part in zip((a, b), parts, strict=True)
        )
        scatter = sum((len(x) - 1) * np.cov(x.T) for x in (low, high)) / (len(low) + len(high) - 2)
        ridge = 0.1 * np.trace(scatter) / len(scatter) + 1e-9
        weight = np.linalg.inv(scatter + ridge * np.eye(len(scatter))) @ (high.mean(0) - low.mean(0))
        truth = np.repeat([0, 1], [len(out_low), len(out_high)])
        values.append(roc_auc_score(truth, np.concatenate([out_low, out_high]) @ weight))
    return np.mean(values)


WIDE = np.random.default_rng(8).normal(size=(12, 300)) * np.linspace(1.5, 0.3, 12)[:, None]
NOISE = np.random.default_rng(9).uniform(0.3, 3, size=300)
LACKING = np.random.default_rng(3).random(300) < 0.4


def genes_of(n, seed, loadings=WIDE, offset=0.0):
    """Patients with correlated, noisy columns, like genes."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 12)) @ loadings + generator.normal(size=(n, 300)) * NOISE + offset


def standardised(rows):
    return (rows - rows.mean(0)) / rows.std(0)


@pytest.mark.slow
@pytest.mark.parametrize("gaps", ["genes that the cohort lacks", "values here and there", "genes of half of training"])
def test_imputed_columns_neither_cause_nor_hide_a_shift(gaps):
    def compared(seed, offset=0.0):
        training, cohort = genes_of(50, seed), genes_of(36, 1000 + seed, offset=offset)
        if gaps == "genes that the cohort lacks":
            cohort[:, LACKING] = np.nan
        elif gaps == "values here and there":
            cohort[np.random.default_rng(seed).random(cohort.shape) < 0.3] = np.nan
        else:
            training[np.ix_(np.arange(50) % 2 == 0, LACKING)] = np.nan
        return compare(fit_reference(training), cohort)

    p = np.array([compared(seed)["p"] for seed in range(24)])
    assert (p < 0.05).mean() <= 0.13
    assert 0.3 < p.mean() < 0.7
    moved = compared(0, offset=0.8 * genes_of(50, 0).std(0))
    assert moved["p"] <= 0.002
    assert moved["auc"] > 0.9


def test_too_few_known_values_are_not_compared():
    """The axes alone can fit few columns, which would look like a cohort without any spread."""
    training, cohort = genes_of(60, 0), genes_of(40, 1)
    cohort[:31, np.arange(300) % 5 < 3] = np.nan
    assert compare(fit_reference(training), cohort)["reason"].startswith("9 patients have enough known values; ")
    short = cohort[:, :10]
    short[:, 5:] = np.nan
    assert compare(fit_reference(training[:, :10]), short)["reason"].startswith("0 patients have enough known values")
    assert "auc" in compare(fit_reference(training[:, :10]), genes_of(40, 1)[:, :10])


def test_a_cohort_standardised_within_itself_has_no_shift_whatever_its_platform():
    def compared(seed, loadings=WIDE, scale=1.0):
        cohort = genes_of(36, 1000 + seed, loadings, offset=5.0) * scale
        return compare(fit_reference(standardised(genes_of(50, seed))), standardised(cohort), within=True)

    results = [compared(seed, scale=3.0) for seed in range(24)]
    p = np.array([one["p"] for one in results])
    assert (p < 0.05).mean() <= 0.13
    assert 0.3 < p.mean() < 0.7
    assert np.mean([one["auc"] for one in results]) == pytest.approx(0.5, abs=0.06)
    assert "median_shift" not in results[0]  # it is 0 by construction, which would be no finding
    other = compared(0, loadings=np.random.default_rng(5).permutation(WIDE.T).T)  # genes hang together otherwise
    assert other["p"] <= 0.002
    assert other["auc"] > 0.9


def test_the_verdict_depends_on_the_auc_and_not_on_p_alone():
    assert verdict({"auc": 0.51, "p": 0.001}).startswith("the shift is slight")
    assert verdict({"auc": 0.72, "p": 0.01}).startswith("the shift is moderate")
    assert verdict({"auc": 0.93, "p": 0.001}).startswith("the shift is clear")
    assert verdict({"auc": 0.68, "p": 0.2}).startswith("no shift is detected")
    assert "AUC 0.51" in verdict({"auc": 0.51, "p": 0.001})
    assert "permutation p < 0.001" in verdict({"auc": 0.51, "p": 0.001})


def test_a_reference_is_plain_python_and_names_no_patient():
    reference = fit_reference(patients(40, 3))
    assert json.loads(json.dumps(reference)) == reference
    rows = patients(40, 3)
    assert not any(np.isclose(rows, value, rtol=0, atol=1e-9).any() for value in reference["sample"])


def test_stains_that_were_mixed_are_separated():
    dyes = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    generator = np.random.default_rng(0)
    amounts = generator.uniform(0.3, 0.9, size=(40 * 40, 2))
    pixels = (256 * 10 ** -(amounts @ dyes) - 1).clip(0, 255).reshape(40, 40, 3).round().astype(np.uint8)
    slide = np.full((60, 60, 3), 245, np.uint8)
    slide[:40, :40] = pixels
    stain = dict(zip(NAMES, stain_of(slide), strict=True))
    assert stain["haematoxylin, mean"] == pytest.approx(amounts[:, 0].mean(), abs=0.01)
    assert stain["eosin, mean"] == pytest.approx(amounts[:, 1].mean(), abs=0.01)
    assert stain["eosin, spread"] == pytest.approx(amounts[:, 1].std(), abs=0.01)
    assert stain["residual, mean"] == pytest.approx(0, abs=0.02)
    assert stain_of(np.full((60, 60, 3), 245, np.uint8)) is None


def test_a_subgroup_has_the_metric_of_its_patients_alone(cohort):
    table = pd.DataFrame(
        {"patient_id": cohort.patient_id, "time": cohort.time, "event": cohort.event, "risk": cohort.log_rate}
    )
    table.loc[3, "time"] = np.nan
    n = len(table)
    groups = pd.DataFrame(
        {
            "site": ["A"] * 30 + ["B"] * 22 + ["C"] * 7 + ["D"],
            "age": np.arange(n, dtype=float),
            "same": ["x"] * n,
            "id": cohort.patient_id,
        },
        index=cohort.patient_id,
    )
    rows = {(row["column"], row["level"]): row for row in by_subgroup(table, {}, groups)}
    assert list(rows) == [("site", "A"), ("site", "B"), ("site", "C"), ("age", "above 29.5"), ("age", "up to 29.5")]
    first = table.iloc[[i for i in range(30) if i != 3]]
    assert rows["site", "A"]["value"] == pytest.approx(concordance_index(first["time"], first["event"], first["risk"]))
    assert rows["site", "A"]["n"] == 29
    assert rows["site", "C"]["value"] is None
    assert rows["site", "C"]["reason"].startswith("7 patients")
    assert rows["age", "above 29.5"]["n"] == 30


def test_a_shift_is_described_and_drawn(tmp_path):
    result = compare(fit_reference(patients(60, 0)), patients(40, 1, 1.0))
    content = {
        "missing": {"patients without RNA": {"n": 4, "of": 40}, "patients without tissue at 10x": {"n": 0, "of": 40}},
        "features": {"20x": result},
        "stain": {"n_training": 60, "n": 0, "reason": "no patient of this cohort has this input"},
        "subgroups": [
            {"column": "sex", "level": "f", "metric": "c_index", "value": 0.6, "low": 0.5, "high": 0.7, "n": 20, "events": 9},
            {"column": "sex", "level": "m", "metric": "c_index", "value": 0.7, "low": 0.6, "high": 0.8, "n": 20, "events": 9},
        ],
    }  # fmt: skip
    text = " ".join(shift_sentences(content))
    assert "Missing: 4 of 40 patients without RNA." in text
    assert "Tile features at 20x" in text
    assert "of the patients from training patients (AUC " in text
    assert "Stain: not compared (no patient of this cohort has this input)" in text
    assert "lowest for sex f (20 patients): 0.60" in text
    assert "does not read RNA" not in text
    of_student = content | {"reads_rna": False, "expression": {"tumor": result}}
    assert "The student does not read RNA" in " ".join(shift_sentences(of_student))
    assert "does not read RNA" not in " ".join(shift_sentences(of_student | {"reads_rna": True}))
    assert shift_plot({}) is None
    plot = shift_plot(content)
    assert "tile features at 20x: AUC" in plot.alt
    plot.save(tmp_path)
    assert (tmp_path / "shift.png").stat().st_size > 5000


def test_patients_of_a_sorted_table_are_chosen_at_random():
    reference = fit_reference(patients(100, 0))
    alike, other = patients(MAX_POINTS, 1), patients(MAX_POINTS, 2, 3.0)
    result = compare(reference, np.vstack([alike, other]))
    assert result["p"] < 0.01
    assert compare(reference, np.vstack([other, alike]))["p"] < 0.01
    assert compare(reference, alike)["p"] > 0.01
    assert len(result["map"]["cohort"]) == MAX_POINTS


def test_an_incomplete_reference_is_compared_as_far_as_possible():
    reference = fit_reference(genes_of(50, 0))
    earlier = {name: value for name, value in reference.items() if name not in ("rest", "sample_within")}
    cohort = genes_of(36, 1)
    assert compare(earlier, cohort) == compare(reference, cohort)
    assert "train again" in compare(earlier, standardised(cohort), within=True)["reason"]
