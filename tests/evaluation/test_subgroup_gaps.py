"""Gaps between subgroups: their values, intervals, adjustment, and what makes one undefined."""

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index

from dmml.evaluation.bootstrap import holm
from dmml.evaluation.report.text.shift import shift_sentences
from dmml.evaluation.subgroups import by_subgroup


def draw(n=240, noise=(0.3, 0.3, 0.3), seed=0):
    """Patients of three sites, in which the risk is known with different noise, and their sexes."""
    generator = np.random.default_rng(seed)
    site = np.arange(n) % len(noise)
    log_rate = generator.normal(size=n)
    death, censored = generator.exponential(800 * np.exp(-log_rate)), generator.uniform(300, 3000, n)
    table = pd.DataFrame(
        {
            "patient_id": [f"P{i}" for i in range(n)],
            "time": np.minimum(death, censored),
            "event": (death <= censored).astype(int),
            "risk": log_rate + np.array(noise)[site] * generator.normal(size=n),
        }
    )
    groups = pd.DataFrame({"site": np.array(["A", "B", "C"])[site], "sex": np.array(["f", "m"])[np.arange(n) // 3 % 2]})
    return table, groups.set_index(table["patient_id"])


def rows_of(table, groups):
    return {(row["column"], row["level"]): row for row in by_subgroup(table, {}, groups)}


def test_a_gap_is_the_group_minus_the_others_of_its_column():
    table, groups = draw()
    rows = rows_of(table, groups)
    for (column, level), row in rows.items():
        if "gap" not in row:
            continue
        member = (groups[column] == level).to_numpy()
        inside, outside = (
            concordance_index(t["time"], -t["risk"], t["event"]) for t in (table[member], table[~member])
        )
        assert row["gap"]["value"] == pytest.approx(inside - outside, abs=1e-6)
        assert row["gap"]["low"] <= row["gap"]["value"] <= row["gap"]["high"]
        assert row["gap"]["n_others"] == (~member).sum()
    assert "gap" in rows["sex", "f"]
    assert "gap" not in rows["sex", "m"]


def test_the_p_values_of_all_columns_are_adjusted_together():
    rows = [row["gap"] for row in rows_of(*draw()).values() if "gap" in row]
    assert len(rows) == 4
    np.testing.assert_allclose([gap["p_holm"] for gap in rows], holm([gap["p"] for gap in rows]))


def test_a_site_without_a_signal_is_named_and_equal_sites_are_not():
    table, groups = draw(noise=(0.2, 0.2, 20.0))
    rows = by_subgroup(table, {}, groups)
    gap = next(row["gap"] for row in rows if row["level"] == "C")
    assert gap["high"] < 0
    assert gap["p_holm"] < 0.05
    assert any("differs from that of the other patients for" in s and "site C" in s for s in sentences(rows))
    equal = by_subgroup(*[draw()[0], {}, draw()[1]])
    assert any(s.startswith("No group differs clearly") for s in sentences(equal))


def sentences(rows):
    return shift_sentences({"missing": {}, "subgroups": rows})


@pytest.mark.slow
def test_the_interval_contains_the_true_gap_as_often_as_it_says():
    """Equal sites have a gap of 0; 36 of 40 intervals of 95 % contain it in all but 5 % of such experiments."""
    covered = 0
    for seed in range(40):
        table, groups = draw(n=120, seed=seed)
        gap = rows_of(table, groups[["site"]])["site", "A"]["gap"]
        covered += gap["low"] <= 0 <= gap["high"]
    assert covered >= 35


def test_few_patients_and_absent_classes_make_a_gap_undefined_with_a_reason():
    table, groups = draw(n=60)
    groups["site"] = np.where(np.arange(60) < 6, "A", "B")
    gap = rows_of(table, groups[["site"]])["site", "A"]["gap"]
    assert (gap["value"], gap["p_holm"]) == (None, None)
    assert gap["reason"].startswith("6 patients with a known outcome on one side")
    label = np.where(
        np.arange(60) < 30, np.where(np.arange(60) % 2, "x", "y"), np.array(["x", "y", "z"])[np.arange(60) % 3]
    )
    probability = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    classes = pd.DataFrame({"patient_id": table["patient_id"], "label": label})
    classes[["prob_x", "prob_y", "prob_z"]] = probability
    groups["site"] = np.where(np.arange(60) < 30, "A", "B")
    gap = rows_of(classes, groups[["site"]])["site", "A"]["gap"]
    assert gap["reason"] == "only one side has patients of the class z"
